import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from miniatures import COLOURS, encode, image_folder_files, write_folder, write_zip

from dass_jax.data import array_cache, load, resolve
from dass_jax.errors import UserError
from dass_jax.locks import exclusive


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DASS_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "arrays"


@pytest.fixture
def source(tmp_path):
    return write_folder(tmp_path / "pets", image_folder_files())


def visible(folder):
    return sorted(path.name for path in folder.glob("[!.]*")) if folder.exists() else []


def test_second_load_reads_no_image(source, cache, monkeypatch):
    first = load(source, image_size=8)
    monkeypatch.setattr(array_cache, "_write", lambda *_: pytest.fail("decoded again"))
    second = load(source, image_size=8)
    for split in ("train", "valid", "test"):
        np.testing.assert_array_equal(getattr(first, split).images, getattr(second, split).images)
        np.testing.assert_array_equal(getattr(first, split).labels, getattr(second, split).labels)
    assert second.class_names == first.class_names == tuple(COLOURS)
    assert isinstance(second.test.images, np.memmap)
    assert not second.test.images.flags.writeable


def test_another_size_is_another_entry(source, cache):
    load(source, image_size=8)
    load(source, image_size=16)
    assert len(visible(cache)) == 2


@pytest.mark.parametrize("change", ["content", "size", "time", "name"])
def test_other_files_are_another_entry(source, cache, change):
    load(source, image_size=8)
    file = pathlib.Path(source, "train/ant/0.png")
    before = file.stat()
    if change == "content":
        file.write_bytes(encode((1, 1, 1)))
    elif change == "size":
        file.write_bytes(file.read_bytes() + b"more")
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    elif change == "time":
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + 1000))
    else:
        file.rename(file.with_name("9.png"))
    load(source, image_size=8)
    assert len(visible(cache)) == 2


def test_other_format_is_another_entry(source, cache, monkeypatch):
    load(source, image_size=8)
    monkeypatch.setattr(array_cache, "FORMAT", array_cache.FORMAT + 1)
    load(source, image_size=8)
    assert len(visible(cache)) == 2


def test_long_names_fit(tmp_path, cache):
    source = write_folder(tmp_path / ("\u9ce5" * 75), image_folder_files())
    assert load(source, image_size=8).num_classes == 3


def test_one_requested_split_reads_no_other(source, monkeypatch):
    load(source, image_size=8)
    whole = load(source, image_size=8, split="test")
    assert isinstance(whole.images, np.memmap)


