"""Predicts a student's latency from its sizes, so that a search need not compile its candidates.

Latency is modelled as a sum of what the student consists of, with non-negative weights. They are
fitted to some measured students by non-negative least squares (Lawson & Hanson, 1974) of relative
errors, so that fast students count as much as slow ones.

Dimension letters: K students to predict, N measured ones, F features, S stages.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import optimize

from dass_jax import cost, settings
from dass_jax.errors import UserError
from dass_jax.metrics import correlate
from dass_jax.search_space import Architecture, ResNetSpace

_KERNEL = 9  # every convolution is 3x3
# Convolutions compute whole vectors of channels, so some channels of a narrow block cost nothing.
_VECTOR = 8


def features(
    space: ResNetSpace, architecture: Architecture, *, image_size: int
) -> Float[np.ndarray, "*K F"]:
    """What a student's latency is made of; nothing of it is negative.

    A constant; all blocks, for what it takes to start an operation; all elements of their feature
    maps, for what it takes to move them; and the multiply-adds of each stage, with channels
    rounded up to whole vectors, as arithmetic is slower where channels are few. On CPU, students
    left out were predicted worse with plain multiply-adds, and no better with blocks and maps of
    each stage by itself, or with the stem, which is left to the constant as is the dense layer.

    Args:
      space: The search space.
      architecture: One architecture or a batch of them.
      image_size: Height and width of the images in pixels.

    Returns:
      Counts for one image, F = 3 + S.
    """
    conv = cost.convolutions(architecture)
    inputs, widths = (-(-channels // _VECTOR) * _VECTOR for channels in (conv.inputs, conv.widths))
    pixels = np.square(image_size // np.cumprod(space.strides))
    work = _KERNEL * pixels * (inputs * widths + widths**2).sum(-1)
    blocks = np.asarray(architecture.depths).sum(-1)
    maps = (2 * pixels * conv.widths.sum(-1)).sum(-1)
    columns = [np.ones_like(blocks), blocks, maps, *np.moveaxis(work, -1, 0)]
    return np.stack(columns, axis=-1).astype(np.float64)


def relative_fit(
    predictors: Float[np.ndarray, "N F"], seconds: Float[np.ndarray, " N"]
) -> Float[np.ndarray, " F"]:
    """Non-negative weights whose predictions have the smallest relative squared errors.

    Args:
      predictors: What each prediction is a weighted sum of; not negative.
      seconds: What was measured; positive.

    Returns:
      The weights.
    """
    rows = predictors / seconds[:, None]
    # the solver's tolerance is one for all columns, so they must be of one size
    scale = np.maximum(np.linalg.norm(rows, axis=0), np.finfo(float).tiny)
    weights, _ = optimize.nnls(rows / scale, np.ones(len(seconds)))
    return weights / scale


def leave_one_out(
    predictors: Float[np.ndarray, "N F"], seconds: Float[np.ndarray, " N"]
) -> Float[np.ndarray, " N"]:
    """What is predicted for every student by the fit to all others, in seconds."""
    others = ~np.eye(len(seconds), dtype=bool)
    return np.asarray(
        [
            row @ relative_fit(predictors[kept], seconds[kept])
            for row, kept in zip(predictors, others, strict=True)
        ]
    )


def mean_relative_error(
    predicted: Float[np.ndarray, " N"], seconds: Float[np.ndarray, " N"]
) -> float:
    """The mean of absolute errors as fractions of what was measured."""
    return float(np.mean(np.abs(predicted / seconds - 1)))


@dataclasses.dataclass(frozen=True)
class LatencyModel:
    """Latency of students for one batch size on one device.

    A student is never predicted to be faster than one it contains, as long as none of its stages
    ends in fewer channels.

    Attributes:
      weights: Seconds for each unit of ``features``.
      image_size: Height and width of the images in pixels.
      batch_size: Images of a batch.
      students: How many were measured.
      error: Mean absolute error as a fraction of the measured latency, each student left out in
        turn.
      spearman: Rank correlation of the same predictions with the measured latencies.
    """

    weights: tuple[float, ...]
    image_size: int
    batch_size: int
    students: int
    error: float
    spearman: float

    def predict(self, space: ResNetSpace, architecture: Architecture) -> Float[np.ndarray, "*K"]:
        """Seconds for one batch of each of some architectures.

        Args:
          space: The space that the model was fitted in.
          architecture: One architecture or a batch of them.

        Raises:
          UserError: If the space has another number of stages.
        """
        counts = features(space, architecture, image_size=self.image_size)
        if counts.shape[-1] != len(self.weights):
            raise UserError(
                f"the latency model has {len(self.weights)} weights, but a space of "
                f"{space.num_stages} stages needs {counts.shape[-1]}: fit it in this space"
            )
        return np.asarray(counts @ np.asarray(self.weights))

    def to_json(self) -> dict[str, Any]:
        """All fields, as JSON can hold them."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "LatencyModel":
        """Reads what ``to_json`` wrote.

        Raises:
          UserError: If a field is missing or of the wrong type.
        """
        return settings.build(cls, data, "the latency model")


def fit_latency_model(
    space: ResNetSpace,
    architectures: Architecture,
    seconds: Float[np.ndarray, " N"],
    *,
    image_size: int,
    batch_size: int,
) -> LatencyModel:
    """Fits the model to measured students, and says how far off it is on students left out.

    Args:
      space: The search space.
      architectures: N measured students.
      seconds: Their latencies.
      image_size: Height and width of the images in pixels.
      batch_size: Images of a batch.

    Returns:
      The model.

    Raises:
      UserError: If there are fewer than two students, or a latency is not positive.
    """
    if len(seconds) < 2:
        raise UserError(f"a latency model needs 2 measured students or more, got {len(seconds)}")
    if not (np.all(np.isfinite(seconds)) and np.all(seconds > 0)):
        raise UserError("a latency model needs latencies that are finite and positive")
    predictors = features(space, architectures, image_size=image_size)
    left_out = leave_one_out(predictors, seconds)
    return LatencyModel(
        weights=tuple(relative_fit(predictors, seconds).tolist()),
        image_size=image_size,
        batch_size=batch_size,
        students=len(seconds),
        error=mean_relative_error(left_out, seconds),
        spearman=correlate(left_out, seconds).spearman,
    )
