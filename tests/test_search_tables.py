"""The tables of a search say what they show, on results made up for it."""

import copy

import numpy as np
import pytest

from dass_jax.workflow.search_figures import all_figures
from dass_jax.workflow.search_report import lead, print_ranking
from dass_jax.workflow.search_tables import front_table, search_tables

COSTS = {"flops": 1000, "params": 100, "bytes": 400, "latency": None}


def network(accuracy, diverged=False, **more):
    curve = [[1, 0.2], [2, accuracy]]
    measured = {"test_accuracy": accuracy, "final_accuracy": accuracy + 0.05}
    return measured | {"diverged": diverged, "curve": curve} | COSTS | more


def candidate(prediction, **more):
    shape = {"depths": [1, 2], "widths": [[4], [6, 8]]}
    return {"architecture": shape, "student_id": 0, "prediction": prediction,
            "half_width": 0.1} | COSTS | more  # fmt: skip


SEARCH = {
    "task": "birds",
    "device": "a CPU",
    "algorithm": "pool",
    "budget": {"flops": 1500, "params": None, "bytes": None, "latency": None},
    "teacher": network(0.9, valid_accuracy=0.9, accuracy_given=False, architecture={
        "depths": [2, 2], "widths": [[8, 8], [8, 8]]}),
    "verification": {"replicate": 2, "epochs": 3, "shortened": False},
    "candidates": {
        "count": 3, "prediction": [0.7, 0.8, 0.6], "prediction_after": [0.75, 0.74, 0.55],
        "widths": ["4 6-8", "4 8", "5 6"], "flops": [1000, 1200, 900], "cost": "flops",
        "front": [0, 1, 2],
    },
    "top": [
        candidate(0.7, verified_accuracy=0.65, diverged=False),
        candidate(0.8, verified_accuracy=0.1, diverged=True),
        candidate(0.6, prediction_after=0.55),
    ],
    "winner": [network(0.6), network(0.7)],
    "rivals": [network(0.5, chosen_by="random", prediction=0.55, half_width=0.1),
               network(0.4, chosen_by="random", prediction=0.35, half_width=0.1),
               network(0.45, chosen_by="parameters", prediction=0.5, half_width=0.1,
                       architecture={"depths": [1, 1], "widths": [[4], [8]]})],
    "measured": None,
    "latency": None,
    "seconds": {"search": 1.0},
}  # fmt: skip


@pytest.fixture
def search():
    return copy.deepcopy(SEARCH)


def tables(search):
    comparison, top, *others = search_tables(search)
    return {row[0]: row[1:] for row in comparison.rows}, top, others


def test_predictions_are_beside_what_was_measured(search):
    comparison, top, _ = tables(search)
    assert comparison["chosen student"][-2:] == ["70.0 % ± 10.0 %", "65.0 % ± 7.1"]
    assert top.header[-3:] == ["predicted", "verified", "predicted after"]
    assert [row[-3:] for row in top.rows] == [
        ["70.0 % ± 10.0 %", "65.0 %", ""],
        ["80.0 % ± 10.0 %", "diverged", ""],
        ["60.0 % ± 10.0 %", "", "55.0 %"],
    ]
    assert top.notes == ()
    # more than was measured of the chosen one, but not than is predicted of it
    search["candidates"]["prediction_after"][2] = 0.66
    assert tables(search)[1].notes == ()
    search["candidates"]["prediction_after"][2] = 0.76
    (note,) = tables(search)[1].notes
    assert "now predicted to reach 76.0 %, more than the 75.0 % predicted now" in note


def test_few_epochs_are_no_accuracy_after_distillation(search):
    search["verification"] = {"replicate": 2, "epochs": 1, "shortened": True}
    del search["candidates"]["prediction_after"], search["top"][2]["prediction_after"]
    assert tables(search)[1].header[-2:] == ["predicted", "at epoch 1"]


def test_the_title_says_what_random_search_lists(search):
    search["algorithm"] = "random"
    assert "sampled first" in tables(search)[1].title


def test_diverged_networks_are_marked_and_in_no_mean(search):
    search["rivals"].append(network(0.1, True, chosen_by="random"))
    search["rivals"][2]["diverged"] = True
    search["winner"][0]["diverged"] = True
    comparison, _, _ = tables(search)
    assert comparison["mean of 2 random students (1 more diverged)"][-1] == "45.0 %"
    assert comparison["best of 2 random students (1 more diverged)"][-1] == "50.0 %"
    assert comparison["choice of parameters"][-1] == "diverged"
    assert comparison["chosen student"][-1] == "70.0 %, 1 diverged"
    assert "reaches 70.0 % on the test images" in lead(search)
    search["winner"][1]["diverged"] = True
    assert tables(search)[0]["chosen student"][-1] == "diverged"
    assert "diverged with every seed" in lead(search)
    # they are plotted nowhere, and nothing warns of empty sets
    all_figures(search)


