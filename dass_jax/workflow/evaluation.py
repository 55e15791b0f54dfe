"""Runs an evaluation: reads predictors, scores unseen tasks, writes the report."""

import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax

import dass_jax
from dass_jax import checkpoints
from dass_jax import database as db
from dass_jax.baselines.registry import BASELINES
from dass_jax.console import console, progress_bar
from dass_jax.data.tasks import TaskSpec
from dass_jax.errors import UserError
from dass_jax.experiment import Experiment
from dass_jax.latency import device_name
from dass_jax.recipe import Recipe, digest
from dass_jax.retest import retest_correlation
from dass_jax.workdir import Workdir
from dass_jax.workflow import evaluate, prepare
from dass_jax.workflow import evaluation_report as report
from dass_jax.workflow.candidates import PROBE_IMAGES
from dass_jax.workflow.comparison import compare
from dass_jax.workflow.evaluate import MeasuredStudents, Scores, UnseenTask
from dass_jax.workflow.given_teacher import weights_digest
from dass_jax.workflow.kept_scores import keep_scores, read_scores, what_changed
from dass_jax.workflow.predictors import TrainedPredictor, load_predictor
from dass_jax.workflow.recipes import student_recipe


def run_evaluation(
    experiment: Experiment,
    workdir: Workdir,
    *,
    predictors: Mapping[str, pathlib.Path],
    database: pathlib.Path,
    output: pathlib.Path,
    task: str | None = None,
) -> None:
    """Evaluates predictors on the unseen tasks that have measured students.

    The scores of each task are kept beside the report. What a predictor or the baselines say is not
    asked again where it is of the same records, teacher and settings, and of the same predictor.

    Tasks whose test-retest correlation is too low to rank anything are reported, but left out of
    the means.

    Args:
      experiment: The settings.
      workdir: Where the teachers lie.
      predictors: Folders of predictors by name; the first is the one that margins are about.
      database: Where the records lie.
      output: Where the report goes.
      task: Only this task, if given.

    Raises:
      UserError: If nothing is measured, or a predictor, teacher or record is missing or was made
        with other settings.
    """
    adapted = {evaluate.adapted_name(name) for name in predictors}
    for name in predictors.keys() & (BASELINES.keys() | adapted):
        raise UserError(f"{name!r} is the name of another method: give the predictor another one")
    loaded = {name: load_predictor(path, experiment) for name, path in predictors.items()}
    specs = (experiment.task(task),) if task else experiment.with_role("meta_test")
    for spec in specs:
        for name, predictor in loaded.items():
            if spec.name in predictor.recipe["roles"]:
                console.print(f"Note: {spec.name} is no unseen task, {name} was made with it.")
    records = _records(experiment, database, specs)
    tasks = [
        _scored(experiment, workdir, experiment.task(name), loaded, found, database, output)
        for name, found in records.items()
    ]
    clear, unclear = report.split_by_retest(tasks)
    rows, summaries = compare(clear) if clear else ([], [])
    if unclear:
        names = ", ".join(unseen.name for unseen in unclear)
        console.print(f"Left out of the means, test-retest below {report.LEAST_RETEST}: {names}")
        rows = rows + compare(unclear)[0]
    report.print_report([*clear, *unclear], rows, summaries)
    provenance = _provenance(loaded, list(records.values()))
    report.write_report(output, [*clear, *unclear], rows, summaries, provenance)


def _records(
    experiment: Experiment, database: pathlib.Path, specs: Sequence[TaskSpec]
) -> dict[str, list[db.StudentRecord]]:
    """The records of the tasks that have any, by task.

    Raises:
      UserError: If none has.
    """
    records = {}
    for spec in specs:
        if found := db.read_records(database, spec.name):
            records[spec.name] = _measured(experiment, spec, found)
        else:
            console.print(f"{spec.name} has no measured students and is left out")
    if not records:
        raise UserError(f"no unseen task has students in {database}: run bin/build_database.py")
    return records


def _scored(
    experiment: Experiment,
    workdir: Workdir,
    spec: TaskSpec,
    predictors: Mapping[str, TrainedPredictor],
    records: Sequence[db.StudentRecord],
    database: pathlib.Path,
    output: pathlib.Path,
) -> UnseenTask:
    """A task's scores; of an earlier run where they depend on nothing that has changed since."""
    db.check_task(database, spec.name, student_recipe(experiment, spec, experiment.kd))
    replicates = evaluate.by_replicate(records)
    if len(replicates[0]) < 3:
        raise UserError(f"task {spec.name} has fewer than three measured students")
    if note := db.foreign(database, {spec.name: prepare.saved_origin(workdir, spec)}):
        console.print(note)
    scores = _scores(experiment, workdir, spec, predictors, records, output)
    return UnseenTask(
        spec.name,
        evaluate.test_accuracies(replicates),
        # test accuracies are what is ranked, whatever the task was meant for
        retest_correlation(records, "meta_test"),
        prepare.teacher_test_accuracy(workdir, spec),
        1 / checkpoints.read_metadata(workdir.teacher(spec.name) / "checkpoint")["num_classes"],
        scores,
    )


