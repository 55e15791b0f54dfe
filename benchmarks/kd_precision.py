#!/usr/bin/env python3
"""What fewer digits cost: accuracies of the same students distilled with other arithmetic.

Command:  bin/build_database.py --config=configs/quickstart.py --workdir=work/quickstart
          python benchmarks/kd_precision.py --config=configs/quickstart.py --workdir=work/quickstart
Hardware: any; some minutes on 2 CPU cores, which compute bfloat16 slowly.

The students of the database's tasks are distilled again: in float32 with logits that are cached as
float16, which is the default; with the teacher online, so that nothing is rounded; with
convolutions in bfloat16; and by the default once more with another seed, whose differences are what
chance does to an accuracy. Everything else is equal, the students' order of images included, but
for the other seed. Differences are in points of validation accuracy; a mean difference comes with
its standard error over all students.
"""

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
from absl import flags

from dass_jax import cli

if TYPE_CHECKING:
    from dass_jax.distillation import DistillConfig
    from dass_jax.experiment import Experiment
    from dass_jax.workdir import Workdir

_TASKS = flags.DEFINE_list("tasks", None, "Which tasks; all of the database if not given.")


def variants(kd: "DistillConfig") -> "dict[str, tuple[DistillConfig, int]]":
    """Name -> how students are distilled, and with which seed; the first is compared with."""
    default = dataclasses.replace(kd, teacher_logits="cached", compute_dtype="float32")
    stored = f"logits cached as {default.cache_dtype}"
    return {
        f"float32, {stored}": (default, 0),
        "float32, teacher online": (dataclasses.replace(default, teacher_logits="online"), 0),
        f"bfloat16, {stored}": (
            dataclasses.replace(default, compute_dtype="bfloat16"), 0,
        ),
        "float32, another seed": (default, 1),
    }  # fmt: skip


def measure(experiment: "Experiment", workdir: "Workdir", name: str) -> dict[str, np.ndarray]:
    """Validation accuracies of a task's students by variant; nan where a student diverged."""
    from dass_jax.console import console
    from dass_jax.distillation import distil_population
    from dass_jax.workflow import prepare
    from dass_jax.workflow.assignments import make_assignment
    from dass_jax.workflow.students import sample_students

    spec = experiment.task(name)
    images = prepare.load_images(experiment, spec)
    teacher = prepare.load_teacher(experiment, workdir, spec, images)
    students = sample_students(experiment, spec)
    ids = np.arange(len(students.depths), dtype=np.int32)
    found = {}
    for variant, (kd, seed) in variants(experiment.kd).items():
        given = make_assignment(experiment, workdir, spec, images, teacher, kd, seed + 1)
        console.print(f"{name}: {variant}")
        result = distil_population(
            experiment.space, kd, experiment.augmentation, given, students, ids, seed,
            devices=experiment.devices,
        )  # fmt: skip
        found[variant] = np.where(np.isfinite(result.loss), result.final, np.nan)
    return found


def row(variant: str, tasks: list[dict[str, np.ndarray]]) -> list[str]:
    """What a variant does to accuracies, over tasks."""
    from scipy import stats

    reference = next(iter(tasks[0]))
    pairs = [(100 * task[reference], 100 * task[variant]) for task in tasks]
    differences = np.concatenate([other - own for own, other in pairs])
    sound = differences[np.isfinite(differences)]
    ranks = [stats.spearmanr(*pair, nan_policy="omit").statistic for pair in pairs]
    diverged = sum(int(np.isnan(other).sum()) for _, other in pairs)
    mean = float(np.mean([np.nanmean(other) for _, other in pairs]))
    return [
        variant,
        f"{mean:.2f}",
        f"{sound.mean():+.2f} ± {sound.std(ddof=1) / np.sqrt(len(sound)):.2f}",
        f"{np.abs(sound).mean():.2f}",
        f"{np.mean(ranks):.3f}",
        str(diverged),
    ]


def main(experiment: "Experiment", workdir: "Workdir") -> None:
    """Distils the students of every task with every variant."""
    from dass_jax.console import print_table

    names = _TASKS.value or [spec.name for spec in experiment.student_tasks]
    tasks = [measure(experiment, workdir, name) for name in names]
    print_table(
        f"accuracies after distillation, in percent; tasks {', '.join(names)}",
        ["variant", "mean", "difference", "absolute", "Spearman", "diverged"],
        [row(variant, tasks) for variant in variants(experiment.kd)],
    )


if __name__ == "__main__":
    cli.run(main, __doc__)
