"""What a user sees: progress bars, tables, one style for all commands."""

import contextlib
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

# a file or a pipe has no width of its own, and tables need more than the default of 80
# names of files and classes may hold brackets, which are not meant as markup
console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 120)

LOG_EVERY_SECONDS = 60


@contextlib.contextmanager
def progress_bar(description: str, total: int, done: int = 0) -> Iterator[Callable[..., None]]:
    """A bar over ``total`` units of work.

    Args:
      description: What is being done.
      total: Units of work.
      done: Units that an earlier run finished.

    Yields:
      A function that takes a short text to show beside the bar, and how many units were done, or
      how many are done in all.
    """
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("<"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(description, total=total, completed=done, note="")
        said = time.monotonic()

        def advance(note: str = "", units: int = 1, done: int | None = None) -> None:
            nonlocal said
            if done is None:
                progress.update(task, advance=units, note=note)
            else:
                progress.update(task, completed=done, note=note)
            # a log file shows no bar, so it gets a line now and then
            if not console.is_terminal and time.monotonic() - said > LOG_EVERY_SECONDS:
                said = time.monotonic()
                completed = f"{progress.tasks[0].completed:.0f}/{total}"
                left = progress.tasks[0].time_remaining
                rest = "" if left is None else f"{', ' if note else ''}{duration(left)} left"
                console.print(f"{description}: {completed} {note}{rest}".rstrip())

        yield advance


def print_table(
    title: str, header: Sequence[str], rows: Sequence[Sequence[object]], *, text_columns: int = 1
) -> None:
    """Prints a table; the first ``text_columns`` are left-aligned, the others right."""
    table = Table(title=title, title_justify="left")
    for index, name in enumerate(header):
        table.add_column(name, justify="left" if index < text_columns else "right", overflow="fold")
    for row in rows:
        table.add_row(*map(str, row))
    console.print(table)


def percent(fraction: float) -> str:
    """A fraction as percent with one decimal."""
    return f"{100 * fraction:.1f} %"


def with_deviation(fractions: Sequence[float]) -> str:
    """Mean of some fractions in percent, with their sample deviation if there are several."""
    mean = percent(statistics.mean(fractions))
    if len(fractions) == 1:
        return mean
    return f"{mean} ± {100 * statistics.stdev(fractions):.1f}"


def count(number: int | float) -> str:
    """A large number with a unit prefix."""
    for unit in ("", "k", "M", "G"):
        # 999.6 would be rounded to a thousand, which is written as a power
        if abs(number) < 999.5:
            return f"{number:.3g}{unit}"
        number /= 1000
    return f"{number:.3g}T"


def duration(seconds: float) -> str:
    """Seconds as people read them."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes:02d}m" if hours else f"{minutes}m {rest:02d}s"
