"""The teacher's logits for every training image under every fixed view, computed once.

Each view is one save, whose rows lie in blocks of about ``BLOCK_BYTES``: orbax stores one chunk for
each, so some rows can be read without the rest of the view, and a digest of each block beside it.

Dimension letters: V views, N images, B batch, G blocks, R rows of a block, H W image size, C
classes.
"""

import dataclasses
import functools
import hashlib
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jaxtyping import Array, Float, Int, Key

from dass_jax import checkpoints, resnet
from dass_jax.data.augmentation import Augmentation, augment
from dass_jax.errors import UnreadableError, UserError, reading
from dass_jax.evaluation import Split
from dass_jax.search_space import ResNetSpace
from dass_jax.workdir import free_bytes

# orbax warns of smaller chunks; reading one takes about a millisecond
BLOCK_BYTES = 2**20


@functools.partial(jax.jit, static_argnums=(0, 1))
def _batch_logits(
    space: ResNetSpace,
    augmentation: Augmentation,
    variables: resnet.Variables,
    data: Split,
    view_key: Key[Array, ""],
    view: Int[Array, ""],
    indices: Int[Array, " B"],
) -> Float[Array, "B C"]:
    images = augment(augmentation, view_key, view, indices, data.images[indices])
    return resnet.apply(space, variables, space.full(), images, train=False)[0]


def view_logits(
    space: ResNetSpace,
    augmentation: Augmentation,
    variables: resnet.Variables,
    data: Split,
    view_key: Key[Array, ""],
    view: Int[Array, ""],
    *,
    batch_size: int,
) -> Float[np.ndarray, "N C"]:
    """The teacher's logits for all images under one view; it can be stopped between batches.

    Args:
      space: The search space.
      augmentation: What views may do.
      variables: The teacher.
      data: The training images.
      view_key: Key of the task's views.
      view: Number of the view.
      batch_size: Images per forward pass.

    Returns:
      Logits, [N, C], float32, on the host.
    """
    count = len(data.labels)
    # the last batch is filled up with image 0, whose surplus logits are cut off
    indices = np.arange(count + -count % batch_size, dtype=np.int32)
    batches = np.where(indices < count, indices, 0).reshape(-1, batch_size)
    shared = (space, augmentation, variables, data, view_key, view)
    logits = [np.asarray(_batch_logits(*shared, jnp.asarray(batch))) for batch in batches]
    return np.concatenate(logits)[:count]


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
    """Size of the logits of some views, in bytes."""
    return num_views * num_images * num_classes * np.dtype(dtype).itemsize


def _view_path(folder: pathlib.Path, view: int) -> pathlib.Path:
    return folder / f"view{view:04d}"


def missing_views(folder: pathlib.Path, num_views: int) -> int:
    """How many of the first views are not stored; whether the others are stale is not looked at."""
    # orbax names the folder of a save when it is complete
    return sum(not (_view_path(folder, view) / "0").is_dir() for view in range(num_views))


