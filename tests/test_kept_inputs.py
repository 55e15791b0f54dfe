import dataclasses
import errno
import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dass_jax.data.tasks import TaskSpec
from dass_jax.database import StudentRecord
from dass_jax.errors import UnreadableError
from dass_jax.experiment import Experiment
from dass_jax.predictor.model import PredictorConfig
from dass_jax.search_space import ResNetSpace
from dass_jax.workflow.kept_inputs import keep_inputs, read_inputs
from dass_jax.workflow.recipes import inputs_recipe
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


@pytest.mark.parametrize("place", range(3, 15))
def test_a_file_with_a_wrong_byte_is_none(place, tmp_path):
    keep_inputs(tmp_path, RECIPE, task_seen_by("STAIDKC"), HERE)
    (path,) = tmp_path.iterdir()
    content = bytearray(path.read_bytes())
    content[place * len(content) // 15] ^= 0x55
    path.write_bytes(content)
    assert read_inputs(tmp_path, RECIPE, task_seen_by("STAIDKC")) is None


def test_a_file_that_cannot_be_read_now_is_not_replaced(tmp_path, monkeypatch):
    keep_inputs(tmp_path, RECIPE, task_seen_by("K"), HERE)
    (path,) = tmp_path.iterdir()
    before = path.read_bytes()

    def deny(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(pathlib.Path, "read_bytes", deny)
        for function in (
            lambda: read_inputs(tmp_path, RECIPE, task_seen_by("K")),
            lambda: keep_inputs(tmp_path, RECIPE, task_seen_by("A"), HERE),
        ):
            with pytest.raises(UnreadableError, match=f"cannot read {path}"):
                function()
    assert path.read_bytes() == before


@pytest.mark.parametrize("place", ["students", "teacher"])
def test_arrays_of_other_shapes_are_not_taken(place, tmp_path):
    task = task_seen_by("K")
    longer = getattr(task, place)._replace(disagreement=jnp.zeros((1, 9)[place == "teacher" :]))
    keep_inputs(tmp_path, RECIPE, task._replace(**{place: longer}), HERE)
    assert read_inputs(tmp_path, RECIPE, task) is None


def test_any_number_of_students_and_images_is_read(tmp_path):
    task = task_seen_by("DK")
    students = jax.tree.map(lambda leaf: jnp.repeat(leaf, 3, 0), task.students)
    many = task._replace(
        students=students, accuracies=jnp.zeros(3), valid=jnp.ones(3, bool), images=task.images[:2]
    )
    keep_inputs(tmp_path, RECIPE, many, HERE)
    assert_same(read_inputs(tmp_path, RECIPE, task).task, many)


STUDENT = StudentRecord(
    task="birds", student_id=0, replicate=0, depths=[1, 2], widths=[[4], [6, 8]], flops=1,
    num_params=1, initial_accuracy=0.1, final_accuracy=0.5, best_accuracy=0.5, test_accuracy=0.5,
    curve_epochs=[1], curve=[0.5], loss=1.0, diverged=False, seconds=1.0,
)  # fmt: skip
BIRDS = TaskSpec(name="birds", role="meta_train", source="birds.zip")


def recipe_of(change=(), task=(), student=()):
    """A recipe where fields of the experiment, by dotted names, of the task or a student differ."""
    experiment = Experiment(space=SPACE, image_size=8, predictor=PredictorConfig("KC"))
    for name, value in dict(change).items():
        *parents, last = name.split(".")
        experiment = replaced(experiment, parents, last, value)
    spec = dataclasses.replace(BIRDS, **dict(task))
    return inputs_recipe(experiment, spec, [dataclasses.replace(STUDENT, **dict(student))])


def replaced(settings, parents, last, value):
    if not parents:
        return dataclasses.replace(settings, **{last: value})
    inner = replaced(getattr(settings, parents[0]), parents[1:], last, value)
    return dataclasses.replace(settings, **{parents[0]: inner})


@pytest.mark.parametrize(
    "change",
    [
        {"change": {"seed": 1}},
        {"change": {"image_size": 16}},
        {"change": {"kd.sgd.epochs": 3}},
        {"change": {"kd.remapping": "random_init"}},
        {"change": {"predictor.remapping": "random_init"}},
        {"change": {"predictor.probe_images": 3}},
        {"task": {"source": "other_birds.zip"}},
        {"task": {"domain": "edges"}},
        {"student": {"student_id": 1}},
        {"student": {"depths": [1, 1]}},
        {"student": {"widths": [[4], [6, 7]]}},
    ],
    ids=str,
)
def test_the_recipe_has_what_the_inputs_depend_on(change):
    assert recipe_of(**change) != recipe_of()


@pytest.mark.parametrize(
    "change",
    [
        {"change": {"predictor.inputs": "STA"}},
        {"change": {"predictor.graph_features": 3}},
        {"change": {"predictor.remapping": "copy_paste_first"}},
        {"change": {"meta.episodes": 3}},
        {"change": {"target": "pooled_accuracy"}},
        {"task": {"role": "meta_valid"}},
        {"task": {"replicates": 2}},
        {"student": {"final_accuracy": 0.6}},
    ],
    ids=str,
)
def test_the_recipe_has_nothing_else(change):
    assert recipe_of(**change) == recipe_of()


def test_an_example_has_what_the_predictor_looks_at_and_no_more():
    for inputs in ("S", "T", "A", "I", "KC", "DA"):
        config = PredictorConfig(inputs=inputs)
        task = example_task(Experiment(space=SPACE, image_size=8, predictor=config))
        there = {name for name, value in task.teacher._asdict().items() if value is not None}
        assert there == config.student_fields
        assert (task.images is not None) == ("D" in inputs)
