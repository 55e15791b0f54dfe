"""A search beyond its algorithm: verification, recipes, names, seconds over all runs."""

import dataclasses
import pathlib

import numpy as np
import pytest

from dass_jax.budget import Costs
from dass_jax.data.tasks import TaskSpec
from dass_jax.distillation import DistillConfig, view_of_epoch, views_needed
from dass_jax.errors import UserError
from dass_jax.experiment import Experiment
from dass_jax.search.problem import Scored
from dass_jax.search.settings import SearchConfig
from dass_jax.search_space import Architecture
from dass_jax.training import SGDConfig
from dass_jax.uncertainty import Prediction
from dass_jax.workdir import Workdir
from dass_jax.workflow import prepare, search_progress, verification
from dass_jax.workflow.recipes import search_recipe
from dass_jax.workflow.scorer import CandidateScorer

PREDICTED = np.float32([0.9, 0.8, 0.7, 0.6, 0.5])
RANKED = Scored(
    Architecture(np.ones((5, 1), np.int32), np.arange(5, dtype=np.int32)[:, None, None]),
    np.arange(5, dtype=np.int32),
    Prediction(PREDICTED, np.full(5, 0.1, np.float32)),
    Costs(*np.arange(15).reshape(3, 5)),
)


def results(*measured):
    """What distillation gives: of a diverged student, the accuracy of a guess."""
    return [
        {"final_accuracy": 0.95 if one is None else one, "diverged": one is None}
        for one in measured
    ]


class Adapting(CandidateScorer):
    """A scorer that remembers what it was adapted to."""

    known, adapts = None, True

    def __init__(self):
        pass

    def renewed(self, student_ids, measured_ids, accuracies):
        self.known = dict(zip(measured_ids.tolist(), accuracies.tolist(), strict=True))
        return Prediction(1 - student_ids / 10, np.full(len(student_ids), 0.2))


def test_what_was_measured_decides_among_the_measured_ones():
    verified = verification.rerank(RANKED, results(0.4, 0.6, 0.5), None)
    assert verified.ranked.student_ids.tolist() == [1, 2, 0, 3, 4]
    assert [result["final_accuracy"] for result in verified.results] == [0.6, 0.5, 0.4]
    # all that belongs to a candidate moves with it, and what was predicted of it stays
    assert verified.ranked.architectures.widths[:, 0, 0].tolist() == [1, 2, 0, 3, 4]
    np.testing.assert_array_equal(verified.ranked.prediction.mean, PREDICTED[[1, 2, 0, 3, 4]])


def test_the_adapted_predictor_decides_among_the_others():
    renewed = Prediction(np.float32([0.1, 0.2, 0.3, 0.4, 0.99]), np.arange(5, dtype=np.float32))
    verified = verification.rerank(RANKED, results(0.4, 0.6), renewed)
    assert verified.ranked.student_ids.tolist() == [1, 0, 4, 3, 2]
    np.testing.assert_array_equal(verified.ranked.prediction.mean, PREDICTED[[1, 0, 4, 3, 2]])
    np.testing.assert_array_equal(verified.renewed.mean, renewed.mean[[1, 0, 4, 3, 2]])
    np.testing.assert_array_equal(verified.renewed.half_width, [1, 0, 4, 3, 2])


def test_a_diverged_student_is_not_chosen_and_teaches_nothing():
    diverged, scorer = results(None, 0.3, 0.2), Adapting()
    measured = verification.accuracies(diverged)
    renewed = verification.renew(scorer, RANKED, measured)
    assert scorer.known == pytest.approx({1: 0.3, 2: 0.2})
    np.testing.assert_allclose(renewed.mean, [1, 0.9, 0.8, 0.7, 0.6])
    verified = verification.rerank(RANKED, diverged, renewed)
    assert verified.ranked.student_ids.tolist() == [1, 2, 0, 3, 4]
    assert [result["diverged"] for result in verified.results] == [False, False, True]
    assert verification.renew(Adapting(), RANKED, np.full(2, np.nan)) is None


def test_where_all_verified_candidates_diverged_none_is_chosen():
    spec = TaskSpec("digits", "meta_test", "digits")
    verification.require_sound(spec, results(None, 0.1))
    with pytest.raises(UserError, match="the 2 candidates of digits that were to be verified"):
        verification.require_sound(spec, results(None, None))


