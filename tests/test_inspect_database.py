import csv
import dataclasses
import io
import json
import math
import os

import pytest
from PIL import Image
from test_cli import assert_one_line, command

from dass_jax import database as db
from dass_jax import retest
from dass_jax.console import console
from dass_jax.errors import UserError
from dass_jax.locks import only_process
from dass_jax.workdir import write_json
from dass_jax.workflow import database_plots
from dass_jax.workflow.inspect_database import inspect_database, records_csv

FACTS = {"role": "meta_train", "num_classes": 3, "images": {"train": 60, "valid": 9, "test": 9},
         "teacher_accuracy": 0.5}  # fmt: skip
FINAL = [0.1, 0.2, 0.3, 0.4]
HALF_WAY = [0.1, 0.3, 0.2, 0.4]
PLOTS = {"accuracy_flops.png", "accuracy_num_params.png", "learning_curves.png", "accuracies.png"}


def record(student_id, final, replicate=0, **changes):
    values = {
        "task": "birds",
        "student_id": student_id,
        "replicate": replicate,
        "depths": [1, 2],
        "widths": [[2], [4, 7]],
        "flops": 1000,
        "num_params": 100,
        "initial_accuracy": 0.05,
        "final_accuracy": final,
        "best_accuracy": final,
        "test_accuracy": 0.5,
        "curve_epochs": [4],
        "curve": [final],
        "loss": 1.5,
        "diverged": False,
        "seconds": 30.0,
    }
    return db.StudentRecord(**values | changes)


def first_students():
    """Four students; what is known of them before and early ranks them in various ways."""
    return [
        record(
            i, FINAL[i], depths=[1, i + 1], flops=4_000_000 - i, num_params=[10, 30, 20, 40][i],
            best_accuracy=[0.5, 0.6, 0.7, 0.7][i], curve_epochs=[2, 4, 6, 8],
            curve=[0.04 - 0.01 * i, HALF_WAY[i], 0.3, FINAL[i]],
        )
        for i in range(4)
    ]  # fmt: skip


def build(folder, records, **facts):
    """Writes a database with these records of each task; ``facts`` differ from the usual ones."""
    database = folder / "database"
    for name, rows in records.items():
        changes = facts.get(name, {})
        db.open_task(database, name, {}, None if changes is None else FACTS | changes)
        rows = [dataclasses.replace(row, task=name) for row in rows]
        for replicate in sorted({row.replicate for row in rows}):
            part = [row for row in rows if row.replicate == replicate]
            ids = [row.student_id for row in part]
            db.write_part(db.part_path(database, name, replicate, ids), part)
    return database


def printed(database, *arguments, width=250):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(console, "_width", width)
        with console.capture() as capture:
            inspect_database(database, *arguments)
    return capture.get()


