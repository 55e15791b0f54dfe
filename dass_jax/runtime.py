"""How JAX is set up, for commands and notebooks alike."""

import contextlib
import os
import pathlib
import sys

# more networks at a time would fall out of the cache that the cores share
_MOST_CPU_DEVICES = 8


def set_up_jax() -> None:
    """Keeps compiled functions between runs, and third parties' chatter out of the output.

    On a CPU every core becomes a device, if JAX has not computed anything before.
    """
    import jax
    from absl import logging

    logging.set_verbosity(logging.ERROR)
    # float32 means float32, also where the hardware would round to TF32 or bfloat16 by itself
    jax.config.update("jax_default_matmul_precision", "float32")
    if "JAX_NUM_CPU_DEVICES" not in os.environ and "device_count" not in os.environ.get(
        "XLA_FLAGS", ""
    ):
        # XLA hardly spreads a narrow convolution over cores, but each core can have its own network
        cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
        # where JAX has computed before, as in a notebook, its devices stay what they are
        with contextlib.suppress(RuntimeError):
            jax.config.update("jax_num_cpu_devices", min(cores, _MOST_CPU_DEVICES))
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
        jax.config.update("jax_compilation_cache_dir", str(cache / "dass_jax" / "compiled"))
