"""The teacher's logits for every training image under every fixed view, computed once.

Dimension letters: V views, N images, B batch, H W image size, C classes.
"""

import functools
import hashlib
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from dass_jax import checkpoints, resnet
from dass_jax.data.augmentation import Augmentation, augment
from dass_jax.evaluation import Split
from dass_jax.search_space import ResNetSpace


@functools.partial(jax.jit, static_argnums=(0, 1), static_argnames="batch_size")
def view_logits(
    space: ResNetSpace,
    augmentation: Augmentation,
    variables: resnet.Variables,
    data: Split,
    view_key: Key[Array, ""],
    view: Int[Array, ""],
    *,
    batch_size: int,
) -> Float[Array, "N C"]:
    """The teacher's logits for all images under one view.

    Args:
      space: The search space, static.
      augmentation: What views may do, static.
      variables: The teacher.
      data: The training images.
      view_key: Key of the task's views.
      view: Number of the view.
      batch_size: Images per forward pass.

    Returns:
      Logits, [N, C], float32.
    """
    count = len(data.labels)
    # the last batch is filled up with image 0, whose surplus logits are cut off
    indices = jnp.arange(count + -count % batch_size)
    indices = jnp.where(indices < count, indices, 0).reshape(-1, batch_size)

    def batch(indices: Array) -> Array:
        images = augment(augmentation, view_key, view, indices, data.images[indices])
        return resnet.apply(space, variables, space.full(), images, train=False)[0]

    return jax.lax.map(batch, indices).reshape(-1, resnet.num_classes(variables))[:count]


def fingerprint(
    space: ResNetSpace,
    augmentation: Augmentation,
    variables: resnet.Variables,
    data: Split,
    view_key: Key[Array, ""],
) -> str:
    """A digest of all that the logits of a view depend on."""
    digest = hashlib.sha256(repr((space, augmentation)).encode())
    for leaf in jax.tree.leaves((variables, data.images, jax.random.key_data(view_key))):
        array = np.ascontiguousarray(leaf)
        digest.update(repr((array.shape, str(array.dtype))).encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def cache_bytes(num_views: int, num_images: int, num_classes: int, dtype: Any = np.float16) -> int:
    """Size of a cache on disk, in bytes."""
    return num_views * num_images * num_classes * np.dtype(dtype).itemsize


def _read(
    folder: pathlib.Path, shape: tuple[int, int], dtype: np.dtype, digest: str
) -> np.ndarray | None:
    """The stored logits of a view, or None where they are missing, stale or damaged."""
    try:
        if checkpoints.read_metadata(folder)["fingerprint"] != digest:
            return None
        return checkpoints.restore(folder, {"logits": np.empty(shape, dtype)})[0]["logits"]
    except (ValueError, OSError, KeyError):
        # orbax reports damage in several of these ways; the cure is the same
        return None


def load_or_compute(
    folder: pathlib.Path,
    space: ResNetSpace,
    augmentation: Augmentation,
    variables: resnet.Variables,
    data: Split,
    view_key: Key[Array, ""],
    num_views: int,
    *,
    dtype: Any = np.float16,
    batch_size: int = 256,
    on_view: Callable[[bool], None] = lambda computed: None,
) -> Float[np.ndarray, "V N C"]:
    """Reads the cache of a task and fills what is missing, one save per view.

    Args:
      folder: Where the cache lies; stale or damaged views are replaced.
      space: The search space.
      augmentation: What views may do.
      variables: The teacher.
      data: The training images.
      view_key: Key of the task's views.
      num_views: V, how many views.
      dtype: What the logits are stored as.
      batch_size: Images per forward pass.
      on_view: Called after each view, with whether it had to be computed.

    Returns:
      Logits on the host, [V, N, C].
    """
    digest = fingerprint(space, augmentation, variables, data, view_key)
    count = len(data.labels)
    logits = np.empty((num_views, count, resnet.num_classes(variables)), dtype)
    for view in range(num_views):
        path = folder / f"view{view:04d}"
        stored = _read(path, logits.shape[1:], logits.dtype, digest)
        if stored is not None:
            logits[view] = stored
        else:
            logits[view] = view_logits(
                space, augmentation, variables, data, view_key, jnp.asarray(view, jnp.int32),
                batch_size=min(batch_size, count),
            )  # fmt: skip
            shutil.rmtree(path, ignore_errors=True)
            checkpoints.save(path, 0, {"logits": logits[view]}, {"fingerprint": digest})
        on_view(stored is None)
    return logits
