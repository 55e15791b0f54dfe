"""Prepared TFDS datasets, read without TensorFlow.

TFDS is imported when a dataset is opened: a cached one does not wait for it.
"""

import contextlib
import os
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
from etils import epath

from dass_jax.data.decoding import decode_image, decode_in_parallel, resize_array
from dass_jax.data.readers import Example, PartReader, Reader
from dass_jax.errors import UserError

INFO_FILE = "dataset_info.json"
_VERSION = re.compile(r"\d+\.\d+\.\d+")
# Names of the split that is not for training, the one without hidden labels first.
_HELD_OUT = ("test", "validation")
_RECORDS_AT_A_TIME = 256


def prepared_folder(path: epath.Path) -> epath.Path | None:
    """The newest complete version of a prepared dataset.

    Args:
      path: the folder of a version, of a dataset's versions, or of its only configuration.

    Raises:
      UserError: there are several configurations, so that one must be named.
    """
    if (path / INFO_FILE).exists():
        return path
    if not path.is_dir():
        return None
    folders = [child for child in path.iterdir() if not child.name.startswith(".")]
    versions = [
        child for child in folders
        if _VERSION.fullmatch(child.name) and (child / INFO_FILE).exists()
    ]  # fmt: skip
    if versions:
        return max(versions, key=lambda child: tuple(map(int, child.name.split("."))))
    configs = [child for child in folders if _is_config(child)]
    if len(configs) > 1:
        names = ", ".join(sorted(f"{path.name}/{child.name}" for child in configs))
        raise UserError(f"{path} holds several configurations; name one of {names}")
    return prepared_folder(configs[0]) if configs else None


def prepared_names(folder: epath.Path) -> list[str]:
    """The names of all prepared datasets in a folder, with their configurations if several."""
    if not folder.is_dir():
        return []
    names = []
    for child in sorted(folder.iterdir()):
        if child.is_dir() and not child.name.startswith("."):
            configs = sorted(inner.name for inner in child.iterdir() if _is_config(inner))
            if len(configs) > 1:
                names += [f"{child.name}/{config}" for config in configs]
            elif prepared_folder(child) is not None:
                names.append(child.name)
    return names


def _is_config(folder: epath.Path) -> bool:
    return folder.is_dir() and any(
        _VERSION.fullmatch(child.name) and (child / INFO_FILE).exists()
        for child in folder.iterdir()
    )


@contextlib.contextmanager
def open_prepared(folder: epath.Path) -> Iterator[Reader]:
    """Opens a prepared dataset.

    A validation split is added to the training split where there is a test split with labels, and
    is the test split where there is none: validation images are cut from the training split by a
    seed, for every dataset alike.

    Args:
      folder: of one version, with ``dataset_info.json``.

    Raises:
      UserError: it is no image classification, or was not written as array_record.
    """
    import tensorflow_datasets as tfds

    with _damage_named(folder):
        builder = tfds.builder_from_directory(folder)
        image_key, label_key = _keys(folder, builder.info, tfds)
        label = builder.info.features[label_key]
        encoded = isinstance(builder.info.features[image_key], tfds.features.Image)
        # The files' own bytes: pillow decodes and scales them in one go.
        decoders = {image_key: tfds.decode.SkipDecoding()} if encoded else None
        sources = {
            name: builder.as_data_source(name, decoders=decoders) for name in builder.info.splits
        }
        parts = _divide(folder, sources, label_key)
    names = tuple(str(name) for name in label.names)
    yield Reader(
        names, {part: _part(folder, chosen, image_key, label_key) for part, chosen in parts.items()}
    )


@contextlib.contextmanager
def _damage_named(folder: epath.Path) -> Iterator[None]:
    """One line for whatever TFDS, protobuf and array_record raise on damaged files."""
    try:
        yield
    except UserError:
        raise
    except NotImplementedError as error:
        raise UserError(
            f"{folder} was not prepared as array_record files; remove it and prepare it again"
        ) from error
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(
            f"{folder} is damaged ({reason}); remove it and prepare it again"
        ) from error


