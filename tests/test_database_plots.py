import math

import numpy as np
import pytest
from test_inspect_database import FINAL, SWAPPED_AND_REVERSED, build, first_students, record

from dass_jax.workflow import database_plots
from dass_jax.workflow.measured_tasks import read_measured_tasks


def measured(folder, records, **facts):
    return read_measured_tasks(build(folder, records, **facts))


def points(axes, index=0):
    return np.asarray(axes.collections[index].get_offsets())


def test_accuracy_against_cost(tmp_path):
    diverged = record(7, 0.9, loss=math.nan, diverged=True)
    birds = [*first_students(), diverged, record(0, 0.8, replicate=1)]
    cars = [record(i, FINAL[i]) for i in range(2)]
    tasks = measured(
        tmp_path, {"birds": birds, "dogs": [diverged], "cars": cars},
        cars={"teacher_accuracy": None, "role": "meta_test"},
    )  # fmt: skip
    figure = database_plots.draw(tasks)["accuracy_num_params.png"]
    first, second = figure.axes
    np.testing.assert_allclose(points(first), [[10, 10], [30, 20], [20, 30], [40, 40]])
    np.testing.assert_allclose(points(second), [[100, 10], [100, 20]])
    (teacher,) = first.lines
    np.testing.assert_allclose(teacher.get_ydata(), [50, 50])
    assert not second.lines
    assert [axes.get_title() for axes in figure.axes] == ["birds: Spearman 0.80", "cars"]
    costs = points(database_plots.draw(tasks)["accuracy_flops.png"].axes[0])[:, 0]
    assert costs.tolist() == [4_000_000 - i for i in range(4)]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["students of tasks that train the predictor", "students of unseen tasks",
                      "teacher"]  # fmt: skip


def test_learning_curves_begin_with_the_remapped_student(tmp_path):
    # the second was not evaluated after epoch 2
    rows = [
        record(0, 0.4, curve_epochs=[2, 4], curve=[0.2, 0.4]),
        record(1, 0.6, curve_epochs=[4], curve=[0.6], initial_accuracy=0.15),
        record(2, 0.9, diverged=True, loss=math.nan),
    ]
    tasks = measured(tmp_path, {"birds": rows})
    (axes,) = database_plots.draw(tasks)["learning_curves.png"].axes
    thin = axes.collections[0].get_segments()
    np.testing.assert_allclose(thin[0], [[0, 5], [2, 20], [4, 40]])
    np.testing.assert_allclose(thin[1], [[0, 15], [4, 60]])
    assert len(thin) == 2
    mean, teacher = axes.lines
    np.testing.assert_allclose(mean.get_xydata(), [[0, 10], [2, 20], [4, 50]])
    np.testing.assert_allclose(teacher.get_ydata(), [50, 50])


def test_replicates_are_plotted_where_there_are_two(tmp_path):
    tasks = measured(
        tmp_path,
        {"birds": SWAPPED_AND_REVERSED, "cars": first_students(), "dogs": SWAPPED_AND_REVERSED},
        dogs={"role": "meta_test"},
    )
    birds, dogs = database_plots.draw(tasks)["replicates.png"].axes
    np.testing.assert_allclose(points(birds), [[10, 20], [20, 10], [30, 30], [40, 40]])
    np.testing.assert_allclose(points(dogs), [[10, 40], [20, 30], [30, 20], [40, 10]])
    assert birds.get_title() == "birds: Spearman 0.80"
    # the line of equal accuracies goes through points of equal coordinates
    equal = birds.lines[0]
    assert equal.get_xy1()[0] == equal.get_xy1()[1]
    assert equal.get_slope() == 1
    assert "replicates.png" not in database_plots.draw(tasks[1:2])


def test_distributions_show_every_student_and_the_teacher(tmp_path):
    tasks = measured(tmp_path, {"birds": first_students(), "cars": [record(0, 0.7)]})
    (axes,) = database_plots.draw(tasks)["accuracies.png"].axes
    students, teacher, others, _ = (points(axes, index) for index in range(4))
    np.testing.assert_allclose(students[:, 1], [10, 20, 30, 40])
    np.testing.assert_allclose(teacher, [[0, 50]])
    np.testing.assert_allclose(others[:, 1], [70])
    assert np.rint(students[:, 0]).tolist() == [0] * 4
    assert np.rint(others[0, 0]) == 1
    assert [text.get_text() for text in axes.get_xticklabels()] == ["birds", "cars"]


@pytest.mark.parametrize("count", [1, 4, 5, 9])
def test_every_task_has_its_panel(tmp_path, count):
    names = [f"a_task_with_a_name_that_is_long_{number}" for number in range(count)]
    tasks = measured(tmp_path, {name: [record(0, 0.2), record(1, 0.3)] for name in names})
    figure = database_plots.draw(tasks)["accuracy_flops.png"]
    shown = [axes for axes in figure.axes if axes.axison]
    assert len(shown) == count
    assert all(len(points(axes)) == 2 for axes in shown)
    # below each column and at the left of each row
    columns = figure.axes[0].get_subplotspec().get_gridspec().ncols
    assert sum(bool(axes.get_xlabel()) for axes in shown) == columns
    assert sum(bool(axes.get_ylabel()) for axes in shown) == math.ceil(count / columns)


def test_nothing_overlaps(tmp_path):
    """Titles, labels and legends of full figures keep out of each other's way."""
    roles = ("meta_train", "meta_valid", "meta_test")
    names = [f"a_task_with_a_name_that_is_long_{number}" for number in range(7)]
    records = dict.fromkeys(names, SWAPPED_AND_REVERSED)
    facts = {name: {"role": roles[number % 3]} for number, name in enumerate(names)}
    for tasks in (measured(tmp_path / "a", records, **facts), measured(tmp_path / "b", records)):
        for name, figure in database_plots.draw(tasks).items():
            figure.draw_without_rendering()
            # what lies around the axes, their own numbers aside
            texts = [axes.title for axes in figure.axes]
            texts += [axis.label for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)]
            texts += [figure._suptitle, figure.legends[0]]
            boxes = [t.get_window_extent() for t in texts if t is not None and visible(t)]
            for i, box in enumerate(boxes):
                others = boxes[:i] + boxes[i + 1 :]
                assert not box.count_overlaps(others), name
                assert 0 <= box.x0 < box.x1 <= figure.bbox.x1, name


def visible(artist):
    return artist.get_visible() and bool(getattr(artist, "get_text", lambda: "legend")())
