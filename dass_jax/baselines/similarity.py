"""DisWOT: how alike an untrained student and its teacher see a batch of images.

Dimension letters: N students, B probe images, h w c the last feature map, C classes.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dass_jax import resnet
from dass_jax.baselines.candidates import Candidates
from dass_jax.data.augmentation import normalize
from dass_jax.evaluation import Split
from dass_jax.search_space import Architecture, ResNetSpace


class Grams(NamedTuple):
    """What a network takes to be alike; rows have length 1, or 0 if they are all zero.

    Attributes:
      relation: Between images, [B, B].
      semantic: Between classes, [C, C].
    """

    relation: Float[Array, "B B"]
    semantic: Float[Array, "C C"]


def _gram(rows: Float[Array, "R F"]) -> Float[Array, "R R"]:
    """Inner products of all rows, each row of the result scaled to length 1."""
    # only the rows' directions matter, and those of small gradients would underflow
    rows = rows / jnp.maximum(jnp.max(jnp.abs(rows)), 1e-30)
    products = rows @ rows.T
    return products / jnp.maximum(jnp.linalg.norm(products, axis=1, keepdims=True), 1e-12)


def grams(
    logits: Float[Array, "B C"], features: Float[Array, "B h w c"], labels: Int[Array, " B"]
) -> Grams:
    """Similarities of images and of classes, whatever the number of channels.

    Args:
      logits: The network's outputs.
      features: Its last feature map, whose mean over the pixels the dense layer reads.
      labels: Class indices.

    Returns:
      Both matrices.
    """
    # the gradient of the mean cross-entropy in the dense layer's weights: a class activation
    errors = jax.nn.softmax(logits) - jax.nn.one_hot(labels, logits.shape[-1])
    activations = errors.T @ jnp.mean(features, (1, 2)) / len(labels)
    return Grams(_gram(features.reshape(len(labels), -1)), _gram(activations))


def _network_grams(
    space: ResNetSpace, variables: resnet.Variables, architecture: Architecture, probe: Split
) -> Grams:
    # both networks by the batch's statistics, so that the teacher is most like itself
    images = normalize(probe.images)
    logits, features, _ = resnet.apply(space, variables, architecture, images, train=True)
    return grams(logits, features[f"stage{space.num_stages}"], probe.labels)


@functools.partial(jax.jit, static_argnums=0)
def _teacher_grams(space: ResNetSpace, variables: resnet.Variables, probe: Split) -> Grams:
    return _network_grams(space, variables, space.full(), probe)


def _similarity(
    space: ResNetSpace,
    variables: resnet.Variables,
    architecture: Architecture,
    probe: Split,
    teacher: Grams,
) -> Float[Array, ""]:
    student = _network_grams(space, variables, architecture, probe)
    distances = [
        jnp.mean(jnp.sum(jnp.square(ours - theirs), axis=1))
        for ours, theirs in zip(student, teacher, strict=True)
    ]
    return -jnp.sum(jnp.stack(distances))


def diswot(candidates: Candidates) -> Float[np.ndarray, " N"]:
    """Semantic and relation similarity of teacher and student on the probe.

    In the manner of Dong et al., "DisWOT: Student Architecture Search for Distillation WithOut
    Training", CVPR 2023: minus the squared distances of two similarity matrices. Relations are
    between the images' last feature maps; semantics come from class activations, the gradient of
    the cross-entropy in the dense layer. Three departures: the networks have their trained and
    inherited weights instead of random ones; class activations are compared between classes, not
    between channels, of which a student has fewer; and both distances are means over the rows, so
    that neither outweighs the other where there are more classes than images.

    Args:
      candidates: N students.

    Returns:
      One score per student, at most 0, which the teacher itself has.
    """
    students, probe = candidates.students, candidates.probe
    teacher = _teacher_grams(students.space, students.variables, probe)
    return candidates.map(_similarity, probe, teacher).astype(float)
