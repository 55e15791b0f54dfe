"""The space of student networks that a teacher ResNet contains (DaSS, ICLR 2023).

An architecture is data: a pytree of depths and widths. One compiled function therefore serves
every student, and everything here that takes a key or an ``Architecture`` works under ``vmap``.

Dimension letters: S stages, D blocks of a stage, M width choices of a block, E encoding length.
"""

import dataclasses
import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from dass_jax.errors import UserError

PAPER_MULTIPLIERS = tuple(m / 16 for m in range(8, 17))


class Architecture(NamedTuple):
    """A student: how many blocks each stage has, and how wide each block is.

    Attributes:
      depths: Active blocks of each stage, int32 [..., S]; the first ones of the stage are active.
      widths: Output channels of each block, int32 [..., S, D]; 0 where the block is absent.
    """

    depths: Array
    widths: Array


@dataclasses.dataclass(frozen=True)
class ResNetSpace:
    """All students with at most the depth and the widths of one teacher; hashable and static.

    Attributes:
      stage_widths: The teacher's channels in each stage.
      stage_depth: The teacher's blocks in each stage.
      strides: Stride of each stage's first block, 1 or 2.
      width_multipliers: What a sampled block may multiply its stage's width by.
    """

    stage_widths: tuple[int, ...]
    stage_depth: int
    strides: tuple[int, ...] = (1, 2, 2, 2)
    width_multipliers: tuple[float, ...] = PAPER_MULTIPLIERS

    def __post_init__(self) -> None:
        for name in ("stage_widths", "strides", "width_multipliers"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not self.stage_widths or min(self.stage_widths) < 1:
            raise UserError(f"stage_widths must be positive, got {self.stage_widths}")
        if self.stage_depth < 1:
            raise UserError(f"stage_depth must be at least 1, got {self.stage_depth}")
        if len(self.strides) != len(self.stage_widths) or not set(self.strides) <= {1, 2}:
            raise UserError(
                f"strides must give 1 or 2 for each of the {len(self.stage_widths)} stages, "
                f"got {self.strides}"
            )
        if not self.width_multipliers or not all(0 < m <= 1 for m in self.width_multipliers):
            raise UserError(f"width_multipliers must lie in (0, 1], got {self.width_multipliers}")

    @property
    def num_stages(self) -> int:
        """S, the number of stages."""
        return len(self.stage_widths)

    @property
    def width_choices(self) -> Int[np.ndarray, "S M"]:
        """The absolute widths that a sampled block of each stage may have, [S, M]."""
        products = np.outer(self.stage_widths, self.width_multipliers)
        return np.maximum(1, np.floor(products + 1e-6)).astype(np.int32)

    @property
    def encoding_length(self) -> int:
        """E, the length of ``encode``'s result."""
        return self.num_stages * self.stage_depth * (1 + len(self.width_multipliers))

    def architecture(self, depths: Any, widths: Any) -> Architecture:
        """Makes a checked architecture of absolute widths.

        Args:
          depths: Active blocks of each stage, [S].
          widths: Absolute widths, either ragged (one sequence per stage, active blocks only) or
            a full [S, D] table with 0 where a block is absent.

        Returns:
          The architecture, without batch axes.

        Raises:
          UserError: If a depth or a width is no whole number or lies outside of the space.
        """
        try:
            depths = [operator.index(depth) for depth in depths]
            widths = [[operator.index(width) for width in row] for row in widths]
        except TypeError as error:
            raise UserError(
                f"depths and widths must be whole numbers, one entry per stage: {error}"
            ) from error
        table = np.zeros((self.num_stages, self.stage_depth), np.int32)
        if len(depths) != self.num_stages or len(widths) != self.num_stages:
            raise UserError(
                f"depths and widths need one entry for each of {self.num_stages} stages"
            )
        for stage, (depth, row) in enumerate(zip(depths, widths, strict=True)):
            if not 1 <= depth <= self.stage_depth:
                raise UserError(f"stage {stage}: depth {depth} is not in 1..{self.stage_depth}")
            if any(row[depth:]) or len(row) < depth:
                raise UserError(f"stage {stage}: depth {depth} does not fit the widths {row}")
            for width in row[:depth]:
                if not 1 <= width <= self.stage_widths[stage]:
                    raise UserError(
                        f"stage {stage}: width {width} is not in 1..{self.stage_widths[stage]}"
                    )
            table[stage, :depth] = row[:depth]
        return Architecture(jnp.asarray(depths, jnp.int32), jnp.asarray(table))

    def full(self) -> Architecture:
        """The teacher itself."""
        widths = [[w] * self.stage_depth for w in self.stage_widths]
        return self.architecture([self.stage_depth] * self.num_stages, widths)

    def block_mask(self, architecture: Architecture) -> Bool[Array, "*K S D"]:
        """Which blocks are active, [..., S, D]."""
        return jnp.arange(self.stage_depth) < architecture.depths[..., None]

    def channel_mask(self, architecture: Architecture) -> Bool[Array, "*K S D C"]:
        """Which output channels of each block exist, [..., S, D, C] with C the widest stage's."""
        return jnp.arange(max(self.stage_widths)) < architecture.widths[..., None]

    def _from_choices(self, depths: Int[Array, " S"], choices: Int[Array, "S D"]) -> Architecture:
        widths = jnp.take_along_axis(jnp.asarray(self.width_choices), choices, axis=1)
        depths = depths.astype(jnp.int32)
        active = jnp.arange(self.stage_depth) < depths[:, None]
        return Architecture(depths, jnp.where(active, widths, 0))

    def _to_choices(self, widths: Int[Array, "S D"]) -> Int[Array, "S D"]:
        """The nearest width choice of each block; absent blocks get the smallest."""
        distance = jnp.abs(widths[..., None] - jnp.asarray(self.width_choices)[:, None, :])
        return jnp.argmin(distance, axis=-1).astype(jnp.int32)

    def _random_genes(self, key: Key[Array, ""]) -> tuple[Array, Array]:
        """Depths [S] and width choices [S, D], all uniform."""
        depth_key, width_key = jax.random.split(key)
        depths = jax.random.randint(depth_key, (self.num_stages,), 1, self.stage_depth + 1)
        shape = (self.num_stages, self.stage_depth)
        return depths, jax.random.randint(width_key, shape, 0, len(self.width_multipliers))

    def sample(self, key: Key[Array, ""]) -> Architecture:
        """Draws each depth uniformly, then each active block's width uniformly."""
        return self._from_choices(*self._random_genes(key))

    def sample_small(self, key: Key[Array, ""]) -> Architecture:
        """Draws depths and widths below limits that are drawn first: small students are frequent.

        Where a budget leaves a sliver of the space, ``sample`` hardly ever hits it.
        """
        limit_key, key = jax.random.split(key)
        depths, choices = self._random_genes(key)
        depth_limit, width_limit = jax.random.uniform(limit_key, (2,))
        count = len(self.width_multipliers)
        ranks = choices % (1 + (width_limit * count).astype(jnp.int32))
        narrowest_first = jnp.asarray(np.argsort(self.width_multipliers, kind="stable"))
        limit = 1 + (depth_limit * self.stage_depth).astype(jnp.int32)
        return self._from_choices(1 + (depths - 1) % limit, narrowest_first[ranks])

    def mutate(
        self, key: Key[Array, ""], architecture: Architecture, probability: float = 0.1
    ) -> Architecture:
        """Redraws each depth and each width with the given probability.

        A block that a deeper stage makes active gets a fresh width.

        Args:
          key: Random key.
          architecture: The parent, without batch axes.
          probability: Chance of every single gene to be redrawn, in [0, 1].

        Returns:
          The child, inside the space.
        """
        genes_key, depth_key, width_key = jax.random.split(key, 3)
        new_depths, new_choices = self._random_genes(genes_key)
        change_depth = jax.random.bernoulli(depth_key, probability, new_depths.shape)
        change_width = jax.random.bernoulli(width_key, probability, new_choices.shape)
        change_width |= architecture.widths == 0
        choices = jnp.where(change_width, new_choices, self._to_choices(architecture.widths))
        depths = jnp.where(change_depth, new_depths, architecture.depths)
        return self._from_choices(depths, choices)

    def crossover(
        self, key: Key[Array, ""], first: Architecture, second: Architecture
    ) -> Architecture:
        """Takes each stage, depth and widths together, from either parent with equal chance."""
        from_first = jax.random.bernoulli(key, 0.5, (self.num_stages,))
        return Architecture(
            jnp.where(from_first, first.depths, second.depths),
            jnp.where(from_first[:, None], first.widths, second.widths),
        )

    def encode(self, architecture: Architecture) -> Float[Array, " E"]:
        """Flat one-hot encoding: the depth of each stage, then the width of each block.

        Args:
          architecture: One architecture, without batch axes. A width that is no choice of the
            space counts as the nearest choice.

        Returns:
          Zeros and ones, [E]; the code of an absent block is all zeros.
        """
        depths = jax.nn.one_hot(architecture.depths - 1, self.stage_depth)
        widths = jax.nn.one_hot(self._to_choices(architecture.widths), len(self.width_multipliers))
        widths *= self.block_mask(architecture)[..., None]
        return jnp.concatenate([depths.ravel(), widths.ravel()])

    def to_json(self, architecture: Architecture) -> dict[str, list]:
        """The depths and the ragged widths of one architecture, as JSON can hold them."""
        depths = [int(d) for d in np.asarray(architecture.depths)]
        table = np.asarray(architecture.widths)
        widths = [[int(w) for w in row[:depth]] for row, depth in zip(table, depths, strict=True)]
        return {"depths": depths, "widths": widths}

    def from_json(self, data: dict[str, Any]) -> Architecture:
        """Reads what ``to_json`` wrote.

        Raises:
          UserError: If a field is missing or the architecture lies outside of the space.
        """
        try:
            return self.architecture(data["depths"], data["widths"])
        except (KeyError, TypeError) as error:
            raise UserError(
                f'an architecture needs "depths" and "widths", one entry per stage: {error!r}'
            ) from error


def stack(architectures: Sequence[Architecture]) -> Architecture:
    """Stacks K architectures along a new leading axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *architectures)


def unstack(architectures: Architecture) -> list[Architecture]:
    """The K architectures of a batch, one by one."""
    return [Architecture(d, w) for d, w in zip(*map(np.asarray, architectures), strict=True)]
