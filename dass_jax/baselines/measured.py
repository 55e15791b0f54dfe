"""Baselines that cost training: short distillation, and regression on a few measured students.

Dimension letters: N students, M measured students of a split, F features, R splits,
S students that are scored.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float, Int

from dass_jax.baselines.candidates import Candidates
from dass_jax.baselines.counts import num_flops, num_params
from dass_jax.database import StudentRecord, column
from dass_jax.errors import UserError

MEASURED_STUDENTS = 8
SPLITS = 20
SHORT_DISTILLATION = "a third of KD"
FEW_SHOT_REGRESSION = f"regression on {MEASURED_STUDENTS} students"
FULL_DISTILLATION = "all of KD, validation accuracy"
REPEATED_REGRESSION = f"{FEW_SHOT_REGRESSION}, {SPLITS} times"
# the share of its epochs that short distillation takes, at least
_SHARE = 1 / 3
_PENALTIES = (0.1, 1.0, 10.0, 100.0)


def _records(candidates: Candidates, name: str) -> Sequence[StudentRecord]:
    """The measured students, which must be these very students.

    Raises:
      UserError: If there are none, or they are others.
    """
    records = candidates.records
    if records is None:
        raise UserError(f"the baseline {name!r} needs measured students: give their records")
    ids = np.asarray(candidates.students.student_ids).tolist()
    if [record.student_id for record in records] != ids:
        raise UserError(
            f"the baseline {name!r} needs one record per student, in the students' order: "
            f"got {len(records)} records of {len(ids)} students"
        )
    return records


def early_evaluation(record: StudentRecord) -> tuple[float, float]:
    """The first evaluation at or after a third of a distillation.

    Args:
      record: The student.

    Returns:
      The share of the epochs that were done by then, and the validation accuracy.

    Raises:
      UserError: If there is none before the last one.
    """
    total = record.curve_epochs[-1] if record.curve_epochs else 0
    for epoch, accuracy in zip(record.curve_epochs[:-1], record.curve, strict=False):
        if epoch >= _SHARE * total:
            return epoch / total, accuracy
    # the last evaluation is what is to be predicted
    raise UserError(
        f"student {record.student_id} was not evaluated between a third and the end of its "
        "epochs: lower kd.sgd.eval_every to have a learning curve"
    )


def short_distillation(candidates: Candidates) -> Float[np.ndarray, " N"]:
    """Validation accuracy at the first evaluation at or after a third of the distillation's epochs.

    This is the same schedule cut short: its learning rate has not come down yet. A distillation
    planned for so few epochs would anneal it, and may rank students otherwise.

    Args:
      candidates: N students with records.

    Returns:
      One accuracy per student, in [0, 1].

    Raises:
      UserError: If there are no records of these students, or no evaluation lies there.
    """
    records = _records(candidates, SHORT_DISTILLATION)
    return np.asarray([early_evaluation(record)[1] for record in records], float)


def full_distillation(candidates: Candidates) -> Float[np.ndarray, " N"]:
    """Validation accuracy of a whole distillation: what choosing by measurements comes to.

    Args:
      candidates: N students with records.

    Returns:
      One accuracy per student, in [0, 1].

    Raises:
      UserError: If there are no records of these students.
    """
    records = _records(candidates, FULL_DISTILLATION)
    return column(records, "final_accuracy").astype(float)


def architecture_features(candidates: Candidates) -> Float[np.ndarray, "N F"]:
    """What is regressed on: log FLOPs, log parameters, each stage's depth and mean width.

    Args:
      candidates: N students.

    Returns:
      Features with mean 0 and deviation 1 over the students; 0 where all students are alike.
    """
    architectures = candidates.students.architectures
    depths = np.asarray(architectures.depths, float)
    widths = np.asarray(architectures.widths, float).sum(-1) / depths
    logarithms = np.log([num_flops(candidates), num_params(candidates)]).T
    features = np.concatenate([logarithms, depths, widths], axis=1)
    alike = np.ptp(features, axis=0) == 0
    deviation = np.where(alike, 1.0, features.std(axis=0))
    return np.where(alike, 0.0, (features - features.mean(axis=0)) / deviation)


def _slope(
    features: Float[np.ndarray, "M F"], labels: Float[np.ndarray, " M"]
) -> Float[np.ndarray, " F"]:
    """Ridge regression with an intercept; its penalty is that of the best leave-one-out error."""
    count = len(labels)
    centred, wanted = features - features.mean(axis=0), labels - labels.mean()
    products = centred @ centred.T
    errors, slopes = [], []
    for penalty in _PENALTIES:
        inverse = np.linalg.inv(products + penalty * np.eye(count))
        # what a sample's own label contributes to its fitted value, the intercept included
        own = np.diag(products @ inverse) + 1 / count
        residuals = wanted - products @ inverse @ wanted
        errors.append(np.sum(np.square(residuals / (1 - own))))
        slopes.append(centred.T @ inverse @ wanted)
    return slopes[int(np.argmin(errors))]


def few_shot_split(
    count: int, measured: int = MEASURED_STUDENTS, split: int = 0
) -> Iterator[tuple[Int[np.ndarray, " M"], Int[np.ndarray, " S"]]]:
    """Whom to learn from, and whom to score by that.

    A split is a fixed random order of the students. A student is scored from the first ones of this
    order other than itself, so that one lesson scores nearly all students.

    Args:
      count: N.
      measured: M, how many other students each one is scored from.
      split: Which order.

    Yields:
      Places of M measured students, and of those that they are to score. Every student is scored
      once, and never by itself.

    Raises:
      UserError: If there are not so many other students.
    """
    if not 2 <= measured < count:
        raise UserError(
            f"regression on {measured} students needs at least 2 of them and "
            f"{measured + 1} students in all, got {count}"
        )
    order = np.random.default_rng(split).permutation(count)
    first, spare = order[:measured], order[measured]
    yield first, order[measured:]
    for student in first:
        yield np.where(first == student, spare, first), np.array([student])


def few_shot_scores(
    features: Float[np.ndarray, "N F"],
    labels: Float[np.ndarray, " N"],
    measured: int = MEASURED_STUDENTS,
    splits: int = SPLITS,
) -> Float[np.ndarray, "R N"]:
    """Scores every student by a regression on a few others, once per ``few_shot_split``.

    Scores leave out the intercept: between regressions, the others' mean would rank students
    against their own labels.

    Args:
      features: As ``architecture_features`` returns them.
      labels: Accuracies.
      measured: M, how many other students each one is scored from.
      splits: R.

    Returns:
      Predicted accuracies less that of mean features; no label enters its own student's scores.

    Raises:
      UserError: If there are not so many other students.
    """
    scores = np.zeros((splits, len(labels)))
    for split in range(splits):
        for known, scored in few_shot_split(len(labels), measured, split):
            slope = _slope(features[known], labels[known])
            scores[split, scored] = features[scored] @ slope
    return scores


def few_shot_splits(candidates: Candidates) -> Float[np.ndarray, "R N"]:
    """Ridge regression of final accuracy on the architecture, from a few other measured students.

    What so few labels tell is the mean of the splits' correlations, not the correlation of the
    mean score: all splits together see most labels.

    Args:
      candidates: N students with records.

    Returns:
      One score per split and student, of which the student's own label is no part.

    Raises:
      UserError: If there are no records of these students, or too few students.
    """
    records = _records(candidates, FEW_SHOT_REGRESSION)
    labels = column(records, "final_accuracy").astype(float)
    return few_shot_scores(architecture_features(candidates), labels)


def few_shot_regression(candidates: Candidates) -> Float[np.ndarray, " N"]:
    """The first of ``few_shot_splits``: really no more than ``MEASURED_STUDENTS`` + 1 labels.

    Args:
      candidates: N students with records.

    Returns:
      One score per student.

    Raises:
      UserError: As ``few_shot_splits``.
    """
    return few_shot_splits(candidates)[0]


def repeated_regression(candidates: Candidates) -> Float[np.ndarray, " N"]:
    """The mean of ``few_shot_splits``: an upper bound, it measures most of the other students.

    Args:
      candidates: N students with records.

    Returns:
      One score per student.

    Raises:
      UserError: As ``few_shot_splits``.
    """
    return few_shot_splits(candidates).mean(axis=0)
