"""Gradient norm and SNIP: what one batch's gradient says of an untrained network.

Dimension letters: N students.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from dass_jax import resnet
from dass_jax.baselines.candidates import Candidates
from dass_jax.baselines.network import kernels
from dass_jax.data.augmentation import normalize
from dass_jax.evaluation import Split
from dass_jax.search_space import Architecture, ResNetSpace


class Saliency(NamedTuple):
    """Both scores, of one gradient and thus of one compilation."""

    gradient_norm: Float[Array, "*N"]
    snip: Float[Array, "*N"]


def _gradient(
    space: ResNetSpace, variables: resnet.Variables, architecture: Architecture, probe: Split
) -> Any:
    """Of the mean cross-entropy with the labels, in the parameters; zero outside of the student."""
    images = normalize(probe.images)

    def loss(params: Any) -> Array:
        # by the batch's statistics, as the authors of both proxies run their networks
        student = variables | {"params": params}
        logits = resnet.apply(space, student, architecture, images, train=True)[0]
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, probe.labels))

    return jax.grad(loss)(variables["params"])


def _saliency(
    space: ResNetSpace, variables: resnet.Variables, architecture: Architecture, probe: Split
) -> Saliency:
    gradient = _gradient(space, variables, architecture, probe)
    slopes, weights = kernels(gradient), kernels(variables["params"])
    norms = [jnp.sqrt(jnp.sum(jnp.square(slope))) for slope in slopes]
    pairs = zip(slopes, weights, strict=True)
    effects = [jnp.sum(jnp.abs(slope * weight)) for slope, weight in pairs]
    return Saliency(jnp.sum(jnp.stack(norms)), jnp.sum(jnp.stack(effects)))


def gradient_norm(candidates: Candidates) -> Float[np.ndarray, " N"]:
    """Euclidean norms of the gradient in each layer's weights, summed.

    Abdelfattah et al., "Zero-Cost Proxies for Lightweight NAS", ICLR 2021. The gradient is that of
    the probe's mean cross-entropy.

    Args:
      candidates: N students.

    Returns:
      One score per student.
    """
    return candidates.map(_saliency, candidates.probe).gradient_norm.astype(float)


def snip(candidates: Candidates) -> Float[np.ndarray, " N"]:
    """Sum of |weight x gradient| over the weights of all layers.

    Connection sensitivity of Lee et al., "SNIP: Single-shot Network Pruning", ICLR 2019, summed to
    score a whole network as Abdelfattah et al. (ICLR 2021) do. The gradient is that of the probe's
    mean cross-entropy.

    Args:
      candidates: N students.

    Returns:
      One score per student.
    """
    return candidates.map(_saliency, candidates.probe).snip.astype(float)
