#!/usr/bin/env python3
"""How far off predicted latencies are on students that were not measured, on the present device.

Command:  python benchmarks/latency_model.py --batch_sizes=1,64
Hardware: any; on 2 CPU cores some minutes for each batch size. Other work on the machine shows in
the last row.

The model is fitted as ``workflow/latency.py`` does, to the teacher, the smallest student and some
sampled ones; so are latencies in proportion to multiply-adds and to parameters. All predict the
same held-out students. The last row says how far a second half of the rounds is from the first
one, which is what is predicted; no prediction can be expected to be much closer.
"""

import time
from collections.abc import Callable

import numpy as np
from absl import app, flags

from dass_jax import cli, cost
from dass_jax.console import console, duration, percent, print_table, progress_bar
from dass_jax.latency import device_name
from dass_jax.latency_model import (
    features,
    leave_one_out,
    mean_relative_error,
    relative_fit,
)
from dass_jax.metrics import correlate
from dass_jax.search_space import Architecture, ResNetSpace, stack
from dass_jax.workflow.latency import ROUND_METER, students_to_measure

_IMAGE_SIZE = flags.DEFINE_integer("image_size", 32, "Height and width.")
_WIDTHS = flags.DEFINE_list("widths", "16,32,64,128", "The teacher's stage widths.")
_DEPTH = flags.DEFINE_integer("depth", 3, "The teacher's blocks per stage.")
_CLASSES = flags.DEFINE_integer("classes", 40, "Classes.")
_BATCHES = flags.DEFINE_list("batch_sizes", "1,64", "Images of a batch.")
_SAMPLED = flags.DEFINE_integer("sampled", 24, "Sampled students that the fits see.")
_HELD_OUT = flags.DEFINE_integer("held_out", 30, "Students that they do not see.")
_ROUNDS = flags.DEFINE_integer("rounds", 3, "Rounds whose fastest counts; there are twice as many.")


def ways(space: ResNetSpace) -> dict[str, Callable[[Architecture], np.ndarray]]:
    """What predictions are weighted sums of, [K, F]."""
    images = {"image_size": _IMAGE_SIZE.value, "num_classes": _CLASSES.value}
    classes = {"num_classes": _CLASSES.value}
    return {
        "the latency model": lambda students: features(
            space, students, image_size=_IMAGE_SIZE.value
        ),
        "multiply-adds": lambda students: cost.num_flops(space, students, **images)[:, None],
        "parameters": lambda students: cost.num_params(space, students, **classes)[:, None],
    }


def measure(space: ResNetSpace, students: list[Architecture], batch_size: int) -> np.ndarray:
    """Compiles all students and measures them in rounds; the fastest of both halves, [2, N]."""
    sizes = {"image_size": _IMAGE_SIZE.value, "num_classes": _CLASSES.value}
    begin = time.monotonic()
    meters = [ROUND_METER(space, student, batch_size=batch_size, **sizes) for student in students]
    ready = time.monotonic()
    seconds = np.zeros((2, _ROUNDS.value, len(students)))
    rounds = seconds.reshape(-1, len(students))
    with progress_bar(f"measuring batches of {batch_size}", rounds.size) as advance:
        for of_round in rounds:
            for index, meter in enumerate(meters):
                latency = meter()
                of_round[index] = latency.seconds
                advance(str(latency))
    differing = percent(np.median(seconds[0].max(axis=0) / seconds[0].min(axis=0) - 1))
    console.print(
        f"{len(students)} students compiled in {duration(ready - begin)}, measured in "
        f"{duration(time.monotonic() - ready)}; {_ROUNDS.value} rounds differ by {differing}"
    )
    return seconds.min(axis=1)


def compare(space: ResNetSpace, students: list[Architecture], seconds: np.ndarray) -> list[list]:
    """Fits to the first students, errors on the others."""
    fitted = _SAMPLED.value + 2
    truth, again = seconds[:, fitted:]
    rows: list[list] = []
    for name, counts in ways(space).items():
        seen, unseen = np.split(np.asarray(counts(stack(students)), np.float64), [fitted])
        left_out = leave_one_out(seen, seconds[0, :fitted])
        predicted = unseen @ relative_fit(seen, seconds[0, :fitted])
        rows.append([name, percent(mean_relative_error(left_out, seconds[0, :fitted]))])
        rows[-1] += describe(predicted, truth)
    return [*rows, ["(measured again)", "", *describe(again, truth)]]


def describe(predicted: np.ndarray, seconds: np.ndarray) -> list[str]:
    """Error and rank correlation on held-out students."""
    error = percent(mean_relative_error(predicted, seconds))
    return [error, f"{correlate(predicted, seconds).spearman:.2f}"]


def main(arguments: list[str]) -> None:
    """One table for each batch size."""
    cli.set_up_jax()
    space = ResNetSpace(tuple(map(int, _WIDTHS.value)), _DEPTH.value)
    students = students_to_measure(space, _SAMPLED.value, 0)
    students += students_to_measure(space, _HELD_OUT.value, 1)[2:]
    for batch_size in map(int, _BATCHES.value):
        seconds = measure(space, students, batch_size)
        title = (
            f"Batches of {batch_size} on {device_name()}: {1e3 * seconds.min():.2f} to "
            f"{1e3 * seconds.max():.2f} ms, predicted from {_SAMPLED.value + 2} students"
        )
        header = ["fit", "error left out", "error held out", "Spearman held out"]
        print_table(title, header, compare(space, students, seconds))


if __name__ == "__main__":
    app.run(main)
