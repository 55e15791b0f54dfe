import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from miniatures import (
    CAR_NAMES,
    cars_devkit_files,
    cars_files,
    class_folder_files,
    cub_files,
    dtd_files,
    encode,
    image_folder_files,
    mat,
    struct_array,
    tiny_imagenet_files,
    write_archive,
    write_folder,
    write_tar,
    write_zip,
)

from dass_jax.data.archives import open_archive, open_archives
from dass_jax.data.layouts import DTD_MARKER, find_root, list_class_files, list_dtd
from dass_jax.errors import UserError

DATA_DIR = os.environ.get("DASS_DATA_DIR")
KINDS = ["pets", "pets.zip", "pets.tar", "pets.tar.gz"]
LAYOUTS = {
    "image_folder": image_folder_files,
    "class_folder": class_folder_files,
    "tiny_imagenet": tiny_imagenet_files,
    "cub": cub_files,
    "dtd": dtd_files,
    "cars": cars_files,
    "cars_devkit": cars_devkit_files,
}


def list_files(path):
    with open_archive(path) as archive:
        return list_class_files(archive)


def list_changed(tmp_path, files, changed, prefix=""):
    """Lists after some files were replaced, or removed where the change is None."""
    files = files | {prefix + name: data for name, data in changed.items()}
    kept = {name: data for name, data in files.items() if data is not None}
    return list_files(write_zip(tmp_path / "pets.zip", kept))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_all_archives_are_listed_alike(tmp_path, layout, kind):
    files = LAYOUTS[layout]()
    path = write_archive(tmp_path / kind, files)
    listed = list_files(path)
    assert listed == list_files(write_folder(tmp_path / "reference", files))
    with open_archive(path) as archive:
        for by_class in listed.splits.values():
            labels = listed.labels(by_class)
            assert list(labels.values()) == sorted(labels.values())
            assert all(archive.read(name) == files[name] for name in labels)


@pytest.mark.parametrize("prefix", ["", "top/"])
@pytest.mark.parametrize("layout", ["image_folder", "class_folder", "tiny_imagenet", "cub", "dtd"])
def test_a_top_folder_changes_nothing(tmp_path, layout, prefix):
    listed = list_files(write_folder(tmp_path / "pets", LAYOUTS[layout](prefix)))
    plain = list_files(write_folder(tmp_path / "plain", LAYOUTS[layout]("")))
    assert listed.class_names == plain.class_names
    for split, by_class in plain.splits.items():
        expected = {key: [prefix + name for name in names] for key, names in by_class.items()}
        assert listed.splits[split] == expected


def test_labels_follow_the_order_of_the_classes(tmp_path):
    files = list_files(write_zip(tmp_path / "tiny.zip", tiny_imagenet_files("")))
    assert files.labels(files.splits["train"]) == {
        "train/n3/images/n3_0.JPEG": 0,
        "train/n1/images/n1_0.JPEG": 1,
        "train/n2/images/n2_0.JPEG": 2,
    }


def test_two_datasets_in_one_archive_are_refused(tmp_path):
    files = tiny_imagenet_files("a/") | tiny_imagenet_files("b/")
    with pytest.raises(UserError, match=r"wnids\.txt is in a/ and in b/"):
        list_files(write_zip(tmp_path / "tiny.zip", files))
    files = image_folder_files("a/") | image_folder_files("b/")
    with pytest.raises(UserError, match="train/ is in a/ and in b/"):
        list_files(write_zip(tmp_path / "pets.zip", files))


# Image folders.


