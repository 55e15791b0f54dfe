"""The whole path at the smallest size: database, predictor, search, distilled student."""

import dataclasses
import functools
import html.parser
import importlib.util
import json
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import dass_jax
from dass_jax import checkpoints, cost, resnet, snapshots
from dass_jax import database as db
from dass_jax.baselines.measured import REPEATED_REGRESSION, SHORT_DISTILLATION
from dass_jax.baselines.registry import BASELINES
from dass_jax.console import console
from dass_jax.data.augmentation import normalize
from dass_jax.deployment.exporting import DEFAULT_FORMATS
from dass_jax.distillation import distil_population
from dass_jax.errors import UserError
from dass_jax.experiment import from_config
from dass_jax.latency import Latency
from dass_jax.level import Level
from dass_jax.search.problem import rows
from dass_jax.search_space import stack
from dass_jax.workdir import Workdir, read_json
from dass_jax.workflow import (
    comparison,
    distill,
    evaluate,
    evaluation,
    prepare,
    search,
    source_tasks,
    verification,
)
from dass_jax.workflow import scorer as scorer_module
from dass_jax.workflow.build_database import build_database
from dass_jax.workflow.chosen_student import chosen_student, read_student, widths_text
from dass_jax.workflow.distill import run_distillation
from dass_jax.workflow.evaluate import Scores
from dass_jax.workflow.evaluation import run_evaluation
from dass_jax.workflow.export import run_export
from dass_jax.workflow.latency import ensure_latency_model
from dass_jax.workflow.latency_check import check_latencies
from dass_jax.workflow.meta_train import run_meta_training
from dass_jax.workflow.predictors import load_predictor
from dass_jax.workflow.recorded_students import compare_recorded
from dass_jax.workflow.scorer import CandidateScorer, make_scorer, predict_students
from dass_jax.workflow.search import run_search
from dass_jax.workflow.task_arrays import embed_students

SMOKE = pathlib.Path(__file__).parents[1] / "configs" / "smoke.py"
TASKS = ("digits", "gratings", "shapes", "strokes")
UNSEEN = "digits"


