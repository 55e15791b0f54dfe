"""Whether candidates keep a limit of their latency when they are measured rather than predicted.

The best candidates crowd below the limit, so the latency model's error alone makes many of them
break it. Those that were measured tell how far it is off there, and who is worth trying next.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from dass_jax.budget import CostModel
from dass_jax.console import console
from dass_jax.experiment import Experiment
from dass_jax.latency import Latency, latency_meter
from dass_jax.search.problem import Scored
from dass_jax.search_space import unstack
from dass_jax.workflow.chosen_student import widths_text

_ROUNDS = 3
# how many candidates are measured before none is said to fit: in all, and for each one wanted
_FEWEST_TRIES, _TRIES_EACH = 16, 4

Record = dict[str, Any]


class Checked(NamedTuple):
    """Candidates after the best of them were measured.

    Attributes:
      ranked: Those that keep the limit first, in their order, then those that were not measured;
        without those that break it. If all that were measured break it, the fastest comes first.
      kept: How many of the first ones keep it.
      records: What was measured, in the order in which it was.
    """

    ranked: Scored
    kept: int
    records: list[Record]


def _fastest(meters: list[Callable[[], Latency]]) -> list[float]:
    """The fastest round of each; measured in turn, so that other work on the machine meets all."""
    rounds = [[meter().seconds for meter in meters] for _ in range(_ROUNDS)]
    return np.min(rounds, axis=0).tolist()


def check_latencies(
    experiment: Experiment,
    model: CostModel,
    ranked: Scored,
    records: list[Record],
    save: Callable[[], None],
    meter: Callable[..., Callable[[], Latency]] = latency_meter,
) -> Checked:
    """Measures the best candidates that may keep the limit until as many as are wanted do.

    A share of the teacher's latency is one of the teacher measured in the same rounds.

    Args:
      experiment: The settings; ``search.verify`` says how many are wanted, one if it is 0.
      model: What students cost.
      ranked: All candidates, best first.
      records: What an earlier run has measured of them; more is appended.
      save: Called when something was measured.
      meter: Makes what measures an architecture of a space.
    """
    config, space = experiment.search, experiment.space
    prepare = functools.partial(
        meter, space, image_size=model.image_size, num_classes=model.num_classes,
        batch_size=config.latency_batch,
    )  # fmt: skip
    costs, wanted = model(space.full()), max(1, config.verify)
    most = min(len(ranked), max(_FEWEST_TRIES, _TRIES_EACH * wanted))
    if not _are_of(records, ranked):
        records.clear()  # another latency model, or another ranking
    teacher = None
    while (missing := wanted - _kept(records)) > 0 and len(records) < most:
        teacher = teacher or prepare(space.full())
        group = ranked.take(_next(ranked, records, min(missing, most - len(records))))
        reference, *seconds = _fastest([teacher, *map(prepare, unstack(group.architectures))])
        limit = config.budget(costs._replace(latency=np.asarray(reference))).latency
        predicted = np.asarray(group.costs.latency).tolist()
        texts = map(widths_text, group.architectures.widths)
        ids = group.student_ids.tolist()
        for text, number, before, after in zip(texts, ids, predicted, seconds, strict=True):
            records.append(
                {"widths": text, "student_id": number, "predicted": before, "measured": after,
                 "limit": limit, "teacher": reference}
            )  # fmt: skip
        save()
    checked = settle(ranked, records)
    console.print(f"latency: {checked.kept} of {len(records)} measured candidates keep the limit")
    return checked


def _are_of(records: list[Record], ranked: Scored) -> bool:
    """Whether these candidates were measured, with these predictions."""
    widths = map(widths_text, ranked.architectures.widths)
    predicted = np.asarray(ranked.costs.latency).tolist()
    known = dict(zip(ranked.student_ids.tolist(), zip(widths, predicted, strict=True), strict=True))
    return all(
        known.get(record["student_id"]) == (record["widths"], record["predicted"])
        for record in records
    )


def _next(ranked: Scored, records: list[Record], count: int) -> np.ndarray:
    """The places of those to measure next, at most so many.

    The best whose prediction keeps the limit when it is corrected by what was measured so far; if
    there is none, the fastest.
    """
    measured = [record["student_id"] for record in records]
    left = np.flatnonzero(~np.isin(ranked.student_ids, measured))
    if not records:
        return left[:count]
    off = np.median([record["measured"] / record["predicted"] for record in records])
    corrected = off * np.asarray(ranked.costs.latency)[left]
    fitting = left[corrected <= records[-1]["limit"]]
    return (fitting if len(fitting) else left[np.argsort(corrected, kind="stable")])[:count]


def keeps(record: Record) -> bool:
    """Whether a measured candidate keeps the limit."""
    return record["measured"] <= record["limit"]


def _kept(records: list[Record]) -> int:
    return sum(map(keeps, records))


def settle(ranked: Scored, records: list[Record]) -> Checked:
    """Leaves out the measured candidates that break the limit.

    Args:
      ranked: All candidates, best first.
      records: What was measured of them.
    """
    places = {number: place for place, number in enumerate(ranked.student_ids.tolist())}
    measured = [places[record["student_id"]] for record in records]
    first = sorted(place for place, record in zip(measured, records, strict=True) if keeps(record))
    kept = len(first)
    if not first:
        fastest = np.argmin([record["measured"] / record["limit"] for record in records])
        first = [measured[fastest]]
    others = np.setdiff1d(np.arange(len(ranked)), measured)
    order = np.concatenate([first, others]).astype(int)
    return Checked(ranked.take(order), kept, records)


class LimitedLatency(NamedTuple):
    """What is known of latencies where they are limited.

    Attributes:
      checked: The candidates.
      fit: What describes the latency model.
    """

    checked: Checked
    fit: dict[str, Any]


def describe_latency(
    experiment: Experiment, latency: LimitedLatency, student_id: int
) -> dict[str, Any]:
    """What ``search.json`` says of latencies.

    Args:
      experiment: The settings.
      latency: What is known of them.
      student_id: The chosen student's id.
    """
    records = latency.checked.records
    (chosen,) = [record for record in records if record["student_id"] == student_id]
    return {
        "batch_size": experiment.search.latency_batch,
        "within_budget": keeps(chosen),
        "limit": chosen["limit"],
        "teacher": chosen["teacher"],
        "chosen": chosen["measured"],
        "model": latency.fit,
        "measured": records,
    }