def test_image_folder(tmp_path):
    extra = {"train/ant/notes.txt": b"no image", "train/ant/more/9.JPG": b"", "README": b""}
    files = list_changed(tmp_path, image_folder_files(), extra)
    assert files.class_ids == files.class_names == ("ant", "bee", "cat")
    assert list(files.splits) == ["train", "test"]
    assert files.splits["train"]["ant"] == [
        "train/ant/0.png",
        "train/ant/1.png",
        "train/ant/more/9.JPG",
    ]
    assert files.splits["test"]["cat"] == ["test/cat/0.png"]


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_validation_folder_serves_as_test(tmp_path, name):
    layout = image_folder_files(splits=(("train", 2), (name, 1)))
    # Unlabelled images are no test split.
    files = list_changed(tmp_path, layout, {"test/1.png": encode(1, mode="L")})
    assert list(files.splits) == ["train", "test"]
    assert files.splits["test"]["ant"] == [f"{name}/ant/0.png"]


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_validation_folder_beside_test_belongs_to_train(tmp_path, name):
    layout = image_folder_files(splits=(("train", 2), (name, 1), ("test", 1)))
    files = list_files(write_zip(tmp_path / "pets.zip", layout))
    assert files.splits["train"]["ant"] == [
        "train/ant/0.png",
        "train/ant/1.png",
        f"{name}/ant/0.png",
    ]
    assert files.splits["test"]["ant"] == ["test/ant/0.png"]


def test_class_folders_are_not_split(tmp_path):
    extra = {"overview.png": b"", "ant/more/9.png": b"", "bee/notes.txt": b""}
    files = list_changed(tmp_path, class_folder_files(count=1), extra)
    assert files.class_ids == ("ant", "bee", "cat")
    assert files.splits == {
        "all": {"ant": ["ant/0.png", "ant/more/9.png"], "bee": ["bee/0.png"], "cat": ["cat/0.png"]}
    }


@pytest.mark.parametrize("prefix", ["", "top/"])
@pytest.mark.parametrize(
    ("train", "test"),
    [("Train", "Test"), ("TRAIN", "test"), ("training", "testing"), ("Training", "VAL")],
)
def test_other_names_of_splits(tmp_path, prefix, train, test):
    layout = image_folder_files(prefix, splits=((train, 2), (test, 1)))
    files = list_files(write_zip(tmp_path / "pets.zip", layout))
    assert list(files.splits) == ["train", "test"]
    assert files.splits["train"]["ant"] == [f"{prefix}{train}/ant/{n}.png" for n in range(2)]
    assert files.splits["test"]["ant"] == [f"{prefix}{test}/ant/0.png"]


def test_class_folders_with_images_in_folders_only(tmp_path):
    deep = {f"{top}/{name}/0.png": b"" for top in ("old", "new") for name in ("ant", "bee")}
    for prefix in ("", "top/"):
        files = {prefix + name: data for name, data in deep.items()}
        with pytest.raises(UserError, match=rf"only in folders inside .* {prefix}new/ant/0\.png"):
            list_files(write_zip(tmp_path / "pets.zip", files))
    # One class that holds images itself shows which folders the classes are.
    files = list_changed(tmp_path, deep, {"old/0.png": b""})
    assert files.class_ids == ("new", "old")


@pytest.mark.parametrize("link", ["test", "test/ant"])
def test_splits_that_share_files_by_a_link_are_refused(tmp_path, link):
    write_folder(tmp_path, class_folder_files("train/"))
    if link != "test":
        write_folder(tmp_path, class_folder_files("test/"))
        shutil.rmtree(tmp_path / link)
    (tmp_path / link).symlink_to(tmp_path / link.replace("test", "train"))
    with pytest.raises(UserError) as error:
        list_files(tmp_path)
    assert str(error.value) == (
        f"{tmp_path}: train/ant/0.png in train and test/ant/0.png in test are the same file by a "
        "link between folders; give each split its own images"
    )


def test_splits_may_be_links_to_different_folders(tmp_path):
    write_folder(tmp_path / "real", image_folder_files())
    (tmp_path / "pets").mkdir()
    for split in ("train", "test"):
        (tmp_path / "pets" / split).symlink_to(tmp_path / "real" / split)
    assert list_files(tmp_path / "pets") == list_files(tmp_path / "real")


