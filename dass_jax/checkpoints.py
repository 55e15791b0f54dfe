"""Saving pytrees and what describes them, through orbax; restoring strictly.

A save is atomic: orbax writes into a temporary folder and renames it, so a killed process leaves
the previous save in place.
"""

import contextlib
import errno
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import tensorstore

from dass_jax.errors import UserError, reading, writing
from dass_jax.quiet_orbax import quiet_orbax
from dass_jax.recipe import Recipe, require_equal
from dass_jax.workdir import free_bytes

# what orbax's own files take on disk, for each save
OVERHEAD_BYTES = 80 * 2**10


def _manager(folder: pathlib.Path, *, create: bool) -> ocp.CheckpointManager:
    options = ocp.CheckpointManagerOptions(
        max_to_keep=1,
        create=create,
        cleanup_tmp_directories=create,
        enable_async_checkpointing=False,
    )
    return ocp.CheckpointManager(
        pathlib.Path(folder).absolute(),
        options=options,
        item_handlers={
            "arrays": ocp.StandardCheckpointHandler(),
            "metadata": ocp.JsonCheckpointHandler(),
        },
    )


def exists(folder: pathlib.Path) -> bool:
    """Whether the folder holds a complete save."""
    return latest_step(folder) is not None


def latest_step(folder: pathlib.Path) -> int | None:
    """The number of the newest complete save, or None."""
    if not pathlib.Path(folder).is_dir():
        return None
    with _manager(folder, create=False) as manager:
        return manager.latest_step()


def _require_room(folder: pathlib.Path, arrays: Any) -> None:
    """Fails before orbax does, whose unfinished writes print tracebacks when the process ends."""
    needed = sum(leaf.nbytes for leaf in jax.tree.leaves(arrays)) + OVERHEAD_BYTES
    if needed > free_bytes(folder):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def save(
    folder: pathlib.Path,
    step: int,
    arrays: Any,
    metadata: dict[str, Any],
    save_args: Any = None,
) -> None:
    """Writes a save and then drops the one before.

    Args:
      folder: Where saves of this thing lie.
      step: Number of this save, larger than the last one's.
      arrays: A pytree of arrays.
      metadata: What JSON can hold.
      save_args: The same pytree of ``ocp.SaveArgs``, which say how arrays are cut into chunks; each
        array is one chunk if None.

    Raises:
      UserError: If the folder already holds this step or a newer one, or cannot be written; the
        save before stays.
    """
    on_host = jax.tree.map(_to_numpy, arrays)
    args = ocp.args.Composite(
        arrays=ocp.args.StandardSave(on_host, save_args=save_args),
        metadata=ocp.args.JsonSave(metadata),
    )
    with writing(folder):
        _require_room(folder, on_host)
    with writing(folder), quiet_orbax(), _manager(folder, create=True) as manager:
        # orbax declines to overwrite without an error
        if not manager.save(step, args=args):
            raise UserError(f"{folder} already holds step {manager.latest_step()}: remove it first")


def _is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _to_numpy(leaf: Any) -> np.ndarray:
    """Typed keys are saved as the integers they consist of."""
    return np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)


def _from_numpy(leaf: Any, like: Any) -> Any:
    if _is_key(like):
        return jax.random.wrap_key_data(jnp.asarray(leaf), impl=jax.random.key_impl(like))
    return np.asarray(leaf)


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    if _is_key(leaf):
        leaf = jax.random.key_data(leaf)
    return jax.ShapeDtypeStruct(np.shape(leaf), leaf.dtype)


@contextlib.contextmanager
def _damage_named(folder: pathlib.Path) -> Iterator[None]:
    """Orbax reports a damaged file in many ways, at great length."""
    try:
        with reading(folder), quiet_orbax():
            yield
    except UserError:
        raise
    except (ValueError, OSError, KeyError) as error:
        raise UserError(f"the checkpoint in {folder} is damaged: remove it") from error


def read_metadata(folder: pathlib.Path) -> dict[str, Any]:
    """The description of the newest save.

    Raises:
      UserError: If there is none, or it is damaged.
    """
    step = latest_step(folder)
    if step is None:
        raise UserError(f"no checkpoint in {folder}")
    with _damage_named(folder), _manager(folder, create=False) as manager:
        return manager.restore(
            step, args=ocp.args.Composite(metadata=ocp.args.JsonRestore())
        ).metadata


