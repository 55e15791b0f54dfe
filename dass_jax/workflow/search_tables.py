"""The tables of a search, for the terminal and for the page."""

import statistics
from typing import Any, NamedTuple

from dass_jax.budget import LABELS, Budget, show
from dass_jax.console import count, duration, percent, with_deviation
from dass_jax.workflow.chosen_student import widths_text
from dass_jax.workflow.latency_check import keeps

Search = dict[str, Any]

_WIDTHS = "widths of the blocks, by stage"
# as bin/distill.py --candidate counts them
_NUMBERED = f"candidate: {_WIDTHS}"


class Table(NamedTuple):
    """A table of texts; the first column names the rows; notes are sentences below it."""

    title: str
    header: list[str]
    rows: list[list[str]]
    notes: tuple[str, ...] = ()


def _tests(results: list[dict[str, Any]]) -> list[float]:
    """Test accuracies of distilled students."""
    return [result["test_accuracy"] for result in results]


def _costs(entry: dict[str, Any], names: list[str]) -> list[str]:
    return [show(name, entry[name]) for name in names]


def _cost_names(search: Search) -> list[str]:
    """The costs to show: latency only where it was asked for."""
    return [name for name in LABELS if search["teacher"][name] is not None]


def _predicted(entry: dict[str, Any]) -> str:
    """What was predicted before anything was measured."""
    return f"{percent(entry['prediction'])} ± {percent(entry['half_width'])}"


def reached(results: list[dict[str, Any]]) -> str:
    """Test accuracy of networks that did not diverge, and how many did."""
    sound = [result for result in results if not result["diverged"]]
    if not sound:
        return "diverged"
    text = with_deviation(_tests(sound))
    lost = len(results) - len(sound)
    return f"{text}, {lost} diverged" if lost else text


def _comparison(search: Search) -> Table:
    """The networks after distillation."""
    names, chosen, teacher = _cost_names(search), search["top"][0], search["teacher"]
    rows = [
        ["teacher", *_costs(teacher, names), "", percent(teacher["test_accuracy"])],
        ["chosen student", *_costs(chosen, names), _predicted(chosen), reached(search["winner"])],
    ]
    randoms = [rival for rival in search["rivals"] if rival["chosen_by"] == "random"]
    others = [rival for rival in search["rivals"] if rival["chosen_by"] != "random"]
    rows += _random_rows(randoms, names)
    rows += [
        [f"choice of {rival['chosen_by']}", *_costs(rival, names), "", reached([rival])]
        for rival in others
    ]
    header = ["network", *(LABELS[name] for name in names), "predicted", "test accuracy"]
    title = f"{search['task']}: budget {Budget(**search['budget'])}"
    return Table(title, header, rows, _comparison_notes(search))


def _comparison_notes(search: Search) -> tuple[str, ...]:
    """In what the chosen student, its rivals and its prediction are not treated alike."""
    notes = [
        "Predicted is the validation accuracy after the schedule of kd; tested is after final."
    ]
    measured = sum("verified_accuracy" in entry for entry in search["top"])
    if measured > 1 and search["rivals"]:
        notes.append(
            f"The chosen student is the best of {measured} measured candidates; of the others, "
            "nobody measured more than one."
        )
    if better := _better_rival(search):
        notes.append(better)
    if search["latency"] is not None and search["rivals"]:
        notes.append("All but the chosen student keep the limit of the latency as predicted only.")
    return tuple(notes)


def _better_rival(search: Search) -> str | None:
    """A sentence if a baseline's choice measured better than the chosen student with any seed."""
    rivals = [
        rival
        for rival in search["rivals"]
        if rival["chosen_by"] != "random" and not rival["diverged"]
    ]
    own = [result["final_accuracy"] for result in search["winner"] if not result["diverged"]]
    best = max(rivals, key=lambda rival: rival["final_accuracy"], default=None)
    if best is None or (own and best["final_accuracy"] <= max(own)):
        return None
    mine = f"chosen student at most {percent(max(own))}" if own else "chosen student diverged"
    return (
        f"On the validation images, the choice of {best['chosen_by']} reaches "
        f"{percent(best['final_accuracy'])}, the {mine}{_how_to_distil(search, best)}."
    )


def _how_to_distil(search: Search, rival: dict[str, Any]) -> str:
    """How to take a baseline's choice instead; nothing if the search has not met it."""
    widths, met = widths_text(rival["architecture"]["widths"]), search["candidates"]["widths"]
    if widths not in met:
        return ""
    return f": bin/distill.py --candidate={met.index(widths)} distils that one with every seed"


def _random_rows(randoms: list[dict[str, Any]], names: list[str]) -> list[list[str]]:
    """Random students together, without those that diverged."""
    sound = [rival for rival in randoms if not rival["diverged"]]
    if len(sound) < 2:
        return [
            ["a random student", *_costs(rival, names), "", reached([rival])] for rival in randoms
        ]
    mean = {name: statistics.mean(rival[name] for rival in sound) for name in names}
    best = max(sound, key=lambda rival: rival["test_accuracy"])
    lost = len(randoms) - len(sound)
    those = f"{len(sound)} random students" + (f" ({lost} more diverged)" if lost else "")
    accuracy = percent(statistics.mean(_tests(sound)))
    return [
        [f"mean of {those}", *_costs(mean, names), "", accuracy],
        [f"best of {those}", *_costs(best, names), "", percent(best["test_accuracy"])],
    ]


