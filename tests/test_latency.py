"""Latencies are those of the student at its own size; the model is a sum of what it consists of."""

import dataclasses
import functools
import json
import pathlib

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dass_jax import cost, latency, resnet
from dass_jax.budget import smallest
from dass_jax.compilations import compilations
from dass_jax.errors import UserError
from dass_jax.latency import Latency, compile_student, latency_meter, measure_latency, time_calls
from dass_jax.latency_model import LatencyModel, features, fit_latency_model
from dass_jax.metrics import correlate
from dass_jax.search_space import Architecture, ResNetSpace, stack, unstack
from dass_jax.workdir import Workdir
from dass_jax.workflow.latency import ensure_latency_model, students_to_measure

SPACE = ResNetSpace((12, 20, 32), 3, (1, 2, 2))
SIZES = {"image_size": 8, "num_classes": 5, "batch_size": 2}
MODEL = {"image_size": 8, "batch_size": 2}
WEIGHTS = np.array([2e-4, 3e-5, 0, 2e-9, 1e-9, 0])


@functools.cache
def _everyone():
    keys = jax.random.split(jax.random.key(0), 100)
    return jax.device_get(jax.jit(jax.vmap(SPACE.sample))(keys))


def drawn(count, begin=0):
    """Some random students, batched."""
    return taken(_everyone(), np.arange(begin, begin + count))


def made_up(architectures, noise=0.0):
    """Latencies that follow known weights."""
    exact = features(SPACE, architectures, image_size=8) @ WEIGHTS
    return exact * np.exp(noise * np.random.default_rng(0).standard_normal(len(exact)))


def taken(architectures, rows):
    return jax.tree.map(lambda leaf: leaf[rows], architectures)


def test_features_by_hand():
    student = SPACE.architecture([2, 1, 1], [[3, 2], [6], [5]])
    # 3, 2, 6 and 5 channels take as long as 8
    work = [64 * 9 * 4 * 8**2, 16 * 9 * 2 * 8**2, 4 * 9 * 2 * 8**2]
    maps = 64 * (2 * 3 + 2 * 2) + 16 * 2 * 6 + 4 * 2 * 5
    np.testing.assert_array_equal(features(SPACE, student, image_size=8), [1, 4, maps, *work])
    wide = ResNetSpace((16, 24), 2, (1, 2))
    student = wide.architecture([2, 1], [[9, 8], [17]])
    work = [64 * 9 * (16**2 + 16**2 + 16 * 8 + 8**2), 16 * 9 * (8 * 24 + 24**2)]
    maps = 64 * (2 * 9 + 2 * 8) + 16 * 2 * 17
    np.testing.assert_array_equal(features(wide, student, image_size=8), [1, 3, maps, *work])


def test_features_of_a_batch_equal_those_one_by_one():
    batch = drawn(7)
    found = features(SPACE, batch, image_size=8)
    model = fit_latency_model(SPACE, batch, made_up(batch, 0.1), **MODEL)
    predicted = model.predict(SPACE, batch)
    for row, one in enumerate(unstack(batch)):
        np.testing.assert_array_equal(features(SPACE, one, image_size=8), found[row])
        np.testing.assert_allclose(model.predict(SPACE, one), predicted[row], rtol=1e-12)
    grid = jax.tree.map(lambda leaf: np.stack([leaf, leaf[::-1]]), batch)
    np.testing.assert_array_equal(features(SPACE, grid, image_size=8), [found, found[::-1]])


def test_known_weights_are_recovered():
    measured, others = drawn(40), drawn(50, begin=40)
    model = fit_latency_model(SPACE, measured, made_up(measured), **MODEL)
    np.testing.assert_allclose(model.weights, WEIGHTS, rtol=1e-8, atol=1e-16)
    np.testing.assert_allclose(model.predict(SPACE, others), made_up(others), rtol=1e-8)
    assert model.error < 1e-8
    # some students are equal in all that has a weight
    assert model.spearman > 0.999
    assert model.students == 40


