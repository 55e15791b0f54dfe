"""Finds a student for an unseen task, distils it, and compares it with others' choices."""

import contextlib
import functools
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

import dass_jax
from dass_jax import database as db
from dass_jax.budget import CostModel
from dass_jax.console import console
from dass_jax.data.tasks import TaskSpec
from dass_jax.experiment import Experiment
from dass_jax.latency import latency_meter
from dass_jax.randomness import Stream, task_key
from dass_jax.recipe import digest, require_equal
from dass_jax.search.problem import Scored, SearchProblem
from dass_jax.search.registry import ALGORITHMS
from dass_jax.search_space import Architecture, unstack
from dass_jax.workdir import Workdir, read_json, write_json
from dass_jax.workflow import prepare, verification
from dass_jax.workflow.chosen_student import Student
from dass_jax.workflow.distill import distil_winner
from dass_jax.workflow.latency import ensure_latency_model
from dass_jax.workflow.predictors import TrainedPredictor, load_predictor
from dass_jax.workflow.recipes import search_recipe
from dass_jax.workflow.recorded_students import compare_recorded, recorded_students
from dass_jax.workflow.rivals import check_rivals, choose_rivals, distil_rivals
from dass_jax.workflow.scorer import BATCH_SIZE, make_scorer
from dass_jax.workflow.search_report import print_search, write_report
from dass_jax.workflow.search_result import (
    costs_of,
    describe_candidates,
    describe_teacher,
    describe_top,
    describe_verification,
)

_LATENCY_ROUNDS = 3


class _Clock:
    """Seconds spent in each phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Counts what is done inside."""
        begin = time.monotonic()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - begin


def run_search(experiment: Experiment, workdir: Workdir, spec: TaskSpec) -> dict[str, Any]:
    """Searches a student for one task and writes ``search.json``, a report, a table and plots.

    The teacher is trained if it is missing. A finished search is printed again.

    Args:
      experiment: The settings.
      workdir: Where the predictor lies and the results go.
      spec: The task; it should not be one that the predictor was trained on.

    Returns:
      What ``search.json`` holds.

    Raises:
      UserError: If there is no predictor, the teacher or the budget does not fit, or the folder
        holds a search with other settings.
    """
    check_rivals(experiment.search.rivals)
    predictor = load_predictor(workdir.predictor, experiment)
    if spec.name in predictor.recipe["roles"]:
        console.print(f"Note: {spec.name} is no unseen task, the predictor was made with it.")
    records = db.records_digest(recorded_students(experiment, workdir, spec))
    recipe = search_recipe(experiment, spec, digest(predictor.recipe), records)
    folder = workdir.search(spec.name)
    path = folder / "search.json"
    if path.exists():
        result = read_json(path)
        saved = result.get("recipe") if isinstance(result, dict) else None
        require_equal(f"the search in {path}", saved, recipe)
        console.print(f"search {spec.name}: done before, in {path}")
    else:
        result = _search(experiment, workdir, spec, predictor) | {"recipe": recipe}
        write_report(folder, result)
        # marks the search as done, so it comes last
        write_json(path, result)
    print_search(result)
    console.print(f"Files: {folder}")
    return result


def _search(
    experiment: Experiment, workdir: Workdir, spec: TaskSpec, predictor: TrainedPredictor
) -> dict[str, Any]:
    clock, config = _Clock(), experiment.search
    with clock.phase("teacher"):
        images = prepare.load_images(experiment, spec)
        teacher = prepare.ensure_teacher(experiment, workdir, spec, images)
    with clock.phase("latency model"):
        model = _cost_model(experiment, workdir, images.num_classes)
    budget = config.budget(model(experiment.space.full()))
    with clock.phase("search"):
        scorer = make_scorer(predictor, spec, teacher, min(BATCH_SIZE, config.candidates))
        problem = SearchProblem(model, budget, scorer)
        ranked = _run_algorithm(experiment, spec, problem)
    with clock.phase("verification"):
        count = min(config.verify, len(ranked))
        verified = verification.verify(
            experiment, workdir, spec, images, teacher, scorer, ranked, count
        )
    ranked = verified.ranked
    (chosen,) = unstack(ranked.take(np.arange(1)).architectures)
    with clock.phase("distillation"):
        assignment = prepare.make_assignment(
            experiment, workdir, spec, images, teacher, experiment.final, config.replicates
        )
        student = Student(chosen, int(ranked.student_ids[0]))
        winner = distil_winner(experiment, workdir, spec, assignment, student)
    with clock.phase("comparison"):
        rivals = choose_rivals(experiment, spec, problem, images, teacher)
        describe = functools.partial(costs_of, model)
        others = distil_rivals(experiment, workdir, spec, assignment, rivals, describe)
        measured = compare_recorded(experiment, workdir, spec, teacher, predictor)
    return {
        "task": spec.name,
        "seed": experiment.seed,
        "versions": {"dass_jax": dass_jax.__version__, "jax": jax.__version__},
        "device": str(jax.devices()[0].device_kind),
        "algorithm": config.algorithm,
        "budget": budget._asdict(),
        "teacher": describe_teacher(experiment, workdir, spec, model),
        "verification": describe_verification(experiment),
        "candidates": describe_candidates(verified, budget),
        "top": describe_top(experiment, verified, model),
        "winner": winner,
        "rivals": others,
        "measured": measured,
        "latency": _latencies(experiment, chosen, model),
        "seconds": clock.seconds,
    }


def _cost_model(experiment: Experiment, workdir: Workdir, num_classes: int) -> CostModel:
    """What students cost; latencies are measured only if they are limited."""
    space, size = experiment.space, experiment.image_size
    if "latency" not in experiment.search.limited:
        return CostModel(space, size, num_classes)
    latency = ensure_latency_model(
        space, workdir, image_size=size, num_classes=num_classes,
        batch_size=experiment.search.latency_batch,
    )  # fmt: skip
    return CostModel(space, size, num_classes, functools.partial(latency.predict, space))


def _run_algorithm(experiment: Experiment, spec: TaskSpec, problem: SearchProblem) -> Scored:
    """All scored candidates, the chosen one first."""
    search = ALGORITHMS[experiment.search.algorithm]
    key = task_key(experiment.seed, spec.name, Stream.CANDIDATES)
    return search(problem, key, experiment.search)


def _latencies(
    experiment: Experiment, chosen: Architecture, model: CostModel
) -> dict[str, Any] | None:
    """Measured latencies of the teacher and of the choice, if latency was limited."""
    if model.latency is None:
        return None
    batch_size = experiment.search.latency_batch
    meters = [
        latency_meter(
            experiment.space, one, image_size=model.image_size, num_classes=model.num_classes,
            batch_size=batch_size,
        )
        for one in (experiment.space.full(), chosen)
    ]  # fmt: skip
    # in turn, so that other work on the machine meets both; the fastest is what the model predicts
    rounds = [[meter().seconds for meter in meters] for _ in range(_LATENCY_ROUNDS)]
    teacher, student = np.min(rounds, axis=0).tolist()
    return {"batch_size": batch_size, "teacher": teacher, "chosen": student}
