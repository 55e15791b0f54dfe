"""Predicts the accuracy that students reach after distillation from one teacher.

As in DaSS (ICLR 2023), embeddings of the student's function (S), of its architecture (A)
and of the teacher's function (T) are concatenated and mapped to one number. Beyond DaSS, the
function may be seen on images of the task (I), the dataset may be encoded (D), and the untrained
student's disagreement with the teacher (K) and its size (C), the strongest simple baseline, may be
told.

Dimension letters: B students of one task, F features of an embedding.
"""

import dataclasses
from typing import Literal, TypeVar

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from dass_jax.errors import UserError
from dass_jax.predictor.architecture_encoder import (
    FlatArchitectureEncoder,
    GraphArchitectureEncoder,
)
from dass_jax.predictor.dataset_encoder import DatasetEncoder
from dass_jax.predictor.functional_encoder import FunctionalEncoder
from dass_jax.predictor.initializers import torch_dense
from dass_jax.predictor.inputs import PredictorInputs, StudentInputs
from dass_jax.remapping import Kind

INPUTS = "STAIDKC"


@dataclasses.dataclass(frozen=True)
class PredictorConfig:
    """Inputs and sizes of the predictor; sizes that the paper has are the paper's.

    Attributes:
      inputs: What the predictor sees, any of these letters, in any order, kept in this one: S
        (student's function on noise), T (teacher's function on noise), A (architecture), I
        (student's and teacher's function on images of the task), D (dataset), K (student's
        disagreement with the teacher on these images, before training), C (student's costs as
        shares of the teacher's).
      architecture: How A is encoded: as a ``graph``, which serves any search space, or ``flat`` as
        in the paper.
      scale: What the network's output means: ``accuracy`` as it is, as in the paper, or
        ``teacher``, where 0 is chance and 1 the teacher's accuracy, so that tasks of any number of
        classes are alike. Predictions are accuracies in either case.
      remapping: How the students that S, I and K look at inherit the teacher's weights, see
        ``remapping.remap``; as they do for distillation if None.
      probe_images: Images of the task that I, D and K look at.
      hidden_channels: Channels after a functional encoder's first convolution.
      embedding_channels: Length of a functional embedding.
      architecture_features: Length of the architecture's embedding.
      graph_features: Length of a node's state.
      graph_layers: Rounds of message passing.
      dataset_features: Length of the dataset's embedding.
      head_features: Width of the head's hidden layer.

    Raises:
      UserError: ``inputs`` is empty, repeats a letter or has an unknown one, or a size is not
        positive.
    """

    inputs: str = "STA"
    architecture: Literal["graph", "flat"] = "graph"
    scale: Literal["accuracy", "teacher"] = "accuracy"
    remapping: Kind | None = None
    probe_images: int = 64
    hidden_channels: int = 128
    embedding_channels: int = 256
    architecture_features: int = 64
    graph_features: int = 64
    graph_layers: int = 3
    dataset_features: int = 32
    head_features: int = 64

    @property
    def sees_images(self) -> bool:
        """Whether any input needs images of the task."""
        return not set("IDK").isdisjoint(self.inputs)

    @property
    def student_fields(self) -> frozenset[str]:
        """The fields of ``StudentInputs`` that the inputs need."""
        fields = {
            "S": "noise_map",
            "T": "noise_map",
            "A": "graph" if self.architecture == "graph" else "encoding",
            "I": "image_map",
            "K": "disagreement",
            "C": "costs",
        }
        return frozenset(fields[letter] for letter in self.inputs if letter in fields)

    def __post_init__(self) -> None:
        ordered = "".join(letter for letter in INPUTS if letter in self.inputs)
        if not ordered or len(ordered) != len(self.inputs):
            raise UserError(
                f"predictor inputs {self.inputs!r}: give one or more of the letters "
                f"{', '.join(INPUTS)}, each once"
            )
        if ordered == "D":
            raise UserError(
                "predictor inputs 'D' tell no students apart: add one of S, A, I, K and C"
            )
        object.__setattr__(self, "inputs", ordered)
        for field in dataclasses.fields(self):
            if field.type is int and getattr(self, field.name) < 1:
                raise UserError(f"predictor {field.name} must be at least 1")


class AccuracyPredictor(nn.Module):
    """Maps students of one task to predictions, in the unit that ``config.scale`` says.

    Attributes:
      config: Inputs and sizes.
    """

    config: PredictorConfig = PredictorConfig()

    @nn.compact
    def __call__(self, inputs: PredictorInputs) -> Float[Array, "B"]:
        """Predicts how students do after distillation.

        Args:
          inputs: Students of one task. Inputs that the configuration switches off are ignored.

        Returns:
          Predictions, [B]; nothing clips them.
        """
        embedding = jnp.concatenate(self._embeddings(inputs), axis=-1)
        hidden = torch_dense(self.config.head_features, embedding.shape[-1], name="head_hidden")
        output = torch_dense(1, self.config.head_features, name="head_output")
        return output(jnp.tanh(hidden(embedding)))[:, 0]

    def _embeddings(self, inputs: PredictorInputs) -> list[Float[Array, "B _"]]:
        """Embeds what is switched on, in the official order: student, architecture, teacher."""
        students, teacher = inputs.students, inputs.teacher
        embed = {
            "S": lambda: self._functional("student_encoder", students.noise_map),
            "A": lambda: self._architecture(students),
            "T": lambda: self._functional("teacher_encoder", _alone(teacher.noise_map)),
            "I": lambda: self._functional("image_encoder", _beside(students, teacher)),
            "D": lambda: self._dataset(inputs.images),
            "K": lambda: _given(students.disagreement),
            "C": lambda: _given(students.costs),
        }
        embeddings = [embed[letter]() for letter in embed if letter in self.config.inputs]
        # what describes the task is embedded once, then repeated
        count = max(len(leaf) for leaf in jax.tree.leaves(students))
        return [jnp.broadcast_to(e, (count, e.shape[-1])) for e in embeddings]

    def _functional(self, name: str, maps: Array | None) -> Float[Array, "B F"]:
        sizes = (self.config.hidden_channels, self.config.embedding_channels)
        return FunctionalEncoder(*sizes, name=name)(_given(maps))

    def _architecture(self, students: StudentInputs) -> Float[Array, "B F"]:
        config, name = self.config, "architecture_encoder"
        if config.architecture == "flat":
            flat = FlatArchitectureEncoder(config.architecture_features, name=name)
            return flat(_given(students.encoding))
        sizes = (config.architecture_features, config.graph_features, config.graph_layers)
        return GraphArchitectureEncoder(*sizes, name=name)(_given(students.graph))

    def _dataset(self, images: Array | None) -> Float[Array, "1 F"]:
        encoder = DatasetEncoder(self.config.dataset_features, name="dataset_encoder")
        return encoder(_given(images))[None]


T = TypeVar("T")


def _given(value: T | None) -> T:
    if value is None:
        raise ValueError("the predictor looks at an input that was not given")
    return value


def _alone(teacher: Array | None) -> Float[Array, "1 h w C"]:
    """A teacher's map as that of a batch of one."""
    return _given(teacher)[None]


def _beside(students: StudentInputs, teacher: StudentInputs) -> Float[Array, "B h w CC"]:
    """Each student's map on the images with the teacher's, along the channels."""
    own, other = _given(students.image_map), _given(teacher.image_map)
    return jnp.concatenate([own, jnp.broadcast_to(other, own.shape)], axis=-1)