@pytest.fixture(scope="module")
def experiment():
    spec = importlib.util.spec_from_file_location("smoke", SMOKE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return from_config(module.get_config())


def run_everything(experiment, workdir):
    """All four stages; returns what each of them printed."""
    task = experiment.task(UNSEEN)
    found = workdir.search(UNSEEN) / "search.json"
    stages = (
        lambda: build_database(experiment, workdir),
        lambda: run_meta_training(experiment, workdir),
        lambda: run_search(experiment, workdir, task),
        lambda: run_distillation(experiment, workdir, task, read_student(experiment, found)),
    )
    printed = []
    for stage in stages:
        with console.capture() as capture:
            stage()
        printed.append(capture.get())
    return printed


@pytest.fixture(scope="module")
def finished(experiment, tmp_path_factory):
    """A work directory with everything in it, for tests that change nothing."""
    workdir = Workdir(tmp_path_factory.mktemp("smoke") / "work")
    printed = run_everything(experiment, workdir)
    *first_runs, distillation = printed
    assert not any("done before" in text for text in first_runs)
    assert "done before" in distillation  # the search distilled its winner with every seed
    return workdir


@pytest.fixture
def copied(finished, tmp_path):
    """A copy of it, for tests that change something."""
    shutil.copytree(finished.root, tmp_path / "work")
    return Workdir(tmp_path / "work")


@pytest.fixture(scope="module")
def result(finished):
    return read_json(finished.search(UNSEEN) / "search.json")


@pytest.fixture(scope="module")
def images(experiment):
    return prepare.load_images(experiment, experiment.task(UNSEEN))


def contents(workdir):
    """Every file with its bytes and the time of its last change."""
    files = [path for path in workdir.root.rglob("*") if path.is_file()]
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def parts(workdir, task):
    return sorted((workdir.database / "records" / task).iterdir())


def without_time(records):
    return [dataclasses.replace(record, seconds=0.0) for record in records]


def test_results_lie_where_other_commands_look(finished, result):
    root = finished.root
    places = {path.name for path in root.iterdir()}
    stages = {"teachers", "logits", "database", "inputs", "predictor", "search", "students"}
    assert places == stages
    for folder in ("teachers", "logits", "database/records"):
        assert {path.name for path in (root / folder).iterdir()} == set(TASKS)
    source_inputs = {path.name for path in (root / "inputs").iterdir()}
    assert source_inputs == set(TASKS) - {UNSEEN}
    for task in TASKS:
        assert checkpoints.exists(root / "teachers" / task / "checkpoint")
        views = sorted((root / "logits" / task).iterdir())
        assert [view.name for view in views] == ["view0000", "view0001"]
        assert all(map(checkpoints.exists, views))
        assert read_json(root / "teachers" / task / "summary.json")["num_classes"] == 3
    manifest = read_json(root / "database" / "manifest.json")
    assert manifest["format_version"] == db.FORMAT_VERSION
    assert set(manifest["tasks"]) == set(TASKS)
    assert checkpoints.exists(root / "predictor" / "checkpoint")
    lines = (root / "predictor" / "history.jsonl").read_text().splitlines()
    history = [json.loads(line) for line in lines]
    assert [entry["episode"] for entry in history] == [2, 4, 6]
    assert [path.name for path in (root / "search").iterdir()] == [UNSEEN]
    assert [path.name for path in (root / "students").iterdir()] == [UNSEEN]
    (student,) = (root / "students" / UNSEEN).iterdir()
    assert {path.name for path in student.iterdir()} == {"replicate0", "replicate1", "summary.json"}
    assert not list(root.rglob("*.tmp")) + list(root.rglob("progress"))


def test_every_task_has_all_its_records(experiment, finished):
    for task in TASKS:
        records = db.read_records(finished.database, task)
        assert [(r.student_id, r.replicate) for r in records] == [(i, 0) for i in range(4)]
        assert len(parts(finished, task)) == 2
        architectures = db.architectures_of(experiment.space, records)
        sizes = {"num_classes": 3}
        flops = cost.num_flops(experiment.space, architectures, image_size=8, **sizes)
        assert db.column(records, "flops").tolist() == flops.tolist()
        params = cost.num_params(experiment.space, architectures, **sizes)
        assert db.column(records, "num_params").tolist() == params.tolist()
        for record in records:
            assert (record.task, record.diverged, record.curve_epochs) == (task, False, [1, 2])
            assert record.final_accuracy == record.curve[-1]
            assert record.best_accuracy == max(record.curve)
            assert np.isfinite(record.loss)
            assert record.seconds > 0
            accuracies = [*record.curve, record.initial_accuracy, record.test_accuracy]
            # 15 images measure in steps of a 15th
            np.testing.assert_allclose(np.multiply(accuracies, 15) % 1 % 0.999999, 0, atol=1e-5)
            assert 0 <= min(accuracies) <= max(accuracies) <= 1


def test_a_second_run_says_so_and_changes_nothing(experiment, finished):
    before = contents(finished)
    build, train, search, distil = run_everything(experiment, finished)
    for task in TASKS:
        assert f"students {task}: done before" in build
    assert "predictor: done before" in train
    assert f"search {UNSEEN}: done before" in search
    # what is done has no progress to show
    assert f"Student of {UNSEEN}" in distil
    assert "distilling" not in distil
    assert contents(finished) == before


@pytest.mark.parametrize("index", [0, 1])
def test_a_lost_part_is_measured_again_to_the_same_numbers(experiment, copied, index):
    before = db.read_records(copied.database, "shapes")
    lost = parts(copied, "shapes")[index]
    content = lost.read_bytes()
    lost.unlink()
    assert len(db.read_records(copied.database, "shapes")) == 2
    others = {path: entry for path, entry in contents(copied).items() if path.suffix == ".parquet"}
    build_database(experiment, copied)
    after = db.read_records(copied.database, "shapes")
    # nan would differ from itself, and times do differ
    assert without_time(after) == without_time(before)
    assert after != before
    assert lost.read_bytes() != content
    assert {path: contents(copied)[path] for path in others} == others


def test_other_settings_are_refused_and_harm_nothing(experiment, finished):
    before = contents(finished)
    longer = dataclasses.replace(experiment.kd.sgd, epochs=3)
    changed = dataclasses.replace(experiment, kd=dataclasses.replace(experiment.kd, sgd=longer))
    with pytest.raises(UserError, match=r"kd\.sgd\.epochs was 2 and is now 3"):
        build_database(changed, finished)
    other = dataclasses.replace(experiment, predictor=dataclasses.replace(
        experiment.predictor, inputs="S"))  # fmt: skip
    with pytest.raises(UserError, match=r"other settings \(predictor\.inputs was 'STA'"):
        run_meta_training(other, finished)
    wider = dataclasses.replace(experiment, search=dataclasses.replace(
        experiment.search, max_flops="90%"))  # fmt: skip
    with pytest.raises(UserError, match=r"other settings \(search\.max_flops was '60%' and"):
        run_search(wider, finished, experiment.task(UNSEEN))
    assert contents(finished) == before


def test_results_of_another_teacher_are_refused(experiment, finished, monkeypatch):
    before, task = contents(finished), experiment.task(UNSEEN)
    student = chosen_student(experiment, finished, task)
    other = prepare.saved_origin(finished, task) | {"weights_digest": "0"}
    monkeypatch.setattr(prepare, "saved_origin", lambda workdir, spec: other)
    with pytest.raises(UserError, match=r"the search in .* \(weights_digest was .* is now '0'\)"):
        run_search(experiment, finished, task)
    with pytest.raises(UserError, match=r"the student in .* \(weights_digest was .* is now '0'\)"):
        run_distillation(experiment, finished, task, student)
    assert contents(finished) == before


def test_a_finished_search_is_not_told_of_a_teacher_that_is_gone(experiment, copied):
    shutil.rmtree(copied.teacher(UNSEEN))
    with pytest.raises(UserError, match=f"task {UNSEEN} has no teacher"):
        run_search(experiment, copied, experiment.task(UNSEEN))


def test_an_impossible_budget_is_refused_before_anything_is_trained(experiment, copied):
    shutil.rmtree(copied.teacher(UNSEEN))
    shutil.rmtree(copied.search(UNSEEN))
    tight = dataclasses.replace(experiment.search, max_params="9", max_latency="50%")
    with pytest.raises(UserError, match=r"no student fits the budget .*params <= 9"):
        run_search(dataclasses.replace(experiment, search=tight), copied, experiment.task(UNSEEN))
    assert not copied.teacher(UNSEEN).exists()
    assert not (copied.root / "latency").exists()


def test_a_second_search_has_a_name_and_shares_the_networks(experiment, copied, result):
    fewer = dataclasses.replace(experiment.search, top_k=2, rivals=())
    other = dataclasses.replace(experiment, search=fewer)
    task = experiment.task(UNSEEN)
    with pytest.raises(UserError, match=r"search\.rivals was .* or name this one with --name"):
        run_search(other, copied, task)
    networks = {path for path in contents(copied) if "replicate" in str(path)}
    found = run_search(other, copied, task, "small")
    assert {path for path in contents(copied) if "replicate" in str(path)} == networks
    assert read_json(copied.search(UNSEEN) / "search.json") == result
    files = {path.name for path in copied.search(UNSEEN, "small").iterdir()}
    assert {"search.json", "report.html"} < files
    assert not files & {"ranking.json", "unfinished.json"}
    assert found["winner"] == result["winner"]
    # what was trained before counts with the time that it took; its logits are looked up only
    before = result["seconds"]["verification"]
    assert found["seconds"]["verification"] == pytest.approx(before, rel=0.5)
    trained = sum(network["seconds"] for network in result["winner"])
    assert found["seconds"]["distillation"] >= trained
    chosen = chosen_student(experiment, copied, task, search="small", candidate=0)
    assert experiment.space.to_json(chosen.architecture) == result["top"][0]["architecture"]


def test_a_stopped_search_leaves_its_ranking(experiment, copied, result, monkeypatch, capsys):
    def stop(*arguments):
        raise KeyboardInterrupt

    folder = copied.search(UNSEEN)
    (folder / "search.json").unlink()
    monkeypatch.setattr(verification, "verify", stop)
    with pytest.raises(KeyboardInterrupt):
        run_search(experiment, copied, experiment.task(UNSEEN))
    assert "The best candidates by their prediction" in capsys.readouterr().out
    ranking = read_json(folder / "ranking.json")
    before = ranking["candidates"]["prediction"]
    assert before == sorted(before, reverse=True)
    assert sorted(before) == sorted(result["candidates"]["prediction"])
    assert set(ranking["candidates"]["widths"]) == set(result["candidates"]["widths"])
    assert read_json(folder / "unfinished.json")["seconds"]["search"] > 0


class Stopping:
    """``distil_population``, which is stopped after the first epoch of one of its calls."""

    def __init__(self, at):
        self.at, self.replicates = at, []

    def __call__(self, *arguments):
        space, config, augmentation, assignment, students, ids, replicate, *others = arguments
        snapshots, on_epoch, on_steps, devices = others
        self.replicates.append(replicate)

        def stop(report):
            if len(self.replicates) == self.at:
                raise KeyboardInterrupt
            on_epoch(report)

        return distil_population(
            space, config, augmentation, assignment, students, ids, replicate, snapshots, stop,
            on_steps, devices,
        )  # fmt: skip


def untimed(found):
    """What a search found, without the seconds that it took."""
    if isinstance(found, dict):
        return {name: untimed(value) for name, value in found.items() if name != "seconds"}
    return [untimed(value) for value in found] if isinstance(found, list) else found


def test_a_search_that_was_stopped_again_and_again_finds_the_same(
    experiment, copied, result, monkeypatch
):
    task = experiment.task(UNSEEN)
    shutil.rmtree(copied.search(UNSEEN))
    shutil.rmtree(copied.student(UNSEEN))
    # whatever is trained can be gone on with
    monkeypatch.setattr(snapshots, "SAVE_EVERY_SECONDS", 0.0)
    seeds = [verification.REPLICATE, 0, 1, 0]
    for done in range(len(seeds)):
        stopping = Stopping(at=1)
        monkeypatch.setattr(distill, "distil_population", stopping)
        if done:
            # the one that was stopped before goes on and is finished
            stopping.at = 2
        with pytest.raises(KeyboardInterrupt):
            run_search(experiment, copied, task)
        assert stopping.replicates == seeds[max(0, done - 1) : done + 1]
    monkeypatch.setattr(distill, "distil_population", distil_population)
    assert untimed(run_search(experiment, copied, task)) == untimed(result)
    assert not list(copied.search(UNSEEN).rglob("unfinished*"))


@pytest.mark.parametrize("candidate", [0, 3])
def test_any_candidate_of_a_search_can_be_distilled(experiment, finished, result, candidate):
    path = finished.search(UNSEEN) / "search.json"
    student = read_student(experiment, path, candidate)
    entry = result["top"][candidate]
    assert experiment.space.to_json(student.architecture) == entry["architecture"]
    assert student.student_id == entry["student_id"]


def test_the_saved_student_has_the_recorded_accuracy(experiment, finished, images, result):
    student = result["top"][0]["architecture"]
    architecture = experiment.space.from_json(student)
    (folder,) = (finished.root / "students" / UNSEEN).iterdir()
    summary = read_json(folder / "summary.json")
    assert summary["replicates"] == result["winner"]
    whole = resnet.init(experiment.space, jax.random.key(0), images.num_classes)
    template = resnet.cut(experiment.space, whole, architecture)
    run = jax.jit(functools.partial(resnet.apply_dense, experiment.space, train=False))
    logits = []
    for replicate in (0, 1):
        dense, metadata = checkpoints.restore(folder / f"replicate{replicate}", template)
        assert metadata == result["winner"][replicate]
        assert metadata["architecture"] == student
        inputs = normalize(images.test.images)
        variables = jax.tree.map(jnp.asarray, dense)
        output, _ = run(variables, inputs)
        logits.append(np.asarray(output))
        correct = np.sum(logits[-1].argmax(1) == np.asarray(images.test.labels))
        accuracy = float(np.float32(correct) / np.float32(len(images.test.labels)))
        assert accuracy == metadata["test_accuracy"]
    # the seeds are different networks
    assert np.abs(logits[0] - logits[1]).max() > 1e-3
    size = sum(leaf.size for leaf in jax.tree.leaves(dense["params"]))
    assert size == summary["num_params"] == result["top"][0]["params"]


def test_the_summary_reports_the_test_accuracy_over_seeds(finished, result):
    (folder,) = (finished.root / "students" / UNSEEN).iterdir()
    summary = read_json(folder / "summary.json")
    tests = [student["test_accuracy"] for student in result["winner"]]
    expected = {"mean": np.mean(tests), "deviation": np.std(tests, ddof=1)}
    assert summary["test_accuracy"] == pytest.approx(expected)
    validation = [student["final_accuracy"] for student in result["winner"]]
    assert summary["best_on_validation"] == np.argmax(validation)


def test_the_winner_leaves_as_files(experiment, finished, images, result, tmp_path):
    run_export(
        experiment, finished, experiment.task(UNSEEN),
        read_student(experiment, finished.search(UNSEEN) / "search.json"),
        replicate=None, formats=DEFAULT_FORMATS, output=tmp_path / "out", overwrite=False,
    )  # fmt: skip
    for name in DEFAULT_FORMATS:
        student = dass_jax.load_student(tmp_path / "out", name)
        correct = np.sum(student.predict(images.test.images) == np.asarray(images.test.labels))
        accuracy = float(np.float32(correct) / np.float32(len(images.test.labels)))
        winner = result["winner"][student.config.replicate]
        assert accuracy == student.config.test_accuracy == winner["test_accuracy"]
        assert student.config.class_names == ("0", "1", "2")
        assert student.config.num_params == result["top"][0]["params"]


def test_the_result_of_a_search_is_complete(experiment, finished, result):
    expected = {
        "task", "seed", "versions", "device", "algorithm", "budget", "teacher", "candidates", "top",
        "verification", "winner", "rivals", "measured", "latency", "seconds", "recipe",
    }  # fmt: skip
    assert expected == result.keys()
    assert (result["task"], result["seed"], result["candidates"]["count"]) == (UNSEEN, 0, 16)
    teacher = read_json(finished.teacher(UNSEEN) / "summary.json")
    assert result["teacher"]["params"] == teacher["num_params"]
    for name in ("flops", "test_accuracy", "valid_accuracy"):
        assert result["teacher"][name] == teacher[name]
    limits = {name: limit for name, limit in result["budget"].items() if limit is not None}
    assert limits == {"flops": int(0.6 * teacher["flops"])}
    assert [rival["chosen_by"] for rival in result["rivals"]] == ["random", "parameters"]
    assert len(result["winner"]) == 2
    for student in (*result["winner"], *result["rivals"]):
        assert student["curve"][-1] == [2, student["final_accuracy"]]
        assert student["best_accuracy"] == max(accuracy for _, accuracy in student["curve"])
        assert 0 <= student["test_accuracy"] <= 1
        assert student["seconds"] > 0
    for student in result["winner"]:
        assert student["architecture"] == result["top"][0]["architecture"]
        assert student["student_id"] == result["top"][0]["student_id"]
    phases = {"teacher", "latency model", "search", "verification", "distillation", "comparison"}
    assert result["seconds"].keys() == phases


def test_candidates_are_the_best_ones_under_the_budget(experiment, result):
    top, pool = result["top"], result["candidates"]
    assert len(top) == 5
    assert len({json.dumps(candidate["architecture"]) for candidate in top}) == 5
    assert max(pool["flops"]) <= result["budget"]["flops"]
    for student in (*top, *result["rivals"]):
        architecture = experiment.space.from_json(student["architecture"])
        flops = cost.num_flops(experiment.space, architecture, image_size=8, num_classes=3)
        assert student["flops"] == flops <= result["budget"]["flops"]
    # who chooses by parameters chooses the largest candidate
    assert result["rivals"][-1]["params"] == max(pool["params"])
    # what was predicted of it is what was predicted of the candidate
    place = pool["widths"].index(widths_text(result["rivals"][-1]["architecture"]["widths"]))
    assert result["rivals"][-1]["prediction"] == pytest.approx(pool["prediction"][place], rel=1e-5)


def test_the_chosen_student_is_the_best_verified_one(result):
    verified = [entry for entry in result["top"] if "verified_accuracy" in entry]
    assert verified == result["top"][:2]
    first, second = verified
    assert first["verified_accuracy"] >= second["verified_accuracy"]
    # they were the two best predictions before anything was measured
    before = result["candidates"]["prediction"]
    assert sorted(before[:2]) == sorted(before)[-2:]
    assert [entry["prediction"] for entry in result["top"]] == before[:5]
    # measured accuracies of the task change what is predicted of the others, and thus their order
    after = result["candidates"]["prediction_after"]
    assert [entry["prediction_after"] for entry in result["top"][2:]] == after[2:5]
    assert after[2:] == sorted(after[2:], reverse=True)
    assert np.abs(np.subtract(before, after)).max() > 1e-6


def test_the_winner_is_not_trained_as_it_was_verified(finished, result):
    (folder,) = (finished.search(UNSEEN) / "verified").iterdir()
    names = {path.name for student in folder.iterdir() for path in student.iterdir()}
    assert names == {f"replicate{verification.REPLICATE}"}
    expected = {"replicate": verification.REPLICATE, "epochs": 2, "shortened": False}
    assert result["verification"] == expected
    # nor will it be if it is distilled with more seeds
    assert len(result["winner"]) == 2 < verification.REPLICATE


def test_plots_are_images(finished):
    paths = sorted(finished.search(UNSEEN).glob("*.png"))
    names = ["candidates", "curves", "distilled", "predicted_measured", "student"]
    assert [path.stem for path in paths] == names
    for path in paths:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("L"))
        assert min(pixels.shape) > 150
        assert np.ptp(pixels) > 100


