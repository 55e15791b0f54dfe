import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dass_jax.experiment import Experiment
from dass_jax.predictor.model import PredictorConfig
from dass_jax.search_space import ResNetSpace
from dass_jax.workflow.kept_inputs import keep_inputs, read_inputs
from dass_jax.workflow.task_arrays import example_task

SPACE = ResNetSpace(stage_widths=(8, 16), stage_depth=2, strides=(1, 2))
RECIPE = {"seed": 0}
HERE = {"images_digest": "a", "weights_digest": "b"}


def task_seen_by(inputs, architecture="graph"):
    """A task with distinct numbers in all that a predictor of these inputs looks at."""
    config = PredictorConfig(inputs=inputs, architecture=architecture, probe_images=5)
    experiment = Experiment(space=SPACE, image_size=8, predictor=config)
    leaves, structure = jax.tree.flatten(example_task(experiment))
    rng = np.random.default_rng(len(inputs))
    distinct = [jnp.asarray(rng.normal(size=leaf.shape)).astype(leaf.dtype) for leaf in leaves]
    return jax.tree.unflatten(structure, distinct)


def assert_same(found, wanted):
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("inputs", ["STAIDKC", "KC", "A", "S"])
@pytest.mark.parametrize("architecture", ["graph", "flat"])
def test_what_is_kept_is_read_but_for_accuracies(inputs, architecture, tmp_path):
    task = task_seen_by(inputs, architecture)
    keep_inputs(tmp_path, RECIPE, task, HERE)
    kept = read_inputs(tmp_path, RECIPE, task)
    assert kept.origin == HERE
    assert_same(kept.task, task._replace(accuracies=jnp.zeros_like(task.accuracies)))


def test_a_predictor_finds_what_one_with_more_inputs_saw(tmp_path):
    task, wanted = task_seen_by("AKC"), task_seen_by("K")
    keep_inputs(tmp_path, RECIPE, task, HERE)
    found = read_inputs(tmp_path, RECIPE, wanted).task
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    np.testing.assert_array_equal(found.students.disagreement, task.students.disagreement)


def test_what_nobody_has_seen_is_missing(tmp_path):
    assert read_inputs(tmp_path, RECIPE, task_seen_by("K")) is None
    keep_inputs(tmp_path, RECIPE, task_seen_by("K"), HERE)
    assert read_inputs(tmp_path, RECIPE, task_seen_by("KC")) is None
    assert read_inputs(tmp_path, {"seed": 1}, task_seen_by("K")) is None


def test_inputs_of_one_origin_are_kept_side_by_side(tmp_path):
    keep_inputs(tmp_path, RECIPE, task_seen_by("KC"), HERE)
    keep_inputs(tmp_path, RECIPE, task_seen_by("A"), HERE)
    assert read_inputs(tmp_path, RECIPE, task_seen_by("AKC")) is not None
    keep_inputs(tmp_path, RECIPE, task_seen_by("A"), HERE | {"weights_digest": "c"})
    assert read_inputs(tmp_path, RECIPE, task_seen_by("A")).origin["weights_digest"] == "c"
    assert read_inputs(tmp_path, RECIPE, task_seen_by("AKC")) is None


@pytest.mark.parametrize("content", [b"", b"no archive", None])
def test_a_damaged_file_is_none(content, tmp_path):
    keep_inputs(tmp_path, RECIPE, task_seen_by("K"), None)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-50] if content is None else content)
    assert read_inputs(tmp_path, RECIPE, task_seen_by("K")) is None
    keep_inputs(tmp_path, RECIPE, task_seen_by("K"), None)
    assert read_inputs(tmp_path, RECIPE, task_seen_by("K")).origin is None


def test_an_example_has_what_the_predictor_looks_at_and_no_more():
    for inputs in ("S", "T", "A", "I", "KC", "DA"):
        config = PredictorConfig(inputs=inputs)
        task = example_task(Experiment(space=SPACE, image_size=8, predictor=config))
        there = {name for name, value in task.teacher._asdict().items() if value is not None}
        assert there == config.student_fields
        assert (task.images is not None) == ("D" in inputs)
