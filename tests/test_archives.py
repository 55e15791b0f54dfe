import gzip
import io
import os
import random
import tarfile
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

import numpy as np
import pytest
from etils import epath
from miniatures import write_archive, write_folder, write_tar, write_zip

from dass_jax.data.archives import Archive, open_archive, open_archives
from dass_jax.data.fingerprint import file_stamps
from dass_jax.errors import UserError

KINDS = ["pets", "pets.zip", "pets.tar", "pets.tar.gz", "pets.tgz", "pets.tar.bz2", "pets.tar.xz"]
TARS = ["pets.tar", "pets.tar.gz", "pets.tar.bz2", "pets.tar.xz"]
# Not in the order of the alphabet, as in archives made by hand.
FILES = {"b/2.txt": b"two", "a/c/1.jpg": b"one" * 1000, "3.mat": b"", "a/.x": b"hidden"}


def read_all(path):
    with open_archive(path) as archive:
        return {name: archive.read(name) for name in archive.names if not name.endswith("/")}


def noise(count, size=5000):
    rng = np.random.default_rng(0)
    return {f"{number:03}.jpg": rng.bytes(size) for number in range(count)}


@pytest.mark.parametrize("kind", KINDS)
def test_all_kinds_read_alike(tmp_path, kind):
    path = write_archive(tmp_path / kind, FILES | {"__MACOSX/b/2.txt": b"junk"})
    with open_archive(path) as archive:
        assert isinstance(archive, Archive)
        assert str(archive.path) == path
        assert [name for name in archive.names if name[-1] != "/"] == [
            "3.mat",
            "a/c/1.jpg",
            "b/2.txt",
        ]
        assert archive.names == tuple(sorted(archive.names))
    assert read_all(path) == {name: data for name, data in FILES.items() if name != "a/.x"}


@pytest.mark.parametrize("kind", ["pets.zip", "pets.tar", "pets.tgz"])
def test_packed_current_folder(tmp_path, kind):
    """Names are told as in a folder, where the folders are members themselves."""
    write_folder(tmp_path / "pets", {"a/1.txt": b"one"})
    (tmp_path / "pets" / "empty").mkdir()
    if kind == "pets.zip":
        with zipfile.ZipFile(tmp_path / kind, "w") as archive:
            archive.mkdir("empty")
            archive.mkdir("a")
            archive.writestr("./a/1.txt", b"one")
    else:
        with tarfile.open(tmp_path / kind, "w") as archive:
            archive.add(tmp_path / "pets", arcname=".")
    for path in (tmp_path / "pets", tmp_path / kind):
        with open_archive(path) as archive:
            assert archive.names == ("a/", "a/1.txt", "empty/")
            assert archive.read("a/1.txt") == b"one"


def test_single_file(tmp_path):
    (tmp_path / "annos.mat").write_bytes(b"mat")
    assert read_all(tmp_path / "annos.mat") == {"annos.mat": b"mat"}


def test_missing_file_is_refused(tmp_path):
    with (
        pytest.raises(UserError, match=r"no file or folder .*pets\.zip"),
        open_archive(tmp_path / "pets.zip"),
    ):
        pass


@pytest.mark.parametrize("kind", ["pets.zip", "pets.tar", "pets.tar.gz"])
@pytest.mark.parametrize(
    "name",
    ["../x", "a/../../x", "a/..", "/x", "//host/x", "\\x", "..\\x", "C:\\x", "c:/x", "a\\..\\x"],
)
def test_unsafe_paths_are_refused(tmp_path, kind, name):
    path = write_archive(tmp_path / kind, {"a/1.txt": b"one", name: b"evil"})
    with pytest.raises(UserError) as error, open_archive(path):
        pass
    assert f"{path} holds the unsafe path {name!r}; do not use this archive" == str(error.value)


def test_names_with_dots_are_safe(tmp_path):
    files = {"..a/1": b"hidden", "a../1..2": b"shown"}
    assert read_all(write_zip(tmp_path / "pets.zip", files)) == {"a../1..2": b"shown"}


@pytest.mark.parametrize("kind", ["pets.zip", "pets.tar"])
def test_names_with_backslashes_and_colons(tmp_path, kind):
    """Old tools on Windows write the one, classes may be called the other."""
    files = {"a\\b\\0.png": b"zero", "x: y/1.png": b"one", "C:x/2.png": b"two"}
    path = write_archive(tmp_path / kind, files)
    if kind == "pets.zip":
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("empty\\", b"")
    assert read_all(path) == {"a/b/0.png": b"zero", "x: y/1.png": b"one", "C:x/2.png": b"two"}


