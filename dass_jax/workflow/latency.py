"""Measures students on the present device and fits a latency model, once for a work directory."""

import functools
import json
import math
import pathlib
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key

from dass_jax import budget
from dass_jax.console import console, percent, progress_bar
from dass_jax.errors import UserError
from dass_jax.latency import Latency, device_name, latency_meter
from dass_jax.latency_model import LatencyModel, fit_latency_model
from dass_jax.randomness import fold_in
from dass_jax.recipe import Recipe, digest, plain
from dass_jax.search_space import Architecture, ResNetSpace, stack
from dass_jax.workdir import Workdir, write_json

# {"architecture": as ResNetSpace.to_json gives it, "latencies": fields of a Latency for each round}
Record = dict[str, Any]


class MeasuredLatencies(NamedTuple):
    """What was measured on the present device.

    Attributes:
      model: Predicts the latency of any student.
      teacher: Measured seconds of the teacher, from its fastest round.
    """

    model: LatencyModel
    teacher: float


# A round is short, for all students to be measured under the same load.
ROUND_METER = functools.partial(latency_meter, repeats=2, min_seconds=0.4)


@functools.partial(jax.jit, static_argnums=0)
def _draw(space: ResNetSpace, key: Key[Array, ""], index: Int[Array, ""]) -> Architecture:
    return space.sample(fold_in(key, index))


def students_to_measure(space: ResNetSpace, sampled: int, seed: int) -> list[Architecture]:
    """The teacher, the smallest student, and sampled ones; a longer list begins with the same."""
    key = jax.random.key(seed)
    drawn = jax.device_get([_draw(space, key, jnp.asarray(index)) for index in range(sampled)])
    return [space.full(), budget.smallest(space), *drawn]


def latency_recipe(space: ResNetSpace, sizes: dict[str, int], seed: int) -> Recipe:
    """What measured latencies depend on."""
    return {
        "space": plain(space),
        **sizes,
        "seed": seed,
        "device": device_name(),
        "matmul_precision": jax.config.values["jax_default_matmul_precision"],
        "jax": jax.__version__,
    }


def latency_path(workdir: Workdir, recipe: Recipe) -> pathlib.Path:
    """Where measured latencies of a recipe lie."""
    device = re.sub(r"[^a-z0-9]+", "-", recipe["device"].lower()).strip("-")
    sizes = f"batch{recipe['batch_size']}-{recipe['image_size']}px-{recipe['num_classes']}classes"
    return workdir.root / "latency" / f"{device}-{sizes}-{digest(recipe)}.json"


def _read_records(path: pathlib.Path, recipe: Recipe, wanted: list[dict]) -> list[Record]:
    """What earlier runs have measured of the wanted architectures, and of more.

    Raises:
      UserError: If the file holds anything else.
    """
    records: list[Record] = []
    if path.exists():
        try:
            content = json.loads(path.read_text())
            if content["recipe"] != recipe:
                raise ValueError("its recipe is not that of its name")
            records = content["measured"]
            known = [record["architecture"] for record in records]
            if known[: len(wanted)] != wanted[: len(known)]:
                raise ValueError("it holds other students")
            measured = [Latency(**one) for record in records for one in record["latencies"]]
            if not all(0 < latency.seconds < math.inf for latency in measured):
                raise ValueError("it holds latencies that are not positive")
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path} is damaged ({error!r}): remove it, and its students are measured again"
            ) from error
    return records + [{"architecture": one, "latencies": []} for one in wanted[len(records) :]]


def _measure_missing(
    records: list[Record],
    rounds: int,
    meter: Callable[[dict[str, Any]], Callable[[], Latency]],
    save: Callable[[], None],
) -> None:
    """Measures every student once a round, in turn, so that other work on the machine hits all."""
    done = sum(min(len(record["latencies"]), rounds) for record in records)
    meters: dict[int, Callable[[], Latency]] = {}
    with progress_bar("measuring latencies", rounds * len(records), done) as advance:
        for number in range(rounds):
            for index, record in enumerate(records):
                if len(record["latencies"]) > number:
                    continue
                if index not in meters:
                    meters[index] = meter(record["architecture"])
                latency = meters[index]()
                record["latencies"].append(latency._asdict())
                save()
                advance(str(latency))


def ensure_latency_model(
    space: ResNetSpace,
    workdir: Workdir,
    *,
    image_size: int,
    num_classes: int,
    batch_size: int,
    sampled: int = 24,
    rounds: int = 3,
    seed: int = 0,
    meter: Callable[..., Callable[[], Latency]] = ROUND_METER,
) -> MeasuredLatencies:
    """The latency model of the present device; measures the students that are not measured yet.

    Every measurement is saved, so that a stopped run goes on where it was. What counts of a student
    is its fastest round: other work on the machine can only slow it down.

    Args:
      space: The search space.
      workdir: Where measured latencies are kept, in ``latency/``.
      image_size: Height and width of the images in pixels.
      num_classes: Outputs of the dense layer.
      batch_size: Images of a batch.
      sampled: Students to sample; the teacher and the smallest student are measured besides.
      rounds: How often each is measured.
      seed: Of the sampled students.
      meter: Makes what measures an architecture of a space, given the three sizes.

    Returns:
      The model, fitted to all measured students, and the teacher's latency.

    Raises:
      UserError: If kept latencies are damaged, the images do not fit the network, or there are no
        rounds.
    """
    if rounds < 1:
        raise UserError(f"rounds is {rounds}: give 1 or more")
    sizes = {"image_size": image_size, "num_classes": num_classes, "batch_size": batch_size}
    recipe = latency_recipe(space, sizes, seed)
    path = latency_path(workdir, recipe)
    wanted = [space.to_json(student) for student in students_to_measure(space, sampled, seed)]
    records = _read_records(path, recipe, wanted)
    if any(len(record["latencies"]) < rounds for record in records):
        _measure_missing(
            records,
            rounds,
            lambda architecture: meter(space, space.from_json(architecture), **sizes),
            lambda: write_json(path, {"recipe": recipe, "measured": records}),
        )
    seconds = [[latency["seconds"] for latency in record["latencies"]] for record in records]
    fastest = np.asarray([min(of_student) for of_student in seconds])
    architectures = stack([space.from_json(record["architecture"]) for record in records])
    model = fit_latency_model(
        space, architectures, fastest, image_size=image_size, batch_size=batch_size
    )
    differing = np.median([max(of_student) / min(of_student) - 1 for of_student in seconds])
    console.print(
        f"latency, batch of {batch_size}: {len(records)} students, rounds differ by "
        f"{percent(differing)}; error {percent(model.error)} if left out, "
        f"Spearman {model.spearman:.2f}"
    )
    # the teacher is the first one measured
    return MeasuredLatencies(model, float(fastest[0]))