class Page(html.parser.HTMLParser):
    """Collects the texts and tags of a page."""

    def __init__(self, text):
        super().__init__()
        self.texts, self.tags, self.links = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [value for name, value in attributes if name in ("src", "href")]

    def handle_data(self, data):
        self.texts.append(data)


def test_the_page_needs_nothing_else_and_says_it_all(finished, result):
    page = Page((finished.search(UNSEEN) / "report.html").read_text())
    assert page.tags.count("svg") == 5
    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    # within a drawing, parts refer to each other
    assert all(link.startswith("#") for link in page.links)
    accuracy = 100 * np.mean([student["test_accuracy"] for student in result["winner"]])
    assert f"{accuracy:.1f} %" in " ".join(page.texts)
    # as cells of tables, not only among the settings
    assert {"choice of parameters", "Spearman", "verification"} <= set(page.texts)


def test_recorded_predictions_are_those_of_each_student_alone(experiment, finished, result):
    spec = experiment.task(UNSEEN)
    records = db.first_replicate(db.read_records(finished.database, UNSEEN))
    measured = result["measured"]
    assert measured["students"] == len(records) == 4
    assert measured["measured"] == [record.test_accuracy for record in records]
    images = prepare.load_images(experiment, spec)
    teacher = prepare.load_teacher(experiment, finished, spec, images)
    predictor = load_predictor(finished.predictor, experiment)
    alone = []
    for record in records:
        students = stack([experiment.space.architecture(record.depths, record.widths)])
        ids = np.asarray([record.student_id], np.int32)
        one = predict_students(predictor, spec, images, teacher, students, ids)
        alone.append(one.mean.item())
    np.testing.assert_allclose(measured["predicted"], alone, rtol=1e-5)
    assert len(set(alone)) > 1


