"""Distillation-aware student search in JAX: rank student networks before training them.

The names below are all that a notebook needs. Each is imported when it is asked for, so that a
command can parse its flags without paying for the import of JAX. The rest is had by submodule
(``from dass_jax import search_space, resnet``).
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dass_jax.data import load as load
    from dass_jax.database import read_records as read_records
    from dass_jax.deployment.loading import load_student as load_student
    from dass_jax.experiment import default_config as default_config
    from dass_jax.experiment import from_config as from_config
    from dass_jax.metrics import correlate as correlate
    from dass_jax.retest import retest_correlation as retest_correlation
    from dass_jax.runtime import set_up_jax as set_up_jax
    from dass_jax.workdir import Workdir as Workdir
    from dass_jax.workflow.build_database import build_database as build_database
    from dass_jax.workflow.distill import run_distillation as run_distillation
    from dass_jax.workflow.evaluation import run_evaluation as run_evaluation
    from dass_jax.workflow.export import run_export as run_export
    from dass_jax.workflow.meta_train import run_meta_training as run_meta_training
    from dass_jax.workflow.search import run_search as run_search
    from dass_jax.workflow.train_teachers import train_teachers as train_teachers

__version__ = "0.1.0"

_PUBLIC = {
    "Workdir": "workdir",
    "build_database": "workflow.build_database",
    "correlate": "metrics",
    "default_config": "experiment",
    "from_config": "experiment",
    "load": "data",
    "load_student": "deployment.loading",
    "read_records": "database",
    "retest_correlation": "retest",
    "run_distillation": "workflow.distill",
    "run_evaluation": "workflow.evaluation",
    "run_export": "workflow.export",
    "run_meta_training": "workflow.meta_train",
    "run_search": "workflow.search",
    "set_up_jax": "runtime",
    "train_teachers": "workflow.train_teachers",
}


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
