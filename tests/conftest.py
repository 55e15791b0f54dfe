"""Makes compilation cheap: it is nearly all of the tests' time."""

import os

# before JAX is imported anywhere: the networks here are tiny, unoptimised code is fast enough
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