def test_students_of_another_teacher_are_no_comparison(experiment, finished, monkeypatch, capsys):
    spec = experiment.task(UNSEEN)
    images = prepare.load_images(experiment, spec)
    teacher = prepare.load_teacher(experiment, finished, spec, images)
    predictor = load_predictor(finished.predictor, experiment)
    other = prepare.saved_origin(finished, spec) | {"images_digest": "0"}
    monkeypatch.setattr(prepare, "saved_origin", lambda workdir, spec: other)
    assert compare_recorded(experiment, finished, spec, images, teacher, predictor) is None
    assert "come from another teacher, or from other images" in capsys.readouterr().out


def test_candidates_are_embedded_once_for_all_adaptations(experiment, finished, monkeypatch):
    embedded = []

    def counted(settings, context, architectures, student_ids):
        embedded.append(len(student_ids))
        return embed_students(settings, context, architectures, student_ids)

    monkeypatch.setattr(scorer_module, "embed_students", counted)
    spec = experiment.task(UNSEEN)
    images = prepare.load_images(experiment, spec)
    teacher = prepare.load_teacher(experiment, finished, spec, images)
    predictor = load_predictor(finished.predictor, experiment)
    students = jax.vmap(experiment.space.sample)(jax.random.split(jax.random.key(3), 5))
    ids = np.arange(5, dtype=np.int32)
    candidates = CandidateScorer(make_scorer(predictor, spec, images, teacher, batch_size=2))
    one_by_one = [candidates(rows(students, own), own) for own in np.split(ids, 5)]
    order, known, labels = np.asarray([3, 1, 0, 4, 2]), np.asarray([4, 1]), np.asarray([0.3, 0.7])
    assert embedded == [2] * 5
    renewed = candidates.renewed(order, known, labels)
    assert embedded == [2] * 5
    scorer = make_scorer(predictor, spec, images, teacher, batch_size=5)
    np.testing.assert_allclose(
        scorer(students, ids).mean, [one.mean.item() for one in one_by_one], rtol=1e-5
    )
    adapted = scorer.adapted_to(scorer.embed(rows(students, known), known), labels)
    np.testing.assert_allclose(renewed.mean, adapted(rows(students, order), order).mean, rtol=1e-5)
    assert not np.allclose(renewed.mean, scorer(rows(students, order), order).mean, rtol=1e-3)
    assert candidates.adapts
    settings = predictor.settings
    meta = dataclasses.replace(settings.meta, inner_steps=0)
    still = predictor._replace(settings=dataclasses.replace(settings, meta=meta))
    assert not CandidateScorer(dataclasses.replace(scorer, predictor=still)).adapts