def test_relative_errors_are_squared():
    """Of one student measured twice, w is predicted: (w/a - 1)^2 + (w/b - 1)^2 is least."""
    twice = Architecture(*(np.stack([leaf, leaf]) for leaf in SPACE.full()))
    fast, slow = 0.001, 0.003
    model = fit_latency_model(SPACE, twice, np.array([fast, slow]), **MODEL)
    expected = (1 / fast + 1 / slow) / (1 / fast**2 + 1 / slow**2)
    np.testing.assert_allclose(model.predict(SPACE, twice), expected)
    assert model.error == pytest.approx(np.mean([slow / fast - 1, 1 - fast / slow]))
    assert model.spearman == pytest.approx(-1)


def test_the_error_is_that_of_refitting_by_hand():
    batch = drawn(15)
    seconds = made_up(batch, noise=0.2)
    left_out = []
    for row in range(15):
        rest = np.delete(np.arange(15), row)
        model = fit_latency_model(SPACE, taken(batch, rest), seconds[rest], **MODEL)
        left_out.append(model.predict(SPACE, taken(batch, row)))
    model = fit_latency_model(SPACE, batch, seconds, **MODEL)
    assert model.error == pytest.approx(np.mean(np.abs(np.array(left_out) - seconds) / seconds))
    assert model.spearman == pytest.approx(correlate(np.array(left_out), seconds).spearman)
    fitted = np.abs(model.predict(SPACE, batch) / seconds - 1).mean()
    assert model.error > fitted > 0


@functools.cache
def noisy_model():
    return fit_latency_model(SPACE, drawn(30), made_up(drawn(30), 0.3), **MODEL)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_bigger_student_is_never_predicted_to_be_faster(data):
    big, small = ([], []), ([], [])
    for widest in SPACE.stage_widths:
        depth = data.draw(st.integers(1, SPACE.stage_depth))
        widths = data.draw(st.lists(st.integers(1, widest), min_size=depth, max_size=depth))
        fewer = data.draw(st.integers(1, depth))
        limits = [*widths[: fewer - 1], min(widths[fewer - 1], widths[-1])]
        for student, row in (
            (big, widths),
            (small, [data.draw(st.integers(1, limit)) for limit in limits]),
        ):
            student[0].append(len(row))
            student[1].append(row)
    big, small = SPACE.architecture(*big), SPACE.architecture(*small)
    more = features(SPACE, big, image_size=8) - features(SPACE, small, image_size=8)
    assert (more >= 0).all()
    assert noisy_model().predict(SPACE, big) >= noisy_model().predict(SPACE, small)


def test_json_and_back():
    model = noisy_model()
    again = LatencyModel.from_json(json.loads(json.dumps(model.to_json())))
    assert again == model
    with pytest.raises(UserError, match=r"the latency model\.error must be given"):
        LatencyModel.from_json({k: v for k, v in model.to_json().items() if k != "error"})


def test_what_no_model_can_be_made_of():
    with pytest.raises(UserError, match="2 measured students or more, got 1"):
        fit_latency_model(SPACE, drawn(1), np.array([1.0]), **MODEL)
    for seconds in (0.0, np.nan):
        with pytest.raises(UserError, match="finite and positive"):
            fit_latency_model(SPACE, drawn(2), np.array([1.0, seconds]), **MODEL)
    other, model = ResNetSpace((4, 6), 3, (1, 2)), noisy_model()
    with pytest.raises(UserError, match=r"6 weights, but a space of 2 stages needs 5"):
        model.predict(other, other.full())


STUDENT = SPACE.architecture([2, 1, 1], [[3, 2], [6], [5]])


def test_the_network_at_its_own_size_is_compiled_once():
    compile_student(SPACE, SPACE.full(), **SIZES)
    before = compilations().number
    student = compile_student(SPACE, STUDENT, **SIZES)
    assert compilations().number == before + 1
    logits = student.run(student.variables, student.images)
    time_calls(lambda: student.run(student.variables, student.images), repeats=3, min_seconds=0.0)
    assert compilations().number == before + 1
    sizes = sum(leaf.size for leaf in jax.tree.leaves(student.variables["params"]))
    assert sizes == cost.num_params(SPACE, STUDENT, num_classes=5)
    (variables, images), _ = student.run.in_avals
    assert images.shape == (2, 8, 8, 3)
    assert resnet.block_widths(variables) == ((3, 2), (6,), (5,))
    # the same student as the masked teacher
    teacher = jax.device_put(latency.random_variables(SPACE, 5))
    run = jax.jit(functools.partial(resnet.apply, SPACE, train=False))
    masked = run(teacher, STUDENT, student.images)[0]
    np.testing.assert_allclose(logits, masked, rtol=1e-4, atol=1e-5)
    assert np.abs(logits).max() > 0.1


