"""Predicts the accuracy that students reach after distillation from one teacher.

As in DaSS (ICLR 2023), embeddings of the student's function (S), of its architecture (A)
and of the teacher's function (T) are concatenated and mapped to one number.

Dimension letters: B students of one task, h w C activation map, E length of an encoding.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from dass_jax.errors import UserError
from dass_jax.predictor.architecture_encoder import FlatArchitectureEncoder
from dass_jax.predictor.functional_encoder import FunctionalEncoder
from dass_jax.predictor.initializers import torch_dense

INPUTS = "STA"


@dataclasses.dataclass(frozen=True)
class PredictorConfig:
    """Inputs and sizes of the predictor; the defaults are the paper's.

    Attributes:
      inputs: What the predictor sees, any of the letters S (student's function), T (teacher's
        function), A (architecture), in any order; kept in the order "STA".
      hidden_channels: Channels after a functional encoder's first convolution.
      embedding_channels: Length of a functional embedding.
      architecture_features: Length of the architecture's embedding.
      head_features: Width of the head's hidden layer.

    Raises:
      UserError: ``inputs`` is empty, repeats a letter or has an unknown one, or a size is not
        positive.
    """

    inputs: str = INPUTS
    hidden_channels: int = 128
    embedding_channels: int = 256
    architecture_features: int = 64
    head_features: int = 64

    def __post_init__(self) -> None:
        ordered = "".join(letter for letter in INPUTS if letter in self.inputs)
        if not ordered or len(ordered) != len(self.inputs):
            raise UserError(
                f"predictor inputs {self.inputs!r}: give one or more of the letters S, T and A, "
                "each once"
            )
        object.__setattr__(self, "inputs", ordered)
        for field in dataclasses.fields(self)[1:]:
            if getattr(self, field.name) < 1:
                raise UserError(f"predictor {field.name} must be at least 1")


class PredictorInputs(NamedTuple):
    """Students of one task, as the predictor sees them.

    Attributes:
      student_features: Each student's last activation map on the noise image, before training.
      teacher_features: The teacher's map; all students of a task share it.
      encoding: Each student's architecture as numbers.
    """

    student_features: Float[Array, "B h w C"]
    teacher_features: Float[Array, "h w C"]
    encoding: Float[Array, "B E"]


class AccuracyPredictor(nn.Module):
    """Maps students of one task to predicted accuracies.

    Attributes:
      config: Inputs and sizes.
    """

    config: PredictorConfig = PredictorConfig()

    @nn.compact
    def __call__(self, inputs: PredictorInputs) -> Float[Array, "B"]:
        """Predicts accuracies after distillation.

        Args:
          inputs: Students of one task. Inputs that the configuration switches off are ignored.

        Returns:
          Predicted accuracies, [B], as fractions; nothing clips them to [0, 1].
        """
        embedding = jnp.concatenate(self._embeddings(inputs), axis=-1)
        hidden = torch_dense(self.config.head_features, embedding.shape[-1], name="head_hidden")
        output = torch_dense(1, self.config.head_features, name="head_output")
        return output(jnp.tanh(hidden(embedding)))[:, 0]

    def _embeddings(self, inputs: PredictorInputs) -> list[Float[Array, "B _"]]:
        """Embeds what is switched on, in the official order: student, architecture, teacher."""
        config = self.config
        sizes = (config.hidden_channels, config.embedding_channels)
        embeddings: list[jax.Array] = []
        if "S" in config.inputs:
            encoder = FunctionalEncoder(*sizes, name="student_encoder")
            embeddings.append(encoder(inputs.student_features))
        if "A" in config.inputs:
            flat = FlatArchitectureEncoder(
                config.architecture_features, name="architecture_encoder"
            )
            embeddings.append(flat(inputs.encoding))
        if "T" in config.inputs:
            # One teacher for all students: embedded once, then repeated.
            encoder = FunctionalEncoder(*sizes, name="teacher_encoder")
            teacher = encoder(inputs.teacher_features[None])
            embeddings.append(jnp.repeat(teacher, inputs.encoding.shape[0], axis=0))
        return embeddings
