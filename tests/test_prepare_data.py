import json
import pathlib

import numpy as np
import pytest
from miniatures import COLOURS, cub_files, encode, image_folder_files, write_archive
from PIL import Image
from test_tfds_reader import BALANCED, prepare

from dass_jax.console import console
from dass_jax.data import array_cache, class_splits
from dass_jax.data.split_manifest import read_splits, split_tasks
from dass_jax.errors import UserError
from dass_jax.experiment import default_config, from_config
from dass_jax.workflow import datasets


@pytest.fixture(autouse=True)
def folders(own_folders):
    write_archive(own_folders / "own" / "CUB_200_2011.tgz", cub_files())
    write_archive(own_folders / "own" / "pets.zip", image_folder_files())
    return own_folders


def printed(function, *arguments):
    with console.capture() as capture:
        function(*arguments)
    return " ".join(capture.get().split())


def test_list_prepare_verify(folders):
    before = printed(datasets.print_datasets)
    assert "cub200_2011 │ files at hand" in before
    assert "stanford_cars │ not here" in before
    assert "pets.zip │ file" in before
    assert "cub200_2011: ready" in printed(datasets.prepare, ["cub200_2011"], None, 8)
    after = printed(datasets.print_datasets)
    assert "cub200_2011 │ prepared from other files" in after
    assert "cub200_2011-8px-" in after
    checked = printed(datasets.verify, ["cub200_2011"])
    for state in ("not the official file", "readable", "as written"):
        assert state in checked


def test_datasets_with_several_configurations_are_listed(folders):
    for config in ("small", "large"):
        prepare(folders / "tfds", BALANCED, config=config)
    listed = printed(datasets.print_datasets)
    assert "pets/large │ prepared" in listed
    assert "pets/small │ prepared" in listed
    assert "readable" in printed(datasets.verify, ["pets/small"])


def test_nothing_to_verify_is_an_error(folders):
    with pytest.raises(UserError, match="nothing of 'tiny_imagnet' to verify"):
        datasets.verify(["tiny_imagnet"])


def test_another_dataset_of_that_name_is_not_verified(folders, monkeypatch):
    monkeypatch.chdir(folders)
    write_archive(folders / "cub200_2011", image_folder_files())
    datasets.prepare(["./cub200_2011"], None, 8)
    assert "as written" not in printed(datasets.verify, ["cub200_2011"])


def test_embedded_datasets_are_ready():
    assert printed(datasets.prepare, ["digits", "generated:blobs"], None, 8).count("ready") == 2


def test_brackets_in_names_are_printed(folders):
    write_archive(folders / "own" / "x[red].zip", image_folder_files())
    assert "x[red].zip: ready" in printed(datasets.prepare, ["x[red].zip"], None, 8)


def test_clean(folders):
    datasets.prepare(["pets.zip"], None, 8)
    assert "of decoded images removed" in printed(datasets.clean)
    assert array_cache.entries() == []


def test_damage_is_found(folders):
    datasets.prepare(["pets.zip"], None, 8)
    assert "as written" in printed(datasets.verify, ["pets.zip"])
    (entry,) = array_cache.entries()
    content = bytearray((entry / "train.images.npy").read_bytes())
    content[-1] ^= 1
    (entry / "train.images.npy").write_bytes(content)
    with pytest.raises(UserError, match=r"damaged: pets-8px-.*/train\.images\.npy; remove"):
        datasets.verify(["pets.zip"])


def test_one_failure_does_not_stop_the_others(folders):
    (folders / "own" / "bad.npz").write_bytes(b"no")
    with pytest.raises(UserError, match=r"1 of 2 not prepared: bad\.npz"):
        datasets.prepare(["bad.npz", "pets.zip"], None, 8)
    assert [entry.name[:4] for entry in array_cache.entries()] == ["pets"]


def test_files_are_named_for_one_official_dataset(folders):
    with pytest.raises(UserError, match="--file goes with one of tiny_imagenet"):
        datasets.prepare(["pets.zip"], ["pets.zip"], None)
    with pytest.raises(UserError, match=r"nothing\.zip does not exist"):
        datasets.prepare(["dtd"], ["nothing.zip"], None)


def test_contact_sheet(folders):
    sheet = folders / "sheets" / "pets.png"
    datasets.show("pets.zip", str(sheet), 12, None)
    with Image.open(sheet) as image:
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    for colour in COLOURS.values():
        assert (pixels == colour).all(1).sum() > 500
    with pytest.raises(UserError, match="--classes=0: show at least one"):
        datasets.show("pets.zip", str(sheet), 0, None)
    with pytest.raises(UserError, match="image size 0: give a positive"):
        datasets.show("pets.zip", str(sheet), 3, 0)


def test_class_splits_as_a_file_and_as_tasks(folders):
    names = [f"c{number:02}" for number in range(30)]
    files = {f"{name}/0.png": encode((9, 9, 9)) for name in names}
    write_archive(folders / "own" / "many.zip", files)
    path = folders / "splits.json"
    datasets.write_splits("many.zip", str(path), 3, 2, 5, 7)
    source, splits = read_splits(str(path))
    drawn = class_splits(30, num_train_splits=3, num_valid_splits=2, classes_per_split=5, seed=7)
    assert (source, splits) == ("many.zip", drawn)
    manifest = json.loads(path.read_text())
    first = manifest["train"][0]
    assert first["class_names"] == [names[label] for label in first["classes"]]
    config = default_config()
    for name, task in split_tasks(source, splits, valid_per_class=1).items():
        config.tasks[name] = task
    experiment = from_config(config)
    assert [task.name for task in experiment.with_role("meta_valid")] == ["valid0", "valid1"]
    assert experiment.task("train2").classes == splits.train[2]


@pytest.mark.parametrize("content", ["no json", "{}", '{"source": 1, "train": [[1]], "valid": []}'])
def test_other_files_are_no_class_splits(tmp_path, content):
    pathlib.Path(tmp_path, "a.json").write_text(content)
    with pytest.raises(UserError, match="holds no class splits"):
        read_splits(str(tmp_path / "a.json"))
    with pytest.raises(UserError, match=r"no class splits .*write them with"):
        read_splits(str(tmp_path / "b.json"))
