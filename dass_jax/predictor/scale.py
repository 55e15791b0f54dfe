"""The unit that the predictor's output is in, and the way back to accuracies."""

from typing import Any, Literal

from jaxtyping import Array, Float

Scale = Literal["accuracy", "teacher"]
# Where a teacher is hardly better than guessing, its distance from chance is no unit.
_LEAST = 0.02


def unit(teacher_accuracy: Float[Any, "*T"], chance: Float[Any, "*T"]) -> Any:
    """How far teachers are above chance, and at least a little, in fractions; NumPy or JAX."""
    return (teacher_accuracy - chance).clip(_LEAST)


def to_target(
    scale: Scale, accuracies: Float[Array, "*B"], teacher_accuracy: Array, chance: Array
) -> Float[Array, "*B"]:
    """What the predictor shall answer for these accuracies.

    Args:
      scale: ``accuracy``, or ``teacher``: 0 is chance, 1 the teacher.
      accuracies: Fractions.
      teacher_accuracy: The task's, a fraction.
      chance: The task's, a fraction.
    """
    if scale == "accuracy":
        return accuracies
    return (accuracies - chance) / unit(teacher_accuracy, chance)


def to_accuracy(
    scale: Scale, predictions: Float[Array, "*B"], teacher_accuracy: Array, chance: Array
) -> Float[Array, "*B"]:
    """Undoes ``to_target``: the accuracies, fractions, that a predictor's answers stand for."""
    if scale == "accuracy":
        return predictions
    return chance + unit(teacher_accuracy, chance) * predictions