def test_a_level_moves_all_predictions_of_a_task(experiment, finished):
    """Before and after students are measured, and by itself: it is no error to adapt to."""
    spec = experiment.task(UNSEEN)
    images = prepare.load_images(experiment, spec)
    teacher = prepare.load_teacher(experiment, finished, spec, images)
    plain = load_predictor(finished.predictor, experiment)
    plain = plain._replace(calibration=plain.calibration._replace(level=Level()))
    moved = plain._replace(calibration=plain.calibration._replace(level=Level(0.5)))
    students, ids = stack([experiment.space.full()] * 2), np.arange(2)
    scorers = [
        make_scorer(predictor, spec, images, teacher, batch_size=2) for predictor in (plain, moved)
    ]
    distance = 0.5 * max(teacher.accuracy - 1 / 3, 0.02)
    embedded = scorers[0].embed(students, ids)
    before, after = (scorer.predict(embedded) for scorer in scorers)
    np.testing.assert_allclose(after.mean, before.mean + distance, rtol=1e-5)
    np.testing.assert_array_equal(after.half_width, before.half_width)
    labels = np.asarray([0.3, 0.7])
    adapted = [
        scorer.adapted_to(embedded, own).predict(embedded).mean
        for scorer, own in zip(scorers, (labels, labels + distance), strict=True)
    ]
    np.testing.assert_allclose(adapted[1], adapted[0] + distance, rtol=1e-4)
    assert not np.allclose(adapted[0], before.mean, rtol=1e-3)


