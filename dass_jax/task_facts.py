"""Facts of a task that foretell the level of its students' accuracies, see ``level``.

Students inherit from a teacher and need steps and images to come back to its level, the more the
further it is above chance.
"""

import numpy as np
from jaxtyping import Float

from dass_jax.predictor.scale import unit

NUM_FACTS = 3


def task_facts(
    *, num_steps: int, images_per_class: float, teacher_accuracy: float, chance: float
) -> Float[np.ndarray, "3"]:
    """A task's facts.

    Args:
      num_steps: Steps of a student's distillation, all epochs together.
      images_per_class: Training images of each class, on average.
      teacher_accuracy: A fraction.
      chance: The accuracy of guessing, a fraction.

    Returns:
      Decimal logarithms of the steps, of the images of a class and of how far the teacher is above
      chance, float32.
    """
    above = unit(np.float64(teacher_accuracy), np.float64(chance))
    return np.log10([num_steps, images_per_class, above]).astype(np.float32)
