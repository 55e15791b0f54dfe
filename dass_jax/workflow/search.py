"""Finds a student for an unseen task, distils it, and compares it with others' choices."""

import functools
import pathlib
from typing import Any, NamedTuple

import jax
import numpy as np

import dass_jax
from dass_jax import database as db
from dass_jax.budget import Budget, CostModel, require_possible
from dass_jax.console import console
from dass_jax.data.tasks import TaskSpec
from dass_jax.experiment import Experiment
from dass_jax.latency import device_name
from dass_jax.randomness import Stream, task_key
from dass_jax.recipe import Recipe, digest, require_equal
from dass_jax.search.problem import Scored, SearchProblem
from dass_jax.search.registry import ALGORITHMS
from dass_jax.search_space import unstack
from dass_jax.teacher import TeacherResult
from dass_jax.workdir import Workdir, read_json, write_json
from dass_jax.workflow import prepare, verification
from dass_jax.workflow.assignments import make_assignment
from dass_jax.workflow.chosen_student import Student
from dass_jax.workflow.distill import Result, distil_winner
from dass_jax.workflow.latency import ensure_latency_model
from dass_jax.workflow.latency_check import LimitedLatency, check_latencies, describe_latency
from dass_jax.workflow.predictors import TrainedPredictor, load_predictor
from dass_jax.workflow.recipes import search_recipe
from dass_jax.workflow.recorded_students import compare_recorded, recorded_students
from dass_jax.workflow.rivals import (
    check_rivals,
    choose_rivals,
    distil_rivals,
    predict_rivals,
)
from dass_jax.workflow.scorer import BATCH_SIZE, CandidateScorer, make_scorer
from dass_jax.workflow.search_progress import SearchProgress
from dass_jax.workflow.search_report import print_ranking, print_search, write_report
from dass_jax.workflow.search_result import (
    costs_of,
    describe_candidates,
    describe_teacher,
    describe_top,
    describe_verification,
)
from dass_jax.workflow.verification import Verified


class _Task(NamedTuple):
    """What is searched a student for, and how far that is.

    Attributes:
      experiment: The settings.
      workdir: Where everything lies.
      spec: The task.
      images: Its images.
      teacher: Its teacher.
      predictor: The predictor.
      progress: What earlier runs and this one have spent.
    """

    experiment: Experiment
    workdir: Workdir
    spec: TaskSpec
    images: prepare.TaskImages
    teacher: TeacherResult
    predictor: TrainedPredictor
    progress: SearchProgress


class _Ranking(NamedTuple):
    """Candidates before any of them is distilled.

    Attributes:
      problem: What was searched.
      scorer: What predicted the candidates.
      ranked: Those that may be chosen, best first.
      latency: What is known of their latencies, if those are limited.
    """

    problem: SearchProblem
    scorer: CandidateScorer
    ranked: Scored
    latency: LimitedLatency | None


def run_search(
    experiment: Experiment, workdir: Workdir, spec: TaskSpec, name: str | None = None
) -> dict[str, Any]:
    """Searches a student for one task and writes ``search.json``, a report, tables and plots.

    The teacher is trained if it is missing. A finished search is printed again. The ranking is
    printed, and written to ``ranking.json``, before anything is distilled.

    Args:
      experiment: The settings.
      workdir: Where the predictor lies and the results go.
      spec: The task; it should not be one that the predictor was trained on.
      name: Of this search, if the task has another one with other settings.

    Returns:
      What ``search.json`` holds.

    Raises:
      UserError: If there is no predictor, the teacher or the budget does not fit, or the folder
        holds a search with other settings, of other images or another teacher.
    """
    check_rivals(experiment.search.rivals)
    folder = workdir.search(spec.name, name)
    predictor = load_predictor(workdir.predictor, experiment)
    if spec.name in predictor.recipe["roles"]:
        console.print(f"Note: {spec.name} is no unseen task, the predictor was made with it.")
    recipe = _recipe(experiment, workdir, spec, predictor)
    path = folder / "search.json"
    if path.exists():
        result = read_json(path)
        recipe |= prepare.required_origin(experiment, workdir, spec)
        saved = result.get("recipe") if isinstance(result, dict) else None
        require_equal(f"the search in {path}", saved, recipe, "name this one with --name=NAME")
        console.print(f"search {spec.name}: done before, in {path}")
    else:
        result = _search(experiment, workdir, spec, predictor, folder, recipe)
    print_search(result)
    console.print(f"Files: {folder}")
    return result