def _rows_per_block(num_images: int, num_classes: int, dtype: Any) -> int:
    return min(num_images, max(1, BLOCK_BYTES // (num_classes * np.dtype(dtype).itemsize)))


def _digest(mark: str, number: int, block: np.ndarray) -> np.ndarray:
    """32 bytes that tell a block from any other: damaged, out of place, or of another cache."""
    digest = hashlib.sha256(f"{mark} {number} {block.shape} {block.dtype}".encode())
    digest.update(np.ascontiguousarray(block).data)
    return np.frombuffer(digest.digest(), np.uint8)


def write_view(folder: pathlib.Path, logits: Float[np.ndarray, "N C"], mark: str) -> None:
    """Stores a view, in place of what the folder holds.

    Args:
      folder: Where this view lies.
      logits: The teacher's outputs, in the type that they are stored as.
      mark: What the logits depend on; only who knows it can read them.

    Raises:
      UserError: If the disk is full, or refuses to be written; the folder is then gone.
    """
    count, num_classes = logits.shape
    rows = _rows_per_block(count, num_classes, logits.dtype)
    # orbax cuts an axis into equal chunks only
    padded = np.pad(logits, ((0, -count % rows), (0, 0)))
    blocks = padded.reshape(-1, rows, num_classes)
    digests = np.stack([_digest(mark, *numbered) for numbered in enumerate(blocks)])
    chunks = ocp.SaveArgs(chunk_byte_size=BLOCK_BYTES, shard_axes=(0,))
    shutil.rmtree(folder, ignore_errors=True)
    try:
        checkpoints.save(
            folder, 0, {"blocks": blocks, "digests": digests}, {"mark": mark},
            {"blocks": chunks, "digests": ocp.SaveArgs()},
        )  # fmt: skip
    except UserError:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def read_rows(
    folder: pathlib.Path, shape: tuple[int, int], dtype: Any, mark: str, start: int, stop: int
) -> Float[np.ndarray, "rows C"]:
    """Reads rows ``start`` to ``stop - 1`` of a view, and no more blocks than they lie in.

    Args:
      folder: Where the view lies.
      shape: Images and classes of the whole view, [N, C].
      dtype: What the logits are stored as.
      mark: What they depend on, as they were written with.
      start: First row.
      stop: The row before which to end.

    Returns:
      The rows, on the host.

    Raises:
      UserError: If the view is missing, stale or damaged.
      IndexError: If the view has no such rows.
    """
    count, num_classes = shape
    if not 0 <= start < stop <= count:
        raise IndexError(f"rows {start} to {stop} of {count}")
    rows = _rows_per_block(count, num_classes, dtype)
    first, last = start // rows, -(-stop // rows)
    try:
        with reading(folder):
            pending = [
                checkpoints.open_array(folder, 0, name)[first:last].read()
                for name in ("blocks", "digests")
            ]
            blocks, digests = (future.result() for future in pending)
        expected = [_digest(mark, first + row, block) for row, block in enumerate(blocks)]
        intact = blocks.shape[1:] == (rows, num_classes) and np.array_equal(expected, digests)
    except UnreadableError:
        raise
    except (ValueError, OSError, IndexError) as error:
        raise UserError(f"the teacher's logits in {folder} are missing or damaged") from error
    if not intact:
        raise UserError(f"the teacher's logits in {folder} are stale or damaged")
    return blocks.reshape(-1, num_classes)[start - first * rows : stop - first * rows]


@dataclasses.dataclass(frozen=True, eq=False)
class LogitCache:
    """The views of one task: stored by ``fill``, read when they are needed.

    What is missing, stale or damaged is never used: it is computed again and replaced.

    Attributes:
      folder: Where the views lie.
      space: The search space.
      augmentation: What views may do.
      variables: The teacher.
      data: The training images.
      view_key: Key of the task's views.
      dtype: What the logits are stored as.
      batch_size: Images per forward pass.
    """

    folder: pathlib.Path
    space: ResNetSpace
    augmentation: Augmentation
    variables: resnet.Variables
    data: Split
    view_key: Key[Array, ""]
    dtype: Any = np.float16
    batch_size: int = 256

    @functools.cached_property
    def fingerprint(self) -> str:
        """A digest of all that the logits depend on."""
        return fingerprint(self.space, self.augmentation, self.variables, self.data, self.view_key)

    @property
    def shape(self) -> tuple[int, int]:
        """Images and classes, [N, C]."""
        return len(self.data.labels), resnet.num_classes(self.variables)

    def fill(self, num_views: int, on_view: Callable[[bool], None] = lambda computed: None) -> None:
        """Computes and stores the views that are missing or stale, before they are needed.

        Args:
          num_views: V, how many views there shall be.
          on_view: Called after each view, with whether it had to be computed.

        Raises:
          UserError: If there is not enough room on the disk for all of them; then nothing is
            computed. If it is full all the same; then the earlier views stay.
        """
        stored = [self._is_stored(view) for view in range(num_views)]
        for view in range(num_views):
            if not stored[view]:
                shutil.rmtree(self._path(view), ignore_errors=True)
        self._check_room(stored.count(False))
        for view in range(num_views):
            if not stored[view]:
                self._compute(view)
            on_view(not stored[view])

    def view(self, view: int) -> Float[np.ndarray, "N C"]:
        """The logits of all images under a view, read from disk, on the host."""
        return self.rows(view, 0, self.shape[0])

    def rows(self, view: int, start: int, stop: int) -> Float[np.ndarray, "rows C"]:
        """The logits of images ``start`` to ``stop - 1`` under a view, on the host."""
        try:
            return self._read(view, start, stop)
        except UnreadableError:
            raise
        except UserError:
            return self._compute(view)[start:stop]

    def _path(self, view: int) -> pathlib.Path:
        return _view_path(self.folder, view)

    def _mark(self, view: int) -> str:
        return f"{self.fingerprint} {np.dtype(self.dtype)} view {view}"

    def _read(self, view: int, start: int, stop: int) -> Float[np.ndarray, "rows C"]:
        return read_rows(self._path(view), self.shape, self.dtype, self._mark(view), start, stop)

    def _is_stored(self, view: int) -> bool:
        """Whether a view's first block is there; the others are verified when they are read."""
        try:
            self._read(view, 0, 1)
        except UnreadableError:
            raise
        except UserError:
            return False
        return True

    def _compute(self, view: int) -> Float[np.ndarray, "N C"]:
        logits = view_logits(
            self.space, self.augmentation, self.variables, self.data, self.view_key,
            jnp.asarray(view, jnp.int32), batch_size=min(self.batch_size, self.shape[0]),
        )  # fmt: skip
        on_host = logits.astype(self.dtype)
        write_view(self._path(view), on_host, self._mark(view))
        return on_host

    def _check_room(self, num_views: int) -> None:
        """Fails before the teacher runs rather than after."""
        needed = (
            cache_bytes(num_views, *self.shape, self.dtype) + num_views * checkpoints.OVERHEAD_BYTES
        )
        free = free_bytes(self.folder)
        if needed > free:
            raise UserError(
                f"the teacher's logits of {num_views} views need {needed / 1e6:,.1f} MB in "
                f"{self.folder}, and {free / 1e6:,.1f} MB are free: make room, use fewer views "
                "(kd.num_views), or cache none (kd.teacher_logits=online)"
            )
