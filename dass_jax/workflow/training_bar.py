"""The progress of a training, as people watch it."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from dass_jax.console import progress_bar
from dass_jax.epochs import EpochReport
from dass_jax.training import SGDConfig, steps_per_epoch


class Watchers(NamedTuple):
    """What a training calls.

    Attributes:
      on_steps: About every second, with the steps done since the training began.
      on_epoch: After every epoch.
    """

    on_steps: Callable[[int], None]
    on_epoch: Callable[[EpochReport], None]


@contextlib.contextmanager
def training_bar(
    title: str, sgd: SGDConfig, num_images: int, networks: int = 1
) -> Iterator[Watchers]:
    """A bar over the steps of a training, with its epoch, loss and throughput.

    Args:
      title: What is trained.
      sgd: How.
      num_images: Training images.
      networks: How many networks are trained together.

    Yields:
      What the training shall call.
    """
    steps = steps_per_epoch(num_images, sgd.batch_size)
    loss, first, begun = "", -1, 0.0

    with progress_bar(title, steps * sgd.epochs) as advance:

        def note(step: int) -> str:
            nonlocal first, begun
            now = time.monotonic()
            if first < 0:
                # the first call compiles, too
                first, begun = step, now
            rate = ""
            if step > first:
                images = (step - first) * sgd.batch_size * networks
                rate = f", {images / (now - begun):.0f} images/s"
            return f"epoch {min(step // steps + 1, sgd.epochs)}/{sgd.epochs}{loss}{rate}"

        def on_steps(step: int) -> None:
            advance(note(step), done=step)

        def on_epoch(report: EpochReport) -> None:
            nonlocal loss
            loss = f", loss {np.mean(report.loss):.3f}"
            on_steps(report.epoch * steps)

        yield Watchers(on_steps, on_epoch)