def refuse(*_):
    raise AssertionError("done again")


def test_a_predictor_is_not_shown_images_that_its_teacher_has_not_seen(
    experiment, copied, monkeypatch
):
    shutil.rmtree(copied.root / "inputs")
    load = prepare.load_images

    def load_other(*arguments):
        images = load(*arguments)
        return images._replace(train=images.train._replace(images=255 - images.train.images))

    monkeypatch.setattr(prepare, "load_images", load_other)
    with pytest.raises(UserError, match="was trained on other images"):
        run_meta_training(experiment, copied, copied.root / "other")
    assert not (copied.root / "inputs").exists()


def predictor_of(experiment, workdir):
    trained = load_predictor(workdir.predictor, experiment)
    return trained.learned


def same(first, second):
    leaves = zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    return all(np.array_equal(one, other) for one, other in leaves)


def test_meta_training_reads_nothing_of_the_unseen_task(experiment, finished, copied):
    shutil.rmtree(copied.predictor)
    shutil.rmtree(copied.root / "inputs")
    shutil.rmtree(copied.teacher(UNSEEN))
    shutil.rmtree(copied.logits(UNSEEN))
    shutil.rmtree(copied.search(UNSEEN))
    for path in parts(copied, UNSEEN):
        path.write_bytes(b"damaged")
    run_meta_training(experiment, copied)
    assert same(predictor_of(experiment, copied), predictor_of(experiment, finished))
    ours, theirs = (d.predictor / "history.jsonl" for d in (copied, finished))
    assert ours.read_text() == theirs.read_text()


def test_meta_training_needs_no_teacher_whose_students_were_embedded_before(
    experiment, finished, copied, monkeypatch
):
    shutil.rmtree(copied.predictor)
    shutil.rmtree(copied.root / "teachers")
    with monkeypatch.context() as patch:
        patch.setattr(source_tasks, "embed_students", refuse)
        run_meta_training(experiment, copied)
    assert same(predictor_of(experiment, copied), predictor_of(experiment, finished))
    shutil.rmtree(copied.root / "inputs")
    with pytest.raises(UserError, match=r"has no teacher in .*: run bin/train_teacher\.py"):
        run_meta_training(experiment, copied, copied.root / "other")


@pytest.mark.parametrize("change", ["weights_digest", "images_digest", "students", "damage"])
def test_what_was_embedded_of_something_else_is_not_believed(
    change, experiment, copied, monkeypatch
):
    if change.endswith("digest"):
        own = prepare.saved_origin(copied, experiment.task("strokes"))
        monkeypatch.setattr(prepare, "saved_origin", lambda *_: own | {change: "another"})
    elif change == "students":
        first_replicate = db.first_replicate
        monkeypatch.setattr(db, "first_replicate", lambda found: first_replicate(found)[::-1])
    else:
        for path in copied.inputs("strokes").iterdir():
            path.write_bytes(path.read_bytes()[:-100])
    monkeypatch.setattr(source_tasks, "embed_students", refuse)
    with pytest.raises(AssertionError, match="done again"):
        run_meta_training(experiment, copied, copied.root / "other")


