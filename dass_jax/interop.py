"""Imports weights of the official PyTorch implementation, given as plain arrays.

Linear weights turn from (out, in) to (in, out), convolutions from OIHW to HWIO.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from dass_jax import resnet
from dass_jax.errors import UserError
from dass_jax.predictor.inputs import PredictorInputs, StudentInputs
from dass_jax.predictor.model import AccuracyPredictor, PredictorConfig
from dass_jax.search_space import Architecture, ResNetSpace

_FUNCTIONAL = {"conv1.weight": "conv1_kernel", "conv2.weight": "conv2_kernel"}
_PREDICTOR_NAMES: dict[str, dict[str, tuple[str, ...]]] = {
    "S": {f"func_encoder.{name}": ("student_encoder", ours) for name, ours in _FUNCTIONAL.items()},
    "T": {
        f"teacher_encoder.{name}": ("teacher_encoder", ours) for name, ours in _FUNCTIONAL.items()
    },
    "A": {
        "arch_encoder.fc.weight": ("architecture_encoder", "dense", "kernel"),
        "arch_encoder.fc.bias": ("architecture_encoder", "dense", "bias"),
    },
    "head": {
        "proj_layers.0.weight": ("head_hidden", "kernel"),
        "proj_layers.0.bias": ("head_hidden", "bias"),
        "proj_layers.2.weight": ("head_output", "kernel"),
        "proj_layers.2.bias": ("head_output", "bias"),
    },
}
_NORM = {
    "weight": ("params", "scale"),
    "bias": ("params", "bias"),
    "running_mean": ("batch_stats", "mean"),
    "running_var": ("batch_stats", "var"),
}
_AXES = {1: (0,), 2: (1, 0), 4: (2, 3, 1, 0)}  # By rank, where each axis of ours is in theirs.


def _clean(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Strips the prefix of ``DataParallel`` and drops counters that no layer of ours has."""
    return {
        name.removeprefix("module."): np.asarray(array)
        for name, array in arrays.items()
        if not name.endswith("num_batches_tracked")
    }


def _check_names(found: set[str], expected: set[str], what: str) -> None:
    for kind, names in (("missing", expected - found), ("unknown", found - expected)):
        if names:
            listed = ", ".join(sorted(names)[:5]) + (" ..." if len(names) > 5 else "")
            raise UserError(f"{what} weights: {kind} {listed}")


def _to_flax(name: str, array: np.ndarray, rank: int) -> jax.Array:
    if array.ndim != rank:
        raise UserError(f"official weights: {name} has shape {array.shape}, not {rank} axes")
    return jnp.asarray(array.transpose(_AXES[rank]), jnp.float32)


def _predictor_rank(path: tuple[str, ...]) -> int:
    return {"bias": 1, "kernel": 2}.get(path[-1], 4)


def import_predictor(
    state_dict_arrays: Mapping[str, np.ndarray],
) -> tuple[PredictorConfig, dict[str, Any]]:
    """Converts the weights of an official predictor.

    Args:
      state_dict_arrays: Official state-dict names and arrays, with or without ``module.``.

    Returns:
      The configuration, its inputs and sizes read from the weights, and the variables of
      ``AccuracyPredictor(config)``.

    Raises:
      UserError: A weight is missing or unknown, or has a shape that fits no predictor.
    """
    arrays = _clean(state_dict_arrays)
    inputs = "".join(
        letter for letter in "STA" if not _PREDICTOR_NAMES[letter].keys().isdisjoint(arrays)
    )
    if not inputs:
        raise UserError("predictor weights: neither func_, teacher_ nor arch_encoder is among them")
    paths = {
        name: path for part in (*inputs, "head") for name, path in _PREDICTOR_NAMES[part].items()
    }
    _check_names(set(arrays), set(paths), "predictor")
    flat = {
        path: _to_flax(name, arrays[name], _predictor_rank(path)) for name, path in paths.items()
    }
    config = _predictor_config(inputs, flat)
    _check_shapes(config, flat)
    return config, {"params": traverse_util.unflatten_dict(flat)}


