"""What others choose under the same budget, and how often that is distilled."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dass_jax import resnet
from dass_jax.baselines.registry import MEASURING
from dass_jax.budget import Budget, CostModel
from dass_jax.data.tasks import TaskSpec
from dass_jax.distillation import Assignment
from dass_jax.errors import UserError
from dass_jax.evaluation import Split
from dass_jax.experiment import Experiment
from dass_jax.search.problem import SearchProblem
from dass_jax.search.settings import SearchConfig
from dass_jax.search_space import ResNetSpace
from dass_jax.teacher import TeacherResult
from dass_jax.training import OnlineTeacher
from dass_jax.workdir import Workdir
from dass_jax.workflow import prepare, rivals
from dass_jax.workflow.prepare import TaskImages

SPACE = ResNetSpace((4, 6), 2, strides=(1, 2))
SPEC = TaskSpec("digits", "meta_test", "digits")
NO_IMAGES = Split(jnp.zeros((0, 8, 8, 3), jnp.uint8), jnp.zeros(0, jnp.int32))
VARIABLES = jax.tree.map(lambda leaf: np.zeros(leaf.shape), resnet.variable_shapes(SPACE, 3))


def experiment(names):
    search = SearchConfig(candidates=4, top_k=1, random_students=0, rivals=names)
    return Experiment(image_size=8, space=SPACE, search=search, tasks=(SPEC,))


def choose(monkeypatch, scores):
    """What baselines with these scores of four candidates choose."""
    made = {name: lambda candidates, own=own: np.asarray(own) for name, own in scores.items()}
    monkeypatch.setattr(rivals, "BASELINES", made)
    problem = SearchProblem(CostModel(SPACE, 8, 3), Budget(), lambda students, ids: None)
    images = TaskImages(NO_IMAGES, NO_IMAGES, NO_IMAGES, 3)
    teacher = TeacherResult(VARIABLES, 0.9, 1, [], 0.0)
    return rivals.choose_rivals(experiment(tuple(scores)), SPEC, problem, images, teacher)


@pytest.mark.parametrize("scores", [[np.nan, 1.0, 3.0, 2.0], [-np.inf, np.nan, 0.5, 0.0]])
def test_a_score_that_is_not_a_number_never_wins(monkeypatch, scores):
    (rival,) = choose(monkeypatch, {"unsure": scores})
    assert rival.student.student_id == 2


def test_a_student_that_two_baselines_like_is_distilled_once(monkeypatch):
    chosen = choose(monkeypatch, {"one": [0, 1, 0, 0], "two": [0, 2, 1, 0], "other": [1, 0, 0, 0]})
    distilled = []

    def distil(settings, config, recipe, assignment, students, replicate, folder, title):
        distilled.extend(student.student_id for student in students)
        assert replicate == 0
        return [{"test_accuracy": student.student_id / 10} for student in students]

    monkeypatch.setattr(rivals, "distil_students", distil)
    monkeypatch.setattr(prepare, "required_origin", lambda *task: {})
    assignment = Assignment(
        "digits", 0, VARIABLES, NO_IMAGES, NO_IMAGES, NO_IMAGES, lambda view: OnlineTeacher({})
    )
    entries = rivals.distil_rivals(
        experiment(("one", "two", "other")), Workdir(pathlib.Path("work")), SPEC, assignment,
        chosen, lambda student: {"depth": int(student.depths.sum())},
    )  # fmt: skip
    assert distilled == [1, 0]
    assert [(entry["chosen_by"], entry["test_accuracy"]) for entry in entries] == [
        ("one", 0.1), ("two", 0.1), ("other", 0.0),
    ]  # fmt: skip
    assert [entry["depth"] for entry in entries] == [
        int(rival.student.architecture.depths.sum()) for rival in chosen
    ]


def test_what_is_no_baseline_of_untrained_students_is_refused():
    rivals.check_rivals(("parameters", "FLOPs"))
    for name in ("accuracy", MEASURING[0]):
        with pytest.raises(UserError, match=rf"search\.rivals names '{name}': choose from .*FLOPs"):
            rivals.check_rivals(("parameters", name))
