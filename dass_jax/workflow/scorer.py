"""A predictor adapted to one task, which scores students in compiled batches.

Dimension letters: K students, M measured students.
"""

import dataclasses
from collections.abc import Callable
from typing import TypeVar

import jax
import numpy as np
from jaxtyping import Float, Int

from dass_jax.adaptation import Params
from dass_jax.data.tasks import TaskSpec
from dass_jax.meta_tasks import Measured
from dass_jax.predictor.inputs import StudentInputs
from dass_jax.search.problem import rows
from dass_jax.search.scoring import adapt_members, predict_members
from dass_jax.search_space import Architecture
from dass_jax.teacher import TeacherResult
from dass_jax.uncertainty import Prediction, level_of, with_intervals
from dass_jax.workflow.predictors import TrainedPredictor
from dass_jax.workflow.prepare import TaskImages
from dass_jax.workflow.task_arrays import TaskContext, embed_students, task_context, task_of

BATCH_SIZE = 128

Batched = TypeVar("Batched")


@dataclasses.dataclass(frozen=True)
class Scorer:
    """Predicts accuracies of students of one task.

    Attributes:
      predictor: The predictor as it was saved.
      context: The task and its teacher.
      params: Every member's parameters, adapted to the task.
      batch_size: Students that are embedded and scored together; the last batch is filled up, so
        that one compilation serves any number of students.
    """

    predictor: TrainedPredictor
    context: TaskContext
    params: Params
    batch_size: int = BATCH_SIZE

    def __call__(
        self, architectures: Architecture, student_ids: Int[np.ndarray, " K"]
    ) -> Prediction:
        """Predicted accuracies after distillation, fractions, with intervals.

        Args:
          architectures: K students.
          student_ids: Their ids, which key ``random_init`` alone.
        """
        return self.predict(self.embed(architectures, student_ids))

    def embed(
        self, architectures: Architecture, student_ids: Int[np.ndarray, " K"]
    ) -> StudentInputs:
        """What the predictor sees of students; nearly all of what scoring costs.

        Args:
          architectures: K students.
          student_ids: Their ids, which key ``random_init`` alone.

        Returns:
          K students, on the host; the same for every adaptation to the task.
        """

        def embed(places: np.ndarray) -> StudentInputs:
            chosen, settings = rows(architectures, places), self.predictor.settings
            return embed_students(settings, self.context, chosen, student_ids[places])

        return self._in_batches(embed, len(student_ids))

    def predict(self, students: StudentInputs) -> Prediction:
        """Predicted accuracies after distillation, fractions, with intervals.

        Args:
          students: K students, from ``embed``.
        """

        def predict(places: np.ndarray) -> np.ndarray:
            task = task_of(self.context, rows(students, places))
            return np.asarray(predict_members(self.predictor.module, self.params, task)).T

        members = self._in_batches(predict, len(jax.tree.leaves(students)[0])).T
        return with_intervals(self.predictor.calibration, members, *self._known())

    def _known(self) -> tuple[float, float, Float[np.ndarray, "F"]]:
        """The teacher's accuracy, that of guessing and the task's facts."""
        alone = self.context.alone
        return float(alone.teacher_accuracy), float(alone.chance), np.asarray(alone.facts)

    def _in_batches(self, function: Callable[[np.ndarray], Batched], count: int) -> Batched:
        """Calls a function with places of so many students and joins its results, on the host."""
        places = np.arange(count + -count % self.batch_size) % count
        found = [jax.device_get(function(some)) for some in places.reshape(-1, self.batch_size)]
        return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:count], *found)

    def adapted_to(self, students: StudentInputs, accuracies: Float[np.ndarray, " M"]) -> "Scorer":
        """The same, but measured students join the teacher in the adaptation.

        Args:
          students: M measured students, from ``embed``.
          accuracies: Their validation accuracies after distillation, fractions.
        """
        # the level is added to predictions, so the network has to learn what is left without it
        level = level_of(self.predictor.calibration, *self._known())
        task = task_of(self.context, students, accuracies - level)
        measured = Measured(task.students, task.accuracies, task.valid)
        return dataclasses.replace(self, params=_adapt(self.predictor, self.context, measured))


class CandidateScorer:
    """Scores the candidates of a search, and keeps them as the predictor sees them.

    Attributes:
      scorer: What scores them, before anything is measured.
    """

    def __init__(self, scorer: Scorer, *, keep: bool = True) -> None:
        """Starts with no candidate.

        Args:
          scorer: What scores them.
          keep: Whether candidates are kept; ``renewed`` needs them.
        """
        self.scorer, self._keep = scorer, keep
        self._met: list[StudentInputs] = []

    def __call__(
        self, architectures: Architecture, student_ids: Int[np.ndarray, " K"]
    ) -> Prediction:
        """As ``Scorer``, for the next K candidates; ids count candidates from 0 on."""
        students = self.scorer.embed(architectures, student_ids)
        if self._keep:
            self._met.append(students)
        return self.scorer.predict(students)

    @property
    def adapts(self) -> bool:
        """Whether measured candidates change what is predicted of others."""
        return self.scorer.predictor.settings.meta.inner_steps > 0

    def renewed(
        self,
        student_ids: Int[np.ndarray, " N"],
        measured_ids: Int[np.ndarray, " M"],
        accuracies: Float[np.ndarray, " M"],
    ) -> Prediction:
        """What is predicted after the predictor was adapted to measured candidates.

        Args:
          student_ids: The candidates to predict, N ids.
          measured_ids: The measured ones, M ids.
          accuracies: What was measured of those, fractions.
        """
        met = jax.tree.map(lambda *leaves: np.concatenate(leaves), *self._met)
        adapted = self.scorer.adapted_to(rows(met, measured_ids), accuracies)
        return adapted.predict(rows(met, student_ids))


def _adapt(
    predictor: TrainedPredictor, context: TaskContext, measured: Measured | None = None
) -> Params:
    steps = predictor.settings.meta.inner_steps
    return adapt_members(predictor.module, predictor.learned, context.alone, steps, measured)


def make_scorer(
    predictor: TrainedPredictor,
    spec: TaskSpec,
    images: TaskImages,
    teacher: TeacherResult,
    batch_size: int = BATCH_SIZE,
) -> Scorer:
    """Adapts a predictor to a task by its teacher.

    Args:
      predictor: The predictor as it was saved.
      spec: The task.
      images: Its images.
      teacher: Its teacher.
      batch_size: Students that are scored together.
    """
    context = task_context(predictor.settings, spec, images, teacher)
    return Scorer(predictor, context, _adapt(predictor, context), batch_size)


def predict_students(
    predictor: TrainedPredictor,
    spec: TaskSpec,
    images: TaskImages,
    teacher: TeacherResult,
    architectures: Architecture,
    student_ids: Int[np.ndarray, " K"],
) -> Prediction:
    """Adapts a predictor to a task and scores K students of it, all together.

    The arguments are those of ``make_scorer``, the architectures and their numbers.
    """
    scorer = make_scorer(predictor, spec, images, teacher, batch_size=len(student_ids))
    return scorer(architectures, student_ids)
