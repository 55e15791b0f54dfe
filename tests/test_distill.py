"""Distilled networks are kept one by one, whenever a run is killed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dass_jax import checkpoints, resnet
from dass_jax.distillation import Assignment, PopulationResult
from dass_jax.evaluation import Split
from dass_jax.experiment import Experiment
from dass_jax.search_space import ResNetSpace
from dass_jax.snapshots import Snapshots
from dass_jax.training import OnlineTeacher
from dass_jax.workflow import distill
from dass_jax.workflow.chosen_student import Student

SPACE = ResNetSpace((2, 4), 1, strides=(1, 2))
EXPERIMENT = Experiment(image_size=8, space=SPACE)
STUDENTS = [Student(SPACE.architecture([1, 1], [[1], [width]]), 0) for width in (3, 4)]
IMAGES = Split(jnp.zeros((64, 8, 8, 3), jnp.uint8), jnp.zeros(64, jnp.int32))
ASSIGNMENT = Assignment("digits", 0, {}, IMAGES, IMAGES, IMAGES, lambda view: OnlineTeacher({}))


class Killed(Exception):
    """Stands for the process's death."""


@pytest.fixture
def trained(monkeypatch):
    """The widths of the students of each training, which saves that it is finished."""
    calls = []

    def distil(*arguments):
        architectures, snapshots = arguments[4], arguments[7]
        count = len(architectures.depths)
        calls.append(np.asarray(architectures.widths)[:, 1, 0].tolist())
        snapshots.keep(1, lambda: ({"done": np.ones(1)}, {}))
        accuracies = np.full(count, 0.5, np.float32)
        masked = jax.tree.map(
            lambda leaf: np.zeros((count, *leaf.shape), np.float32),
            resnet.variable_shapes(SPACE, 3),
        )
        return PopulationResult(
            accuracies, np.asarray([1]), accuracies[None], accuracies, accuracies, masked
        )

    monkeypatch.setattr(distill, "distil_population", distil)
    return calls


def run(folder, students=STUDENTS):
    return distill.distil_students(
        EXPERIMENT, EXPERIMENT.final, {"of": "a teacher"}, ASSIGNMENT, students, 0, folder, "test"
    )


def test_a_run_that_was_killed_before_it_tidied_up_leaves_nothing(tmp_path, trained, monkeypatch):
    def die(snapshots):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Snapshots, "remove", die)
        with pytest.raises(Killed):
            run(tmp_path)
    assert (tmp_path / "unfinished").exists()
    assert [result["final_accuracy"] for result in run(tmp_path)] == [0.5, 0.5]
    assert trained == [[3, 4]]
    assert not (tmp_path / "unfinished").exists()


def test_who_was_trained_together_is_kept_together(tmp_path, trained, monkeypatch):
    save, saved = checkpoints.save, []

    def die_later(path, *arguments):
        if "unfinished" not in path.parts:
            saved.append(path)
        if len(saved) == 2:
            raise Killed
        save(path, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save", die_later)
        with pytest.raises(Killed):
            run(tmp_path)
    run(tmp_path)
    # from the snapshot, with the numbers of a population of two
    assert trained == [[3, 4], [3, 4]]
    assert not (tmp_path / "unfinished").exists()
    run(tmp_path, STUDENTS[:1])
    assert len(trained) == 2
