import io
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from etils import epath
from miniatures import COLOURS, encode

from dass_jax.data import load
from dass_jax.data.tfds_reader import open_prepared, prepared_folder, read_all
from dass_jax.errors import UserError

NAMES = list(COLOURS)
GRAY = tfds.features.Tensor(shape=(6, 5), dtype=np.uint8)
ENCODED = tfds.features.Image(shape=(None, None, 3))
LABEL = tfds.features.ClassLabel(names=NAMES)


def prepare(folder, splits, *, features=None, keys=("image", "label"), name="pets", config=None,
            version="1.0.0"):  # fmt: skip
    """Writes a TFDS dataset as anybody's builder would; splits map to lists of labels."""
    kinds = {"image": ENCODED, "label": LABEL} if features is None else features

    def example(kind, label):
        if isinstance(kind, tfds.features.Image):
            return io.BytesIO(encode(list(COLOURS.values())[label], size=(9, 7)))
        return np.full((6, 5), label, np.uint8) if kind is GRAY else label

    class Pets(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version(version)
        BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=config)] if config else []

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(kinds), supervised_keys=keys
            )

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(labels) for split, labels in splits.items()}

        def _generate_examples(self, labels):
            for number, label in enumerate(labels):
                yield number, {key: example(kind, label) for key, kind in kinds.items()}

    Pets.name = name
    builder = Pets(data_dir=folder, file_format="array_record")
    builder.download_and_prepare()
    return str(builder.data_path)


BALANCED = {"train": [0, 1, 2] * 4, "test": [0, 1, 2]}


@pytest.mark.parametrize("depth", ["version", "dataset"])
def test_prepared_folder_is_a_source(tmp_path, depth):
    path = prepare(tmp_path, BALANCED)
    pets = load(path if depth == "version" else str(tmp_path / "pets"), image_size=8)
    assert pets.class_names == tuple(NAMES)
    assert (len(pets.train), len(pets.valid), len(pets.test)) == (9, 3, 3)
    for split in (pets.train, pets.test):
        for label, colour in enumerate(COLOURS.values()):
            assert (split.images[split.labels == label] == colour).all()
    assert "tensorflow" not in sys.modules


def test_prepared_dataset_is_found_by_name(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    prepare(tmp_path, BALANCED, version="1.9.0")
    prepare(tmp_path, {"train": [0, 1, 2] * 6, "test": [0, 1, 2]}, version="1.10.0")
    pets = load("pets", image_size=8)
    assert (pets.name, len(pets.train) + len(pets.valid)) == ("pets", 18)


def test_configurations_must_be_named(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    prepare(tmp_path, BALANCED, config="small")
    assert load("pets", image_size=8).num_classes == 3
    prepare(tmp_path, {"train": [0, 1, 2] * 6, "test": [0, 1, 2]}, config="large")
    with pytest.raises(UserError, match="several configurations; name one of pets/large, pets/sm"):
        load("pets", image_size=8)
    assert len(load("pets/large", image_size=8, valid_per_class=1).train) == 15


@pytest.mark.parametrize(
    ("splits", "counts"),
    [
        # validation images are cut by a seed for every dataset alike, so the split joins train
        ({"train": [0, 1, 2] * 2, "validation": [0, 1, 2], "test": [0, 1, 2] * 4}, (9, 12)),
        ({"train": [0, 1, 2] * 2, "validation": [0, 1, 2]}, (6, 3)),
        ({"train": [0, 1, 2] * 10}, (24, 6)),
        ({"everything": [0, 1, 2] * 10}, (24, 6)),
        ({"train": [0, 1, 2] * 2, "unlabelled": [0, 0], "test": [0, 1, 2]}, (6, 3)),
    ],
)
def test_splits_become_train_and_test(tmp_path, splits, counts):
    pets = load(prepare(tmp_path, splits), image_size=8, valid_per_class=1)
    assert (len(pets.train) + len(pets.valid), len(pets.test)) == counts


def test_secret_labels_are_not_used(tmp_path):
    splits = {"train": [0, 1, 2] * 2, "validation": [0, 1, 2] * 3, "test": [-1, -1]}
    pets = load(prepare(tmp_path, splits), image_size=8, valid_per_class=1)
    assert (len(pets.train) + len(pets.valid), len(pets.test)) == (6, 9)


def test_tensors_and_features_without_keys(tmp_path):
    path = prepare(tmp_path, BALANCED, features={"image": GRAY, "label": LABEL})
    gray = load(path, image_size=8)
    assert (gray.test.images == gray.test.labels[:, None, None, None]).all()
    features = {"photo": ENCODED, "kind": LABEL, "number": np.int64}
    path = prepare(tmp_path, BALANCED, features=features, keys=None, name="other")
    assert load(path, image_size=8).class_names == tuple(NAMES)


@pytest.mark.parametrize(
    "features", [{"image": ENCODED}, {"image": ENCODED, "more": ENCODED, "label": LABEL},
                 {"label": LABEL, "number": np.int64}]
)  # fmt: skip
def test_what_is_no_image_classification_is_refused(tmp_path, features):
    path = prepare(tmp_path, BALANCED, features=features, keys=None)
    with pytest.raises(UserError, match="is no image classification: its features are"):
        load(path, image_size=8)


def test_missing_class_and_missing_train_are_refused(tmp_path):
    path = prepare(tmp_path, {"train": [0, 1, 0, 1], "test": [0, 1, 2]})
    with pytest.raises(UserError, match="class 'cat' has no image in train"):
        load(path, image_size=8)
    path = prepare(tmp_path, {"one": [0, 1, 2], "two": [0, 1, 2]}, name="other")
    with pytest.raises(UserError, match="has the splits one, two; train is missing"):
        load(path, image_size=8)


def test_tfrecord_is_refused_with_advice(tmp_path):
    folder = epath.Path(prepare(tmp_path, BALANCED))
    info = folder / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(UserError, match="not prepared as array_record files; remove it"):
        load(str(folder), image_size=8)


def test_damaged_records_are_found(tmp_path):
    folder = epath.Path(prepare(tmp_path, BALANCED))
    read_all(folder)
    (shard,) = folder.glob("*train*")
    content = bytearray(shard.read_bytes())
    # most of a small file is padding
    written = np.flatnonzero(np.frombuffer(bytes(content), np.uint8))
    content[written[len(written) // 2]] ^= 255
    shard.write_bytes(content)
    with pytest.raises(UserError, match=r"is damaged .* remove it and prepare it again"):
        read_all(folder)
    with pytest.raises(UserError, match=r"is damaged"), open_prepared(folder) as reader:
        list(reader.parts["train"].read(8))


@pytest.mark.parametrize("file", ["dataset_info.json", "features.json", "*test*"])
def test_other_damage_is_one_line(tmp_path, file):
    folder = epath.Path(prepare(tmp_path, BALANCED))
    (path,) = folder.glob(file)
    path.write_bytes(path.read_bytes()[:20] if "json" in file else b"")
    for read in (lambda: load(str(folder), image_size=8), lambda: read_all(folder)):
        with pytest.raises(UserError, match="remove it and prepare it again"):
            read()


def test_unfinished_preparation_is_not_seen(tmp_path):
    prepare(tmp_path, BALANCED)
    (tmp_path / "pets" / "1.0.0").rename(tmp_path / "pets" / "incomplete.XYZ_1.0.0")
    assert prepared_folder(epath.Path(tmp_path / "pets")) is None