def write_links(path, links):
    """A tar file of two images, and links by name."""
    compression = "gz" if path.suffix == ".gz" else ""
    with tarfile.open(path, f"w:{compression}") as archive:
        for name, (kind, target) in links.items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            archive.addfile(member)
        for name in ("a/1.jpg", ".pool/2"):
            member = tarfile.TarInfo(name)
            member.size = len(name)
            archive.addfile(member, io.BytesIO(name.encode()))


@pytest.mark.parametrize("kind", ["pets.tar", "pets.tar.gz"])
def test_links_in_tars_are_the_files_they_lead_to(tmp_path, kind):
    links = {
        "b/3.jpg": (tarfile.SYMTYPE, "../.pool/2"),
        "b/1.jpg": (tarfile.SYMTYPE, "../a/1.jpg"),
        "b/2.jpg": (tarfile.LNKTYPE, "./a/1.jpg"),
        "b/4.jpg": (tarfile.SYMTYPE, "2.jpg"),
        "folder": (tarfile.SYMTYPE, "a"),
        "._5.jpg": (tarfile.SYMTYPE, "nowhere"),
    }
    write_links(tmp_path / kind, links)
    with (
        mock.patch.object(
            gzip._GzipReader, "_rewind", autospec=True, side_effect=gzip._GzipReader._rewind
        ) as rewind,
        open_archive(tmp_path / kind) as archive,
    ):
        assert archive.names == ("a/1.jpg", "b/1.jpg", "b/2.jpg", "b/3.jpg", "b/4.jpg")
        order = archive.in_reading_order(archive.names)
        assert order == ["a/1.jpg", "b/1.jpg", "b/2.jpg", "b/4.jpg", "b/3.jpg"]
        assert [archive.read(name) for name in order] == [b"a/1.jpg"] * 4 + [b".pool/2"]
        # Each content is read once only.
        assert rewind.call_count <= 1


@pytest.mark.parametrize("link", [tarfile.SYMTYPE, tarfile.LNKTYPE])
@pytest.mark.parametrize(
    "target", ["/etc/passwd", "../../a/1.jpg", "../a/2.jpg", "../a", "9.jpg", "../b/9.jpg"]
)
def test_images_that_are_links_to_nothing_are_refused(tmp_path, link, target):
    write_links(tmp_path / "pets.tar", {"b/9.jpg": (link, target)})
    with pytest.raises(UserError) as error, open_archive(tmp_path / "pets.tar"):
        pass
    assert f"pets.tar: b/9.jpg is a link to {target}, which is no file in it; make" in str(
        error.value
    )


def test_links_and_devices_in_tars_are_left_out(tmp_path):
    path = tmp_path / "pets.tar"
    with tarfile.open(path, "w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
            member = tarfile.TarInfo(f"special{kind.decode()}")
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
        archive.addfile(tarfile.TarInfo("file"))
    assert read_all(path) == {"file": b""}


@pytest.mark.parametrize("kind", ["pets.zip", *TARS])
@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.9, 0.999])
def test_truncated_archives_are_refused(tmp_path, kind, kept):
    path = tmp_path / kind
    write_archive(path, noise(10))
    whole = path.read_bytes()
    # The padding of a plain tar file may be missing, its last member may not.
    end = 10 * (512 + 5120) if kind == "pets.tar" else len(whole)
    path.write_bytes(whole[: int(end * kept)])
    with (
        pytest.raises(UserError, match=rf"{kind} is not a complete (zip|tar) file"),
        open_archive(path),
    ):
        pass


def test_tar_truncated_between_members_is_refused(tmp_path):
    path = tmp_path / "pets.tar"
    write_tar(path, noise(10))
    path.write_bytes(path.read_bytes()[: 5 * (512 + 5120)])
    with pytest.raises(UserError, match="its end is missing"), open_archive(path):
        pass


@pytest.mark.parametrize("kind", ["pets.tar", "pets.tar.gz"])
def test_damaged_header_is_not_taken_for_the_end(tmp_path, kind):
    write_tar(tmp_path / "whole.tar", noise(10))
    plain = bytearray((tmp_path / "whole.tar").read_bytes())
    plain[5 * (512 + 5120)] ^= 1
    path = tmp_path / kind
    path.write_bytes(gzip.compress(plain) if kind == "pets.tar.gz" else plain)
    with pytest.raises(UserError, match="the header of a member is damaged"), open_archive(path):
        pass


@pytest.mark.parametrize("kind", ["pets.tar.gz", "pets.tar.bz2", "pets.tar.xz"])
def test_damaged_content_of_a_compressed_tar_is_refused(tmp_path, kind):
    path = tmp_path / kind
    write_tar(path, noise(10))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match="is not a complete tar file"), open_archive(path):
        pass


