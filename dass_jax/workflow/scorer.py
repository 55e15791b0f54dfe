"""A predictor adapted to one task, which scores students in compiled batches.

Dimension letters: K students, M measured students.
"""

import dataclasses

import jax
import numpy as np
from jaxtyping import Float, Int

from dass_jax.adaptation import Params
from dass_jax.data.tasks import TaskSpec
from dass_jax.meta_tasks import Measured
from dass_jax.search.scoring import adapt_members, predict_members
from dass_jax.search_space import Architecture
from dass_jax.teacher import TeacherResult
from dass_jax.uncertainty import Prediction, with_intervals
from dass_jax.workflow.predictors import TrainedPredictor
from dass_jax.workflow.task_arrays import TaskContext, task_arrays, task_context

BATCH_SIZE = 128


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
        count = len(student_ids)
        places = np.arange(count + -count % self.batch_size) % count
        members = []
        for chunk in places.reshape(-1, self.batch_size):
            chosen = jax.tree.map(lambda leaf, rows=chunk: np.asarray(leaf)[rows], architectures)
            task = task_arrays(self.predictor.settings, self.context, chosen, student_ids[chunk])
            members.append(predict_members(self.predictor.module, self.params, task))
        known = float(self.context.alone.teacher_accuracy), float(self.context.alone.chance)
        together = np.concatenate([np.asarray(part) for part in members], axis=1)[:, :count]
        return with_intervals(self.predictor.calibration, together, *known)

    def adapted_to(
        self,
        architectures: Architecture,
        student_ids: Int[np.ndarray, " M"],
        accuracies: Float[np.ndarray, " M"],
    ) -> "Scorer":
        """The same, but measured students join the teacher in the adaptation.

        Args:
          architectures: M measured students.
          student_ids: Their ids.
          accuracies: Their validation accuracies after distillation, fractions.
        """
        settings = self.predictor.settings
        task = task_arrays(settings, self.context, architectures, student_ids, accuracies)
        measured = Measured(task.students, task.accuracies, task.valid)
        return dataclasses.replace(self, params=_adapt(self.predictor, self.context, measured))


def _adapt(
    predictor: TrainedPredictor, context: TaskContext, measured: Measured | None = None
) -> Params:
    steps = predictor.settings.meta.inner_steps
    return adapt_members(predictor.module, predictor.learned, context.alone, steps, measured)


def make_scorer(
    predictor: TrainedPredictor,
    spec: TaskSpec,
    teacher: TeacherResult,
    batch_size: int = BATCH_SIZE,
) -> Scorer:
    """Adapts a predictor to a task by its teacher.

    Args:
      predictor: The predictor as it was saved.
      spec: The task; its images are read if the predictor sees them.
      teacher: Its teacher.
      batch_size: Students that are scored together.
    """
    context = task_context(predictor.settings, spec, teacher)
    return Scorer(predictor, context, _adapt(predictor, context), batch_size)


def predict_students(
    predictor: TrainedPredictor,
    spec: TaskSpec,
    teacher: TeacherResult,
    architectures: Architecture,
    student_ids: Int[np.ndarray, " K"],
) -> Prediction:
    """Adapts a predictor to a task and scores K students of it, all together."""
    scorer = make_scorer(predictor, spec, teacher, batch_size=len(student_ids))
    return scorer(architectures, student_ids)
