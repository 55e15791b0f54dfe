"""The best candidates are measured before one of them is chosen."""

import dataclasses
from typing import NamedTuple

import numpy as np

from dass_jax.data.tasks import TaskSpec
from dass_jax.distillation import Assignment, DistillConfig
from dass_jax.errors import UserError
from dass_jax.experiment import Experiment
from dass_jax.recipe import digest
from dass_jax.search.problem import Scored
from dass_jax.search_space import unstack
from dass_jax.teacher import TeacherResult
from dass_jax.uncertainty import Prediction
from dass_jax.workdir import Workdir
from dass_jax.workflow import prepare
from dass_jax.workflow.assignments import make_assignment
from dass_jax.workflow.chosen_student import Student
from dass_jax.workflow.distill import Result, distil_students
from dass_jax.workflow.scorer import CandidateScorer

# The seed of verification. The best of some measurements was lucky, too. If the winner had the seed
# that it was chosen by, that luck would count in its results; so it is one that no winner has,
# however many seeds it is distilled with. One less than a multiple of all numbers up to 16, it sees
# the last views where ``num_views`` are some times the epochs; a winner's seeds begin with the
# first ones. Where those use up the views, they recur, in another order of images.
REPLICATE = 720_719


class Verified(NamedTuple):
    """All candidates after some of them were measured.

    Attributes:
      ranked: The measured ones, the most accurate first and diverged ones last, then the others;
        with what was predicted of them before anything was measured.
      results: What was measured of the first of them, in this order.
      renewed: What the predictor says of all of them, in this order, when it is adapted to the
        measured ones; None if it was not adapted. It decides about nothing but the order of those
        that were not measured.
    """

    ranked: Scored
    results: list[Result]
    renewed: Prediction | None


def schedule(experiment: Experiment) -> DistillConfig:
    """How candidates are distilled for verification: as the predictor's labels were made.

    ``search.verify_epochs`` may shorten it. Then the measured accuracies are lower than what is
    predicted, and compare the measured candidates with each other alone.
    """
    kd = experiment.kd
    epochs = experiment.search.verify_epochs or kd.sgd.epochs
    sgd = dataclasses.replace(kd.sgd, epochs=epochs, eval_every=min(kd.sgd.eval_every, epochs))
    return dataclasses.replace(kd, sgd=sgd)


def is_shortened(experiment: Experiment) -> bool:
    """Whether candidates are measured after other epochs than those that the predictor predicts."""
    return schedule(experiment).sgd.epochs != experiment.kd.sgd.epochs


def assignment(
    experiment: Experiment,
    workdir: Workdir,
    spec: TaskSpec,
    images: prepare.TaskImages,
    teacher: TeacherResult,
) -> Assignment:
    """What candidates are verified with; the teacher's logits are cached if they are not yet."""
    config = schedule(experiment)
    return make_assignment(
        experiment, workdir, spec, images, teacher, config, replicates=REPLICATE + 1
    )


def measure(
    experiment: Experiment,
    workdir: Workdir,
    spec: TaskSpec,
    given: Assignment,
    candidates: Scored,
) -> list[Result]:
    """Distils candidates together with one seed, and measures them on the validation images.

    Args:
      experiment: The settings.
      workdir: Where the networks are kept, for all searches of the task.
      spec: The task.
      given: From ``assignment``.
      candidates: Whom to distil.
    """
    config = schedule(experiment)
    students = [
        Student(architecture, int(student_id))
        for architecture, student_id in zip(
            unstack(candidates.architectures), candidates.student_ids, strict=True
        )
    ]
    recipe = prepare.distilled_recipe(experiment, workdir, spec, config)
    folder = workdir.verified(spec.name) / digest(recipe)
    title = f"verifying {len(students)} candidates"
    return distil_students(experiment, config, recipe, given, students, REPLICATE, folder, title)


def accuracies(results: list[Result]) -> np.ndarray:
    """What verification measured: validation accuracies; nan for diverged students."""
    return np.asarray(
        [np.nan if result["diverged"] else result["final_accuracy"] for result in results]
    )


def require_sound(spec: TaskSpec, results: list[Result]) -> None:
    """Refuses to choose among candidates of which none is known to be of any use.

    Raises:
      UserError: If all of them diverged.
    """
    if all(result["diverged"] for result in results):
        raise UserError(
            f"the {len(results)} candidates of {spec.name} that were to be verified diverged: "
            "lower kd.sgd.learning_rate, or verify more of them (--verify)"
        )


def renew(scorer: CandidateScorer, ranked: Scored, measured: np.ndarray) -> Prediction | None:
    """What is predicted of all candidates after the predictor was adapted to the measured ones.

    Args:
      scorer: What predicted so far.
      ranked: All candidates, the measured ones first.
      measured: Accuracies of the first of them, fractions; nan for diverged ones, which teach the
        predictor nothing.

    Returns:
      Predictions in the order of the candidates; None if all measured ones diverged, or the
      predictor takes no inner steps.
    """
    sound = np.flatnonzero(np.isfinite(measured))
    if not (len(sound) and scorer.adapts):
        return None
    ids = ranked.student_ids
    return scorer.renewed(ids, ids[sound], measured[sound])


def rerank(ranked: Scored, results: list[Result], renewed: Prediction | None) -> Verified:
    """Puts measured candidates in the order of what was measured.

    Args:
      ranked: All candidates, the measured ones first.
      results: What was measured of the first of them.
      renewed: From ``renew``; without it the others keep their order.
    """
    measured = accuracies(results)
    count = len(measured)
    # nan comes last
    first = np.argsort(-measured, kind="stable")
    rest = np.arange(count, len(ranked))
    if renewed is not None:
        rest = count + np.argsort(-renewed.mean[count:], kind="stable")
        order = np.concatenate([first, rest])
        renewed = Prediction(renewed.mean[order], renewed.half_width[order])
    chosen = ranked.take(np.concatenate([first, rest]))
    return Verified(chosen, [results[row] for row in first], renewed)


def verify(
    experiment: Experiment,
    workdir: Workdir,
    spec: TaskSpec,
    given: Assignment,
    scorer: CandidateScorer,
    ranked: Scored,
    count: int,
) -> Verified:
    """Measures the first candidates and ranks all of them again.

    Args:
      experiment: The settings.
      workdir: Where the networks are kept.
      spec: The task.
      given: From ``assignment``.
      scorer: What predicted the candidates.
      ranked: All candidates, best first.
      count: How many to measure.

    Raises:
      UserError: If all of them diverged.
    """
    results = measure(experiment, workdir, spec, given, ranked.take(np.arange(count)))
    require_sound(spec, results)
    # few epochs are another scale than that of the predictions
    renewed = None if is_shortened(experiment) else renew(scorer, ranked, accuracies(results))
    return rerank(ranked, results, renewed)
