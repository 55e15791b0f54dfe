"""Encodes which network it is: its depths and widths, whatever it computes.

Dimension letters: B students, E length of the flat encoding, V nodes of a graph, F features.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float

from dass_jax.predictor.graph import Graph
from dass_jax.predictor.initializers import torch_dense


class FlatArchitectureEncoder(nn.Module):
    """DaSS's encoder: one dense layer with bias, no activation, on a flat one-hot encoding.

    Attributes:
      features: Length of the embedding, F.
    """

    features: int

    @nn.compact
    def __call__(self, encoding: Float[Array, "B E"]) -> Float[Array, "B F"]:
        """Embeds a batch of flat encodings."""
        return torch_dense(self.features, encoding.shape[-1], name="dense")(encoding)


class GraphArchitectureEncoder(nn.Module):
    """Message passing over the computation graph, along and against its edges, and a readout.

    In every layer a node adds to its state what it makes of itself and of the mean of its
    neighbours in each of four relations: before and after it, on the main path and past a block.
    The readout is an attention over nodes, whose weights are learned. Nothing depends on the order
    or the number of nodes, and absent nodes take no part.

    Attributes:
      features: Length of the embedding, F.
      hidden: Length of a node's state.
      layers: Rounds of message passing.
    """

    features: int
    hidden: int
    layers: int

    @nn.compact
    def __call__(self, graph: Graph) -> Float[Array, "B F"]:
        """Embeds a batch of graphs."""
        relations = [
            edges
            for kind in (graph.forward, graph.skip)
            for edges in (kind, jnp.swapaxes(kind, -1, -2))
        ]
        states = nn.Dense(self.hidden, name="nodes")(graph.nodes)
        for layer in range(self.layers):
            normed = nn.LayerNorm(name=f"norm{layer}")(states)
            heard = [normed, *(_mean_over_sources(edges, normed) for edges in relations)]
            mixed = nn.Dense(self.hidden, name=f"messages{layer}")(jnp.concatenate(heard, -1))
            update = nn.Dense(self.hidden, name=f"update{layer}")(jax.nn.silu(mixed))
            states = states + update
        states = nn.LayerNorm(name="norm_out")(states)
        scores = nn.Dense(1, name="attention")(states)[..., 0]
        return nn.Dense(self.features, name="readout")(_attend(scores, states, graph.present))


def _mean_over_sources(
    edges: Float[Array, "B V V"], states: Float[Array, "B V H"]
) -> Float[Array, "B V H"]:
    """What each node hears from the nodes that have an edge to it; zeros if there is none."""
    total = jnp.einsum("buv,buh->bvh", edges, states)
    return total / jnp.maximum(edges.sum(-2), 1)[..., None]


def _attend(
    scores: Float[Array, "B V"], states: Float[Array, "B V H"], present: Bool[Array, "B V"]
) -> Float[Array, "B H"]:
    """The mean of the states of present nodes, weighted by the softmax of their scores.

    Zero where no node is present, as in students that pad a task.
    """
    # a finite score, or a graph without nodes would be nan, and so would its gradient
    weights = jax.nn.softmax(jnp.where(present, scores, jnp.finfo(scores.dtype).min), axis=-1)
    return jnp.einsum("bv,bvh->bh", weights, jnp.where(present[..., None], states, 0))