def test_a_class_may_be_called_train(tmp_path):
    files = {"train/0.png": b"", "car/0.png": b"", "plane/0.png": b""}
    listed = list_files(write_zip(tmp_path / "things.zip", files))
    assert listed.class_ids == ("car", "plane", "train")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"README": b""}, "holds no images; arrange them as train/CLASS/"),
        ({"0.png": b"", "1.png": b""}, "has no class folder; arrange them as"),
        ({"ant/0.png": b""}, "holds one class only, 'ant'; give at least two"),
        ({"top/ant/0.png": b""}, "holds one class only, 'ant'"),
        ({"train/ant/0.png": b"", "test/ant/0.png": b""}, "holds one class only, 'ant'"),
        ({"train/0.png": b"", "test/0.png": b""}, "has test/ but no train/CLASS/"),
        ({"val/ant/0.png": b"", "other/ant/0.png": b""}, "has val/ but no train/CLASS/"),
        ({"Train/0.png": b"", "Test/0.png": b""}, "has Test/ but no train/CLASS/"),
        ({"0.png": b"", "docs/notes.txt": b""}, "class 'docs' has no image;"),
        (
            {"train/ant/0.png": b"", "Training/ant/0.png": b"", "test/ant/0.png": b""},
            "class folders in Training/ and in train/; put the images of both into train/",
        ),
        ({"ant/0.png": b"", "docs/notes.txt": b"", "bee/0.png": b""}, "class 'docs' has no image;"),
    ],
)
def test_other_folders_are_refused(tmp_path, kind, files, message):
    with pytest.raises(UserError, match=message):
        list_files(write_archive(tmp_path / kind, files))


def test_empty_folders_are_refused(tmp_path):
    with pytest.raises(UserError, match="holds no images"):
        list_files(tmp_path)
    write_folder(tmp_path, image_folder_files())
    for split in ("train", "test"):
        (tmp_path / split / "dog").mkdir()
    with pytest.raises(UserError, match="'dog' has no image in train"):
        list_files(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (lambda name: "train" in name, "no class folder in test/ nor val/"),
        (lambda name: name != "test/bee/0.png", "'bee' is in train but not in test"),
        (lambda name: "train/cat" not in name, "'cat' is in test but not in train"),
    ],
)
def test_incomplete_image_folder_is_refused(tmp_path, kind, keep, message):
    files = {name: data for name, data in image_folder_files().items() if keep(name)}
    with pytest.raises(UserError, match=message):
        list_files(write_archive(tmp_path / kind, files))


# Tiny-ImageNet.


def test_tiny_imagenet(tmp_path):
    files = list_files(write_zip(tmp_path / "tiny.zip", tiny_imagenet_files("")))
    # The order of wnids.txt, not of the alphabet.
    assert files.class_ids == ("n3", "n1", "n2")
    assert files.class_names == ("bullfrog", "goldfish", "n2")
    assert files.splits["train"]["n1"] == ["train/n1/images/n1_0.JPEG"]
    assert files.splits["test"]["n1"] == ["val/images/val_1.JPEG"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"val/val_annotations.txt": None}, r"has no val/val_annotations\.txt"),
        ({"val/val_annotations.txt": b"val_9.JPEG\tn1\n"}, r"line 1 of .*JPEG, which is not there"),
        ({"val/val_annotations.txt": b"val_0.JPEG\tn9\n"}, "line 1 of .* unknown class 'n9'"),
        ({"val/val_annotations.txt": b"\nval_0.JPEG\n"}, "line 2 of .* names no class"),
        ({"val/val_annotations.txt": b"val_0.JPEG\tn1\n" * 2}, "line 2 of .* a second time"),
        ({"val/val_annotations.txt": b"val_0.JPEG\tn1\n"}, "'n3' has no image in test"),
        ({"train/n1/images/n1_0.JPEG": None}, "'n1' has no image in train"),
        ({"wnids.txt": b"n1\nn4\n", "val/val_annotations.txt": b""}, "'n1' has no image in test"),
        ({"wnids.txt": b"n1\nn2\nn3\nn4"}, "'n4' is in test but not in train"),
        ({"wnids.txt": b"n1\nn2\nn3\nn1"}, "lists the class 'n1' twice"),
        ({"wnids.txt": b"", "val/val_annotations.txt": b""}, "holds no class"),
        ({"words.txt": b"n1\t\xff\xfe"}, r"words\.txt is not UTF-8"),
    ],
)
def test_bad_tiny_imagenet_is_refused(tmp_path, changed, message):
    with pytest.raises(UserError, match=rf"pets\.zip.*{message}"):
        list_changed(tmp_path, tiny_imagenet_files(""), changed)


