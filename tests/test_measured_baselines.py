"""Baselines that look at measured students: none may look at the label that it is to predict."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dass_jax import resnet
from dass_jax.baselines import measured
from dass_jax.baselines.candidates import Candidates
from dass_jax.baselines.registry import BASELINES, MEASURING
from dass_jax.database import StudentRecord
from dass_jax.errors import UserError
from dass_jax.evaluation import Split
from dass_jax.search_space import Architecture, ResNetSpace, stack
from dass_jax.untrained import Untrained

SPACE = ResNetSpace((4, 6), 2, strides=(1, 2))
NO_IMAGES = Split(jnp.zeros((0, 8, 8, 3), jnp.uint8), jnp.zeros(0, jnp.int32))
MEASURED = 11


def draw_students(count):
    rng = np.random.default_rng(8)
    depths = rng.integers(1, 3, (count, 2), np.int32)
    widths = np.stack([rng.integers(2, 5, (count, 2)), rng.integers(3, 7, (count, 2))], axis=1)
    present = np.arange(2) < depths[..., None]
    return Architecture(depths, np.where(present, widths, 0).astype(np.int32))


SAMPLED = draw_students(20)


def record(student_id, final, **changes):
    zeros = {"int": 0, "float": 0.0, "bool": False}
    fields = {
        field.name: zeros.get(getattr(field.type, "__name__", ""), [])
        for field in dataclasses.fields(StudentRecord)
    }
    fields |= {
        "task": "birds", "student_id": student_id, "final_accuracy": float(final),
        "curve_epochs": [1, 2, 3, 4, 5, 6],
        "curve": [0.1, 0.2 + float(final) / 2, 0.3, 0.4, 0.5, float(final)],
    }  # fmt: skip
    return StudentRecord(**fields | changes)


def measured_students(final):
    count = len(final)
    architectures = jax.tree.map(lambda leaf: leaf[:count], SAMPLED)
    ids = np.arange(10, 10 + count, dtype=np.int32)
    teacher = resnet.variable_shapes(SPACE, 3)
    students = Untrained(SPACE, teacher, architectures, ids, jax.random.key(0))
    records = [record(10 + row, value) for row, value in enumerate(final)]
    return Candidates(students, 8, NO_IMAGES, NO_IMAGES, records)


def test_short_distillation_reads_the_curve_at_a_third():
    final = np.linspace(0.5, 0.9, MEASURED)
    found = measured.short_distillation(measured_students(final))
    np.testing.assert_allclose(found, 0.2 + final / 2)


@pytest.mark.parametrize(
    ("epochs", "place"), [([1, 2, 3], 0), ([1, 2, 7], None), ([5, 20, 50], 1), ([17, 50], 0)]
)
def test_short_distillation_takes_the_first_evaluation_at_or_after_a_third(epochs, place):
    curve = [0.1, 0.2, 0.3][: len(epochs)]
    students = measured_students([0.3])
    students = students._replace(records=[record(10, 0.3, curve_epochs=epochs, curve=curve)])
    if place is None:
        with pytest.raises(UserError, match="student 10 was not evaluated between"):
            measured.short_distillation(students)
    else:
        assert measured.short_distillation(students).tolist() == [curve[place]]


def test_without_a_curve_there_is_no_short_distillation():
    students = measured_students([0.3])
    students = students._replace(records=[record(10, 0.3, curve_epochs=[], curve=[])])
    with pytest.raises(UserError, match="not evaluated"):
        measured.short_distillation(students)


def test_whole_distillation_is_the_recorded_accuracy():
    final = np.linspace(0.5, 0.9, MEASURED)
    np.testing.assert_array_equal(measured.full_distillation(measured_students(final)), final)


@pytest.mark.parametrize("name", MEASURING[2:])
def test_regression_never_sees_a_students_own_label(name):
    final = np.random.default_rng(0).uniform(0.3, 0.9, MEASURED)
    before = BASELINES[name](measured_students(final))
    touched = np.zeros(MEASURED, bool)
    for row in range(MEASURED):
        changed = final.copy()
        changed[row] = 0.0
        after = BASELINES[name](measured_students(changed))
        assert after[row] == before[row]
        touched |= after != before
    assert touched.all()


def test_a_split_uses_no_more_labels_than_it_says():
    final = np.random.default_rng(1).uniform(0.3, 0.9, 20)
    features = measured.architecture_features(measured_students(final))
    before = measured.few_shot_scores(features, final, measured=8, splits=2)
    used = np.zeros((2, 20), bool)
    for row in range(20):
        changed = final.copy()
        changed[row] = 0.0
        other = measured.few_shot_scores(features, changed, measured=8, splits=2)
        used[:, row] = (other != before).any(axis=1)
    assert used.sum(axis=1).tolist() == [9, 9]
    assert (used[0] != used[1]).any()


def test_regression_finds_what_is_linear_and_the_penalty_follows_the_noise():
    rng = np.random.default_rng(2)
    features = rng.normal(size=(40, 3))
    signal = features @ [1.0, -0.5, 0.0]
    exact = measured.few_shot_scores(features, signal, splits=3)
    assert all(np.corrcoef(row, signal)[0, 1] > 0.95 for row in exact)
    noise = rng.normal(size=40)
    assert np.abs(measured.few_shot_scores(features, noise)).mean() < np.abs(exact).mean() / 2


def test_leave_one_out_errors_choose_the_penalty():
    """Against regressions really made without each sample in turn."""
    rng = np.random.default_rng(3)
    features, labels = rng.normal(size=(8, 4)), rng.normal(size=8)

    def ridge(x, y, penalty):
        centred = x - x.mean(0)
        return np.linalg.solve(
            centred.T @ centred + penalty * np.eye(4), centred.T @ (y - y.mean())
        )

    def error(penalty):
        total = 0.0
        for row in range(8):
            x, y = np.delete(features, row, 0), np.delete(labels, row)
            predicted = y.mean() + (features[row] - x.mean(0)) @ ridge(x, y, penalty)
            total += (labels[row] - predicted) ** 2
        return total

    best = min(measured._PENALTIES, key=error)
    np.testing.assert_allclose(
        measured._slope(features, labels), ridge(features, labels, best), rtol=1e-6
    )


def test_features_are_standardised_and_constant_ones_are_nothing():
    students = measured_students(np.linspace(0.1, 0.9, MEASURED))
    features = measured.architecture_features(students)
    assert features.shape == (MEASURED, 2 + 2 * SPACE.num_stages)
    np.testing.assert_allclose(features.mean(0), 0, atol=1e-9)
    np.testing.assert_allclose(features.std(0), 1)
    same = students.students._replace(architectures=stack([SPACE.full()] * MEASURED))
    alike = students._replace(students=same)
    assert not measured.architecture_features(alike).any()
    assert not measured.few_shot_regression(alike).any()


@pytest.mark.parametrize("name", MEASURING)
def test_measuring_baselines_need_the_students_own_records(name):
    students = measured_students(np.linspace(0.1, 0.9, MEASURED))
    with pytest.raises(UserError, match="needs measured students"):
        BASELINES[name](students._replace(records=None))
    for others in (students.records[1:], students.records[::-1]):
        with pytest.raises(UserError, match="in the students' order"):
            BASELINES[name](students._replace(records=others))


@pytest.mark.parametrize("count", [1, 8])
def test_regression_needs_enough_students(count):
    with pytest.raises(UserError, match=f"9 students in all, got {count}"):
        measured.few_shot_regression(measured_students([0.5] * count))
