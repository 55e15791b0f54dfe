"""Many untrained students in one pass of the teacher, which is their supernet.

Students that inherit the teacher's first blocks and first channels have the same weights where
they have any. Their maps therefore stand in one batch, each masked to its own width, and every
convolution is one with the teacher's kernel: no student's weights are ever made.

Dimension letters: K students, k of them at a time, P images of H W pixels, h w size of a map,
C channels, L classes.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dass_jax import resnet
from dass_jax.layers import BasicBlock, BatchNorm, Conv, mask_channels
from dass_jax.remapping import Kind
from dass_jax.search_space import Architecture, ResNetSpace

# Of one compiled step on CPU: enough for fast convolutions, few enough for the cache.
_PIXELS_PER_STEP = 16 * 32**2


def covers(kind: Kind) -> bool:
    """Whether students that inherit in this way have the teacher's weights where they have any."""
    return kind == "copy_paste_first"


def students_at_a_time(students: int, images: Float[Array, "P H W 3"]) -> int:
    """k: few on CPU, so that blocks absent from all of them are skipped, else all of them."""
    if jax.default_backend() != "cpu":
        return students
    return max(1, min(students, _PIXELS_PER_STEP // images[..., 0].size))


def _run(module: nn.Module, variables: resnet.Variables, name: str, *arguments: Any) -> Array:
    """One of the teacher's modules; its running statistics stay as they are."""
    own = {group: modules[name] for group, modules in variables.items() if name in modules}
    return module.apply(own, *arguments, mutable=["batch_stats"])[0]


def _stem(
    space: ResNetSpace, variables: resnet.Variables, images: Array, train: bool
) -> Float[Array, "P H W C"]:
    hidden = _run(Conv(space.stage_widths[0]), variables, "stem_conv", images, None)
    return nn.relu(_run(BatchNorm(), variables, "stem_norm", hidden, None, train))


def _stage(
    space: ResNetSpace,
    variables: resnet.Variables,
    stage: int,
    train: bool,
    maps: Float[Array, "k P H W I"],
    depths: Int[Array, " k"],
    widths: Int[Array, "k D"],
) -> Float[Array, "k P h w C"]:
    """One stage of k students; a block that none of them has is skipped."""

    def block(index: int, maps: Array) -> Array:
        stride = space.strides[stage] if index == 0 else 1
        module = BasicBlock(space.stage_widths[stage], stride, shares_weights=True)
        name = resnet.block_name(stage, index)
        return jax.vmap(lambda own, width: _run(module, variables, name, own, width, train))(
            maps, widths[:, index]
        )

    def where_present(index: int, maps: Array) -> Array:
        present = (index < depths).reshape(-1, 1, 1, 1, 1)
        return jnp.where(present, block(index, maps), maps)

    maps = block(0, maps)
    for index in range(1, space.stage_depth):
        maps = jax.lax.cond(
            index < jnp.max(depths),
            lambda maps, index=index: where_present(index, maps),
            lambda maps: maps,
            maps,
        )
    return maps


def forward(
    space: ResNetSpace,
    variables: resnet.Variables,
    architectures: Architecture,
    images: Float[Array, "P H W 3"],
    *,
    train: bool,
) -> tuple[Float[Array, "K P L"], Float[Array, "K P h w C"]]:
    """Runs K students that inherit first blocks and first channels on the same images.

    Args:
      space: The search space, static.
      variables: The teacher's variables.
      architectures: K students.
      images: Images in [-1, 1], NHWC.
      train: Whether batch normalisation uses the statistics of each student's own batch.

    Returns:
      Logits, and the last stage's maps, which are zero beyond a student's channels.
    """
    count = len(architectures.depths)
    k = students_at_a_time(count, images)
    # the last step is filled up
    places = jnp.arange(count + -count % k)
    depths, widths = jax.tree.map(lambda leaf: leaf[places % count], architectures)
    stem = _stem(space, variables, images, train)
    maps = jax.vmap(lambda width: mask_channels(stem, width))(widths[:, 0, 0])
    for stage in range(space.num_stages):
        # neighbours of equal depth skip the same blocks
        order = jnp.argsort(depths[:, stage])
        maps, depths, widths, places = (x[order] for x in (maps, depths, widths, places))
        step = functools.partial(_stage, space, variables, stage, train)
        own = (maps, depths[:, stage], widths[:, stage])
        steps = jax.tree.map(lambda leaf: leaf.reshape(-1, k, *leaf.shape[1:]), own)
        maps = jax.lax.map(lambda own, step=step: step(*own), steps)
        maps = maps.reshape(-1, *maps.shape[2:])
    maps = maps[jnp.argsort(places)[:count]]
    dense = variables["params"]["dense"]
    return maps.mean((2, 3)) @ dense["kernel"] + dense["bias"], maps
