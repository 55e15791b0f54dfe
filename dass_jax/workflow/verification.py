"""The best candidates are measured before one of them is chosen."""

import dataclasses

import numpy as np

from dass_jax.data.tasks import TaskSpec
from dass_jax.distillation import DistillConfig
from dass_jax.experiment import Experiment
from dass_jax.search.problem import Scored
from dass_jax.search_space import unstack
from dass_jax.teacher import TeacherResult
from dass_jax.workdir import Workdir
from dass_jax.workflow import prepare
from dass_jax.workflow.chosen_student import Student
from dass_jax.workflow.distill import Result, distil_students
from dass_jax.workflow.scorer import Scorer


def schedule(experiment: Experiment) -> DistillConfig:
    """How candidates are distilled for verification: as the predictor's labels were made.

    ``search.verify_epochs`` may shorten it. Then the measured accuracies are lower than what is
    predicted, which changes what the predictor is adapted to, but the same for all candidates.
    """
    kd = experiment.kd
    epochs = experiment.search.verify_epochs or kd.sgd.epochs
    sgd = dataclasses.replace(kd.sgd, epochs=epochs, eval_every=min(kd.sgd.eval_every, epochs))
    return dataclasses.replace(kd, sgd=sgd)


def measure(
    experiment: Experiment,
    workdir: Workdir,
    spec: TaskSpec,
    images: prepare.TaskImages,
    teacher: TeacherResult,
    candidates: Scored,
) -> list[Result]:
    """Distils candidates together with one seed, and measures them on the validation images.

    Args:
      experiment: The settings.
      workdir: Where the networks are kept.
      spec: The task.
      images: Its images.
      teacher: Its teacher.
      candidates: Whom to distil.
    """
    config = schedule(experiment)
    assignment = prepare.make_assignment(
        experiment, workdir, spec, images, teacher, config, replicates=1
    )
    students = [
        Student(architecture, int(student_id))
        for architecture, student_id in zip(
            unstack(candidates.architectures), candidates.student_ids, strict=True
        )
    ]
    folder = workdir.search(spec.name) / "verified"
    title = f"verifying {len(students)} candidates"
    return distil_students(experiment, spec, assignment, students, 0, folder, title, config)


def accuracies(results: list[Result]) -> np.ndarray:
    """What verification measured: validation accuracies; those of diverged students are 0."""
    return np.asarray(
        [0.0 if result["diverged"] else result["final_accuracy"] for result in results]
    )


def rerank(scorer: Scorer, ranked: Scored, measured: np.ndarray) -> Scored:
    """Ranks all candidates again, after the predictor was adapted to the measured ones.

    Args:
      scorer: What predicted so far.
      ranked: All candidates, the measured ones first.
      measured: Accuracies of the first of them, fractions.

    Returns:
      The measured ones, the most accurate first, and then the others by their new prediction.
    """
    count = len(measured)
    head = ranked.take(np.arange(count))
    adapted = scorer.adapted_to(head.architectures, head.student_ids, measured)
    renewed = dataclasses.replace(
        ranked, prediction=adapted(ranked.architectures, ranked.student_ids)
    )
    first = np.argsort(-measured, kind="stable")
    rest = count + np.argsort(-renewed.prediction.mean[count:], kind="stable")
    return renewed.take(np.concatenate([first, rest]))
