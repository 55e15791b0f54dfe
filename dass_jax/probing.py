"""What untrained students make of images of the task, and how far they are from the teacher.

Beyond DaSS (ICLR 2023), which looks at noise alone: a small batch of the task's images, without
their labels, shows what a student does to data, and how its answers differ from the teacher's.

Dimension letters: K students, P images of H W pixels, h w C the last stage's map, L classes,
M measures of disagreement.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from dass_jax import resnet
from dass_jax.data.augmentation import normalize
from dass_jax.search_space import ResNetSpace
from dass_jax.untrained import Forward, Untrained, map_forwards

# Softens logits before they are compared, as in distillation.
TEMPERATURE = 6.0


class Response(NamedTuple):
    """What one network makes of P images.

    Attributes:
      logits: Its answers.
      pooled: Its features before the dense layer.
    """

    logits: Float[Array, "P L"]
    pooled: Float[Array, "P C"]


class Probe(NamedTuple):
    """What students make of images of the task, on the host.

    Attributes:
      image_map: The last activation map, averaged over the images.
      disagreement: ``MEASURES``, in this order.
    """

    image_map: Float[Array | np.ndarray, "*K h w C"]
    disagreement: Float[Array | np.ndarray, "*K M"]


def agreement(student: Response, teacher: Response) -> Float[Array, ""]:
    """How often both would choose the same class."""
    return jnp.mean(jnp.argmax(student.logits, -1) == jnp.argmax(teacher.logits, -1))


def divergence(student: Response, teacher: Response) -> Float[Array, ""]:
    """Kullback-Leibler divergence of the softened answers, on a logarithmic scale about [-1, 0]."""
    log_teacher, log_student = (
        jax.nn.log_softmax(response.logits / TEMPERATURE) for response in (teacher, student)
    )
    kl = jnp.sum(jnp.exp(log_teacher) * (log_teacher - log_student), -1)
    return jnp.log10(1e-4 + jnp.maximum(jnp.mean(kl), 0)) / 4


def logit_correlation(student: Response, teacher: Response) -> Float[Array, ""]:
    """Correlation over classes of both answers to an image, averaged over the images."""
    first, second = (r.logits - r.logits.mean(-1, keepdims=True) for r in (student, teacher))
    return jnp.mean(jnp.sum(first * second, -1) / _norms(first, second, -1))


def feature_alignment(student: Response, teacher: Response) -> Float[Array, ""]:
    """Centred kernel alignment of the features (linear CKA; Kornblith et al., 2019)."""
    first, second = (_centered_gram(response.pooled) for response in (student, teacher))
    return jnp.sum(first * second) / _norms(first, second, (0, 1))


def _norms(first: Array, second: Array, axes: int | tuple[int, ...]) -> Array:
    """The product of both lengths; not zero."""
    return jnp.sqrt(jnp.sum(first**2, axes) * jnp.sum(second**2, axes)) + 1e-12


def _centered_gram(features: Float[Array, "P C"]) -> Float[Array, "P P"]:
    centered = features - features.mean(0)
    return centered @ centered.T


MEASURES = (agreement, divergence, logit_correlation, feature_alignment)


def _response(forward: Forward) -> Response:
    return Response(forward.logits, forward.last_map.mean((1, 2)))


def _probe(forward: Forward, teacher: Response) -> Probe:
    measured = [measure(_response(forward), teacher) for measure in MEASURES]
    return Probe(forward.last_map.mean(0), jnp.stack(measured))


@functools.partial(jax.jit, static_argnums=0)
def teacher_response(
    space: ResNetSpace, variables: resnet.Variables, images: UInt8[Array, "P H W 3"]
) -> Response:
    """What the teacher makes of images, in evaluation mode."""
    logits, features = resnet.apply_dense(space, variables, normalize(images), train=False)
    return _response(Forward(logits, features[f"stage{space.num_stages}"]))


def probe(
    students: Untrained, images: UInt8[Array, "P H W 3"], teacher: Response, **how: Any
) -> Probe:
    """What untrained students make of images, and how far that is from the teacher.

    Normalisation uses the statistics of the images, as pruning tools recalibrate them: with the
    teacher's running statistics a pruned network answers badly, and the same measures rank students
    one way on one task and the other way on the next.

    Args:
      students: K students.
      images: Images of the task; labels are not needed.
      teacher: From ``teacher_response`` to the same images.
      **how: As ``map_forwards`` takes.

    Returns:
      Maps and measures of the K students.
    """
    return map_forwards(_probe, students, normalize(images), teacher, train=True, **how)