def _predictor_config(inputs: str, flat: dict[tuple[str, ...], jax.Array]) -> PredictorConfig:
    """Reads the sizes off the last axes; whether the others fit is for ``_check_shapes``."""
    sizes: dict[str, Any] = {"head_features": flat["head_hidden", "bias"].shape[-1]}
    if "A" in inputs:
        sizes["architecture_features"] = flat["architecture_encoder", "dense", "bias"].shape[-1]
    functional = "student_encoder" if "S" in inputs else "teacher_encoder"
    if (functional, "conv1_kernel") in flat:
        sizes["hidden_channels"] = flat[functional, "conv1_kernel"].shape[-1]
        sizes["embedding_channels"] = flat[functional, "conv2_kernel"].shape[-1]
    return PredictorConfig(inputs, architecture="flat", **sizes)


def _check_shapes(config: PredictorConfig, flat: dict[tuple[str, ...], jax.Array]) -> None:
    """Compares with the shapes of a predictor that is initialized on inputs of these sizes."""

    def length(path: tuple[str, ...], axis: int) -> int:
        return flat[path].shape[axis] if path in flat else 1

    channels = max(
        length((part, "conv1_kernel"), -2) for part in ("student_encoder", "teacher_encoder")
    )
    teacher = StudentInputs(
        noise_map=jnp.zeros((1, 1, channels)),
        encoding=jnp.zeros(length(("architecture_encoder", "dense", "kernel"), 0)),
    )
    example = PredictorInputs(jax.tree.map(lambda leaf: leaf[None], teacher), teacher)
    predictor = AccuracyPredictor(config)
    variables = jax.eval_shape(predictor.init, jax.random.key(0), example)
    for path, wanted in traverse_util.flatten_dict(variables["params"]).items():
        if flat[path].shape != wanted.shape:
            raise UserError(
                f"predictor weights: {'/'.join(path)} has shape {flat[path].shape}, "
                f"which does not fit the others (expected {wanted.shape})"
            )


def _resnet_paths(widths: tuple[tuple[int, ...], ...]) -> dict[str, tuple[str, ...]]:
    """Official name of every ResNet array -> its path in this project's variables."""
    modules: dict[str, tuple[str, ...]] = {"conv1": ("stem_conv",), "bn1": ("stem_norm",)}
    for stage, row in enumerate(widths):
        for index in range(len(row)):
            ours, theirs = resnet.block_name(stage, index), f"layer{stage + 1}.{index}"
            for number in "12":
                modules[f"{theirs}.conv{number}"] = (ours, f"conv{number}")
                modules[f"{theirs}.bn{number}"] = (ours, f"norm{number}")
    paths: dict[str, tuple[str, ...]] = {
        "fc.weight": ("params", "dense", "kernel"),
        "fc.bias": ("params", "dense", "bias"),
    }
    for theirs, path in modules.items():
        if "conv" in path[-1]:
            paths[f"{theirs}.weight"] = ("params", *path, "kernel")
        else:
            for suffix, (collection, leaf) in _NORM.items():
                paths[f"{theirs}.{suffix}"] = (collection, *path, leaf)
    return paths


def import_resnet(
    state_dict_arrays: Mapping[str, np.ndarray],
    space: ResNetSpace,
    architecture: Architecture | None = None,
) -> resnet.Variables:
    """Converts the weights of an official ResNet.

    Args:
      state_dict_arrays: Official state-dict names and arrays, with or without ``module.``.
      space: The search space that the network belongs to.
      architecture: The student whose own size the weights have; by default the teacher.

    Returns:
      The teacher's variables, or a student's for ``resnet.apply_dense``.

    Raises:
      UserError: A weight is missing or unknown, or a shape does not fit the space.
    """
    arrays = _clean(state_dict_arrays)
    classes = len(arrays.get("fc.bias", (0, 0)))
    template = resnet.variable_shapes(space, classes)
    if architecture is not None:
        zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape), template)
        template = resnet.cut(space, zeros, architecture)
    paths = _resnet_paths(resnet.block_widths(template))
    _check_names(set(arrays), set(paths), "ResNet")
    expected = traverse_util.flatten_dict(template)
    flat = {}
    for name, path in paths.items():
        flat[path] = _to_flax(name, arrays[name], expected[path].ndim)
        if flat[path].shape != expected[path].shape:
            raise UserError(
                f"ResNet weights: {name} has shape {arrays[name].shape}, which does not fit the "
                f"widths {space.stage_widths} of the search space"
            )
    return traverse_util.unflatten_dict(flat)