# CUB-200-2011.


def test_cub(tmp_path):
    files = list_files(write_zip(tmp_path / "CUB_200_2011.zip", cub_files()))
    assert files.class_ids == ("001.Black_footed_Albatross", "002.Laysan_Albatross")
    assert files.class_names == ("Black footed Albatross", "Laysan Albatross")
    folder = "CUB_200_2011/images/002.Laysan_Albatross/Laysan_Albatross_000"
    assert files.splits["train"]["002.Laysan_Albatross"] == [f"{folder}0.jpg", f"{folder}2.jpg"]
    assert files.splits["test"]["002.Laysan_Albatross"] == [f"{folder}1.jpg"]


PATH = "001.Black_footed_Albatross/Black_footed_Albatross_0000.jpg"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"images.txt": None}, r"has no images\.txt"),
        ({"classes.txt": None}, r"has no classes\.txt"),
        ({"train_test_split.txt": None}, r"has no train_test_split\.txt"),
        ({f"images/{PATH}": None}, rf"line 1 of images\.txt .*{PATH}, which is not there"),
        ({"images.txt": f"1 {PATH}\n2 {PATH}\n"}, "line 3 of image_class_labels.* unknown image 3"),
        ({"images.txt": f"1 {PATH}\n7 {PATH}\n"}, "line 2 of image_class_labels.* unknown image 2"),
        ({"images.txt": f"{PATH}\n"}, r"line 1 of images\.txt is not a number and a value"),
        ({"images.txt": "1\n"}, r"line 1 of images\.txt is not a number and a value"),
        ({"images.txt": f"1 {PATH}\n1 {PATH}\n"}, r"line 2 of images\.txt has the number 1"),
        ({"image_class_labels.txt": "1 1\n2 1\n"}, r"line 3 of images\.txt .* the image 3, which"),
        (
            {"image_class_labels.txt": "\n1 9\n2 1\n3 1\n4 1\n5 2\n6 2\n"},
            "line 2 .*unknown class 9",
        ),
        ({"train_test_split.txt": "1 0\n2 2\n3 1\n4 1\n5 1\n6 1\n"}, "line 2 .*'2', neither 0 nor"),
        ({"train_test_split.txt": "1 0\n2 1\n3 1\n4 1\n5 1\n6 1\n"}, "'002.* has no image in test"),
        ({"classes.txt": "1 same\n2 same\n"}, "lists the class 'same' twice"),
    ],
)
def test_bad_cub_is_refused(tmp_path, changed, message):
    changed = {k: v.encode() if isinstance(v, str) else v for k, v in changed.items()}
    with pytest.raises(UserError, match=rf"pets\.zip.*{message}"):
        list_changed(tmp_path, cub_files(""), changed)


def test_image_named_twice_is_refused(tmp_path):
    tables = {
        "images.txt": f"1 {PATH}\n2 {PATH}\n".encode(),
        "image_class_labels.txt": b"1 1\n2 2\n",
        "train_test_split.txt": b"1 1\n2 0\n",
    }
    with pytest.raises(UserError, match=r"line 2 of images\.txt .* a second time"):
        list_changed(tmp_path, cub_files(""), tables)


# DTD.


