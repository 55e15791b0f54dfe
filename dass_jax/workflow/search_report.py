"""What a search found, as files and in the terminal."""

import io
import pathlib
import statistics
from typing import Any

from dass_jax.budget import show
from dass_jax.console import console, percent, print_table
from dass_jax.workdir import write_atomically
from dass_jax.workflow.html_report import html_report
from dass_jax.workflow.search_figures import all_figures
from dass_jax.workflow.search_tables import Table, search_tables, top_table


def lead(search: dict[str, Any]) -> str:
    """What was found, in a few sentences."""
    chosen, teacher = search["top"][0], search["teacher"]
    sound = [result for result in search["winner"] if not result["diverged"]]
    if not sound:
        return (
            "The chosen student diverged with every seed: distil it at a lower "
            "--config.final.sgd.learning_rate."
        )
    measured = statistics.mean(result["test_accuracy"] for result in sound)
    return _broken_limit(search) + (
        f"The chosen student has {show('params', chosen['params'])} parameters and "
        f"{show('flops', chosen['flops'])} multiply-adds, "
        f"{percent(chosen['params'] / teacher['params'])} and "
        f"{percent(chosen['flops'] / teacher['flops'])} of its teacher's. After distillation it "
        f"reaches {percent(measured)} on the test images, where the teacher reaches "
        f"{percent(teacher['test_accuracy'])}."
    )


def _broken_limit(search: dict[str, Any]) -> str:
    """A sentence if the chosen student is slower than it may be."""
    latency = search["latency"]
    if latency is None or latency["within_budget"]:
        return ""
    taken, limit = (show("latency", latency[name]) for name in ("chosen", "limit"))
    return f"No student was found that keeps the limit of {limit}: the chosen one takes {taken}. "


def write_report(folder: pathlib.Path, search: dict[str, Any]) -> None:
    """Writes the plots and the page of a search.

    Args:
      folder: Where to.
      search: What ``search.json`` holds.
    """
    figures = all_figures(search)
    for name, figure in figures.items():
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=130)
        write_atomically(folder / f"{name}.png", file.getvalue())
    page = html_report(search, lead(search), figures)
    write_atomically(folder / "report.html", page.encode())


def print_with_notes(table: Table) -> None:
    """Prints a table and what is to be said of it."""
    print_table(table.title, table.header, table.rows)
    for note in table.notes:
        console.print(note)


def print_ranking(ranking: dict[str, Any]) -> None:
    """Prints the best candidates before any of them is distilled, which takes long.

    They have no numbers yet, because measuring them may change their order.

    Args:
      ranking: What ``ranking.json`` holds.
    """
    table = top_table(ranking, numbered=False)
    if ranking["algorithm"] != "random":
        table = table._replace(title="The best candidates by their prediction")
    print_with_notes(table)


def print_search(search: dict[str, Any]) -> None:
    """Prints the closing tables of a search."""
    for table in search_tables(search):
        print_with_notes(table)
    console.print(lead(search))
