"""Budgets: what a student may cost, in absolute numbers or as a share of its teacher's cost.

Dimension letters: K students.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from dass_jax import cost
from dass_jax.console import count
from dass_jax.errors import UserError
from dass_jax.search_space import Architecture, ResNetSpace


class Costs(NamedTuple):
    """What students cost.

    Attributes:
      flops: Multiply-adds for one image.
      params: Trainable parameters.
      bytes: Size of the saved network.
      latency: Predicted seconds for a batch on the present device; None if nobody asked.
    """

    flops: Int[np.ndarray, "*K"]
    params: Int[np.ndarray, "*K"]
    bytes: Int[np.ndarray, "*K"]
    latency: Float[np.ndarray, "*K"] | None = None


class Budget(NamedTuple):
    """Upper limits of a student's costs; ``None`` means no limit. Units are those of ``Costs``."""

    flops: int | None = None
    params: int | None = None
    bytes: int | None = None
    latency: float | None = None

    @property
    def limits(self) -> dict[str, int | float]:
        """What is limited, by name."""
        return {name: limit for name, limit in self._asdict().items() if limit is not None}

    def __str__(self) -> str:
        """For messages."""
        limits = [f"{name} <= {show(name, limit)}" for name, limit in self.limits.items()]
        return ", ".join(limits) or "unlimited"


LABELS = {"flops": "multiply-adds", "params": "parameters", "bytes": "size", "latency": "latency"}
_PREFIXES = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_UNITS = {
    "flops": _PREFIXES,
    "params": _PREFIXES,
    "bytes": _PREFIXES | {f"{prefix}B": factor for prefix, factor in _PREFIXES.items()},
    "latency": {"s": 1.0, "ms": 1e-3, "us": 1e-6},
}
_EXAMPLES = {"flops": "10M", "params": "300k", "bytes": "2MB", "latency": "3ms"}
_NUMBER = re.compile(r"([0-9.]+(?:e[+-]?[0-9]+)?)\s*([A-Za-z%]*)")


def show(name: str, value: int | float) -> str:
    """A cost as people read it."""
    if name == "latency":
        return f"{1e3 * value:.3g} ms"
    return f"{count(value)}B" if name == "bytes" else count(value)


def _exact(name: str, value: int | float) -> str:
    """A cost that is not rounded down, so that it works as a limit."""
    return f"{math.ceil(1e6 * value)}us" if name == "latency" else str(value)


class Limit(NamedTuple):
    """An upper limit of one cost.

    Attributes:
      value: In the cost's unit, or the share of the teacher's cost.
      is_share: Which of the two.
    """

    value: float
    is_share: bool

    def absolute(self, teacher_cost: int | float) -> float:
        """The limit in the cost's unit, for a teacher of this cost."""
        return self.value * teacher_cost if self.is_share else self.value


def parse_limit(name: str, text: str) -> Limit:
    """Reads a limit such as ``60%``, ``10M``, ``2MB`` or ``3ms``.

    Args:
      name: The cost that is limited, a field of ``Budget``.
      text: A number with a unit, or a percentage of the teacher's cost.

    Raises:
      UserError: If it is no such thing, or out of range.
    """
    match = _NUMBER.fullmatch(text.strip())
    unit = match.group(2) if match else None
    try:
        number = float(match.group(1)) if match else 0.0
    except ValueError:
        unit = None
    if unit == "%" and 0 < number <= 100:
        return Limit(number / 100, is_share=True)
    if name != "latency" and unit == "" and 0 < number < 1:
        raise UserError(
            f"max_{name} is {text!r}, less than one: write {100 * number:g}% for a share of the "
            "teacher's"
        )
    if unit in _UNITS[name] and 0 < (value := number * _UNITS[name][unit]) < math.inf:
        return Limit(value, is_share=False)
    units = ", ".join(filter(None, _UNITS[name]))
    raise UserError(
        f"max_{name} is {text!r}: give a share of the teacher's such as 60%, or an absolute limit "
        f"such as {_EXAMPLES[name]} (units {units})"
    )


