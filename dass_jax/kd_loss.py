"""The loss of knowledge distillation (Hinton et al., 2015).

Dimension letters: B batch, C classes.
"""

import dataclasses

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from dass_jax.errors import UserError


def kd_loss(
    student_logits: Float[Array, "B C"],
    teacher_logits: Float[Array, "B C"],
    labels: Int[Array, " B"],
    *,
    alpha: float = 0.5,
    temperature: float = 6.0,
) -> Float[Array, ""]:
    """The distillation loss, averaged over the batch.

    ``(1 - alpha) T^2 CE(softmax(teacher / T), log_softmax(student / T))
    + alpha CE(labels, student)``

    Args:
      student_logits: The student's outputs.
      teacher_logits: The teacher's outputs for the same images.
      labels: Class indices.
      alpha: Weight of the labels against the teacher, in [0, 1].
      temperature: T, how much both distributions are softened.

    Returns:
      The batch mean.
    """
    soft = optax.softmax_cross_entropy(
        student_logits / temperature, jax.nn.softmax(teacher_logits / temperature)
    )
    hard = optax.softmax_cross_entropy_with_integer_labels(student_logits, labels)
    return jnp.mean((1 - alpha) * temperature**2 * soft + alpha * hard)


@dataclasses.dataclass(frozen=True)
class KDLoss:
    """``kd_loss`` with its settings, hashable."""

    alpha: float = 0.5
    temperature: float = 6.0

    def __post_init__(self) -> None:
        if not (0 <= self.alpha <= 1 and self.temperature > 0):
            raise UserError(
                "alpha must be in [0, 1] and temperature positive, "
                f"got {self.alpha} and {self.temperature}"
            )

    def __call__(self, logits: Array, labels: Array, teacher_logits: Array | None) -> Array:
        """The batch mean."""
        if teacher_logits is None:
            raise ValueError("distillation needs teacher logits")
        return kd_loss(
            logits, teacher_logits, labels, alpha=self.alpha, temperature=self.temperature
        )