@pytest.mark.parametrize("kind", ["pets.tar", "pets.tar.gz"])
def test_tar_that_shrinks_while_open(tmp_path, kind):
    path = tmp_path / kind
    write_tar(path, noise(100))
    with open_archive(path) as archive:
        os.truncate(path, 1000)
        with pytest.raises(UserError, match=r"cannot read 099\.jpg in .*make the tar file again"):
            archive.read("099.jpg")


@pytest.mark.parametrize("kind", ["pets.zip", "pets.tar", "pets.tar.gz"])
def test_other_files_are_refused(tmp_path, kind):
    path = tmp_path / kind
    path.write_bytes(b"<html>not found</html>" * 100)
    with (
        pytest.raises(UserError, match=r"is not a complete (zip|tar) file") as error,
        open_archive(path),
    ):
        pass
    assert "\n" not in str(error.value)


def test_damaged_member_of_a_zip_is_named(tmp_path):
    path = tmp_path / "pets.zip"
    write_zip(path, FILES)
    data = path.read_bytes().replace(b"oneone", b"oneONE", 1)
    path.write_bytes(data)
    with open_archive(path) as archive:
        assert archive.read("b/2.txt") == b"two"
        with pytest.raises(UserError, match=r"cannot read a/c/1\.jpg in .*pets\.zip"):
            archive.read("a/c/1.jpg")


def test_encrypted_zip_is_refused(tmp_path):
    path = tmp_path / "pets.zip"
    write_zip(path, FILES)
    data = bytearray(path.read_bytes())
    # The flags of the first member in the directory, at the end of the file.
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"b/2\.txt is encrypted"), open_archive(path):
        pass


def test_unreadable_files_of_a_folder_are_named(tmp_path):
    os.symlink("nowhere", tmp_path / "1.jpg")
    with open_archive(tmp_path) as archive:
        assert archive.names == ("1.jpg",)
        with pytest.raises(UserError, match=r"cannot read .*1\.jpg \(No such file"):
            archive.read("1.jpg")
    os.symlink("self", tmp_path / "self")
    with pytest.raises(UserError, match="cannot list the files in"), open_archive(tmp_path):
        pass


def test_links_in_folders_are_followed_but_not_in_circles(tmp_path):
    write_folder(tmp_path / "pets", {"a/1.jpg": b"one", "b/2.jpg": b"two"})
    os.symlink(tmp_path / "pets" / "a", tmp_path / "pets" / "c")
    os.symlink(tmp_path / "pets", tmp_path / "pets" / "a" / "up")
    os.symlink("../a", tmp_path / "pets" / "b" / "across")
    os.symlink("../b", tmp_path / "pets" / "a" / "across")
    files = read_all(tmp_path / "pets")
    assert files["c/1.jpg"] == files["b/across/1.jpg"] == b"one"
    assert len(files) < 20


def test_remote_folders_are_listed_the_same(tmp_path):
    """As far as that can be tried without a remote folder."""

    from dass_jax.data.archives.file_system import _walk_remote

    write_folder(tmp_path, FILES)
    with open_archive(tmp_path) as archive:
        assert tuple(sorted(_walk_remote(epath.Path(tmp_path), ""))) == archive.names


def make_many_files(path, folders):
    for folder in range(folders):
        (path / str(folder)).mkdir()
        for number in range(100):
            (path / str(folder) / f"{number}.jpg").touch()


def test_many_files_are_stamped_quickly(tmp_path):
    make_many_files(tmp_path, 50)
    with mock.patch("os.stat", side_effect=os.stat) as stat:
        start = time.monotonic()
        assert file_stamps(epath.Path(tmp_path))["files"] == 5000
        # 50,000 files should take well under a second.
        assert time.monotonic() - start < 0.5
    # Most of the time would go into a path for each file.
    assert stat.call_count < 100


def test_stamps_of_a_folder_tell_changes(tmp_path):
    write_folder(tmp_path / "pets", {"a/1.jpg": b"one", "a/.x": b"hidden", "2.jpg": b"two"})
    os.symlink("a/1.jpg", tmp_path / "pets" / "link.jpg")
    path = epath.Path(tmp_path / "pets")
    first = file_stamps(path)
    assert (first["path"], first["files"]) == (str(path), 3)
    # Whoever needs the file is told when it is read.
    os.symlink("nowhere", tmp_path / "pets" / "dead.jpg")
    assert file_stamps(path) == first
    os.utime(path / "a/1.jpg", (0, 0))
    second = file_stamps(path)
    assert second["stamps"] != first["stamps"]
    (path / "a/1.jpg").write_bytes(b"more")
    os.utime(path / "a/1.jpg", (0, 0))
    assert file_stamps(path)["stamps"] != second["stamps"]