@dataclasses.dataclass(frozen=True)
class CostModel:
    """What students of one task cost.

    Attributes:
      space: The search space.
      image_size: Height and width of the image in pixels.
      num_classes: Outputs of the dense layer.
      latency: Predicts the seconds of K architectures; None if nobody asked.
    """

    space: ResNetSpace
    image_size: int
    num_classes: int
    latency: Callable[[Architecture], Float[np.ndarray, "*K"]] | None = None

    def __call__(self, architecture: Architecture) -> Costs:
        """The costs of one architecture or of a batch of them."""
        classes = {"num_classes": self.num_classes}
        return Costs(
            cost.num_flops(self.space, architecture, image_size=self.image_size, **classes),
            cost.num_params(self.space, architecture, **classes),
            cost.num_bytes(self.space, architecture, **classes),
            None if self.latency is None else np.asarray(self.latency(architecture)),
        )


def respects(costs: Costs, budget: Budget) -> Bool[np.ndarray, "*K"]:
    """Which students respect every limit of the budget."""
    kept = [getattr(costs, name) <= limit for name, limit in budget.limits.items()]
    return np.asarray(np.logical_and.reduce([np.ones(costs.flops.shape, bool), *kept]))


def smallest(space: ResNetSpace) -> Architecture:
    """The cheapest architecture by any cost: one narrowest block in every stage."""
    widths = [[int(w)] for w in space.width_choices.min(axis=1)]
    return space.architecture([1] * space.num_stages, widths)


def require_possible(model: CostModel, budget: Budget) -> None:
    """Refuses a budget that no student respects.

    Raises:
      UserError: Which says the nearest possible.
    """
    floor = smallest(model.space)
    needs = model(floor)
    if not respects(needs, budget):
        nearest = ", ".join(f"{n} {_exact(n, getattr(needs, n).item())}" for n in budget.limits)
        raise UserError(
            f"no student fits the budget {budget}: the smallest student, which is the nearest "
            f"possible, has {nearest}"
        )


@functools.partial(jax.jit, static_argnums=(0, 2))
def _draw(space: ResNetSpace, keys: Key[Array, " K"], small: bool) -> Architecture:
    return jax.vmap(space.sample_small if small else space.sample)(keys)


_UNIFORM_ROUNDS, _SMALL_ROUNDS = 20, 20


def sample_within_budget(
    model: CostModel, key: Key[Array, ""], size: int, budget: Budget
) -> Architecture:
    """Samples students that respect a budget, by rejection.

    Students are drawn as ``ResNetSpace.sample`` draws them. Only where that hardly ever gives one
    that is cheap enough, the missing ones come from ``sample_small``.

    Args:
      model: What students cost.
      key: Random key; the result is a function of it.
      size: K, how many students to return.
      budget: Limits that every student respects.

    Returns:
      K architectures, [K, S] and [K, S, D], on the host; fewer, but at least one, if the budget
      leaves hardly any room above the smallest student.

    Raises:
      UserError: If even the smallest student breaks the budget.
    """
    require_possible(model, budget)
    proposals = max(256, 4 * size)
    accepted: list[Architecture] = []
    found = 0
    for number, round_key in enumerate(jax.random.split(key, _UNIFORM_ROUNDS + _SMALL_ROUNDS)):
        keys = jax.random.split(round_key, proposals)
        small = number >= _UNIFORM_ROUNDS
        batch = jax.tree.map(np.asarray, _draw(model.space, keys, small))
        allowed = respects(model(batch), budget)
        accepted.append(jax.tree.map(lambda leaf, keep=allowed: leaf[keep], batch))
        found += int(allowed.sum())
        if found >= size:
            break
    if not found:
        accepted.append(jax.tree.map(lambda leaf: np.asarray(leaf)[None], smallest(model.space)))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:size], *accepted)
