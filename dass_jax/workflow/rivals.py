"""What a search's choice is compared with: others' choices under the same budget."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from dass_jax.baselines.registry import BASELINES, MEASURING
from dass_jax.console import progress_bar
from dass_jax.data.tasks import TaskSpec
from dass_jax.distillation import Assignment
from dass_jax.errors import UserError
from dass_jax.experiment import Experiment
from dass_jax.metrics import finite_scores
from dass_jax.randomness import Stream, task_key
from dass_jax.recipe import digest
from dass_jax.search.problem import SearchProblem, rows
from dass_jax.search_space import Architecture, stack, unstack
from dass_jax.teacher import TeacherResult
from dass_jax.workdir import Workdir
from dass_jax.workflow import prepare
from dass_jax.workflow.candidates import baseline_candidates
from dass_jax.workflow.chosen_student import Student
from dass_jax.workflow.distill import Result, distil_students
from dass_jax.workflow.scorer import Scorer

RANDOM = "random"


class Rival(NamedTuple):
    """A student that somebody else would choose.

    Attributes:
      chosen_by: The baseline, or ``RANDOM``.
      student: The student.
    """

    chosen_by: str
    student: Student


def check_rivals(names: tuple[str, ...]) -> None:
    """Refuses names that are no baseline of untrained students.

    Raises:
      UserError: Which says what there is.
    """
    known = [name for name in BASELINES if name not in MEASURING]
    for name in names:
        if name not in known:
            choices = ", ".join(map(repr, known))
            raise UserError(f"search.rivals names {name!r}: choose from {choices}")


def choose_rivals(
    experiment: Experiment,
    spec: TaskSpec,
    problem: SearchProblem,
    images: prepare.TaskImages,
    teacher: TeacherResult,
) -> list[Rival]:
    """Random students, and each baseline's favourite among sampled ones, under the budget.

    Args:
      experiment: The settings; ``search`` says how many and which.
      spec: The task.
      problem: What is searched.
      images: The task's images.
      teacher: The task's teacher.
    """
    config = experiment.search
    rivals = []
    if config.random_students:
        key = task_key(experiment.seed, spec.name, Stream.RANDOM_STUDENTS)
        sampled = unstack(problem.sample(key, config.random_students))
        rivals += [Rival(RANDOM, Student(one, row)) for row, one in enumerate(sampled)]
    if config.rivals:
        key = task_key(experiment.seed, spec.name, Stream.CANDIDATES)
        pool = jax.device_get(problem.sample(key, config.candidates))
        favourites = _favourites(experiment, spec, images, teacher, pool)
        for name, row in favourites.items():
            (favourite,) = unstack(rows(pool, [row]))
            rivals.append(Rival(name, Student(favourite, row)))
    return rivals


def _favourites(
    experiment: Experiment,
    spec: TaskSpec,
    images: prepare.TaskImages,
    teacher: TeacherResult,
    pool: Architecture,
) -> dict[str, int]:
    """Which candidate each baseline likes best."""
    ids = np.arange(len(pool.depths), dtype=np.int32)
    candidates = baseline_candidates(experiment, spec, images, teacher, pool, ids)
    favourites = {}
    names = experiment.search.rivals
    with progress_bar(f"baselines score {len(ids)} candidates", len(names)) as advance:
        for name in names:
            scores = np.asarray(BASELINES[name](candidates), np.float64)
            # nan would win
            favourites[name] = int(np.argmax(finite_scores(scores)))
            advance(name)
    return favourites


def predict_rivals(scorer: Scorer, rivals: list[Rival]) -> list[dict[str, float]]:
    """What is predicted of each rival, for its entry, as it was of the candidates."""
    if not rivals:
        return []
    architectures = jax.device_get(stack([rival.student.architecture for rival in rivals]))
    ids = np.asarray([rival.student.student_id for rival in rivals], np.int32)
    predicted = scorer(architectures, ids)
    pairs = zip(predicted.mean.tolist(), predicted.half_width.tolist(), strict=True)
    return [{"prediction": mean, "half_width": half_width} for mean, half_width in pairs]


def distil_rivals(
    experiment: Experiment,
    workdir: Workdir,
    spec: TaskSpec,
    assignment: Assignment,
    rivals: list[Rival],
    describe: Callable[[Architecture], dict],
) -> list[Result]:
    """Distils rivals together, with the winner's first seed.

    Args:
      experiment: The settings.
      workdir: Where the networks are kept, for all searches of the task.
      spec: The task.
      assignment: Its images and teacher.
      rivals: From ``choose_rivals``.
      describe: What a student costs, for its entry.

    Returns:
      One entry for each rival.
    """
    if not rivals:
        return []
    # two baselines may like the same student
    distinct = {rival.student.architecture.widths.tobytes(): rival.student for rival in rivals}
    recipe = prepare.distilled_recipe(experiment, workdir, spec, experiment.final)
    folder = workdir.rivals(spec.name) / digest(recipe)
    results = distil_students(
        experiment, experiment.final, recipe, assignment, list(distinct.values()), 0, folder,
        f"distilling {len(distinct)} rivals",
    )  # fmt: skip
    found = dict(zip(distinct, results, strict=True))
    return [
        found[rival.student.architecture.widths.tobytes()]
        | {"chosen_by": rival.chosen_by}
        | describe(rival.student.architecture)
        for rival in rivals
    ]