def read_all(folder: epath.Path) -> None:
    """Reads every record of a prepared dataset, whose checksums are compared on the way.

    Raises:
      UserError: a record is damaged.
    """
    import tensorflow_datasets as tfds

    with _damage_named(folder):
        builder = tfds.builder_from_directory(folder)
        for name, split in builder.info.splits.items():
            source = builder.as_data_source(name, deserialize_method="raw")
            if sum(1 for _ in _records(folder, source)) != split.num_examples:
                raise UserError(
                    f"{folder}: split {name} is incomplete; remove it and prepare it again"
                )


def _records(folder: epath.Path, source: Any) -> Iterator[Any]:
    """All examples of a split, many at a time: one by one takes three times as long."""
    for start in range(0, len(source), _RECORDS_AT_A_TIME):
        with _damage_named(folder):
            records = source.__getitems__(
                range(start, min(start + _RECORDS_AT_A_TIME, len(source)))
            )
        yield from records


def _keys(folder: epath.Path, info: Any, tfds: Any) -> tuple[str, str]:
    """The features that hold the image and its class."""
    features = info.features
    if isinstance(info.supervised_keys, tuple) and len(info.supervised_keys) == 2:
        keys = info.supervised_keys
    else:
        images = [key for key, value in features.items() if isinstance(value, tfds.features.Image)]
        labels = [
            key for key, value in features.items() if isinstance(value, tfds.features.ClassLabel)
        ]
        keys = (images[0], labels[0]) if len(images) == len(labels) == 1 else ("", "")
    chosen = [features[key] for key in keys if key in features]
    kinds = ((tfds.features.Image, tfds.features.Tensor), tfds.features.ClassLabel)
    if len(chosen) < 2 or not all(map(isinstance, chosen, kinds)):
        raise UserError(
            f"{folder} is no image classification: its features are {', '.join(features)}; choose "
            "a dataset of images with a class label"
        )
    return keys


def _divide(folder: epath.Path, sources: dict[str, Any], label_key: str) -> dict[str, list[Any]]:
    """Which TFDS splits make up training and test."""
    present = [name for name in _HELD_OUT if name in sources]
    usable = [name for name in present if _is_labelled(sources[name], label_key)]
    if "train" not in sources:
        if len(sources) != 1:
            names = ", ".join(sources) or "none at all"
            raise UserError(f"{folder} has the splits {names}; train is missing")
        return {"all": list(sources.values())}
    if not usable:
        return {"all": [sources["train"]]}
    added = [sources[name] for name in usable[1:]]
    return {"train": [sources["train"], *added], "test": [sources[usable[0]]]}


def _is_labelled(source: Any, label_key: str) -> bool:
    """Whether a split has classes; competitions give -1 where they keep them secret."""
    return len(source) > 0 and int(source[0][label_key]) >= 0


def _part(folder: epath.Path, sources: list[Any], image_key: str, label_key: str) -> PartReader:
    def read(image_size: int) -> Iterator[Example]:
        def decode(place: tuple[int, dict[str, Any]]) -> Example:
            row, example = place
            image = example[image_key]
            if isinstance(image, bytes):
                name = example.get("file_name", f"number {row}")
                name = name.decode() if isinstance(name, bytes) else name
                pixels = decode_image(image, image_size, f"image {name} in {os.fspath(folder)}")
            else:
                pixels = resize_array(_as_uint8(folder, image), image_size)
            return Example(row, int(example[label_key]), pixels)

        examples = (example for source in sources for example in _records(folder, source))
        return decode_in_parallel(enumerate(examples), decode)

    return PartReader(sum(map(len, sources)), read)


def _as_uint8(folder: epath.Path, image: np.ndarray) -> np.ndarray:
    channels = image.shape[2] if image.ndim == 3 else 1
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or channels not in (1, 3):
        raise UserError(
            f"{folder} holds images of {image.dtype} and shape {list(image.shape)}; uint8 of shape "
            "[H, W], [H, W, 1] or [H, W, 3] can be read"
        )
    return image
