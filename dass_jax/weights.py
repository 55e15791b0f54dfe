"""Teachers that were trained elsewhere, read from files.

Official PyTorch weights are read as weights only, never unpickled as code.
"""

import pathlib
import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax import traverse_util

from dass_jax import checkpoints, interop, resnet
from dass_jax.errors import UserError
from dass_jax.quiet_orbax import quiet_orbax
from dass_jax.search_space import ResNetSpace
from dass_jax.teacher import load_teacher

_PYTORCH = (".pt", ".pth", ".tar")
# what training scripts call the weights within a saved dict
_NESTED = ("state_dict", "model_state_dict", "model")
_COLLECTIONS = {"params", "batch_stats"}
# how orbax managers name the folder of a step, with or without a prefix
_STEP = re.compile(r"(?:[A-Za-z]+[_-]?)?(\d+)")


def read_teacher(path: pathlib.Path, space: ResNetSpace) -> resnet.Variables:
    """Reads the variables of a teacher.

    Args:
      path: A PyTorch file (``.pt``, ``.pth``, ``.pth.tar``), or ``.npz`` or ``.safetensors``, with
        the official implementation's names; or the folder of an orbax checkpoint, with this
        project's names, such as ``teachers/TASK`` of a work directory.
      space: The search space, whose full architecture it must be.

    Returns:
      Variables, on the host.

    Raises:
      UserError: If there is none, it cannot be read, or it does not fit the space.
    """
    if path.is_dir():
        return _read_checkpoint(path, space)
    if not path.exists():
        raise UserError(f"the teacher {path} does not exist")
    try:
        return jax.device_get(interop.import_resnet(read_state_dict(path), space))
    except UserError as error:
        raise UserError(f"the teacher {path} does not fit: {error}") from error


def read_state_dict(path: pathlib.Path) -> Mapping[str, np.ndarray]:
    """Reads named arrays from a file.

    Raises:
      UserError: If the file is of another kind, or damaged.
    """
    readers = {".npz": _read_npz, ".safetensors": _read_safetensors}
    readers |= dict.fromkeys(_PYTORCH, _read_pytorch)
    if path.suffix not in readers:
        raise UserError(f"{path.name} is no weights file: give one of {', '.join(readers)}")
    try:
        return readers[path.suffix](path)
    except (UserError, ImportError):
        raise
    # each library has its own errors for a damaged file
    except Exception as error:
        first_line = str(error).strip().split("\n")[0]
        raise UserError(f"{path} cannot be read as weights: {first_line}") from error


def _read_npz(path: pathlib.Path) -> Mapping[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def _read_safetensors(path: pathlib.Path) -> Mapping[str, np.ndarray]:
    from safetensors.numpy import load_file

    return load_file(path)


def _read_pytorch(path: pathlib.Path) -> Mapping[str, np.ndarray]:
    try:
        import torch
    except ImportError as error:
        raise UserError(
            f"{path.name} holds PyTorch weights: pip install -e '.[torch]' in the checkout, "
            "to read them"
        ) from error
    saved = torch.load(path, map_location="cpu", weights_only=True)
    for name in _NESTED:
        if isinstance(saved, dict) and isinstance(saved.get(name), dict):
            saved = saved[name]
    if not isinstance(saved, dict):
        raise UserError(f"{path} holds a {type(saved).__name__}, not named weights")
    tensors = {k: v for k, v in saved.items() if isinstance(v, torch.Tensor)}
    return {name: tensor.detach().float().numpy() for name, tensor in tensors.items()}


def _read_checkpoint(folder: pathlib.Path, space: ResNetSpace) -> resnet.Variables:
    for place in (folder / "checkpoint", folder):
        if _is_own(place):
            return load_teacher(place, space)[0].variables
    places = _pytrees(folder)
    if not places:
        raise UserError(f"{folder} holds no orbax checkpoint of a teacher")
    trees = {place: _restore(place) for place in places}
    # a manager may keep an optimiser or a data iterator beside the network
    teachers = [place for place, found in trees.items() if set(found) >= _COLLECTIONS]
    place = (teachers or places)[0]
    return _checked(place, trees[place], space)


def _is_own(folder: pathlib.Path) -> bool:
    """Whether a folder is a teacher as this project saves it, be it intact or not."""
    step = checkpoints.latest_step(folder)
    own = step is not None and all(
        (folder / str(step) / item).is_dir() for item in ("arrays", "metadata")
    )
    return own and "num_classes" in checkpoints.read_metadata(folder)


def _pytrees(folder: pathlib.Path) -> list[pathlib.Path]:
    """Where an orbax checkpoint keeps its arrays: in the folder, or in a manager's newest step."""
    folders = [path for path in sorted(folder.iterdir()) if path.is_dir()]
    steps = {
        int(found[1]): path for path in folders if (found := _STEP.fullmatch(path.name)) is not None
    }
    newest = [steps[max(steps)]] if steps else []
    within = [path for step in newest for path in sorted(step.iterdir())]
    return [path for path in (folder, *newest, *within, *folders) if (path / "_METADATA").is_file()]


def _restore(folder: pathlib.Path) -> dict[str, Any]:
    """A checkpoint's tree on the host, wherever it was saved.

    Raises:
      UserError: If it cannot be read.
    """
    handler = ocp.PyTreeCheckpointHandler()
    try:
        with quiet_orbax(), ocp.Checkpointer(handler) as checkpointer:
            saved = checkpointer.metadata(folder.absolute())
            tree = getattr(getattr(saved, "item_metadata", saved), "tree", saved)
            # as numpy arrays, because the devices that it was saved from may not be here
            how = jax.tree.map(lambda leaf: ocp.RestoreArgs(restore_type=np.ndarray), tree)
            found = checkpointer.restore(
                folder.absolute(), args=ocp.args.PyTreeRestore(restore_args=how)
            )
    # orbax has no common error for what it cannot read
    except Exception as error:
        first_line = str(error).strip().split("\n")[0]
        raise UserError(f"the checkpoint {folder} cannot be read: {first_line}") from error
    return found if isinstance(found, dict) else {}


def _checked(folder: pathlib.Path, found: Any, space: ResNetSpace) -> resnet.Variables:
    """The variables, if they have the names and shapes of a teacher of this space."""
    try:
        named = {name: found[name] for name in sorted(_COLLECTIONS)}
        # what was trained in bfloat16, say, is computed with in float32 from here on
        variables = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), named)
        flat = traverse_util.flatten_dict(variables)
        template = resnet.variable_shapes(space, len(variables["params"]["dense"]["bias"]))
    except (KeyError, TypeError) as error:
        raise UserError(
            f"the checkpoint {folder} holds no teacher: it needs params and batch_stats with the "
            "names of dass_jax.resnet"
        ) from error
    expected = traverse_util.flatten_dict(template)
    for path in sorted(expected.keys() | flat.keys()):
        wanted = expected[path].shape if path in expected else "absent"
        own = np.shape(flat[path]) if path in flat else "missing"
        if own != wanted:
            raise UserError(
                f"the teacher {folder} does not fit the search space: {'/'.join(path)} is {own} "
                f"there, {wanted} here"
            )
    return variables
