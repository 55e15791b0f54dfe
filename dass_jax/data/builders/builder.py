"""Writes a release as a TFDS dataset of array_record files, without TensorFlow."""

import io
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from etils import epath

from dass_jax.data.builders.release import RawExample, RawSplits, Release


class ReleaseBuilder(  # type: ignore[call-arg]
    tfds.core.GeneratorBasedBuilder, skip_registration=True
):
    """A TFDS builder for any release; what it writes, ``tfds.builder_from_directory`` reads.

    Images keep the bytes of their files, and examples the order of the release.
    """

    VERSION = tfds.core.Version("1.0.0")

    def __init__(
        self,
        release: Release,
        config: str,
        content: RawSplits,
        origin: Mapping[str, Any],
        data_dir: epath.Path,
        advance: Callable[[], None],
    ) -> None:
        """Makes a builder.

        Args:
          release: what to write.
          config: its variant; empty if there is only one.
          content: the opened files of the variant.
          origin: which files they are, kept as the dataset's metadata.
          data_dir: where TFDS datasets are prepared.
          advance: called after each example.
        """
        self.name = release.name
        self.VERSION = tfds.core.Version(release.version)
        self._release, self._content, self._origin = release, content, origin
        self._advance = advance
        named = tfds.core.BuilderConfig(name=config, version=release.version) if config else None
        super().__init__(data_dir=data_dir, config=named, file_format="array_record")

    def _info(self) -> tfds.core.DatasetInfo:
        shape = self._content.image_shape
        if shape is None:
            image = tfds.features.Image(shape=(None, None, 3))
        else:
            image = tfds.features.Tensor(shape=shape, dtype=np.uint8)
        features = {
            "image": image,
            "label": tfds.features.ClassLabel(names=list(self._content.class_names)),
            "file_name": tfds.features.Text(),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description=self._release.description,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
            homepage=self._release.homepage,
            citation=self._release.citation,
            metadata=tfds.core.MetadataDict(self._origin),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict]]]:
        # TFDS keeps "all" for itself; a lone training split is read as one that is yet to be cut.
        return {
            "train" if name == "all" else name: self._generate_examples(split.read())
            for name, split in self._content.splits.items()
        }

    def _generate_examples(self, examples: Iterator[RawExample]) -> Iterator[tuple[int, dict]]:
        for number, example in enumerate(examples):
            image = example.image
            yield (
                number,
                {
                    "image": io.BytesIO(image) if isinstance(image, bytes) else image,
                    "label": example.label,
                    "file_name": example.file_name,
                },
            )
            self._advance()