def test_large_folder_is_listed_quickly(tmp_path):
    make_many_files(tmp_path, 50)
    start = time.monotonic()
    with open_archive(tmp_path) as archive:
        assert len(archive.names) == 5050
    # 50,000 files should take about a second.
    assert time.monotonic() - start < 1


@pytest.mark.parametrize("kind", TARS)
def test_reading_order_of_tars_is_that_of_the_file(tmp_path, kind):
    names = ["b", "c", "a", "d"]
    path = write_tar(tmp_path / kind, {name: name.encode() for name in names})
    with open_archive(path) as archive:
        assert archive.in_reading_order(["a", "b", "d"]) == ["b", "a", "d"]
        assert archive.in_reading_order(archive.names) == names


@pytest.mark.parametrize("kind", ["pets", "pets.zip"])
def test_reading_order_of_others_is_as_given(tmp_path, kind):
    path = write_archive(tmp_path / kind, dict.fromkeys("abc", b""))
    with open_archive(path) as archive:
        assert archive.in_reading_order(iter("cab")) == ["c", "a", "b"]


@pytest.mark.parametrize("kind", ["pets", "pets.zip", "pets.tar", "pets.tar.gz"])
def test_threads_read_the_same_bytes(tmp_path, kind):
    files = noise(50)
    path = write_archive(tmp_path / kind, files)
    names = list(files) * 3
    random.Random(0).shuffle(names)
    with open_archive(path) as archive, ThreadPoolExecutor(8) as pool:
        assert list(pool.map(archive.read, names)) == [files[name] for name in names]


def test_compressed_tar_is_passed_only_forwards(tmp_path):
    files = noise(400)
    # Annotations at the end are read first.
    path = write_tar(tmp_path / "pets.tar.gz", files | {"z.txt": b"text", "z.MAT": b"mat"})
    barrier = threading.Barrier(8)

    def read(name):
        # All threads read at once, in no order.
        barrier.wait()
        return archive.read(name)

    with (
        mock.patch.object(
            gzip._GzipReader, "_rewind", autospec=True, side_effect=gzip._GzipReader._rewind
        ) as rewind,
        open_archive(path) as archive,
        ThreadPoolExecutor(8) as pool,
    ):
        assert (archive.read("z.txt"), archive.read("z.MAT")) == (b"text", b"mat")
        order = archive.in_reading_order(files)
        assert list(pool.map(read, order)) == [files[name] for name in order]
        assert rewind.call_count == 1
        # A few files far apart, then one that lies before them.
        assert archive.read("005.jpg") == files["005.jpg"]
        assert archive.read("300.jpg") == files["300.jpg"]
        assert archive.read("290.jpg") == files["290.jpg"]
        assert rewind.call_count == 2
        assert archive.read("010.jpg") == files["010.jpg"]
        assert rewind.call_count == 3


def test_last_of_two_members_of_one_name_counts(tmp_path):
    path = tmp_path / "pets.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for data in (b"old", b"newer"):
            member = tarfile.TarInfo("a.txt")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    assert read_all(path) == {"a.txt": b"newer"}


def test_union_has_the_files_of_all(tmp_path):
    images = write_tar(tmp_path / "ims.tgz", {"ims/2.jpg": b"two", "ims/1.jpg": b"one"})
    others = write_folder(tmp_path / "more", {"ims/3.jpg": b"three"})
    (tmp_path / "annos.mat").write_bytes(b"mat")
    with open_archives([images, others, tmp_path / "annos.mat"]) as archive:
        assert isinstance(archive, Archive)
        assert str(archive.path) == images
        assert archive.names == ("annos.mat", "ims/", "ims/1.jpg", "ims/2.jpg", "ims/3.jpg")
        assert archive.read("ims/3.jpg") == b"three"
        assert archive.read("annos.mat") == b"mat"
        order = archive.in_reading_order([name for name in archive.names if name != "ims/"])
        assert order == ["ims/2.jpg", "ims/1.jpg", "ims/3.jpg", "annos.mat"]


def test_union_refuses_two_files_of_one_name(tmp_path):
    write_folder(tmp_path, {"a/1.jpg": b"one", "b/1.jpg": b"other"})
    with (
        pytest.raises(UserError, match=r"both .*/a and .*/b hold 1\.jpg"),
        open_archives([tmp_path / "a", tmp_path / "b"]),
    ):
        pass


def test_union_of_one_is_that_one(tmp_path):
    path = write_zip(tmp_path / "pets.zip", FILES)
    with open_archives([path]) as union, open_archive(path) as archive:
        assert (type(union), union.names) == (type(archive), archive.names)