def test_damaged_entry_is_made_again(source, cache):
    first = load(source, image_size=8)
    entry = cache / visible(cache)[0]
    assert array_cache.damaged_files(entry) == []
    for name in ("train.images.npy", "train.labels.npy", "manifest.json"):
        content = (entry / name).read_bytes()
        (entry / name).write_bytes(content[: len(content) // 2])
        again = load(source, image_size=8)
        np.testing.assert_array_equal(again.train.images, first.train.images)
        assert array_cache.damaged_files(entry) == []
    pixels = bytearray((entry / "test.images.npy").read_bytes())
    pixels[-1] ^= 255
    (entry / "test.images.npy").write_bytes(pixels)
    assert array_cache.damaged_files(entry) == ["test.images.npy"]


def test_broken_image_leaves_no_entry(tmp_path, cache):
    files = image_folder_files() | {"train/bee/broken.png": b"no image"}
    source = write_zip(tmp_path / "pets.zip", files)
    message = r"image train/bee/broken\.png in .*pets\.zip is broken \(no known format\); replace"
    with pytest.raises(UserError, match=message):
        load(source, image_size=8)
    assert visible(cache) == []
    assert list(cache.glob(".*unfinished")) == []


def test_full_disk_is_one_line_and_leaves_no_entry(source, cache, monkeypatch):
    class FullFile:
        def __init__(self, file):
            self._file = file

        def __getattr__(self, name):
            return getattr(self._file, name)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self._file.close()

        def write(self, data):
            raise OSError(28, "No space left on device")

    original = pathlib.Path.open

    def fill(path, mode="r", *args, **kwargs):
        file = original(path, mode, *args, **kwargs)
        return FullFile(file) if path.name == "train.images.npy" and "w" in mode else file

    with monkeypatch.context() as patch:
        patch.setattr(pathlib.Path, "open", fill)
        with pytest.raises(UserError, match=r"the disk is full .* make room or set DASS_CACHE_DIR"):
            load(source, image_size=8)
    assert visible(cache) == []
    assert load(source, image_size=8).num_classes == 3


def test_too_small_a_disk_is_noticed_before_decoding(source, monkeypatch):
    usage = type("Usage", (), {"free": 100})
    monkeypatch.setattr(array_cache.shutil, "disk_usage", lambda _: usage)
    monkeypatch.setattr(array_cache, "_write_part", lambda *_: pytest.fail("decoded"))
    with pytest.raises(UserError, match=r"the disk is full \(0 MB free\) .*0 MB are needed"):
        load(source, image_size=8)


def test_unwritable_cache_is_one_line(source, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("DASS_CACHE_DIR", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"cannot write decoded images into .*DASS_CACHE_DIR"):
        load(source, image_size=8)
    monkeypatch.setenv("DASS_CACHE_DIR", "gs://bucket/cache")
    with pytest.raises(UserError, match="is remote; name a local folder"):
        load(source, image_size=8)


def test_killed_process_leaves_nothing_that_is_believed(tmp_path, cache):
    """Killed while it decodes; the next one starts clean and is complete."""
    many = {f"{split}/{name}/{number}.png": encode(colour, size=(400, 300))
            for split in ("train", "test") for name, colour in COLOURS.items()
            for number in range(150)}  # fmt: skip
    source = write_folder(tmp_path / "pets", many)
    program = f"from dass_jax.data import load; load({source!r}, image_size=64)"
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list(cache.glob(".*unfinished/train.images.npy")) and time.monotonic() < deadline:
        assert process.poll() is None, "it was faster than this test"
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert visible(cache) == []
    assert list(cache.glob(".*unfinished"))
    pets = load(source, image_size=64, valid_per_class=50)
    assert (len(pets.train), len(pets.valid), len(pets.test)) == (300, 150, 450)
    for label, colour in enumerate(COLOURS.values()):
        assert (pets.train.images[pets.train.labels == label] == colour).all()
    assert len(visible(cache)) == 1
    assert not list(cache.glob(".*unfinished"))


def test_second_process_waits_and_reads_what_the_first_has_written(tmp_path, cache):
    source = write_folder(tmp_path / "pets", image_folder_files())
    lock = array_cache.entry_folder(resolve(source), 8)
    program = f"from dass_jax.data import load; print(len(load({source!r}, image_size=8).test))"
    with exclusive(lock.with_name(f".{lock.name}.lock")):
        process = subprocess.Popen(
            [sys.executable, "-u", "-c", program], stdout=subprocess.PIPE, text=True
        )
        assert "waiting for another process" in process.stdout.readline()
        with resolve(source).open() as reader:
            array_cache._write(lock, resolve(source), reader, 8)
    rest = process.communicate()[0]
    assert rest.splitlines()[-1] == "3"
    assert "decoding" not in rest


def test_all_entries_can_be_removed(source, cache):
    load(source, image_size=8)
    assert array_cache.remove_all() > 0
    assert not cache.exists()
    assert array_cache.remove_all() == 0
    assert load(source, image_size=8).num_classes == 3


def test_manifest_says_what_it_is(source, cache):
    load(source, image_size=8)
    manifest = json.loads((cache / visible(cache)[0] / "manifest.json").read_text())
    assert manifest["image_size"] == 8
    assert manifest["parts"] == {"train": 6, "test": 3}
    assert manifest["fingerprint"]["path"] == os.path.realpath(source)
    assert manifest["fingerprint"] == resolve(source).fingerprint
