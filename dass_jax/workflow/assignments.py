"""What students of a task are distilled with: images, and what the teacher says of them."""

import jax
import jax.numpy as jnp

from dass_jax.console import count, progress_bar
from dass_jax.data.tasks import TaskSpec
from dass_jax.distillation import Assignment, DistillConfig, views_needed
from dass_jax.experiment import Experiment
from dass_jax.logit_cache import LogitCache, cache_bytes
from dass_jax.randomness import Stream, task_key
from dass_jax.teacher import TeacherResult
from dass_jax.training import CachedTeacher, OnlineTeacher, Teacher
from dass_jax.workdir import Workdir
from dass_jax.workflow import prepare


def make_assignment(
    experiment: Experiment,
    workdir: Workdir,
    spec: TaskSpec,
    images: prepare.TaskImages,
    teacher: TeacherResult,
    config: DistillConfig,
    replicates: int,
) -> Assignment:
    """What distilling for a task needs; fills the logit cache where it is missing."""
    variables = jax.tree.map(jnp.asarray, teacher.variables)
    if config.teacher_logits == "online":
        online = OnlineTeacher(variables)

        def source(view: int) -> Teacher:
            return online
    else:
        cache = _filled_cache(experiment, workdir, spec, images, variables, config, replicates)

        def source(view: int) -> Teacher:
            return CachedTeacher(jnp.asarray(cache.view(view)))

    return Assignment(
        spec.name, experiment.seed, variables, images.train, images.valid, images.test, source
    )


def _filled_cache(
    experiment: Experiment,
    workdir: Workdir,
    spec: TaskSpec,
    images: prepare.TaskImages,
    variables: dict,
    config: DistillConfig,
    replicates: int,
) -> LogitCache:
    """The teacher's logits, all on disk; an epoch reads the view that it uses."""
    views = views_needed(config, replicates)
    cache = LogitCache(
        workdir.logits(spec.name), experiment.space, experiment.augmentation, variables,
        images.train, task_key(experiment.seed, spec.name, Stream.VIEWS), config.cache_dtype,
    )  # fmt: skip
    size = cache_bytes(views, *cache.shape, config.cache_dtype)
    with progress_bar(f"teacher logits {spec.name} ({count(size)}B)", views) as advance:
        cache.fill(views, on_view=lambda computed: advance())
    return cache
