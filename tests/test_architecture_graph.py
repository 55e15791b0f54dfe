"""The architecture as a graph: costs as counted, absent blocks without influence, any order."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dass_jax import cost
from dass_jax.predictor.architecture_encoder import GraphArchitectureEncoder
from dass_jax.predictor.graph import FEATURES, Graph, architecture_graph
from dass_jax.search_space import ResNetSpace

SPACE = ResNetSpace((4, 8, 16), 3, strides=(1, 2, 2))
ENCODER = GraphArchitectureEncoder(features=5, hidden=8, layers=3)
SIZES = {"image_size": 16, "num_classes": 7}


@jax.jit
def graph_of(architecture):
    return architecture_graph(SPACE, architecture, **SIZES)


@pytest.fixture(scope="module")
def params():
    graph = jax.tree.map(lambda leaf: leaf[None], graph_of(SPACE.full()))
    shapes = jax.eval_shape(ENCODER.init, jax.random.key(0), graph)
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape) / 3), shapes)


@jax.jit
def embed(params, graph):
    return ENCODER.apply(params, jax.tree.map(lambda leaf: leaf[None], graph))[0]


def feature(graph, name):
    return np.asarray(graph.nodes[:, FEATURES.index(name)])


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_costs_are_those_of_the_cost_functions(seed):
    student = SPACE.sample(jax.random.key(seed))
    graph = graph_of(student)
    teacher = graph_of(SPACE.full())
    flops, full = (cost.num_flops(SPACE, a, **SIZES) for a in (student, SPACE.full()))
    params = cost.num_params(SPACE, student, num_classes=7)
    # the head's and the stem's ratios are exact, so whole costs follow from shares and ratios
    head = (
        cost.num_flops(SPACE, SPACE.full(), **SIZES)
        * feature(teacher, "share of multiply-adds")[-1]
    )
    assert head == pytest.approx(16 * 7, rel=1e-5)
    own = feature(graph, "share of multiply-adds") * float(flops)
    assert own[-1] == pytest.approx(float(student.widths[-1, student.depths[-1] - 1]) * 7, rel=1e-4)
    assert own.sum() == pytest.approx(float(flops), rel=1e-5)
    stem = 27 * 16**2 * float(student.widths[0, 0])
    assert own[0] == pytest.approx(stem, rel=1e-4)
    assert feature(graph, "share of parameters")[-1] * float(params) == pytest.approx(
        (float(student.widths[-1, student.depths[-1] - 1]) + 1) * 7, rel=1e-4
    )
    np.testing.assert_allclose(feature(teacher, "multiply-adds ratio to the teacher"), 1, rtol=1e-6)
    assert float(full) >= float(flops)


def edges(matrix):
    return set(zip(*np.nonzero(np.asarray(matrix)), strict=True))


def test_edges_follow_the_present_nodes():
    student = SPACE.architecture([1, 3, 2], [[4], [8, 8, 8], [16, 16]])
    graph = graph_of(student)
    present = np.flatnonzero(graph.present)
    assert present.tolist() == [0, 1, 4, 5, 6, 7, 8, 10]
    forward = set(itertools.pairwise(present))
    skip = set(zip(present[:-2], present[2:], strict=True))
    assert edges(graph.forward) == forward
    assert edges(graph.skip) == skip
    assert not np.asarray(graph.nodes)[~np.asarray(graph.present)].any()


def test_absent_nodes_have_no_influence(params):
    graph = graph_of(SPACE.architecture([1, 2, 1], [[3], [8, 5], [9]]))
    nonsense = jnp.where(graph.present[:, None], graph.nodes, 1e3)
    np.testing.assert_array_equal(
        embed(params, graph._replace(nodes=nonsense)), embed(params, graph)
    )


def test_the_order_of_the_nodes_has_no_influence(params):
    graph = graph_of(SPACE.architecture([2, 1, 3], [[3, 4], [8], [9, 16, 10]]))
    order = np.random.default_rng(1).permutation(len(graph.present))
    shuffled = Graph(
        graph.nodes[order],
        graph.present[order],
        graph.forward[order][:, order],
        graph.skip[order][:, order],
    )
    np.testing.assert_allclose(embed(params, shuffled), embed(params, graph), rtol=2e-4, atol=1e-5)


def test_room_for_more_blocks_changes_no_encoding(params):
    """One set of weights serves teachers of other depths: features are shares of the real depth."""
    student = SPACE.architecture([1, 1, 1], [[4], [8], [16]])
    graph = graph_of(student)
    padded = Graph(*(jnp.pad(leaf, [(0, 4)] * 1 + [(0, 0)] * (leaf.ndim - 1)) for leaf in graph))
    wide = [jnp.pad(e, [(0, 0), (0, 4)]) for e in (padded.forward, padded.skip)]
    padded = Graph(padded.nodes, padded.present, *wide)
    np.testing.assert_allclose(embed(params, padded), embed(params, graph), rtol=1e-4, atol=1e-5)


def test_one_set_of_weights_serves_other_spaces(params):
    other = ResNetSpace((6, 12), 5, strides=(1, 2))
    found = embed(params, architecture_graph(other, other.full(), image_size=8, num_classes=3))
    assert found.shape == (5,)
    assert np.isfinite(found).all()


def test_widths_and_depths_matter(params):
    base = embed(params, graph_of(SPACE.architecture([1, 2, 1], [[3], [8, 5], [9]])))
    for depths, widths in (([1, 2, 1], [[3], [8, 6], [9]]), ([1, 1, 1], [[3], [8], [9]])):
        other = embed(params, graph_of(SPACE.architecture(depths, widths)))
        assert not np.allclose(other, base, rtol=1e-4)
