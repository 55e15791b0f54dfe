"""The tables of a search, for the terminal and for the page."""

import statistics
from typing import Any, NamedTuple

from dass_jax.budget import LABELS, Budget, show
from dass_jax.console import count, duration, percent, with_deviation

Search = dict[str, Any]


class Table(NamedTuple):
    """A table of texts; the first column names the rows."""

    title: str
    header: list[str]
    rows: list[list[str]]


def _tests(results: list[dict[str, Any]]) -> list[float]:
    """Test accuracies of distilled students."""
    return [result["test_accuracy"] for result in results]


def _costs(entry: dict[str, Any], names: list[str]) -> list[str]:
    return [show(name, entry[name]) for name in names]


def _cost_names(search: Search) -> list[str]:
    """The costs to show: latency only where it was asked for."""
    return [name for name in LABELS if search["teacher"][name] is not None]


def _comparison(search: Search) -> Table:
    """The networks after distillation."""
    names, chosen, teacher = _cost_names(search), search["top"][0], search["teacher"]
    predicted = f"{percent(chosen['prediction'])} ± {percent(chosen['half_width'])}"
    rows = [
        ["teacher", *_costs(teacher, names), "", percent(teacher["test_accuracy"])],
        ["chosen student", *_costs(chosen, names), predicted,
         with_deviation(_tests(search["winner"]))],
    ]  # fmt: skip
    randoms = [rival for rival in search["rivals"] if rival["chosen_by"] == "random"]
    if len(randoms) == 1:
        (only,) = randoms
        rows.append(["a random student", *_costs(only, names), "", percent(only["test_accuracy"])])
    elif randoms:
        mean = {name: statistics.mean(rival[name] for rival in randoms) for name in names}
        best = max(randoms, key=lambda rival: rival["test_accuracy"])
        rows += [
            [f"mean of {len(randoms)} random students", *_costs(mean, names), "",
             percent(statistics.mean(_tests(randoms)))],
            [f"best of {len(randoms)} random students", *_costs(best, names), "",
             percent(best["test_accuracy"])],
        ]  # fmt: skip
    rows += [
        [f"choice of {rival['chosen_by']}", *_costs(rival, names), "",
         percent(rival["test_accuracy"])]
        for rival in search["rivals"] if rival["chosen_by"] != "random"
    ]  # fmt: skip
    header = ["network", *(LABELS[name] for name in names), "predicted", "test accuracy"]
    return Table(f"{search['task']}: budget {Budget(**search['budget'])}", header, rows)


def _top(search: Search) -> Table:
    """The best candidates."""
    names = _cost_names(search)
    verified = any("verified_accuracy" in entry for entry in search["top"])
    rows = []
    for place, entry in enumerate(search["top"], 1):
        shape = entry["architecture"]
        widths = " ".join("-".join(map(str, row)) for row in shape["widths"])
        row = [f"{place}. {widths}", *_costs(entry, names),
               f"{percent(entry['prediction'])} ± {percent(entry['half_width'])}"]  # fmt: skip
        if verified:
            accuracy = entry.get("verified_accuracy")
            row.append("" if accuracy is None else percent(accuracy))
        rows.append(row)
    header = ["widths of the blocks, by stage", *(LABELS[name] for name in names), "predicted"]
    if verified:
        header.append("verified")
    return Table("The best candidates, the chosen one first", header, rows)


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
    latency = search["latency"]
    if latency is None:
        return None
    rows = [
        [name, show("latency", entry["latency"]), show("latency", measured)]
        for name, entry, measured in (
            ("teacher", search["teacher"], latency["teacher"]),
            ("chosen student", search["top"][0], latency["chosen"]),
        )
    ]
    title = f"Latency of a batch of {latency['batch_size']} on {search['device']}"
    return Table(title, ["network", "predicted", "measured"], rows)


def _phases(search: Search) -> Table:
    rows = [[name, duration(seconds)] for name, seconds in search["seconds"].items()]
    candidates = search["candidates"]["count"]
    title = f"Time; {count(candidates)} candidates scored ({search['algorithm']})"
    return Table(title, ["phase", "time"], rows)


def search_tables(search: Search) -> list[Table]:
    """All tables of what ``search.json`` holds."""
    makers = (_comparison, _top, _latencies, _correlations, _phases)
    tables = [make(search) for make in makers]
    return [table for table in tables if table is not None]