def _recipe(
    experiment: Experiment, workdir: Workdir, spec: TaskSpec, predictor: TrainedPredictor
) -> Recipe:
    return search_recipe(
        experiment,
        spec,
        predictor=digest(predictor.recipe),
        records=db.records_digest(recorded_students(experiment, workdir, spec)),
        device=device_name() if "latency" in experiment.search.limited else None,
    )


def _search(
    experiment: Experiment,
    workdir: Workdir,
    spec: TaskSpec,
    predictor: TrainedPredictor,
    folder: pathlib.Path,
    recipe: Recipe,
) -> dict[str, Any]:
    images = prepare.load_images(experiment, spec)
    # before anything is trained or measured
    require_possible(*_known_costs(experiment, images.num_classes))
    teacher = prepare.ensure_teacher(experiment, workdir, spec, images)
    recipe = recipe | prepare.required_origin(experiment, workdir, spec)
    progress = SearchProgress(folder / "unfinished.json", digest(recipe))
    task = _Task(experiment, workdir, spec, images, teacher, predictor, progress)
    ranking = _rank(task)
    verified = Verified(ranking.ranked, [], None)
    found = _describe(task, ranking, verified) | {"recipe": recipe}
    write_json(folder / "ranking.json", found)
    print_ranking(found)
    if count := _how_many(experiment, ranking):
        # networks know their own seconds, but not those of the logits that are cached for them
        with progress.phase("verification"):
            given = verification.assignment(experiment, workdir, spec, images, teacher)
        verified = verification.verify(
            experiment, workdir, spec, given, ranking.scorer, ranking.ranked, count
        )
    result = found | _describe(task, ranking, verified) | _distil(task, ranking, verified)
    write_report(folder, result)
    # marks the search as done, so it comes last
    write_json(folder / "search.json", result)
    progress.remove()
    (folder / "ranking.json").unlink()
    return result


def _rank(task: _Task) -> _Ranking:
    """Scores candidates; of limited latencies, measures the best ones'."""
    experiment, config = task.experiment, task.experiment.search
    with task.progress.phase("latency model"):
        model, budget, fit = _costs(experiment, task.workdir, task.images.num_classes)
    with task.progress.phase("search"):
        size = min(BATCH_SIZE, config.step)
        scorer = CandidateScorer(
            make_scorer(task.predictor, task.spec, task.images, task.teacher, size),
            keep=bool(config.verify),
        )
        problem = SearchProblem(model, budget, scorer)
        key = task_key(experiment.seed, task.spec.name, Stream.CANDIDATES)
        ranked = ALGORITHMS[config.algorithm](problem, key, config)
    if fit is None:
        return _Ranking(problem, scorer, ranked, None)
    with task.progress.phase("latency of candidates"):
        checked = check_latencies(
            experiment, model, ranked, task.progress.latencies, task.progress.save
        )
    return _Ranking(problem, scorer, checked.ranked, LimitedLatency(checked, fit))


def _known_costs(experiment: Experiment, num_classes: int) -> tuple[CostModel, Budget]:
    """What students cost and may cost, but for their latency."""
    model = CostModel(experiment.space, experiment.image_size, num_classes)
    return model, experiment.search.budget(model(experiment.space.full()))