def test_meta_training_reads_the_labels_of_the_training_tasks(experiment, finished, copied):
    shutil.rmtree(copied.predictor)
    path = parts(copied, "strokes")[0]
    chosen = {row.student_id for row in db.read_records(copied.database, "strokes")[:2]}
    records = [
        dataclasses.replace(record, final_accuracy=1 - record.final_accuracy)
        for record in db.read_records(copied.database, "strokes")
        if record.student_id in chosen
    ]
    db.write_part(path, records)
    run_meta_training(experiment, copied)
    assert not same(predictor_of(experiment, copied), predictor_of(experiment, finished))


def test_an_incomplete_work_directory_is_one_clear_message(experiment, copied):
    shutil.rmtree(copied.predictor)
    (copied.search(UNSEEN) / "search.json").unlink()
    with pytest.raises(UserError, match=r"no predictor in .*: run bin/meta_train\.py"):
        run_search(experiment, copied, experiment.task(UNSEEN))
    path = parts(copied, "strokes")[0]
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match=f"{path} is damaged"):
        run_meta_training(experiment, copied)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is no valid JSON"),
        ("[1, 2]", "holds no architecture: give depths and widths"),
        ("3", "holds no architecture: give depths and widths"),
        ('{"candidates": []}', "holds no architecture: give depths and widths"),
        ('{"candidates": {"widths": ["4 x"], "student_ids": [0]}}', "holds no architecture"),
        ('{"candidates": {"widths": [[4]], "student_ids": [0]}}', "holds no architecture"),
        ('{"candidates": {"widths": ["4"]}}', "has no candidate 1: give a number from 0 to 0"),
        ('{"depths": [1, 1, 1, 1], "widths": []}', "is of one student, so it has no candidate 1"),
        ('{"depths": [1, 1, 1, 1]}', 'needs "depths" and "widths"'),
        ('{"depths": [1], "widths": [[4]]}', "one entry for each of 4 stages"),
    ],
)
def test_a_wrong_architecture_is_named(experiment, tmp_path, content, message):
    path = tmp_path / "student.json"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        read_student(experiment, path, candidate=1 if "candidate 1" in message else 0)


def test_a_latency_can_be_limited(experiment, copied, monkeypatch):
    def quick(space, architecture, **sizes):
        # as long as the network is wide, because what such small ones take is noise
        return lambda: Latency(1e-3 * float(architecture.widths.sum()), 0.0, 1)

    measured = functools.partial(ensure_latency_model, sampled=3, rounds=1, meter=quick)
    monkeypatch.setattr(search, "ensure_latency_model", measured)
    monkeypatch.setattr(search, "check_latencies", functools.partial(check_latencies, meter=quick))
    limits = {"max_flops": None, "max_latency": "95%", "latency_batch": 2}
    others = {"algorithm": "random", "verify": 0, "random_students": 0, "rivals": ()}
    changed = dataclasses.replace(experiment.search, **limits, **others)
    shutil.rmtree(copied.search(UNSEEN))
    changed = dataclasses.replace(experiment, search=changed)
    result = run_search(changed, copied, experiment.task(UNSEEN))
    assert result["budget"]["flops"] is None
    assert result["candidates"]["cost"] == "latency"
    # of what was measured, not of what is predicted
    limit = 0.95 * result["latency"]["model"]["teacher"]
    assert result["budget"]["latency"] == pytest.approx(limit)
    assert max(result["candidates"]["latency"]) <= result["budget"]["latency"]
    latency = result["latency"]
    assert latency["batch_size"] == 2
    widths = np.sum(np.concatenate(result["top"][0]["architecture"]["widths"]))
    assert latency["chosen"] == pytest.approx(1e-3 * widths)
    assert latency["chosen"] <= latency["limit"] == pytest.approx(0.95 * latency["teacher"])
    assert latency["within_budget"]
    assert {"students", "error", "spearman"} < latency["model"].keys()
    assert "Latency of a batch of 2" in (copied.search(UNSEEN) / "report.html").read_text()


def test_predictors_are_compared_with_baselines(
    experiment, finished, copied, tmp_path, monkeypatch, capsys
):
    # every baseline has tests of its own; these compile quickly
    chosen = ("parameters", "FLOPs", SHORT_DISTILLATION, REPEATED_REGRESSION)
    monkeypatch.setattr(evaluate, "BASELINES", {name: BASELINES[name] for name in chosen})
    # two of four students would be a small top
    monkeypatch.setattr(comparison, "TOP", 2)
    run_evaluation(
        experiment, copied, predictors={"ours": copied.predictor, "again": copied.predictor},
        database=finished.database, output=tmp_path / "report",
    )  # fmt: skip
    printed = capsys.readouterr().out
    assert "digits" in printed
    # four students are too few for it, and will be in every evaluation
    assert f"{REPEATED_REGRESSION} is left out" in " ".join(printed.split())
    lines = (tmp_path / "report" / "evaluation.csv").read_text().splitlines()
    ours, again = (line.split(",") for line in lines[1:3])
    assert (ours[1], again[1]) == ("ours", "again")
    assert ours[2:7] == again[2:7]
    measured = read_json(finished.search(UNSEEN) / "search.json")["measured"]
    assert float(ours[2]) == pytest.approx(measured["spearman"]["predictor"])
    check_that_scores_are_kept(
        experiment, finished, copied, tmp_path / "report", monkeypatch, capsys
    )