def top_table(search: Search, *, numbered: bool = True) -> Table:
    """The best candidates.

    Args:
      search: What ``search.json`` or ``ranking.json`` holds.
      numbered: Whether each has the number by which it can be distilled.
    """
    names, verification = _cost_names(search), search["verification"]
    renewed = any("prediction_after" in entry for entry in search["top"])
    rows = []
    for place, entry in enumerate(search["top"]):
        widths = widths_text(entry["architecture"]["widths"])
        name = f"{place}: {widths}" if numbered else widths
        row = [name, *_costs(entry, names), _predicted(entry)]
        if verification is not None:
            row.append(_verified(entry))
        if renewed:
            after = entry.get("prediction_after")
            row.append("" if after is None else percent(after))
        rows.append(row)
    first = _NUMBERED if numbered else _WIDTHS
    header = [first, *(LABELS[name] for name in names), "predicted"]
    if verification is not None:
        after = f"at epoch {verification['epochs']}"
        header.append(after if verification["shortened"] else "verified")
    if renewed:
        header.append("predicted after")
    return Table(_top_title(search), header, rows, _top_notes(search))


def _verified(entry: dict[str, Any]) -> str:
    if "verified_accuracy" not in entry:
        return ""
    return "diverged" if entry["diverged"] else percent(entry["verified_accuracy"])


def _top_title(search: Search) -> str:
    if search["algorithm"] == "random":
        return "The candidates that were sampled first, the chosen one first"
    return "The best candidates, the chosen one first"


def _top_notes(search: Search) -> tuple[str, ...]:
    """What the columns do not say."""
    after = search["candidates"].get("prediction_after")
    measured = sum("verified_accuracy" in entry for entry in search["top"])
    # those that were not measured begin with the best; the best of many predictions is too high, as
    # that of the chosen one is, so that they are compared with each other
    if after is None or len(after) == measured or after[measured] <= after[0]:
        return ()
    return (
        f"A candidate that was not measured is now predicted to reach {percent(after[measured])}, "
        f"more than the {percent(after[0])} predicted now of the best measured one: a larger "
        "--verify would measure it.",
    )


def _correlations(search: Search) -> Table | None:
    """How the measured students of the database are ranked."""
    measured = search["measured"]
    if measured is None:
        return None
    rows = [
        [name, f"{measured['spearman'][name]:.2f}", f"{measured['kendall'][name]:.2f}"]
        for name in measured["spearman"]
    ]
    title = (
        f"{search['task']}: rank correlation with the test accuracy of "
        f"{measured['students']} distilled students"
    )
    return Table(title, ["ranked by", "Spearman", "Kendall"], rows)


def _latencies(search: Search) -> Table | None:
    """Predicted and measured latencies, if they were limited."""
    latency, chosen = search["latency"], search["top"][0]["student_id"]
    if latency is None:
        return None
    rows = [["teacher", show("latency", search["teacher"]["latency"]),
             show("latency", latency["teacher"]), ""]]  # fmt: skip
    for record in latency["measured"]:
        name = "another that keeps it" if keeps(record) else "passed over"
        costs = [show("latency", record[what]) for what in ("predicted", "measured", "limit")]
        rows.append(["chosen student" if record["student_id"] == chosen else name, *costs])
    title = f"Latency of a batch of {latency['batch_size']} on {search['device']}"
    header = ["network", "predicted", "measured", "limit then"]
    return Table(title, header, rows, _latency_notes(latency))


def _latency_notes(latency: dict[str, Any]) -> tuple[str, str]:
    fit = latency["model"]
    if latency["within_budget"]:
        verdict = "The chosen student keeps the limit as measured."
    else:
        verdict = (
            f"None of the {len(latency['measured'])} measured candidates keeps the limit; "
            "the fastest of them was chosen: lower --config.search.max_latency."
        )
    return verdict, (
        f"Latencies were predicted from {fit['students']} measured networks, with an error of "
        f"{percent(fit['error'])} and a Spearman of {fit['spearman']:.2f} on those left out."
    )


def _phases(search: Search) -> Table:
    rows = [[name, duration(seconds)] for name, seconds in search["seconds"].items()]
    candidates, latency = search["candidates"]["count"], search["latency"]
    if latency is not None and latency["within_budget"]:
        candidates += sum(not keeps(record) for record in latency["measured"])
    elif latency is not None:
        # one of them is the choice
        candidates += len(latency["measured"]) - 1
    title = f"Time over all runs; {count(candidates)} candidates scored ({search['algorithm']})"
    return Table(title, ["phase", "time"], rows)


def front_table(search: Search) -> Table:
    """The Pareto front, each candidate with the number by which it can be distilled."""
    pool = search["candidates"]
    cost = pool["cost"]
    rows = [
        [f"{place}: {pool['widths'][place]}", show(cost, pool[cost][place]),
         percent(pool["prediction"][place])]
        for place in sorted(pool["front"], key=lambda place: pool[cost][place])
    ]  # fmt: skip
    note = (
        "bin/distill.py --candidate=NUMBER distils one of them instead of the choice, which is 0."
    )
    title = f"Pareto front of predicted accuracy against {LABELS[cost]}"
    return Table(title, [_NUMBERED, LABELS[cost], "predicted"], rows, (note,))


def search_tables(search: Search) -> list[Table]:
    """All tables of what ``search.json`` holds."""
    makers = (_comparison, top_table, _latencies, _correlations, _phases)
    tables = [make(search) for make in makers]
    return [table for table in tables if table is not None]