def test_dtd(tmp_path):
    path = write_tar(tmp_path / "dtd.tar.gz", dtd_files())
    files = list_files(path)
    assert files.class_ids == ("banded", "polka-dotted")
    folder = "dtd/images/banded/banded_000"
    assert files.splits["train"]["banded"] == [f"{folder}0.jpg", f"{folder}1.jpg"]
    assert files.splits["test"]["banded"] == [f"{folder}2.jpg"]
    with open_archive(path) as archive:
        root = find_root(archive, DTD_MARKER)
        assert root == "dtd/"
        assert list_dtd(archive, root) == files
        second = list_dtd(archive, root, fold=2)
        assert second.splits["train"]["banded"] == [f"{folder}1.jpg", f"{folder}2.jpg"]
        assert second.splits["test"]["banded"] == [f"{folder}0.jpg"]
        with pytest.raises(UserError, match=r"has no dtd/labels/train3\.txt"):
            list_dtd(archive, root, fold=3)
        for fold in (0, 11):
            with pytest.raises(UserError, match="choose from 1 to 10"):
                list_dtd(archive, root, fold=fold)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"labels/val1.txt": None}, r"has no labels/val1\.txt"),
        ({"labels/val1.txt": b"banded/banded_9.jpg\n"}, r"line 1 of labels/val1\.txt .*not there"),
        ({"labels/test1.txt": b"\nwaffled/a.jpg\n"}, r"line 2 of .*unknown class 'waffled'"),
        ({"labels/test1.txt": b"banded\n"}, r"line 1 of labels/test1\.txt .*not there"),
        ({"labels/test1.txt": b"banded/\n"}, r"line 1 of labels/test1\.txt .*not there"),
        ({"labels/test1.txt": b"banded/banded_0000.jpg"}, "line 1 of .* a second time"),
        ({"labels/test1.txt": b"banded/banded_0002.jpg"}, "'polka-dotted' has no image in test"),
        ({"images/waffled/a.jpg": b""}, "'waffled' has no image in train"),
    ],
)
def test_bad_dtd_is_refused(tmp_path, changed, message):
    with pytest.raises(UserError, match=rf"pets\.zip.*{message}"):
        list_changed(tmp_path, dtd_files(""), changed)


# Stanford Cars.


def test_joint_cars(tmp_path):
    files = list_files(write_folder(tmp_path, cars_files()))
    assert files.class_ids == files.class_names == CAR_NAMES
    assert files.splits["train"][CAR_NAMES[1]] == ["car_ims/000002.jpg", "car_ims/000004.jpg"]
    assert files.splits["test"][CAR_NAMES[1]] == ["car_ims/000006.jpg"]


def test_separate_cars(tmp_path):
    files = list_files(write_folder(tmp_path, cars_devkit_files()))
    assert files.class_ids == files.class_names == CAR_NAMES
    assert files.splits["train"][CAR_NAMES[1]] == ["cars_train/00002.jpg", "cars_train/00004.jpg"]
    assert files.splits["test"][CAR_NAMES[1]] == ["cars_test/00002.jpg"]


@pytest.mark.parametrize("make", [cars_files, cars_devkit_files])
@pytest.mark.parametrize("prefix", ["", "stanford_cars/"])
def test_cars_from_archives_and_loose_files(tmp_path, make, prefix):
    files = {prefix + name: data for name, data in make().items()}
    (tmp_path / "loose").mkdir()
    parts = {}
    for name, data in files.items():
        parts.setdefault(name.removeprefix(prefix).split("/")[0], {})[name] = data
    paths = []
    for top, members in parts.items():
        if top.endswith(".mat"):
            paths.append(tmp_path / "loose" / top)
            paths[-1].write_bytes(members[prefix + top])
        else:
            paths.append(write_tar(tmp_path / f"{top}.tgz", members))
    with open_archives(paths) as archive:
        listed = list_class_files(archive)
        for name in listed.labels(listed.splits["train"]):
            assert archive.read(name) == files[name]
    plain = list_files(write_folder(tmp_path / "plain", make()))
    for split, by_class in plain.splits.items():
        assert listed.splits[split] == {
            key: [prefix + name for name in names] for key, names in by_class.items()
        }


