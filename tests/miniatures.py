"""Datasets of a few images in the layouts of the official archives, for tests."""

import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

COLOURS = {"ant": (250, 0, 0), "bee": (0, 250, 0), "cat": (0, 0, 250)}
CAR_NAMES = ("AM General Hummer SUV 2000", "Ram C/V Cargo Van Minivan 2012")
_BOXES = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2")


def encode(colour, size=(10, 6), mode="RGB", file_format="PNG", **options):
    data = io.BytesIO()
    Image.new(mode, size, colour).save(data, file_format, **options)
    return data.getvalue()


def image_folder_files(prefix="", splits=(("train", 2), ("test", 1))):
    """Two training images and one test image of each class."""
    return {
        f"{prefix}{split}/{name}/{number}.png": encode(colour)
        for split, count in splits
        for name, colour in COLOURS.items()
        for number in range(count)
    }


def class_folder_files(prefix="", count=3):
    """Images by class, not split."""
    return {
        f"{prefix}{name}/{number}.png": encode(colour)
        for name, colour in COLOURS.items()
        for number in range(count)
    }


def tiny_imagenet_files(prefix="tiny-imagenet-200/", count=1):
    wnids = ["n3", "n1", "n2"]
    colours = dict(zip(wnids, COLOURS.values(), strict=True))
    files = {
        f"{prefix}train/{w}/images/{w}_{i}.JPEG": encode(colours[w])
        for w in wnids
        for i in range(count)
    }
    files |= {f"{prefix}train/{w}/{w}_boxes.txt": b"0\t0" for w in wnids}
    files |= {f"{prefix}val/images/val_{i}.JPEG": encode(colours[w]) for i, w in enumerate(wnids)}
    files[f"{prefix}test/images/test_0.JPEG"] = encode((9, 9, 9))
    files[f"{prefix}wnids.txt"] = b"n3\nn1\nn2\n"
    files[f"{prefix}words.txt"] = b"n1\tgoldfish, Carassius auratus\nn3\tbullfrog\n"
    rows = (f"val_{i}.JPEG\t{w}\t0\t0\t63\t63\n" for i, w in enumerate(wnids))
    files[f"{prefix}val/val_annotations.txt"] = "".join(rows).encode()
    return files