def test_two_kinds_of_cpu_have_two_names(monkeypatch):
    def named(text):
        monkeypatch.setattr(pathlib.Path, "read_text", lambda path: text)
        return latency.device_name()

    assert named("processor\t: 0\nmodel name\t: Any  CPU @ 2 GHz\n").startswith("Any CPU @ 2 GHz (")
    assert named("model name\t: A CPU\n") != named("model name\t: Another CPU\n")
    monkeypatch.setattr(latency.platform, "processor", lambda: "")
    monkeypatch.setattr(latency.platform, "machine", lambda: "arm64")
    # not every system says it
    assert named("Hardware\t: a board\n").startswith("arm64 (arm64 CPU, ")


def test_a_measured_latency():
    found = measure_latency(SPACE, STUDENT, **SIZES, repeats=4, min_seconds=0.0)
    assert found.seconds > 0
    assert found.spread >= 0
    assert found.repeats == 4


class Clock:
    """Time passes in calls alone."""

    def __init__(self, *durations):
        self.now, self.durations, self.calls = 0.0, durations, 0

    def perf_counter(self):
        return self.now

    def call(self):
        self.now += self.durations[self.calls % len(self.durations)]
        self.calls += 1


@pytest.mark.parametrize(
    ("durations", "repeats", "min_seconds", "expected"),
    [
        ((0.25,), 3, 2.0, Latency(0.25, 0.0, 8)),
        ((4.0,), 3, 2.0, Latency(4.0, 0.0, 3)),
        ((9.0, 1.0, 2.0, 3.0, 4.0, 5.0), 5, 0.0, Latency(3.0, 2.0, 5)),
    ],
)
def test_repeats_reach_their_number_and_their_time(
    monkeypatch, durations, repeats, min_seconds, expected
):
    clock = Clock(*durations)
    monkeypatch.setattr(latency, "time", clock)
    found = time_calls(clock.call, repeats=repeats, min_seconds=min_seconds)
    assert found == expected
    assert clock.calls == found.repeats + 1


def test_sizes_that_no_network_has():
    with pytest.raises(UserError, match="batch_size is 0: give 1 or more"):
        compile_student(SPACE, STUDENT, **SIZES | {"batch_size": 0})
    with pytest.raises(UserError, match="image size 6 is not a multiple of 4"):
        measure_latency(SPACE, STUDENT, **SIZES | {"image_size": 6})
    with pytest.raises(UserError, match="rounds is 0: give 1 or more"):
        ensure_latency_model(SPACE, Workdir(pathlib.Path("nowhere")), **SIZES, rounds=0)


class Meter:
    """Makes latencies up, slower from round to round, and stops when it has made enough."""

    def __init__(self, enough=100):
        self.enough, self.compiled, self.calls = enough, [], []

    def __call__(self, space, architecture, **sizes):
        assert sizes == SIZES
        student = space.to_json(architecture)
        batch = jax.tree.map(lambda leaf: leaf[None], architecture)
        seconds = float(features(space, batch, image_size=8)[0] @ WEIGHTS)

        def measure():
            if len(self.calls) == self.enough:
                raise KeyboardInterrupt
            self.calls.append(student)
            return Latency(seconds * (1 + self.calls.count(student)), 0.0, 3)

        self.compiled.append(student)
        return measure


def ensure(folder, meter, sampled=6, rounds=2, **changed):
    found = ensure_latency_model(
        SPACE, Workdir(folder), **SIZES, sampled=sampled, rounds=rounds, meter=meter, **changed
    )
    return found.model


EVERYONE = [SPACE.to_json(student) for student in students_to_measure(SPACE, 6, 0)]