def test_test_annotations_may_lie_in_the_devkit(tmp_path):
    files = cars_devkit_files()
    name = "cars_test_annos_withlabels.mat"
    moved = list_changed(tmp_path, files, {name: None, f"devkit/{name}": files[name]})
    assert len(moved.labels(moved.splits["test"])) == 2


def joint_mat(*rows, names=CAR_NAMES, fields=("relative_im_path", "class", "test")):
    return {"cars_annos.mat": mat(annotations=struct_array(fields, rows), class_names=names)}


FIRST = "car_ims/000001.jpg"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (joint_mat(("car_ims/9.jpg", 1, 0)), r"record 1 of cars_annos\.mat .*9\.jpg, which is not"),
        (joint_mat((FIRST, 1, 0), (FIRST, 1, 1)), "record 2 of .* a second time"),
        (joint_mat((FIRST, 3, 0)), "record 1 of .*unknown class 3"),
        (joint_mat((FIRST, 0, 0)), "record 1 of .*unknown class 0"),
        (joint_mat((FIRST, 1.5, 0)), "record 1 of .*unknown class 1.5"),
        (joint_mat((FIRST, np.zeros(0), 0)), "record 1 of .*unknown class"),
        (joint_mat((np.zeros(0), 1, 0)), "record 1 of .*not there"),
        (joint_mat((FIRST, 1, 2)), "record 1 of .*test = 2"),
        (joint_mat((FIRST, 1, 0)), "has no image in train"),
        (joint_mat((FIRST, 1, 0), names=("same", "same")), "lists the class 'same' twice"),
        (joint_mat((FIRST, 1), fields=("relative_im_path", "class")), "have no field 'test'"),
        ({"cars_annos.mat": mat(annotations=1, class_names=CAR_NAMES)}, "have no field"),
        ({"cars_annos.mat": mat(annotations=1)}, "has no variable 'class_names'"),
        ({"cars_annos.mat": b"no matlab file" * 100}, r"cars_annos\.mat is not a MATLAB file"),
        ({"cars_annos.mat": cars_files()["cars_annos.mat"][:300]}, "is not a MATLAB file"),
        ({"cars_annos.mat": b""}, "is not a MATLAB file"),
    ],
)
def test_bad_joint_cars_are_refused(tmp_path, changed, message):
    with pytest.raises(UserError, match=rf"pets\.zip.*{message}") as error:
        list_changed(tmp_path, cars_files(), changed)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"devkit/cars_meta.mat": None}, r"has no cars_meta\.mat"),
        ({"cars_test_annos_withlabels.mat": None}, r"has no cars_test_annos_withlabels\.mat"),
        (
            {"cars_test_annos_withlabels.mat": cars_devkit_files()["devkit/cars_test_annos.mat"]},
            "have no field 'class'; give the file with labels",
        ),
        (
            {"cars_train/00003.jpg": None},
            r"record 3 of devkit/cars_train_annos\.mat .*cars_train/00003\.jpg, which is not there",
        ),
    ],
)
def test_bad_separate_cars_are_refused(tmp_path, changed, message):
    with pytest.raises(UserError, match=message):
        list_changed(tmp_path, cars_devkit_files(), changed)


@pytest.mark.skipif(not DATA_DIR, reason="DASS_DATA_DIR is not set")
def test_real_tiny_imagenet():
    path = Path(DATA_DIR, "tiny-imagenet-200.zip")
    if not path.exists():
        pytest.skip(f"{path} does not exist")
    files = list_files(path)
    assert (len(files.class_ids), list(files.splits)) == (200, ["train", "test"])
    assert files.class_names[:2] == ("goldfish", "European fire salamander")
