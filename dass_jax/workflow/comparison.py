"""Compares predictors with baselines over unseen tasks.

Every score is compared with test accuracies after distillation. Where a task's students were
distilled more than once, a score is compared with each measurement and the results are averaged,
which is what the test-retest correlation is, too: one measurement against another.

Dimension letters: B bootstrap samples.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from dass_jax import ranking
from dass_jax.ranking import Interval, Ranking
from dass_jax.workflow.evaluate import Scores, UnseenTask

SAMPLES = 1000
TOP = 5


class Intervals(NamedTuple):
    """An interval for each measure of a ``Ranking``."""

    spearman: Interval
    kendall: Interval
    pearson: Interval
    precision: Interval
    regret: Interval


class Row(NamedTuple):
    """One method on one task.

    Attributes:
      task: The task's name.
      method: The method's name.
      ranking: How it ranks the students.
      intervals: Of that, over students.
      margin: The first predictor's Spearman less the method's, on the same measurements.
      margin_interval: Of this difference.
      seconds: Per student.
      coverage: As in ``Scores``.
      machine: As in ``Scores``.
    """

    task: str
    method: str
    ranking: Ranking
    intervals: Intervals
    margin: float
    margin_interval: Interval
    seconds: float
    coverage: float | None
    machine: str


class Summary(NamedTuple):
    """One method over tasks.

    Attributes:
      method: The method's name.
      ranking: Means over the tasks.
      intervals: Of these means, over tasks and students.
      margin: Mean difference in Spearman of the first predictor to this method, on measurements
        that neither has seen, if there are any.
      margin_interval: Of this difference.
      coverage: Mean over the tasks, as in ``Scores``.
    """

    method: str
    ranking: Ranking
    intervals: Intervals
    margin: float
    margin_interval: Interval
    coverage: float | None


class _Compared(NamedTuple):
    """A row, and what its mean over tasks is made of.

    Attributes:
      row: The row.
      samples: The method's bootstrap samples.
      margin_samples: The row's margin in every sample.
    """

    row: Row
    samples: Ranking
    margin_samples: Float[np.ndarray, " B"]


def _fair(task: UnseenTask, scores: Scores) -> np.ndarray:
    """The measurements that a method has not seen, if there are any."""
    return task.measured[:-1] if scores.saw_last and len(task.measured) > 1 else task.measured


def _compare_task(task: UnseenTask, first: str, draws: np.ndarray) -> dict[str, _Compared]:
    def ranked(values: np.ndarray, measured: np.ndarray) -> tuple[Ranking, Ranking]:
        """As the students are, and in every sample of them."""
        samples = ranking.rank_samples(values, measured, TOP, draws)
        return ranking.rank(values, measured, TOP), samples

    compared = {}
    # what the first predictor reaches on the measurements of which methods have seen some
    references: dict[bool, tuple[Ranking, Ranking]] = {}
    for method, scores in task.scores.items():
        measured = _fair(task, scores)
        if scores.saw_last not in references:
            references[scores.saw_last] = ranked(task.scores[first].values, measured)
        reference, reference_samples = references[scores.saw_last]
        value, samples = ranked(scores.values, measured)
        intervals = Intervals(*map(ranking.interval, samples))
        margin = float(reference.spearman - value.spearman)
        margins = reference_samples.spearman - samples.spearman
        row = Row(
            task.name, method, value, intervals, margin, ranking.interval(margins),
            scores.seconds, scores.coverage, scores.machine,
        )  # fmt: skip
        compared[method] = _Compared(row, samples, margins)
    return compared


def compare(tasks: Sequence[UnseenTask], seed: int = 0) -> tuple[list[Row], list[Summary]]:
    """Ranks all methods on all tasks, and over the tasks.

    Args:
      tasks: Scored tasks; the first method of the first one is the one that margins are about.
      seed: Of the bootstrap.

    Returns:
      A row for every task and method, and a summary of every method that all tasks have.
    """
    rng = np.random.default_rng(seed)
    draws = [ranking.resamples(rng, task.measured.shape[1], SAMPLES) for task in tasks]
    first = next(iter(tasks[0].scores))
    compared = [_compare_task(task, first, draw) for task, draw in zip(tasks, draws, strict=True)]
    rows = [one.row for of_task in compared for one in of_task.values()]
    shared = [m for m in tasks[0].scores if all(m in task.scores for task in tasks)]
    return rows, [_summary(method, compared, seed) for method in shared]


def _summary(method: str, compared: Sequence[Mapping[str, _Compared]], seed: int) -> Summary:
    own = [of_task[method] for of_task in compared]

    def over_tasks(samples: Sequence[np.ndarray]) -> Interval:
        # the same draws of tasks for every method and measure
        rng = np.random.default_rng(seed)
        return ranking.interval(ranking.bootstrap_mean(rng, samples))

    covered = [one.row.coverage for one in own if one.row.coverage is not None]
    return Summary(
        method,
        Ranking(*np.mean([one.row.ranking for one in own], axis=0).tolist()),
        Intervals(
            *(over_tasks(of_measure) for of_measure in zip(*(o.samples for o in own), strict=True))
        ),
        float(np.mean([one.row.margin for one in own])),
        over_tasks([one.margin_samples for one in own]),
        float(np.mean(covered)) if covered else None,
    )