def require_recipe(
    folder: pathlib.Path,
    what: str,
    recipe: Recipe,
    field: str = "recipe",
    otherwise: str = "use another work directory",
) -> dict[str, Any]:
    """The description of the newest save, if it was made from this recipe.

    Args:
      folder: Where saves of this thing lie.
      what: The thing, for messages.
      recipe: What it must have been made from.
      field: The entry of the description that holds its recipe.
      otherwise: What to do to have both.

    Raises:
      UserError: If there is none, it is damaged, or it was made with other settings.
    """
    metadata = read_metadata(folder)
    require_equal(f"{what} in {folder}", metadata.get(field), recipe, otherwise)
    return metadata


def saved_shapes(folder: pathlib.Path) -> Any:
    """Shapes and types of the newest save's arrays, as ``jax.ShapeDtypeStruct`` leaves.

    Args:
      folder: Where saves of this thing lie.

    Returns:
      A template for ``restore``, where any tree will do; named tuples become dicts.

    Raises:
      UserError: If there is none, or it is damaged.
    """
    step = latest_step(folder)
    if step is None:
        raise UserError(f"no checkpoint in {folder}")
    with _damage_named(folder), _manager(folder, create=False) as manager:
        saved = _saved_tree(manager, folder, step)
    tree = getattr(saved, "tree", saved)
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(tuple(leaf.shape), leaf.dtype), tree)


def _saved_tree(manager: ocp.CheckpointManager, folder: pathlib.Path, step: int) -> Any:
    """What describes the arrays of a save.

    Raises:
      OSError: If the system does not let them be looked at, which orbax takes for their absence.
      ValueError: If nothing describes them.
    """
    (folder / str(step) / "arrays" / "_METADATA").stat()
    saved = manager.item_metadata(step)["arrays"]
    if saved is None:
        raise ValueError(f"nothing describes the arrays of step {step}")
    return saved


def restore(folder: pathlib.Path, template: Any) -> tuple[Any, dict[str, Any]]:
    """Reads the newest save into the shape of a template.

    Args:
      folder: Where saves of this thing lie.
      template: A pytree of arrays or ``jax.ShapeDtypeStruct`` with the expected structure; random
        keys must be arrays.

    Returns:
      The arrays, on the host, and the metadata.

    Raises:
      UserError: If there is no save, it is damaged, or its tree, shapes or types differ from the
        template.
    """
    step = latest_step(folder)
    if step is None:
        raise UserError(f"no checkpoint in {folder}")
    target = jax.tree.map(_abstract, template)
    with _damage_named(folder), _manager(folder, create=False) as manager:
        saved = _saved_tree(manager, folder, step)
        _require_same_tree(folder, saved, target)
        args = ocp.args.Composite(
            arrays=ocp.args.StandardRestore(target), metadata=ocp.args.JsonRestore()
        )
        restored = manager.restore(step, args=args)
    return jax.tree.map(_from_numpy, restored.arrays, template), restored.metadata


def open_array(folder: pathlib.Path, step: int, name: str) -> tensorstore.TensorStore:
    """Opens one array of a save, of which slices can then be read without the rest.

    Orbax itself reads whole arrays only. This is its documented format: zarr in an OCDBT database.

    Args:
      folder: Where saves of this thing lie.
      step: Number of the save.
      name: The array's name in the saved dict.

    Returns:
      The array, still on disk: ``array[2:5].read().result()`` reads a part.

    Raises:
      ValueError: If there is none, or it is damaged.
    """
    base = {"driver": "file", "path": f"{pathlib.Path(folder).absolute() / str(step) / 'arrays'}/"}
    spec = {"driver": "zarr", "kvstore": {"driver": "ocdbt", "base": base, "path": f"{name}/"}}
    return tensorstore.open(spec, open=True, read=True).result()


def _describe(tree: Any) -> dict[str, tuple]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    names = {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}
    return {name: (tuple(leaf.shape), np.dtype(leaf.dtype)) for name, leaf in names.items()}


def _require_same_tree(folder: pathlib.Path, saved: Any, target: Any) -> None:
    """Orbax restores a partial tree without complaint, so compare before."""
    found, expected = _describe(getattr(saved, "tree", saved)), _describe(target)
    for name in sorted(found.keys() | expected.keys()):
        if found.get(name) != expected.get(name):
            raise UserError(
                f"the checkpoint in {folder} does not fit: {name} is {found.get(name, 'missing')} "
                f"there, {expected.get(name, 'absent')} here"
            )
