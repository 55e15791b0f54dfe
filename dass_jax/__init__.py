"""Distillation-aware student search in JAX: rank student networks before training them.

The package is imported by submodule (``from dass_jax import search_space, resnet``), so that a
command can parse its flags without paying for the import of JAX. Only ``load_student`` can be had
from here, for those who merely use a student; what it needs is imported when it is asked for.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dass_jax.deployment.loading import load_student as load_student

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "load_student":
        from dass_jax.deployment.loading import load_student

        return load_student
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
