"""One ResNet that is the teacher and, under a mask, every student (DaSS, ICLR 2023).

Shortcuts have no parameters: they only pool, zero-pad and crop. A student that is nowhere deeper
or wider than the teacher is therefore exactly the teacher-shaped network in which missing
channels are zero and missing blocks are the identity. The masks lie on the parameters, which
costs nothing; the only activation that needs one is a shortcut that crops.

Dimension letters: B batch, H W image size, h w feature map size, I C channels, N classes.
"""

import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Key

from dass_jax.errors import UserError
from dass_jax.initialization import draw_variables
from dass_jax.layers import BasicBlock, BatchNorm, Conv
from dass_jax.search_space import Architecture, ResNetSpace

Variables = dict[str, Any]
Features = dict[str, Array]


class ResNet(nn.Module):
    """Stem, stages of basic blocks, global average pool, dense layer.

    Attributes:
      block_widths: Channels of every block, one tuple per stage; the stem has the first's.
      strides: Stride of each stage's first block.
      num_classes: Outputs of the dense layer.
      axis_name: Mapped axis over which the batch is spread, if it is.
      dtype: What convolutions compute in; sums over images and pixels take float32.
    """

    block_widths: tuple[tuple[int, ...], ...]
    strides: tuple[int, ...]
    num_classes: int
    axis_name: str | None = None
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, images: Float[Array, "B H W 3"], architecture: Architecture | None, train: bool
    ) -> tuple[Float[Array, "B N"], Features]:
        """Returns logits and named feature maps; without architecture nothing is masked."""
        width = None if architecture is None else architecture.widths[0, 0]
        hidden = Conv(self.block_widths[0][0], dtype=self.dtype, name="stem_conv")(images, width)
        hidden = nn.relu(BatchNorm(self.axis_name, name="stem_norm")(hidden, width, train))
        features = {"stem": hidden}
        for stage in range(len(self.strides)):
            hidden = self._stage(hidden, stage, architecture, train)
            features[f"stage{stage + 1}"] = hidden
        pooled = jnp.mean(hidden.astype(jnp.float32), (1, 2))
        return nn.Dense(self.num_classes, name="dense")(pooled), features

    def _stage(
        self, hidden: Array, stage: int, architecture: Architecture | None, train: bool
    ) -> Array:
        for index, channels in enumerate(self.block_widths[stage]):
            stride = self.strides[stage] if index == 0 else 1
            block = BasicBlock(
                channels, stride, self.axis_name, self.dtype, name=block_name(stage, index)
            )
            width = None if architecture is None else architecture.widths[stage, index]
            if architecture is None or index == 0 or self.is_initializing():
                hidden = block(hidden, width, train)
                continue
            # a loop over students really skips absent blocks; vmap turns this into a select
            hidden = nn.cond(
                index < architecture.depths[stage],
                lambda block, inputs, width=width: block(inputs, width, train),
                lambda block, inputs: inputs,
                block,
                hidden,
            )
        return hidden


def block_name(stage: int, index: int) -> str:
    """Name of a block's variables; both counts start at 0, stages are printed from 1."""
    return f"stage{stage + 1}_block{index}"


def block_widths(variables: Variables) -> tuple[tuple[int, ...], ...]:
    """The channels of every block, read from the shapes of the parameters."""
    params = variables["params"]
    widths: list[tuple[int, ...]] = []
    while block_name(len(widths), 0) in params:
        row: list[int] = []
        while (name := block_name(len(widths), len(row))) in params:
            row.append(params[name]["conv1"]["kernel"].shape[-1])
        widths.append(tuple(row))
    return tuple(widths)


def num_classes(variables: Variables) -> int:
    """The number of classes, read from the dense layer."""
    return variables["params"]["dense"]["bias"].shape[-1]


def _full_widths(space: ResNetSpace) -> tuple[tuple[int, ...], ...]:
    return tuple((width,) * space.stage_depth for width in space.stage_widths)


def check_image_size(space: ResNetSpace, *sizes: int) -> None:
    """Refuses sizes at which strided convolutions and 2x2 pools would round differently.

    Args:
      space: The search space.
      *sizes: Height and width of the images, or either if they are square.

    Raises:
      UserError: If the total stride of the space does not divide one of the sizes.
    """
    total = math.prod(space.strides)
    for size in sizes:
        if size < total or size % total:
            raise UserError(
                f"image size {size} is not a multiple of {total}, the total stride of the "
                f"network: resize the images"
            )


@functools.cache
def variable_shapes(space: ResNetSpace, num_classes: int) -> Variables:
    """Shapes and types of a teacher's variables, as ``jax.ShapeDtypeStruct`` leaves."""
    module = ResNet(_full_widths(space), space.strides, num_classes)
    images = jnp.zeros((1, *[math.prod(space.strides)] * 2, 3))
    return jax.eval_shape(lambda: module.init(jax.random.key(0), images, None, False))