def test_who_is_measured():
    assert EVERYONE[:2] == [SPACE.to_json(SPACE.full()), SPACE.to_json(smallest(SPACE))]
    assert len({json.dumps(student) for student in EVERYONE}) == 8
    assert [SPACE.to_json(one) for one in students_to_measure(SPACE, 2, 0)] == EVERYONE[:4]


@pytest.mark.parametrize("enough", [0, 3, 8, 11])
def test_a_stopped_run_goes_on(tmp_path, capsys, enough):
    first, second, third = Meter(enough), Meter(), Meter()
    with pytest.raises(KeyboardInterrupt):
        ensure(tmp_path / "stopped", first)
    ensure(tmp_path / "stopped", second)
    assert first.calls + second.calls == EVERYONE + EVERYONE
    # once, however many rounds are missing
    assert len(second.compiled) == min(8, 16 - enough)
    assert all(second.compiled.count(student) <= 1 for student in EVERYONE)
    capsys.readouterr()
    ensure(tmp_path / "stopped", third)
    assert third.compiled == []
    (line,) = capsys.readouterr().out.splitlines()
    assert "8 students, rounds differ by" in line


def test_each_student_counts_with_its_fastest_round(tmp_path):
    twice, once = ensure(tmp_path / "twice", Meter()), ensure(tmp_path / "once", Meter(), rounds=1)
    assert twice == once
    more = Meter()
    assert ensure(tmp_path / "once", more) == once
    assert more.calls == EVERYONE
    batch = stack(students_to_measure(SPACE, 6, 0))
    exact = 2 * features(SPACE, batch, image_size=8) @ WEIGHTS
    np.testing.assert_allclose(once.predict(SPACE, batch), exact, rtol=1e-8)


def test_more_students_are_added_and_fewer_are_not_taken_away(tmp_path):
    ensure(tmp_path, Meter(), sampled=2)
    more = Meter()
    model = ensure(tmp_path, more, sampled=5)
    assert more.calls == 2 * EVERYONE[4:7]
    assert model == ensure(tmp_path / "other", Meter(), sampled=5)
    assert ensure(tmp_path, Meter(enough=0), sampled=0) == model


def test_each_seed_and_space_has_its_own_file(tmp_path):
    ensure(tmp_path, Meter())
    again = Meter()
    ensure(tmp_path, again, seed=1)
    assert len(again.calls) == 16
    other = dataclasses.replace(SPACE, width_multipliers=(0.5, 1.0))
    ensure_latency_model(other, Workdir(tmp_path), **SIZES, sampled=1, meter=Meter())
    names = sorted(path.name for path in (tmp_path / "latency").iterdir())
    assert len(names) == 3
    assert all("cpu" in name and "-batch2-8px-5classes-" in name for name in names)


def damaged(content, how):
    records = content["measured"]
    match how:
        case "a student":
            records[1]["architecture"]["depths"] = [3, 3, 3]
        case "a field":
            del records[0]["latencies"][0]["spread"]
        case "a value":
            records[2]["latencies"][1]["seconds"] = 0.0
        case "a type":
            records[2]["latencies"][1]["seconds"] = "1"
        case "the list":
            del content["measured"]
        case "the recipe":
            content["recipe"]["seed"] = 7
    return json.dumps(content)


DAMAGES = ["a student", "a field", "a value", "a type", "the list", "the recipe", "cut", "[]"]


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_file_is_one_line(tmp_path, how):
    ensure(tmp_path, Meter())
    (path,) = (tmp_path / "latency").iterdir()
    text = path.read_text()
    literal = {"cut": text[:100], "[]": "[]"}
    path.write_text(literal.get(how) or damaged(json.loads(text), how))
    with pytest.raises(UserError, match=r"latency/.* is damaged \(.*\): remove it") as error:
        ensure(tmp_path, Meter(enough=0))
    assert "\n" not in str(error.value)


def test_a_model_of_the_present_device(tmp_path):
    meter = functools.partial(latency_meter, repeats=2, min_seconds=0.0)
    model = ensure(tmp_path, meter, sampled=1)
    assert model.students == 3
    assert model.predict(SPACE, SPACE.full()) > 0