def test_a_limit_that_is_broken_is_said(search):
    def record(student_id, measured):
        return {"student_id": student_id, "predicted": 0.9e-3, "measured": measured,
                "limit": 1e-3, "teacher": 2e-3}  # fmt: skip

    for entry in (search["teacher"], *search["top"], *search["rivals"]):
        entry["latency"] = 0.9e-3
    latency = {
        "batch_size": 4, "within_budget": True, "teacher": 2e-3, "limit": 1e-3, "chosen": 0.95e-3,
        "model": {"students": 26, "error": 0.05, "spearman": 0.97},
        "measured": [record(7, 1.2e-3), record(0, 0.95e-3)],
    }  # fmt: skip
    search["latency"] = latency
    table = tables(search)[2][0]
    assert [row[0] for row in table.rows] == ["teacher", "passed over", "chosen student"]
    assert table.rows[2][1:] == ["0.9 ms", "0.95 ms", "1 ms"]
    assert table.notes[0] == "The chosen student keeps the limit as measured."
    assert "26 measured networks, with an error of 5.0 % and a Spearman of 0.97" in table.notes[1]
    assert lead(search).startswith("The chosen student has")
    latency |= {"within_budget": False, "measured": [record(7, 1.2e-3), record(0, 1.1e-3)],
                "chosen": 1.1e-3}  # fmt: skip
    assert "limit of 1 ms: the chosen one takes 1.1 ms. The chosen student has" in lead(search)
    assert "None of the 2 measured candidates keeps the limit" in tables(search)[2][0].notes[0]
    assert "; 4 candidates scored" in tables(search)[2][-1].title


def test_the_comparison_says_what_is_not_alike(search):
    def notes():
        return " ".join(search_tables(search)[0].notes)

    assert "Predicted is the validation accuracy after the schedule of kd" in notes()
    assert "the best of 2 measured candidates" in notes()
    assert "latency" not in notes()
    for entry in (search["teacher"], *search["top"], *search["rivals"]):
        entry["latency"] = 0.9e-3
    search["latency"] = {
        "batch_size": 4, "within_budget": True, "teacher": 2e-3, "measured": [],
        "model": {"students": 26, "error": 0.05, "spearman": 0.97},
    }  # fmt: skip
    assert "keep the limit of the latency as predicted only" in notes()
    search["rivals"] = []
    assert len(search_tables(search)[0].notes) == 1


def test_candidates_have_the_numbers_by_which_they_can_be_distilled(search, capsys):
    _, top, _ = tables(search)
    assert [row[0] for row in top.rows] == ["0: 4 6-8", "1: 4 6-8", "2: 4 6-8"]
    assert top.header[0] == front_table(search).header[0]
    assert top.header[0].startswith("candidate: ")
    # which they have only when all is measured
    print_ranking(search | {"verification": None})
    printed = capsys.readouterr().out
    assert "4 6-8" in printed
    assert "0: 4 6-8" not in printed
    assert "candidate:" not in printed


def test_whoever_was_distilled_tells_how_far_predictions_can_be_trusted(search):
    search |= {"verification": None, "top": [candidate(0.7)]}
    (axes,) = all_figures(search)["predicted_measured"].axes
    drawn = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    assert drawn.keys() == {"chosen student (test)", "rivals (test)", "equal"}
    points = {name: bars.lines[0].get_xydata() for name, bars in drawn.items() if name != "equal"}
    np.testing.assert_allclose(points["chosen student (test)"], [[70, 65]])
    np.testing.assert_allclose(points["rivals (test)"], [[55, 50], [35, 40], [50, 45]])
    for network_of in (*search["winner"], *search["rivals"]):
        network_of["diverged"] = True
    assert "predicted_measured" not in all_figures(search)


@pytest.mark.parametrize(("given", "label"), [(False, "validation"), (True, "as given")])
def test_an_accuracy_that_was_given_is_not_shown_as_measured(search, given, label):
    search["teacher"]["accuracy_given"] = given
    for name in ("candidates", "curves"):
        (axes,) = all_figures(search)[name].axes
        assert f"teacher ({label})" in axes.get_legend_handles_labels()[1]


def test_the_front_is_numbered_and_ordered_by_cost(search):
    table = front_table(search)
    assert [row[0] for row in table.rows] == ["2: 5 6", "0: 4 6-8", "1: 4 8"]
    assert table.rows[0][1:] == ["900", "60.0 %"]


def test_no_interval_in_a_plot_leaves_what_accuracies_can_be(search):
    search["top"][0]["half_width"] = 0.8
    (axes,) = all_figures(search)["candidates"].axes
    (interval,) = axes.collections[-1].get_segments()
    np.testing.assert_allclose(interval[:, 1], [0, 100])
    search["top"][0] |= {"prediction": 1.1, "half_width": 0.3}
    (axes,) = all_figures(search)["candidates"].axes
    np.testing.assert_allclose(axes.collections[-1].get_segments()[0][:, 1], [80, 110])


def notes_of(search):
    return " ".join(search_tables(search)[0].notes)


def test_a_choice_of_a_baseline_that_measured_better_is_named(search):
    assert "choice of parameters" not in notes_of(search)
    rival = search["rivals"][2]
    rival["final_accuracy"] = 0.76
    said = (
        "On the validation images, the choice of parameters reaches 76.0 %, the chosen student at "
        "most 75.0 %: bin/distill.py --candidate=1 distils that one with every seed."
    )
    assert said in notes_of(search)
    # not by test images, and not by one good seed of a random student
    rival |= {"final_accuracy": 0.75, "test_accuracy": 0.99}
    search["rivals"][0]["final_accuracy"] = 0.99
    assert "choice of parameters" not in notes_of(search)
    for result in search["winner"]:
        result["diverged"] = True
    assert "reaches 75.0 %, the chosen student diverged: bin" in notes_of(search)
    rival["architecture"] = {"depths": [1, 1], "widths": [[4], [7]]}
    assert "reaches 75.0 %, the chosen student diverged." in notes_of(search)
    rival["diverged"] = True
    assert "choice of parameters" not in notes_of(search)
