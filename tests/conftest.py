"""Makes compilation cheap: it is nearly all of the tests' time."""

import importlib.metadata
import os

import pytest

# before JAX is imported anywhere: the networks here are tiny, unoptimised code is fast enough, and
# emitted as one LLVM module by XLA's older way, it takes a fraction of the time to compile
_XLA_FLAGS = [
    "--xla_backend_optimization_level=0",
    "--xla_cpu_parallel_codegen_split_count=1",
]
# later versions know that way no more, and refuse flags that they do not know
if tuple(map(int, importlib.metadata.version("jaxlib").split(".")[:2])) < (0, 11):
    _XLA_FLAGS.append("--xla_cpu_use_fusion_emitters=false")
os.environ.setdefault("XLA_FLAGS", " ".join(_XLA_FLAGS))
os.environ.setdefault("JAX_PLATFORMS", "cpu")


@pytest.fixture(autouse=True, scope="session")
def _own_folders(tmp_path_factory):
    """Nothing of the user's own caches is read or written."""
    folder = tmp_path_factory.mktemp("folders")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DASS_CACHE_DIR", str(folder / "cache"))
        patch.setenv("TFDS_DATA_DIR", str(folder / "tfds"))
        patch.setenv("JAX_COMPILATION_CACHE_DIR", str(folder / "compiled"))
        yield


@pytest.fixture
def own_folders(tmp_path, monkeypatch):
    """Files of the user, prepared datasets and decoded images of one test alone."""
    monkeypatch.setenv("DASS_DATA_DIR", str(tmp_path / "own"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    monkeypatch.setenv("DASS_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "own").mkdir()
    return tmp_path