def tables(database, *arguments):
    """The printed tables as lists of rows, each a dictionary by column; without plots."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database_plots, "render", lambda tasks: {})
        text = printed(database, *arguments)
    found = []
    for line in text.splitlines():
        if line.startswith("┃"):
            header = [cell.strip() for cell in line.strip("┃").split("┃")]
            found.append([])
        elif line.startswith("│"):
            cells = [cell.strip() for cell in line.strip("│").split("│")]
            found[-1].append(dict(zip(header, cells, strict=True)))
    return found


def files_of(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_facts_and_counts(tmp_path):
    birds = [*first_students(), record(7, 0.9, loss=math.nan, diverged=True)]
    birds += [record(i, 0.2, replicate=1, seconds=1815.0) for i in range(2)]
    # a task that was stopped before its first student has a recipe and no more
    database = build(tmp_path, {"birds": birds, "cars": []}, cars=None)
    summary, accuracies, correlations = tables(database)
    assert summary == [
        {
            "task": "birds", "role": "meta_train", "classes": "3", "training images": "60",
            "teacher": "50.0 %", "students": "5", "replicates": "2", "diverged": "1",
            "time": "1h 03m",
        },
        {
            "task": "cars", "role": "-", "classes": "-", "training images": "-", "teacher": "-",
            "students": "0", "replicates": "0", "diverged": "0", "time": "0m 00s",
        },
    ]  # fmt: skip
    nothing = dict.fromkeys(("min", "mean", "max", "std", "test-retest"), "-")
    assert accuracies[1] == {"task": "cars", "students": "0", "retest of": "validation"} | nothing
    assert set(correlations[1].values()) == {"cars", "-"}


def test_statistics_are_those_of_replicate_0_without_diverged_students(tmp_path):
    again = [record(i, 0.9, replicate=1) for i in range(4)]
    birds = [*first_students(), record(7, 0.9, loss=math.inf, diverged=True), *again]
    _, (accuracies,), _ = tables(build(tmp_path, {"birds": birds}))
    # the deviation is the root of 0.0125
    expected = {"students": "4", "min": "10.0 %", "mean": "25.0 %", "max": "40.0 %",
                "std": "11.2 %"}  # fmt: skip
    assert {name: accuracies[name] for name in expected} == expected


def test_correlations_of_what_is_known_before_and_early(tmp_path):
    diverged = record(7, 0.0, num_params=999, flops=1, loss=math.nan, diverged=True)
    _, _, (row,) = tables(build(tmp_path, {"birds": [*first_students(), diverged]}))
    assert row == {
        "task": "birds",
        # two neighbours swapped among four: 1 - 6 * 2 / (4 * 15)
        "parameters": "0.80",
        "FLOPs": "-1.00",
        # all alike
        "remapped accuracy": "-",
        "depth": "1.00",
        "accuracy at 1/4": "-1.00",
        "accuracy at 1/2": "0.80",
        # ranks 1, 2, 3.5, 3.5 against 1, 2, 3, 4: 4.5 / sqrt(4.5 * 5)
        "best accuracy": "0.95",
    }


@pytest.mark.parametrize(
    ("epochs", "quarter", "half"),
    [([1, 2, 3, 4], 0, 1), ([2, 4], None, 0), ([10, 15, 20], None, 0), ([1, 2, 7], 0, 1)],
)
def test_early_accuracies_are_of_the_last_evaluation_so_far(tmp_path, epochs, quarter, half):
    signs = [1, -1, 1, 1]
    rows = [
        record(i, FINAL[i], curve_epochs=epochs,
               curve=[0.5 + signs[j] * FINAL[i] for j in range(len(epochs))])
        for i in range(4)
    ]  # fmt: skip
    _, _, (row,) = tables(build(tmp_path, {"birds": rows}))
    expected = ["-" if place is None else f"{signs[place]:.2f}" for place in (quarter, half)]
    assert [row["accuracy at 1/4"], row["accuracy at 1/2"]] == expected


@pytest.mark.parametrize(
    "curve", [{"curve_epochs": [], "curve": []}, {"curve_epochs": [8], "curve": [0.3]}]
)
def test_without_early_evaluations_there_is_no_correlation(tmp_path, curve):
    rows = [record(i, FINAL[i], **curve) for i in range(4)]
    _, _, (row,) = tables(build(tmp_path, {"birds": rows}))
    assert (row["accuracy at 1/4"], row["accuracy at 1/2"], row["best accuracy"]) == (
        "-", "-", "1.00",
    )  # fmt: skip


def twice(final, tested):
    """Students of two replicates, by their final and test accuracies in both."""
    return [
        record(i, final[replicate][i], replicate, test_accuracy=tested[replicate][i])
        for replicate in (0, 1)
        for i in range(len(final[0]))
    ]


# swapped neighbours: 0.8; reversed: -1
SWAPPED_AND_REVERSED = twice((FINAL, [0.2, 0.1, 0.3, 0.4]), (FINAL, FINAL[::-1]))


@pytest.mark.parametrize(
    ("role", "expected", "accuracies"),
    [
        ("meta_train", "0.80", "validation"),
        ("meta_valid", "0.80", "validation"),
        ("meta_test", "-1.00", "test"),
    ],
)
def test_retest_is_of_tests_on_unseen_tasks_only(tmp_path, role, expected, accuracies):
    database = build(tmp_path, {"birds": SWAPPED_AND_REVERSED}, birds={"role": role})
    _, (row,), _ = tables(database)
    assert (row["test-retest"], row["retest of"]) == (expected, accuracies)


def test_retest_is_of_students_that_did_not_diverge_in_either_replicate():
    rows = [
        *SWAPPED_AND_REVERSED,
        record(4, 0.0, diverged=True),
        record(4, 0.9, replicate=1),
        record(5, 0.0),
        record(5, 0.9, replicate=1, diverged=True),
        record(6, 0.7),
        record(7, 0.7, replicate=1),
        # a third replicate has no part in it
        record(0, 0.9, replicate=2),
    ]
    pairs = retest.accuracy_pairs(rows[::-1], "final_accuracy")
    assert pairs.tolist() == [[0.1, 0.2], [0.2, 0.1], [0.3, 0.3], [0.4, 0.4]]
    assert retest.retest_correlation(rows, "meta_train") == pytest.approx(0.8)
    assert retest.retest_correlation(rows, "meta_test") == pytest.approx(-1)


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [record(i, FINAL[i]) for i in range(4)],
        [record(0, 0.1), record(0, 0.2, replicate=1)],
        [record(i, 0.5, replicate) for replicate in (0, 1) for i in range(3)],
    ],
    ids=["no student", "one replicate", "one student", "all alike"],
)
def test_without_two_rankings_there_is_no_retest(rows):
    assert retest.retest_correlation(rows, "meta_train") is None


def test_one_student_has_an_accuracy_and_no_more(tmp_path):
    database = build(tmp_path, {"birds": [record(3, 0.25)]})
    _, (accuracies,), (correlations,) = tables(database)
    assert accuracies == {
        "task": "birds", "students": "1", "min": "25.0 %", "mean": "25.0 %", "max": "25.0 %",
        "std": "-", "test-retest": "-", "retest of": "validation",
    }  # fmt: skip
    assert set(correlations.values()) == {"birds", "-"}
    printed(database)
    assert {path.name for path in (database / "report").iterdir()} == PLOTS | {"records.csv"}


def test_where_all_diverged_nothing_is_plotted(tmp_path):
    rows = [record(i, 0.3, loss=math.nan, diverged=True) for i in range(2)]
    database = build(tmp_path, {"birds": rows})
    (summary,), (accuracies,), _ = tables(database)
    assert (summary["students"], summary["diverged"]) == ("2", "2")
    assert (accuracies["students"], accuracies["mean"]) == ("0", "-")
    printed(database)
    assert [path.name for path in (database / "report").iterdir()] == ["records.csv"]


def test_students_of_a_task_are_listed_on_demand(tmp_path):
    rows = [
        record(12, 0.2, num_params=1_234_567, flops=41_800_000, best_accuracy=0.3,
               test_accuracy=0.123, seconds=65.0),
        record(12, 0.0, replicate=1, loss=math.nan, diverged=True),
    ]  # fmt: skip
    database = build(tmp_path, {"cars": [record(0, 0.7)], "birds": rows})
    *_, students = tables(database, None, "birds")
    assert students == [
        {
            "id": "12", "rep.": "0", "depths": "1-2", "widths": "2 4,7", "FLOPs": "41.8M",
            "params": "1.23M", "initial": "5.0 %", "final": "20.0 %", "best": "30.0 %",
            "test": "12.3 %", "loss": "1.5", "time": "1m 05s", "diverged": "",
        },
        {
            "id": "12", "rep.": "1", "depths": "1-2", "widths": "2 4,7", "FLOPs": "1k",
            "params": "100", "initial": "5.0 %", "final": "0.0 %", "best": "0.0 %",
            "test": "50.0 %", "loss": "nan", "time": "0m 30s", "diverged": "yes",
        },
    ]  # fmt: skip


def test_test_accuracies_have_no_part_in_the_tables_of_tasks(tmp_path):
    changed = [dataclasses.replace(row, test_accuracy=0.777) for row in SWAPPED_AND_REVERSED]
    first, second = (
        tables(build(tmp_path / name, {"birds": rows}))
        for name, rows in (("a", SWAPPED_AND_REVERSED), ("b", changed))
    )
    assert first == second


def test_all_records_as_csv(tmp_path):
    awkward = [
        record(0, 0.1 + 0.2, curve=[1 / 3, 1e-17], curve_epochs=[1, 2], loss=math.inf,
               diverged=True, flops=2**40, seconds=1e5 / 3),
        record(1, 0.5, curve=[], curve_epochs=[]),
    ]  # fmt: skip
    again = [record(1, 0.6, replicate=1)]
    database = build(tmp_path, {"birds": awkward + again, "cars": [record(0, 0.7)]})
    printed(database)
    types = {field.name: field.type for field in dataclasses.fields(db.StudentRecord)}
    # an empty string alone would be true
    read = {bool: {"true": True, "false": False}.__getitem__, str: str, int: int, float: float}
    with (database / "report" / "records.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    found = [
        db.StudentRecord(**{n: read.get(types[n], json.loads)(v) for n, v in row.items()})
        for row in rows
    ]
    assert list(rows[0]) == db.SCHEMA.names
    assert found == db.read_records(database, "birds") + db.read_records(database, "cars")


def test_csv_of_nothing_is_its_header():
    (line,) = csv.reader(io.StringIO(records_csv([]).decode()))
    assert line == db.SCHEMA.names


def test_files_are_images_in_the_folder_asked_for(tmp_path):
    database = build(tmp_path, {"birds": SWAPPED_AND_REVERSED})
    before = files_of(tmp_path)
    output = tmp_path / "else" / "where"
    text = printed(database, output)
    assert {path.name for path in output.iterdir()} == {"records.csv", "replicates.png", *PLOTS}
    assert all(path.name in text for path in output.iterdir())
    for path in output.glob("*.png"):
        with Image.open(path) as image:
            image.load()
            assert min(image.size) > 300
    after = files_of(tmp_path)
    assert {path for path in after if path not in before} == set(output.iterdir())
    assert {path: after[path] for path in before} == before


def test_tables_fit_a_log_file(tmp_path):
    names = [f"tiny_train{i}" for i in range(3)]
    students = [record(100, 0.999, widths=[[32, 32, 32], [240, 152, 192], [256]], flops=53_100_000)]
    database = build(tmp_path, dict.fromkeys(names, students))
    lines = printed(database, None, "tiny_train1", width=120).splitlines()
    text = "\n".join(lines)
    assert max(map(len, lines)) <= 120
    # no word and no number is cut
    for word in ("training images", "replicates", "diverged", "test-retest", "parameters",
                 "initial", "tiny_train2", "53.1M", "99.9 %", "240,152,192"):  # fmt: skip
        assert word in text


def test_a_database_in_the_making_can_be_inspected(tmp_path):
    database = build(tmp_path, {"birds": first_students()})
    with only_process(tmp_path):
        assert "25.0 %" in printed(database)


def damage_json(database):
    (database / "manifest.json").write_text('{"format_version": 1, "tas')


def damage_part(database):
    (part,) = (database / "records" / "birds").iterdir()
    part.write_bytes(part.read_bytes()[:-40])


def set_manifest(manifest):
    return lambda database: write_json(database / "manifest.json", manifest)


def with_entry(**changes):
    return set_manifest({"format_version": 1, "tasks": {"birds": FACTS | changes}})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda database: os.remove(database / "manifest.json"), "there is no database in"),
        (damage_json, "is no valid JSON"),
        (damage_part, "is damaged"),
        (set_manifest({"format_version": 2, "tasks": {}}), "has another format version"),
        (set_manifest({"format_version": 1}), r"is damaged \(it lists no tasks\)"),
        (set_manifest({"format_version": 1, "tasks": {"birds": 3}}), "it lists no tasks"),
        (set_manifest({"format_version": 1, "tasks": {"cars": FACTS}}),
         r"holds students of task birds, but its manifest\.json does not say"),
        (with_entry(teacher_accuracy="high"), "task birds: teacher_accuracy is 'high'"),
        (with_entry(images=[60]), r"task birds: images is \[60\]"),
        (with_entry(images={"train": "60"}), r"task birds: images\.train is '60'"),
        (with_entry(role=1), "task birds: role is 1"),
    ],
)  # fmt: skip
def test_damage_is_told_and_nothing_is_written(tmp_path, damage, message):
    database = build(tmp_path, {"birds": first_students()})
    damage(database)
    before = files_of(tmp_path)
    with pytest.raises(UserError, match=message) as caught, console.capture() as capture:
        inspect_database(database, tmp_path / "report")
    assert "\n" not in str(caught.value)
    assert capture.get() == ""
    assert files_of(tmp_path) == before


def test_a_database_without_students_is_told(tmp_path):
    with pytest.raises(UserError, match=r"holds no students yet: run bin/build_database\.py"):
        printed(build(tmp_path, {"birds": []}))


def test_an_unknown_task_or_output_is_told_and_nothing_is_written(tmp_path):
    database = build(tmp_path, {"birds": first_students(), "cars": []})
    (tmp_path / "file").write_text("text")
    before = files_of(tmp_path)
    with pytest.raises(UserError, match="no task 'dogs': choose one of birds, cars"):
        printed(database, None, "dogs")
    with pytest.raises(UserError, match="file is no folder: choose another --output"):
        printed(database, tmp_path / "file")
    assert files_of(tmp_path) == before


def test_the_command(tmp_path, monkeypatch):
    build(tmp_path, {"birds": SWAPPED_AND_REVERSED})
    # no device is taken from whoever computes on it
    monkeypatch.setenv("JAX_PLATFORMS", "none_at_all")
    output = tmp_path / "out"
    answer = command(
        "inspect_database", f"--workdir={tmp_path}", "--task=birds", f"--output={output}"
    )
    assert (answer.returncode, answer.stderr) == (0, "")
    assert "birds: validation accuracies" in answer.stdout
    assert {path.name for path in output.iterdir()} == {"records.csv", "replicates.png", *PLOTS}


def test_mistakes_are_one_line(tmp_path):
    missing = tmp_path / "nothing"
    assert_one_line("inspect_database", [], "there is no database in", missing)
    assert_one_line("inspect_database", ["birds"], "unexpected argument 'birds'", missing)
    assert_one_line("inspect_database", [], "--workdir is missing", "")
    assert not missing.exists()
