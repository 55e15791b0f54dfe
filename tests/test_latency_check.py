"""A limit of the latency is kept by what is measured, not by what is predicted."""

import jax
import numpy as np
import pytest

from dass_jax.budget import CostModel
from dass_jax.data.tasks import TaskSpec
from dass_jax.experiment import Experiment
from dass_jax.latency import Latency
from dass_jax.search.problem import Scored
from dass_jax.search.settings import SearchConfig
from dass_jax.search_space import ResNetSpace, stack
from dass_jax.uncertainty import Prediction
from dass_jax.workflow.latency_check import LimitedLatency, check_latencies, describe_latency

SPACE = ResNetSpace((8, 16, 16), 1, strides=(1, 2, 2))
STUDENTS = [SPACE.architecture([1, 1, 1], [[width], [16], [16]]) for width in (4, 5, 6, 7)]
TEACHER = 10.0


def model(predicted):
    return CostModel(SPACE, 8, 5, lambda architecture: np.asarray(predicted))


def candidates(predicted):
    architectures = jax.device_get(stack(STUDENTS))
    scores = np.linspace(0.9, 0.6, 4).astype(np.float32)
    costs = model(np.asarray(predicted))(architectures)
    return Scored(architectures, np.arange(4, dtype=np.int32), Prediction(scores, scores), costs)


class Meter:
    """Students take what is given in the first of three rounds, and then longer."""

    def __init__(self, seconds):
        self.seconds = dict(zip((4, 5, 6, 7), seconds, strict=True)) | {8: TEACHER}
        self.measured = []

    def __call__(self, space, architecture, *, image_size, num_classes, batch_size):
        width = int(architecture.widths[0, 0])
        assert (image_size, num_classes, batch_size) == (8, 5, 1)

        def measure():
            self.measured.append(width)
            rounds = (self.measured.count(width) - 1) % 3
            return Latency(self.seconds[width] * (1 + rounds), 0.0, 1)

        return measure


def check(seconds, records=None, predicted=(5.0, 5.0, 5.0, 5.0), **search):
    spec = TaskSpec("digits", "meta_test", "digits")
    config = SearchConfig(candidates=4, top_k=1, **search)
    experiment = Experiment(image_size=8, space=SPACE, search=config, tasks=(spec,))
    meter, saved, records = Meter(seconds), [], [] if records is None else records
    checked = check_latencies(
        experiment, model(5.0), candidates(predicted), records,
        lambda: saved.append(len(records)), meter,
    )  # fmt: skip
    return experiment, checked, meter, saved


def test_who_breaks_the_limit_is_passed_over():
    # 60 % of the teacher's 10
    experiment, checked, meter, _ = check((6.5, 6.1, 5.9, 1.0), max_latency="60%")
    assert checked.ranked.student_ids.tolist() == [2, 3]
    assert [record["measured"] for record in checked.records] == [6.5, 6.1, 5.9]
    assert [record["widths"] for record in checked.records] == ["4 16 16", "5 16 16", "6 16 16"]
    # in turn with the teacher, one after the other until one is found
    assert meter.measured[:6] == [8, 4, 8, 4, 8, 4]
    assert 7 not in meter.measured
    report = describe_latency(experiment, LimitedLatency(checked, {"error": 0.1}), 2)
    assert (report["within_budget"], report["chosen"], report["teacher"]) == (True, 5.9, TEACHER)
    assert report["limit"] == pytest.approx(6.0)


def test_as_many_are_found_as_shall_be_verified():
    _, checked, meter, saved = check((7.0, 3.0, 3.0, 3.0), max_latency="5s", verify=2)
    assert (checked.ranked.student_ids.tolist(), checked.kept) == ([1, 2, 3], 2)
    assert (saved, meter.measured[:3]) == ([2, 3], [8, 4, 5])
    assert 7 not in meter.measured


def test_if_none_keeps_it_the_fastest_is_taken_and_it_is_said():
    experiment, checked, _, _ = check((9.0, 8.0, 6.5, 7.0), max_latency="6s")
    assert (checked.ranked.student_ids.tolist(), checked.kept) == ([2], 0)
    report = describe_latency(experiment, LimitedLatency(checked, {}), 2)
    assert (report["within_budget"], report["limit"], len(report["measured"])) == (False, 6.0, 4)


def test_a_stopped_search_goes_on_with_what_it_measured():
    _, first, _, _ = check((7.0, 7.0, 7.0, 3.0), max_latency="5s")
    records = first.records[:2]
    _, again, meter, _ = check((7.0, 7.0, 7.0, 3.0), records, max_latency="5s")
    assert set(meter.measured) == {8, 6, 7}
    assert again.records == first.records
    assert again.ranked.student_ids.tolist() == [3]


def test_who_is_likely_to_keep_the_limit_is_tried_next():
    seconds, predicted = (7.5, 7.3, 7.4, 4.5), (5.0, 4.9, 4.9, 3.0)
    _, checked, meter, _ = check(seconds, predicted=predicted, max_latency="5s")
    # the first one takes half as long again as predicted, and so would the next two
    assert [record["student_id"] for record in checked.records] == [0, 3]
    assert set(meter.measured) == {8, 4, 7}
    # those that were not measured stay
    assert (checked.ranked.student_ids.tolist(), checked.kept) == ([3, 1, 2], 1)


def test_if_none_is_likely_to_keep_it_the_fastest_are_tried():
    predicted = (5.0, 4.9, 4.0, 4.5)
    _, checked, _, _ = check((9.0, 8.0, 4.9, 7.0), predicted=predicted, max_latency="5s")
    assert [record["student_id"] for record in checked.records] == [0, 2]
    assert checked.ranked.student_ids.tolist() == [2, 1, 3]


def test_what_was_measured_for_other_predictions_is_forgotten():
    _, first, _, _ = check((7.0, 7.0, 7.0, 3.0), max_latency="5s")
    predicted = (4.0, 4.0, 4.0, 4.0)
    _, again, meter, _ = check((3.0, 3.0, 3.0, 3.0), first.records, predicted, max_latency="5s")
    assert set(meter.measured) == {8, 4}
    assert len(again.records) == 1