def _measured(
    experiment: Experiment, spec: TaskSpec, records: Sequence[db.StudentRecord]
) -> list[db.StudentRecord]:
    """The records of a task, without replicates that have fewer than half of the students.

    Students count that all replicates have, so one that was stopped early would leave few of them.
    """
    students = {record.student_id for record in records if record.replicate == 0}
    wanted = experiment.database_of(spec).students_per_task
    if missing := db.missing_students(records, 0, wanted):
        console.print(
            f"Note: {len(missing)} of {wanted} students of {spec.name} are not measured yet: "
            "bin/build_database.py goes on"
        )
    stopped = set()
    for number in sorted({record.replicate for record in records}):
        found = {record.student_id for record in records if record.replicate == number}
        if lacking := students - found:
            what = "those students are left out"
            if 2 * len(lacking) > len(students):
                stopped.add(number)
                what = "the replicate is left out"
            console.print(
                f"Note: replicate {number} of {spec.name} lacks {len(lacking)} of "
                f"{len(students)} students, and {what}: bin/build_database.py goes on"
            )
    return [record for record in records if record.replicate not in stopped]


class _Group(NamedTuple):
    """Methods whose scores are kept together.

    Attributes:
      recipe: What the scores depend on.
      steps: How many methods it comes to.
      score: Scores students, and says the names of methods as it comes to them.
    """

    recipe: Recipe
    steps: int
    score: Callable[[MeasuredStudents, Callable[[str], None]], dict[str, Scores]]


def _score_predictor(
    name: str,
    predictor: TrainedPredictor,
    students: MeasuredStudents,
    advance: Callable[[str], None],
) -> dict[str, Scores]:
    advance(name)
    return evaluate.score_predictor(name, predictor, students)


def _methods(recipe: Recipe, predictors: Mapping[str, TrainedPredictor]) -> dict[str, _Group]:
    """All groups by the names that the file of kept scores has for them."""
    groups = {
        f"predictor {name}": _Group(
            recipe | _identity(found), 1, functools.partial(_score_predictor, name, found)
        )
        for name, found in predictors.items()
    }
    settings = {"baselines": list(evaluate.BASELINES), "probe_images": PROBE_IMAGES}
    groups["baselines"] = _Group(
        recipe | settings, len(evaluate.BASELINES), evaluate.score_baselines
    )
    return groups


def _scores(
    experiment: Experiment,
    workdir: Workdir,
    spec: TaskSpec,
    predictors: Mapping[str, TrainedPredictor],
    records: Sequence[db.StudentRecord],
    output: pathlib.Path,
) -> dict[str, Scores]:
    """What all methods say of a task's students; each group is kept as soon as it is scored."""
    path = output / "scores" / f"{spec.name}.json"
    recipe = prepare.distilled_recipe(experiment, workdir, spec, experiment.kd)
    groups = _methods(recipe | {"records": _digest_of([records])}, predictors)
    kept = {name: read_scores(path, name, group.recipe) for name, group in groups.items()}
    missing = [name for name, scores in kept.items() if scores is None]
    if old := [name for name in kept if name not in missing]:
        console.print(f"{spec.name}: scored before by {', '.join(old)}, in {path}")
        left_out = set(evaluate.BASELINES) - set(kept["baselines"] or evaluate.BASELINES)
        if left_out:
            # for reasons that the recipe decides about, so none of them is tried again
            console.print(f"{spec.name}: without {', '.join(sorted(left_out))}, as before")
    for name in missing:
        if change := what_changed(path, name, groups[name].recipe):
            console.print(f"{spec.name}: {name} is asked again, since {change}")
    if missing:
        students = evaluate.measured_students(experiment, workdir, spec, records)
        steps = sum(groups[name].steps for name in missing)
        with progress_bar(f"scoring {spec.name}", steps) as advance:
            for name in missing:
                found = groups[name].score(students, advance)
                # what saw measurements spends its seconds where students are trained
                kept[name] = scores = {
                    method: own if own.saw_last else own._replace(machine=machine())
                    for method, own in found.items()
                }
                keep_scores(path, name, scores, groups[name].recipe)
    return {name: found for scores in kept.values() for name, found in (scores or {}).items()}


def _identity(predictor: TrainedPredictor) -> dict[str, str]:
    """What a predictor's scores depend on, beside the task."""
    return {
        "predictor": digest(predictor.recipe),
        "weights": weights_digest((predictor.learned, predictor.calibration)),
    }


def _digest_of(records: Sequence[Sequence[db.StudentRecord]]) -> str:
    """What tells these records of tasks from others."""
    return digest([db.records_digest(of_task) for of_task in records])


def machine() -> str:
    """Where figures are made, and with what."""
    return f"{device_name()}, jax {jax.__version__}"


def _provenance(
    predictors: Mapping[str, TrainedPredictor], records: Sequence[Sequence[db.StudentRecord]]
) -> dict[str, Any]:
    """What figures were made of, for whoever makes them again."""
    return {"dass_jax": dass_jax.__version__, "records": _digest_of(records)} | {
        f"predictor {name}": digest(found.recipe) for name, found in predictors.items()
    }