def cub_files(prefix="CUB_200_2011/"):
    """CUB-200-2011 with two training images and one test image of each of two species."""
    classes = ["001.Black_footed_Albatross", "002.Laysan_Albatross"]
    paths = [f"{name}/{name[4:]}_{number:04}.jpg" for name in classes for number in range(3)]
    colours = list(COLOURS.values())
    files = {
        f"{prefix}images/{path}": encode(colours[row // 3], file_format="JPEG")
        for row, path in enumerate(paths)
    }
    files[f"{prefix}classes.txt"] = _numbered(classes)
    files[f"{prefix}images.txt"] = _numbered(paths)
    files[f"{prefix}image_class_labels.txt"] = _numbered([1, 1, 1, 2, 2, 2])
    files[f"{prefix}train_test_split.txt"] = _numbered([0, 1, 1, 1, 0, 1])
    files[f"{prefix}README"] = b"hello"
    # The official archive holds this one outside its folder.
    files["attributes.txt"] = b"1 has_bill_shape::curved_(up_or_down)\n"
    return files


def dtd_files(prefix="dtd/"):
    """DTD with a training, a validation and a test image of each of two classes, in two folds."""
    colours = dict(zip(["banded", "polka-dotted"], COLOURS.values(), strict=False))
    files = {
        f"{prefix}images/{name}/{name}_{number:04}.jpg": encode(colour, file_format="JPEG")
        for name, colour in colours.items()
        for number in range(3)
    }
    for fold in (1, 2):
        for place, split in enumerate(("train", "val", "test")):
            number = (place + fold - 1) % 3
            lines = (f"{name}/{name}_{number:04}.jpg\n" for name in colours)
            files[f"{prefix}labels/{split}{fold}.txt"] = "".join(lines).encode()
    files[f"{prefix}labels/labels_joint_anno.txt"] = b"banded/banded_0000.jpg banded\n"
    files[f"{prefix}images/banded/.directory"] = b"junk"
    return files


def cars_files():
    """Stanford Cars with one annotation file, two training images and a test image per class."""
    annotations = [
        (f"car_ims/{n:06}.jpg", *_box(), (n - 1) % 2 + 1, int(n > 4)) for n in range(1, 7)
    ]
    fields = ("relative_im_path", *_BOXES, "class", "test")
    return {
        **{path: _car(number) for path, *_, number, _ in annotations},
        "cars_annos.mat": mat(annotations=struct_array(fields, annotations), class_names=CAR_NAMES),
    }


def cars_devkit_files():
    """The same images in the form with a folder and an annotation file for each split."""
    train = [(*_box(), (n - 1) % 2 + 1, f"{n:05}.jpg") for n in range(1, 5)]
    test = [(*_box(), n, f"{n:05}.jpg") for n in (1, 2)]
    fields = (*_BOXES, "class", "fname")
    unlabelled = [(*box, name) for *box, _, name in test]
    return {
        **{f"cars_train/{name}": _car(number) for *_, number, name in train},
        **{f"cars_test/{name}": _car(number) for *_, number, name in test},
        "devkit/cars_meta.mat": mat(class_names=CAR_NAMES),
        "devkit/cars_train_annos.mat": mat(annotations=struct_array(fields, train)),
        "devkit/cars_test_annos.mat": mat(annotations=struct_array((*_BOXES, "fname"), unlabelled)),
        "cars_test_annos_withlabels.mat": mat(annotations=struct_array(fields, test)),
    }


def npz_arrays():
    """Gray images whose value tells their place, in two classes."""
    count = np.arange(8, dtype=np.uint8)[:, None, None]
    return {
        "x_train": count * np.ones((8, 8, 8), np.uint8),
        "y_train": np.array([1, 0, 1, 0, 1, 0, 1, 0]),
        "x_test": np.full((2, 8, 8), 7, np.uint8),
        "y_test": np.array([0, 1]),
    }


def write_npz(path, **changed):
    merged = {**npz_arrays(), **changed}
    np.savez(path, **{name: value for name, value in merged.items() if value is not None})
    return str(path)


def struct_array(fields, rows):
    """A 1xN struct array of MATLAB."""
    array = np.empty((1, len(rows)), [(field, object) for field in fields])
    for column, row in enumerate(rows):
        array[0, column] = row
    return array


def mat(**variables):
    """A MATLAB file; tuples of strings become cell arrays."""
    file = io.BytesIO()
    as_cells = {
        name: np.array([value], object) if isinstance(value, tuple) else value
        for name, value in variables.items()
    }
    savemat(file, as_cells, do_compression=True)
    return file.getvalue()


def write_folder(path, files):
    for name, data in files.items():
        target = Path(path, name)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return str(path)


def write_zip(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return str(path)


def write_tar(path, files):
    """A tar file, compressed as its suffix says."""
    compression = {".gz": "gz", ".tgz": "gz", ".bz2": "bz2", ".xz": "xz"}
    with tarfile.open(path, f"w:{compression.get(Path(path).suffix, '')}") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return str(path)


def write_archive(path, files):
    """A zip or tar file or a folder, by the suffix."""
    if Path(path).suffix == ".zip":
        return write_zip(path, files)
    return write_tar(path, files) if Path(path).suffix else write_folder(path, files)


def _numbered(values):
    return "".join(f"{number} {value}\n" for number, value in enumerate(values, 1)).encode()


def _box():
    return 1, 1, 9, 5


def _car(number):
    return encode(list(COLOURS.values())[number - 1], file_format="JPEG")
