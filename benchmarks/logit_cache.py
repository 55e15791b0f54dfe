#!/usr/bin/env python3
"""Seconds of the teacher's logits on disk: writing a view, reading it, reading some of its rows.

Command:  python benchmarks/logit_cache.py
Hardware: any CPU; some seconds. The files are in the system's memory when they are read.

Medians and quartiles over the rounds; a digest of every block is part of what is timed, and
measured by itself, too.
"""

import hashlib
import pathlib
import tempfile
import time
from collections.abc import Callable

import numpy as np
from absl import app, flags

from dass_jax.console import print_table
from dass_jax.logit_cache import cache_bytes, read_rows, write_view

_IMAGES = flags.DEFINE_integer("images", 50_000, "N.")
_CLASSES = flags.DEFINE_integer("classes", 200, "C.")
_DTYPE = flags.DEFINE_enum("dtype", "float16", ["float16", "float32"], "What logits are stored as.")
_ROWS = flags.DEFINE_integer("rows", 64, "Rows of a slice.")
_ROUNDS = flags.DEFINE_integer("rounds", 9, "Rounds.")
_DIRECTORY = flags.DEFINE_string("directory", None, "Where to write; the system's default if None.")


def milliseconds(action: Callable[[], object]) -> float:
    """How long something takes."""
    begin = time.perf_counter()
    action()
    return 1e3 * (time.perf_counter() - begin)


def main(arguments: list[str]) -> None:
    """Measures all in turn, round after round."""
    rng = np.random.default_rng(0)
    shape = (_IMAGES.value, _CLASSES.value)
    logits = rng.normal(0, 3, shape).astype(_DTYPE.value)
    with tempfile.TemporaryDirectory(dir=_DIRECTORY.value) as directory:
        folder = pathlib.Path(directory) / "view"

        def read(start: int, stop: int) -> np.ndarray:
            return read_rows(folder, shape, logits.dtype, "mark", start, stop)

        def read_slice() -> np.ndarray:
            start = int(rng.integers(0, shape[0] - _ROWS.value))
            return read(start, start + _ROWS.value)

        actions: dict[str, Callable[[], object]] = {
            "write a view": lambda: write_view(folder, logits, "mark"),
            "read a view": lambda: read(0, shape[0]),
            f"read {_ROWS.value} rows": read_slice,
            "(digest of a view)": lambda: hashlib.sha256(logits.data).digest(),
        }
        rounds = range(_ROUNDS.value)
        measured = [{name: milliseconds(run) for name, run in actions.items()} for _ in rounds]
        assert np.array_equal(read(0, shape[0]), logits)
        stored = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    rows = []
    for name in actions:
        quartiles = np.percentile([entry[name] for entry in measured], [25, 50, 75])
        rows.append([name, *(f"{value:.1f} ms" for value in quartiles)])
    size = cache_bytes(1, *shape, logits.dtype)
    title = f"{list(shape)} {_DTYPE.value}: {size / 1e6:.1f} MB, {stored / 1e6:.1f} MB on disk"
    print_table(title, ["", "25 %", "median", "75 %"], rows)


if __name__ == "__main__":
    app.run(main)