def test_who_takes_no_inner_steps_learns_nothing_from_measurements():
    still = Adapting()
    still.adapts = False
    assert verification.renew(still, RANKED, np.asarray([0.4, 0.6])) is None
    assert still.known is None


def test_fewer_epochs_are_the_schedule_and_another_scale():
    spec = TaskSpec("digits", "meta_test", "digits")
    experiment = Experiment(search=SearchConfig(verify=2), tasks=(spec,))
    assert verification.schedule(experiment) == experiment.kd
    assert not verification.is_shortened(experiment)
    short = dataclasses.replace(
        experiment, search=SearchConfig(verify=2, verify_epochs=3, replicates=4)
    )
    sgd = dataclasses.replace(experiment.kd.sgd, epochs=3, eval_every=3)
    assert experiment.kd.sgd.eval_every > 3
    assert verification.schedule(short) == dataclasses.replace(experiment.kd, sgd=sgd)
    assert verification.is_shortened(short)


def test_candidates_are_verified_by_the_last_views():
    for times in range(1, 17):
        sgd = SGDConfig(epochs=5)
        config = DistillConfig(sgd, num_views=5 * times)
        views = [view_of_epoch(config, verification.REPLICATE, epoch) for epoch in range(5)]
        assert views == list(range(5 * times))[-5:]
        assert views_needed(config, verification.REPLICATE + 1) == 5 * times


def recipe(experiment, **changed):
    given = {"predictor": "p", "records": "r", "device": None}
    return search_recipe(experiment, experiment.task("digits"), **given | changed)


def test_the_recipe_of_a_search_has_all_that_decides_about_it():
    spec = TaskSpec("digits", "meta_test", "digits")
    none = Experiment(tasks=(spec,))
    longer = dataclasses.replace(none.kd, sgd=dataclasses.replace(none.kd.sgd, epochs=7))
    # its number of steps is among what predictions depend on
    assert recipe(none) != recipe(dataclasses.replace(none, kd=longer))
    assert recipe(none) != recipe(dataclasses.replace(none, search=SearchConfig(verify=2)))
    for changed in ({"predictor": "q"}, {"records": "s"}):
        assert recipe(none) != recipe(none, **changed)
    assert recipe(none, device="a CPU") != recipe(none, device="a GPU")


def test_the_recipe_of_a_network_knows_its_teacher_and_images(tmp_path, monkeypatch):
    spec = TaskSpec("digits", "meta_test", "digits")
    experiment = Experiment(tasks=(spec,))
    origins = [{"images_digest": i, "weights_digest": w} for i, w in ("ab", "cb", "ad")]
    found = iter(origins)
    monkeypatch.setattr(prepare, "required_origin", lambda *task: next(found))
    workdir = Workdir(tmp_path)
    made = [prepare.distilled_recipe(experiment, workdir, spec, experiment.final) for _ in origins]
    assert made[0] != made[1] != made[2] != made[0]


def test_searches_share_what_their_names_may_not_hide():
    workdir = Workdir(pathlib.Path("work"))
    assert workdir.search("digits", "small") == workdir.search("digits") / "small"
    for name in (workdir.verified("digits").name, workdir.rivals("digits").name, "", "a/b", ".."):
        with pytest.raises(UserError, match="a search cannot be named"):
            workdir.search("digits", name)


def test_seconds_are_those_of_all_runs(tmp_path, monkeypatch):
    now = iter(range(100))
    monkeypatch.setattr(search_progress.time, "monotonic", lambda: float(next(now) ** 2))
    path = tmp_path / "unfinished.json"
    stopped = search_progress.SearchProgress(path, "recipe")

    def work():
        with stopped.phase("search"):
            stopped.latencies.append({"measured": 1.5})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    again = search_progress.SearchProgress(path, "recipe")
    with again.phase("search"):
        pass
    assert again.seconds == {"search": 1 + (9 - 4)}
    assert again.latencies == [{"measured": 1.5}]
    other = search_progress.SearchProgress(path, "another recipe")
    assert (other.seconds, other.latencies) == ({}, [])
    again.remove()
    assert not path.exists()