def check_that_scores_are_kept(experiment, finished, copied, output, monkeypatch, capsys):
    """What has scored a task does not score it again, unless what it depends on has changed."""
    again = functools.partial(
        run_evaluation, experiment, copied, database=finished.database, output=output
    )
    predictors = {"ours": copied.predictor, "again": copied.predictor}
    reports = [output / "evaluation.csv", output / "evaluation.md"]
    before = [path.read_bytes() for path in reports]

    monkeypatch.setattr(evaluate, "score_baselines", refuse)
    with monkeypatch.context() as patch:
        patch.setattr(evaluate, "score_predictor", refuse)
        # neither does another machine, which would take other seconds
        patch.setattr(evaluation, "machine", lambda: "another machine")
        again(predictors=predictors)
        assert [path.read_bytes() for path in reports] == before
        # the report is about the first predictor
        again(predictors=dict(reversed(predictors.items())))
        assert reports[0].read_text().splitlines()[1].split(",")[1] == "again"
        with pytest.raises(AssertionError, match="done again"):
            again(predictors=predictors | {"other": copied.predictor})
    # another predictor is scored alone
    again(predictors=predictors | {"other": copied.predictor})
    assert reports[0].read_text().splitlines()[3].split(",")[1] == "other"
    check_that_changes_are_scored(again, predictors, monkeypatch, capsys)


def check_that_changes_are_scored(again, predictors, monkeypatch, capsys):
    """Other weights, records or baselines are not taken for those that were scored."""
    scored = []

    def note(name, *_):
        scored.append(name)
        return {name: Scores(np.arange(4.0), 0.0, coverage=1.0)}

    load, read = evaluation.load_predictor, db.read_records

    def load_other(*arguments):
        found = load(*arguments)
        return found._replace(learned=jax.tree.map(lambda leaf: leaf + 1, found.learned))

    def read_other(*arguments):
        first, *others = read(*arguments)
        return [dataclasses.replace(first, test_accuracy=0.0), *others]

    with monkeypatch.context() as patch:
        patch.setattr(evaluate, "score_predictor", note)
        patch.setattr(evaluation, "load_predictor", load_other)
        again(predictors=predictors)
        assert scored == ["ours", "again"]
        patch.setattr(db, "read_records", read_other)
        capsys.readouterr()
        with pytest.raises(AssertionError, match="done again"):  # by the baselines, in the end
            again(predictors=predictors)
        assert scored == ["ours", "again"] * 2
        said = " ".join(capsys.readouterr().out.split())
        assert "predictor ours is asked again, since records was" in said
        # what was scored before the baselines failed is kept
        with pytest.raises(AssertionError, match="done again"):
            again(predictors=predictors)
        assert scored == ["ours", "again"] * 2
    monkeypatch.setattr(evaluate, "BASELINES", {"depth": BASELINES["depth"]})
    with pytest.raises(AssertionError, match="done again"):
        again(predictors=predictors)


def test_a_dataset_encoder_needs_equally_many_images_of_all_tasks(experiment, copied):
    settings = dataclasses.replace(experiment.predictor, inputs="AD", probe_images=10_000)
    wanting = dataclasses.replace(experiment, predictor=settings)
    specs = experiment.with_role("meta_train")
    with pytest.raises(UserError, match=r"of 10000: lower predictor\.probe_images"):
        source_tasks.labelled_tasks(wanting, copied, specs)


def test_a_predictor_of_another_image_size_is_said(experiment, copied, capsys):
    load_predictor(copied.predictor, experiment)
    assert "Note" not in capsys.readouterr().out
    load_predictor(copied.predictor, dataclasses.replace(experiment, image_size=16))
    said = " ".join(capsys.readouterr().out.split())
    assert "learned from images of 8 pixels, and here they have 16" in said


@pytest.mark.parametrize("name", ["parameters", "ours and 8 students"])
def test_predictors_cannot_have_the_names_of_other_methods(name, experiment, copied, tmp_path):
    with pytest.raises(UserError, match=f"'{name}' is the name of another method"):
        run_evaluation(
            experiment, copied, predictors={"ours": copied.predictor, name: copied.predictor},
            database=copied.database, output=tmp_path,
        )  # fmt: skip


def test_evaluation_needs_measured_students(experiment, copied, tmp_path):
    with pytest.raises(UserError, match="no unseen task has students"):
        run_evaluation(
            experiment, copied, predictors={"ours": copied.predictor},
            database=tmp_path / "none", output=tmp_path,
        )  # fmt: skip


def test_two_students_are_too_few_to_rank(experiment, copied, tmp_path):
    parts(copied, UNSEEN)[1].unlink()
    with pytest.raises(UserError, match=f"task {UNSEEN} has fewer than three measured students"):
        run_evaluation(
            experiment, copied, predictors={"ours": copied.predictor},
            database=copied.database, output=tmp_path,
        )  # fmt: skip
    assert not list(tmp_path.rglob("*.csv"))
