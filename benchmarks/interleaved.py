"""Measures variants in interleaved rounds, beside the machine's best matrix product."""

import dataclasses
import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

MATRIX = 2048


@dataclasses.dataclass
class Variant:
    """One way to do the work: what runs a round, and what was measured."""

    name: str
    run: Callable[[], None]
    seconds: list[float] = dataclasses.field(default_factory=list)
    cpu_seconds: list[float] = dataclasses.field(default_factory=list)

    def measure(self) -> None:
        """Runs one round."""
        begin, busy = time.perf_counter(), time.process_time()
        self.run()
        self.seconds.append(time.perf_counter() - begin)
        self.cpu_seconds.append(time.process_time() - busy)

    def rates(self, work: float) -> np.ndarray:
        """Work per second of every round."""
        return work / np.asarray(self.seconds)


def matrix_product() -> Variant:
    """A product of two square matrices, what the machine is best at."""
    matrix = jnp.ones((MATRIX, MATRIX))
    product = jax.jit(lambda a: jnp.dot(a, a, precision="highest"))
    product(matrix).block_until_ready()
    return Variant("matrix product", lambda: product(matrix).block_until_ready())


def peak(product: Variant) -> float:
    """The median rate of the matrix product, in FLOP/s."""
    return float(np.median(product.rates(2 * MATRIX**3)))


def run_rounds(variants: Sequence[Variant], product: Variant, rounds: int) -> None:
    """Runs each variant once a round, every round beginning with another one."""
    for number in range(rounds):
        product.measure()
        for variant in np.roll(np.asarray(variants, object), number):
            variant.measure()


def row(variant: Variant, work: float, reference: Variant, digits: int = 0) -> list[str]:
    """Cells of a table: median rate, quartiles, the median ratio within a round, CPU seconds.

    CPU seconds per unit of work tell what other work on the machine does not change much; where
    threads wait for each other actively, as PyTorch's do, this holds on one core only.

    Args:
      variant: What was measured.
      work: That a round does.
      reference: What it is compared with.
      digits: Of the rates, after the point.
    """
    low, middle, high = np.percentile(variant.rates(work), (25, 50, 75))
    ratio = np.asarray(reference.seconds) / np.asarray(variant.seconds)
    return [
        f"{middle:.{digits}f}",
        f"{low:.{digits}f} to {high:.{digits}f}",
        f"{np.median(ratio):.2f}",
        f"{np.median(variant.cpu_seconds) / work:.2g}",
    ]