def init(
    space: ResNetSpace,
    key: Key[Array, ""],
    num_classes: int,
    architecture: Architecture | None = None,
) -> Variables:
    """Fresh variables of the teacher's shape.

    Args:
      space: The search space.
      key: Random key.
      num_classes: Outputs of the dense layer.
      architecture: Whose sizes set the scale of the initial values; the teacher's by default.

    Returns:
      ``{"params": ..., "batch_stats": ...}``; not masked.
    """
    student = architecture or space.full()
    widths: dict[str, Any] = {"stem_conv": student.widths[0, 0]}
    for stage in range(space.num_stages):
        for index in range(space.stage_depth):
            widths[block_name(stage, index)] = student.widths[stage, index]
    fan_in = student.widths[-1, student.depths[-1] - 1]
    return draw_variables(variable_shapes(space, num_classes), key, widths, fan_in)


def with_new_classes(variables: Variables, fresh: Variables) -> Variables:
    """The variables of a trained network, but for the dense layer, which is the fresh network's."""
    params = variables["params"] | {"dense": fresh["params"]["dense"]}
    return {"params": params, "batch_stats": variables["batch_stats"]}


def _run(
    module: ResNet,
    variables: Variables,
    architecture: Architecture | None,
    images: Array,
    train: bool,
) -> Any:
    if not train:
        return module.apply(variables, images, architecture, False)
    (logits, features), updates = module.apply(
        variables, images, architecture, True, mutable=["batch_stats"]
    )
    return logits, features, updates["batch_stats"]


def apply(
    space: ResNetSpace,
    variables: Variables,
    architecture: Architecture,
    images: Float[Array, "B H W 3"],
    *,
    train: bool,
    axis_name: str | None = None,
    dtype: DTypeLike = jnp.float32,
) -> Any:
    """Runs a student as the masked teacher.

    Args:
      space: The search space, static.
      variables: Teacher-shaped variables; channels and blocks outside of the student have no
        influence. The number of classes is read from the dense layer.
      architecture: The student, without batch axes; ``space.full()`` is the teacher.
      images: Images in [-1, 1], NHWC.
      train: Whether batch normalisation uses the batch's statistics.
      axis_name: Mapped axis over whose devices the batch is spread; its statistics are those of
        the whole batch.
      dtype: What convolutions compute in; parameters, statistics and logits are float32.

    Returns:
      ``(logits, features)`` in evaluation and ``(logits, features, batch_stats)`` in training.
      ``features`` maps stem, stage1, ... to teacher-wide maps that are zero outside of the
      student's channels.

    Raises:
      UserError: If the variables do not have the shape of the space.
    """
    check_image_size(space, *images.shape[1:3])
    widths = block_widths(variables)
    if widths != _full_widths(space):
        raise UserError(
            f"the network's blocks have the widths {widths}, but the search space "
            f"{_full_widths(space)}: use the stage_widths and stage_depth of this teacher"
        )
    module = ResNet(widths, space.strides, num_classes(variables), axis_name, dtype)
    return _run(module, variables, architecture, images, train)


def apply_dense(
    space: ResNetSpace, variables: Variables, images: Float[Array, "B H W 3"], *, train: bool
) -> Any:
    """Runs a network that has exactly the size of its variables, without any mask.

    Args:
      space: The search space, static; only its strides matter.
      variables: What ``cut`` returned, or a teacher's variables.
      images: Images in [-1, 1], NHWC.
      train: Whether batch normalisation uses the batch's statistics.

    Returns:
      As ``apply``; feature maps have the network's own channels.
    """
    check_image_size(space, *images.shape[1:3])
    module = ResNet(block_widths(variables), space.strides, num_classes(variables))
    return _run(module, variables, None, images, train)


def cut(space: ResNetSpace, variables: Variables, architecture: Architecture) -> Variables:
    """Cuts a masked student out of teacher-shaped variables, at its own size.

    Args:
      space: The search space.
      variables: Teacher-shaped variables or gradients of such, with any collections.
      architecture: The student, concrete and without batch axes.

    Returns:
      Variables for ``apply_dense``: the first channels of the active blocks.
    """
    student = space.to_json(architecture)
    inputs = stem = student["widths"][0][0]
    sizes = {"stem_conv": (3, stem), "stem_norm": (stem, stem)}
    for stage, row in enumerate(student["widths"]):
        for index, width in enumerate(row):
            sizes[block_name(stage, index)] = (inputs, width)
            inputs = width
    sizes["dense"] = (inputs, num_classes(variables))

    def slice_leaf(path: Any, leaf: Any, name: str) -> Any:
        ins, outs = sizes[name]
        if leaf.ndim == 1:
            return leaf[:outs]
        return leaf[..., : outs if path[0].key == "conv2" else ins, :outs]

    return {
        collection: {
            name: jax.tree_util.tree_map_with_path(
                lambda path, leaf, name=name: slice_leaf(path, leaf, name), subtree
            )
            for name, subtree in modules.items()
            if name in sizes
        }
        for collection, modules in variables.items()
    }
