"""What the predictor sees of the students of one task.

Dimension letters: B students, h w C activation map, E length of a flat encoding, K measures of
disagreement, P images, N shares of costs.
"""

from typing import NamedTuple

from jaxtyping import Array, Float

from dass_jax.predictor.graph import Graph


class StudentInputs(NamedTuple):
    """Students, each before any training; what a predictor does not look at is None.

    Attributes:
      noise_map: The last activation map on the noise image.
      graph: The architecture as a graph.
      encoding: The architecture as the flat numbers of DaSS.
      image_map: The last activation map, averaged over images of the task.
      disagreement: How far the student is from the teacher on these images.
      costs: The student's shares of the teacher's costs, see ``cost.log_shares``.
    """

    noise_map: Float[Array, "*B h w C"] | None = None
    graph: Graph | None = None
    encoding: Float[Array, "*B E"] | None = None
    image_map: Float[Array, "*B h w C"] | None = None
    disagreement: Float[Array, "*B K"] | None = None
    costs: Float[Array, "*B N"] | None = None


class PredictorInputs(NamedTuple):
    """Students of one task.

    Attributes:
      students: The students, with a leading axis B.
      teacher: Their teacher in the same terms, without that axis.
      images: The teacher's pooled features of images of the task; None if not looked at.
    """

    students: StudentInputs
    teacher: StudentInputs
    images: Float[Array, "P C"] | None = None
