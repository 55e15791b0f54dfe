from collections.abc import Mapping
import jax
import jax.numpy as jnp
import numpy as np
from typing import Any
from dass_jax import resnet
from dass_jax.errors import UserError
from dass_jax.search_space import Architecture, ResNetSpace


def _clean_names(state):
    return {k.removeprefix("module."): np.asarray(v) for k, v in state.items() if not k.endswith("num_batches_tracked")}


_NORM_LEAVES = {
    "weight": ("params", "scale"),
    "bias": ("params", "bias"),
    "running_mean": ("batch_stats", "mean"),
    "running_var": ("batch_stats", "var"),
}


def _resnet_names(widths: tuple[tuple[int, ...], ...]) -> dict[str, tuple[str, ...]]:
    """Official name of every array -> its place in this project's variables."""
    modules = {"conv1": ("stem_conv",), "bn1": ("stem_norm",)}
    for stage, row in enumerate(widths):
        for index in range(len(row)):
            for number in "12":
                ours, theirs = resnet.block_name(stage, index), f"layer{stage + 1}.{index}"
                modules[f"{theirs}.conv{number}"] = (ours, f"conv{number}")
                modules[f"{theirs}.bn{number}"] = (ours, f"norm{number}")
    names: dict[str, tuple[str, ...]] = {
        "fc.weight": ("params", "dense", "kernel"),
        "fc.bias": ("params", "dense", "bias"),
    }
    for theirs, ours in modules.items():
        if ours[-1].rstrip("12").endswith("conv"):
            names[f"{theirs}.weight"] = ("params", *ours, "kernel")
            continue
        for suffix, (collection, leaf) in _NORM_LEAVES.items():
            names[f"{theirs}.{suffix}"] = (collection, *ours, leaf)
    return names


def import_resnet(
    state_dict_arrays: Mapping[str, np.ndarray],
    space: ResNetSpace,
    architecture: Architecture | None = None,
) -> resnet.Variables:
    """Turns an official ResNet's weights into variables of this project.

    Args:
      state_dict_arrays: Official names (``layer2.0.conv1.weight``, ...) to arrays; convolutions
        are OIHW and dense layers (out, in), as PyTorch has them.
      space: The search space that the network belongs to.
      architecture: The student whose own size the weights have; by default the teacher.

    Returns:
      The teacher's variables, or a student's for ``resnet.apply_dense``.

    Raises:
      UserError: If a name is missing or unknown, or a shape does not fit the space.
    """
    arrays = _clean_names(state_dict_arrays)
    if "fc.bias" not in arrays:
        raise UserError("these are no weights of an official ResNet: fc.bias is missing")
    template = jax.eval_shape(
        lambda: resnet.init(space, jax.random.key(0), len(arrays["fc.bias"]))
    )
    if architecture is not None:
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), template)
        template = resnet.cut(space, zeros, architecture)
    names = _resnet_names(resnet.block_widths(template))
    if odd := sorted(names.keys() ^ arrays.keys()):
        raise UserError(
            f"these weights do not fit the search space: {odd[0]} is "
            f"{'missing' if odd[0] in names else 'not expected'} ({len(odd)} such names); "
            "check stage_widths and stage_depth"
        )
    variables: dict[str, Any] = {}
    for name, (*modules, leaf) in names.items():
        array = arrays[name]
        if leaf == "kernel":
            array = array.T if array.ndim == 2 else array.transpose(2, 3, 1, 0)
        node, expected = variables, template
        for module in modules:
            node, expected = node.setdefault(module, {}), expected[module]
        if array.shape != expected[leaf].shape:
            raise UserError(
                f"{name} has the shape {arrays[name].shape}, which does not fit the search space"
            )
        node[leaf] = jnp.asarray(array)
    return variables
