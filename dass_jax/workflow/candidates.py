"""What baselines may look at, for students of a task."""

from collections.abc import Sequence

import numpy as np

from dass_jax.baselines.candidates import Candidates
from dass_jax.data.tasks import TaskSpec
from dass_jax.database import StudentRecord
from dass_jax.evaluation import Split
from dass_jax.experiment import Experiment
from dass_jax.search_space import Architecture
from dass_jax.teacher import TeacherResult
from dass_jax.workflow.prepare import TaskImages
from dass_jax.workflow.task_arrays import probe_images, untrained_students

# Training images that baselines look at, whatever a predictor is shown.
PROBE_IMAGES = 256


def baseline_candidates(
    experiment: Experiment,
    spec: TaskSpec,
    images: TaskImages,
    teacher: TeacherResult,
    architectures: Architecture,
    student_ids: np.ndarray,
    records: Sequence[StudentRecord] | None = None,
) -> Candidates:
    """Students of a task as baselines see them.

    Args:
      experiment: The settings.
      spec: The task.
      images: Its images.
      teacher: Its teacher.
      architectures: N students.
      student_ids: Their stable ids.
      records: The same students measured, for baselines that look at measurements.
    """
    chosen = probe_images(experiment, spec, images, PROBE_IMAGES)
    return Candidates(
        students=untrained_students(experiment, spec, teacher, architectures, student_ids),
        image_size=experiment.image_size,
        probe=Split(images.train.images[chosen], images.train.labels[chosen]),
        valid=images.valid,
        records=records,
    )