def _costs(
    experiment: Experiment, workdir: Workdir, num_classes: int
) -> tuple[CostModel, Budget, dict[str, Any] | None]:
    """What students cost and may cost; latencies are measured only if they are limited.

    Returns:
      The model of costs, the budget, and what describes the latency model, if there is one.
    """
    space, size, config = experiment.space, experiment.image_size, experiment.search
    if "latency" not in config.limited:
        return *_known_costs(experiment, num_classes), None
    latency = ensure_latency_model(
        space, workdir, image_size=size, num_classes=num_classes, batch_size=config.latency_batch
    )
    fitted = latency.model
    model = CostModel(space, size, num_classes, functools.partial(fitted.predict, space))
    # a share is one of what was measured, where the model may be off
    teacher = model(space.full())._replace(latency=np.asarray(latency.teacher))
    fit = {"students": fitted.students, "error": fitted.error, "spearman": fitted.spearman}
    return model, config.budget(teacher), fit | {"teacher": latency.teacher}


def _how_many(experiment: Experiment, ranking: _Ranking) -> int:
    """How many candidates are verified: none that is known to break the budget."""
    most = len(ranking.ranked)
    if ranking.latency is not None:
        most = min(most, max(1, ranking.latency.checked.kept))
    return min(experiment.search.verify, most)


def _distil(task: _Task, ranking: _Ranking, verified: Verified) -> dict[str, Any]:
    """Distils the choice and its rivals."""
    experiment, workdir, spec = task.experiment, task.workdir, task.spec
    model, config = ranking.problem.cost_model, experiment.search
    (chosen,) = unstack(verified.ranked.take(np.arange(1)).architectures)
    student = Student(chosen, int(verified.ranked.student_ids[0]))
    with task.progress.phase("distillation"):
        assignment = make_assignment(
            experiment, workdir, spec, task.images, task.teacher, experiment.final,
            config.replicates,
        )  # fmt: skip
    winner = distil_winner(experiment, workdir, spec, assignment, student)
    with task.progress.phase("comparison"):
        rivals = choose_rivals(experiment, spec, ranking.problem, task.images, task.teacher)
        predicted = predict_rivals(ranking.scorer.scorer, rivals)
        measured = compare_recorded(
            experiment, workdir, spec, task.images, task.teacher, task.predictor
        )
    describe = functools.partial(costs_of, model)
    distilled = distil_rivals(experiment, workdir, spec, assignment, rivals, describe)
    others = [entry | own for entry, own in zip(distilled, predicted, strict=True)]
    seconds = _seconds(task, verified.results, winner, others)
    return {"winner": winner, "rivals": others, "measured": measured, "seconds": seconds}


def _seconds(
    task: _Task, verified: list[Result], winner: list[Result], rivals: list[Result]
) -> dict[str, float]:
    """Seconds of each phase over all runs; networks know their own."""
    # two baselines may have chosen the same network
    distinct = list({str(rival["architecture"]): rival for rival in rivals}.values())
    spent = task.progress.seconds
    trained = {
        phase: spent.get(phase, 0.0) + sum(result["seconds"] for result in results)
        for phase, results in (
            ("verification", verified), ("distillation", winner), ("comparison", distinct),
        )
    }  # fmt: skip
    before = {phase: seconds for phase, seconds in spent.items() if phase not in trained}
    return {"teacher": task.teacher.seconds} | before | trained


def _describe(task: _Task, ranking: _Ranking, verified: Verified) -> dict[str, Any]:
    """What is known before the choice is distilled."""
    experiment, problem = task.experiment, ranking.problem
    latency = None
    if ranking.latency is not None:
        first = int(verified.ranked.student_ids[0])
        latency = describe_latency(experiment, ranking.latency, first)
    return {
        "task": task.spec.name,
        "seed": experiment.seed,
        "versions": {"dass_jax": dass_jax.__version__, "jax": jax.__version__},
        "device": device_name(),
        "algorithm": experiment.search.algorithm,
        "budget": problem.budget._asdict(),
        "teacher": describe_teacher(experiment, task.workdir, task.spec, problem.cost_model),
        "verification": describe_verification(experiment) if verified.results else None,
        "candidates": describe_candidates(verified, problem.budget),
        "top": describe_top(experiment, verified, problem.cost_model),
        "latency": latency,
    }
