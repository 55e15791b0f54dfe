"""How good the inherited weights are before any training, with old or new statistics.

A student's maps are not the teacher's, so the teacher's running statistics fit it badly. Tools that
prune trained networks therefore calibrate batch normalisation on training images before they score
a subnet by its validation accuracy, as FastNAS of NVIDIA Model Optimizer does.

Dimension letters: N students, B probe images, H W image size, C classes.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from dass_jax import resnet
from dass_jax.baselines.candidates import Candidates
from dass_jax.data.augmentation import normalize
from dass_jax.distillation import kd_loss
from dass_jax.evaluation import Split, accuracy
from dass_jax.probing import teacher_response
from dass_jax.search_space import Architecture, ResNetSpace
from dass_jax.untrained import Forward, map_forwards

_BATCH_SHARE = 0.1  # of a batch in the running statistics, see ``layers.BatchNorm``


def _values_per_channel(space: ResNetSpace, images: Array) -> dict[str, int]:
    """How many values of a channel the statistics of each module are taken over."""
    batch, height, across = images.shape[:3]
    counts = {"stem_norm": batch * height * across}
    for stage in range(space.num_stages):
        total = math.prod(space.strides[: stage + 1])
        for index in range(space.stage_depth):
            count = batch * (height // total) * (across // total)
            counts[resnet.block_name(stage, index)] = count
    return counts


def recalibrate(
    space: ResNetSpace,
    variables: resnet.Variables,
    architecture: Architecture,
    images: UInt8[Array, "B H W 3"],
) -> resnet.Variables:
    """Replaces the running statistics by those of some images.

    Args:
      space: The search space, static.
      variables: The student's variables, teacher-shaped.
      architecture: The student, without batch axes.
      images: Training images.

    Returns:
      Variables with which evaluation of these images gives what training mode gives: the variances
      are the biased ones.
    """
    cleared = variables | {"batch_stats": jax.tree.map(jnp.zeros_like, variables["batch_stats"])}
    stats = resnet.apply(space, cleared, architecture, normalize(images), train=True)[2]
    counts = _values_per_channel(space, images)

    def whole(path: Any, leaf: Array) -> Array:
        count = counts[path[0].key]
        biased = (count - 1) / count if path[-1].key == "var" else 1.0
        return leaf * (biased / _BATCH_SHARE)

    return variables | {"batch_stats": jax.tree_util.tree_map_with_path(whole, stats)}


def _recalibrated_accuracy(
    space: ResNetSpace,
    variables: resnet.Variables,
    architecture: Architecture,
    images: UInt8[Array, "B H W 3"],
    data: Split,
) -> Float[Array, ""]:
    variables = recalibrate(space, variables, architecture, images)
    return accuracy(space, variables, architecture, data)


def remapped_accuracy(candidates: Candidates) -> Float[np.ndarray, " N"]:
    """Validation accuracy of the remapped student, as a fraction; a record's initial accuracy.

    Args:
      candidates: N students.

    Returns:
      One accuracy per student, in [0, 1].
    """
    return candidates.map(accuracy, candidates.valid).astype(float)


def recalibrated_accuracy(candidates: Candidates) -> Float[np.ndarray, " N"]:
    """Validation accuracy of the remapped student with the probe's statistics, as a fraction.

    Args:
      candidates: N students.

    Returns:
      One accuracy per student, in [0, 1].
    """
    images = candidates.probe.images
    return candidates.map(_recalibrated_accuracy, images, candidates.valid).astype(float)


def _loss(
    forward: Forward, teacher_logits: Float[Array, "B C"], labels: Int[Array, " B"]
) -> Float[Array, ""]:
    return kd_loss(forward.logits, teacher_logits, labels)


def _agreement(candidates: Candidates, *, recalibrated: bool) -> Float[np.ndarray, " N"]:
    """Minus the loss on the probe.

    Training mode normalises by the probe's own statistics, as ``recalibrate`` would store them.
    """
    students, probe = candidates.students, candidates.probe
    teacher = teacher_response(students.space, students.variables, probe.images)
    losses = map_forwards(
        _loss, students, normalize(probe.images), teacher.logits, probe.labels,
        train=recalibrated, batch_size=candidates.students_per_call,
    )  # fmt: skip
    return -losses.astype(float)


def negative_kd_loss(candidates: Candidates) -> Float[np.ndarray, " N"]:
    """Minus the distillation loss of the remapped student on the probe.

    Hinton et al. (2015) with the defaults of ``distillation.kd_loss``, labels included.

    Args:
      candidates: N students.

    Returns:
      One score per student.
    """
    return _agreement(candidates, recalibrated=False)


def recalibrated_negative_kd_loss(candidates: Candidates) -> Float[np.ndarray, " N"]:
    """Minus the distillation loss of the remapped student, by the probe's own statistics.

    Args:
      candidates: N students.

    Returns:
      One score per student.
    """
    return _agreement(candidates, recalibrated=True)
