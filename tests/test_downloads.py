import builtins
import contextlib
import dataclasses
import errno
import hashlib
import http.server
import random
import re
import socket
import struct
import threading
import time

import pytest
from etils import epath

from dass_jax.data import transfers
from dass_jax.data.downloads import Checksum, RemoteFile, check, fetch, find_file, find_or_fetch
from dass_jax.errors import UserError

DATA = random.Random(0).randbytes(1_000_000)


def md5(data):
    return hashlib.md5(data).hexdigest()


@dataclasses.dataclass
class Site:
    """What the server below serves, how well it behaves, and what it was asked."""

    data: bytes = DATA
    etag: str | None = '"one"'
    modified: str | None = None
    status: int | None = None
    headers: dict = dataclasses.field(default_factory=dict)
    ranges: bool = True
    conditions: bool = True
    with_length: bool = True
    break_after: int | None = None
    reset: bool = False
    silent: bool = False
    asked: list = dataclasses.field(default_factory=list)
    received: threading.Event = dataclasses.field(default_factory=threading.Event)
    url: str = ""

    @property
    def ranges_asked(self):
        return [headers.get("Range") for headers in self.asked]


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        # clients that have enough close the connection
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.answer(self.server.site)

    def answer(self, site):
        site.asked.append(dict(self.headers))
        if site.silent:
            time.sleep(0.6)
            return
        start, end = 0, len(site.data)
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        same = self.headers.get("If-Range") in (None, site.etag, site.modified)
        status = site.status or 200
        if site.ranges and wanted and status == 200 and (same or not site.conditions):
            status, start = 206, int(wanted[1])
            end = min(end, int(wanted[2] or end) + 1)
            if start >= len(site.data):
                status, end = 416, start
        self.send_response(status)
        if status == 206 and not site.status:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(site.data)}")
        if status == 416:
            self.send_header("Content-Range", f"bytes */{len(site.data)}")
        for name, value in {"ETag": site.etag, "Last-Modified": site.modified}.items():
            if value:
                self.send_header(name, value)
        for name, value in site.headers.items():
            self.send_header(name, value)
        body = site.data[start:end]
        if site.with_length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: site.break_after])
        if site.reset and site.break_after is not None:
            # closing without lingering sends a reset, which takes along what is still on its way
            site.received.wait(10)
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()


class Server(http.server.ThreadingHTTPServer):
    # closing waits for all handlers, so that none outlives its test
    daemon_threads = False

    def shutdown_request(self, request):
        if request.fileno() == -1:
            return
        super().shutdown_request(request)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def site():
    with Server(("127.0.0.1", 0), Handler) as server:
        server.site = Site(url=f"http://127.0.0.1:{server.server_port}/set/file.bin")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server.site
        server.shutdown()
        thread.join()


@pytest.fixture
def folder(tmp_path):
    return epath.Path(tmp_path) / "downloads"


def remote(site, **fields):
    return RemoteFile("file.bin", site.url, **fields)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def interrupt(site, folder, **fields):
    def progress(done, total):
        if done >= 2 * transfers.CHUNK:
            site.received.set()

    site.break_after = 600_000
    with pytest.raises(UserError, match="run again to go on from there"):
        fetch(remote(site, **fields), folder, progress=progress)
    site.break_after = None
    assert names(folder) == ["file.bin.part", "file.bin.part.json"]


def test_whole_file_with_progress(site, folder):
    seen = []
    path = fetch(remote(site, md5=md5(DATA)), folder, progress=lambda *call: seen.append(call))
    assert path == folder / "file.bin"
    assert path.read_bytes() == DATA
    assert names(folder) == ["file.bin"]
    assert site.ranges_asked == [None]
    assert site.asked[0]["Accept-Encoding"] == "identity"
    assert (seen[0], seen[-1]) == ((0, len(DATA)), (len(DATA), len(DATA)))
    assert seen == sorted(seen)
    assert len(seen) > 3


def test_file_of_unknown_length(site, folder):
    site.with_length = False
    seen = []
    path = fetch(remote(site), folder, progress=lambda *call: seen.append(call))
    assert path.read_bytes() == DATA
    assert seen[-1] == (len(DATA), None)


def test_empty_file(site, folder):
    site.data = b""
    assert fetch(remote(site), folder).read_bytes() == b""


def test_bytes_that_a_server_calls_compressed_are_kept(site, folder):
    site.headers = {"Content-Encoding": "gzip"}
    assert fetch(remote(site), folder).read_bytes() == DATA


def test_names_with_spaces(site, folder):
    url = site.url.replace("file.bin", "The Mona Lisa.npy")
    assert fetch(RemoteFile("a b.npy", url), folder).read_bytes() == DATA


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize(
    "version",
    [
        {"etag": '"one"'},
        {"etag": 'W/"weak"', "modified": "Mon, 01 Jan 2024 00:00:00 GMT"},
    ],
)
def test_resumes_after_an_interruption(site, folder, version, reset):
    for name, value in version.items():
        setattr(site, name, value)
    site.reset = reset
    interrupt(site, folder)
    there = (folder / "file.bin.part").stat().length
    assert there == (2 * transfers.CHUNK if reset else 600_000)
    seen = []
    path = fetch(remote(site, md5=md5(DATA)), folder, progress=lambda *call: seen.append(call))
    assert path.read_bytes() == DATA
    assert names(folder) == ["file.bin"]
    assert site.ranges_asked == [None, f"bytes={there}-"]
    assert site.asked[1]["If-Range"] == version.get("modified", '"one"')
    assert seen[0] == (there, len(DATA))


def test_message_of_an_interruption(site, folder):
    site.break_after = 600_000
    with pytest.raises(UserError) as caught:
        fetch(remote(site), folder)
    assert str(caught.value) == (
        f"the download of file.bin from {site.url} stopped after 0.6 MB of 1.0 MB: the connection "
        "broke; run again to go on from there"
    )


def test_starts_again_where_the_version_is_unknown(site, folder):
    site.etag, site.break_after = None, 600_000
    with pytest.raises(UserError, match="run again to try again"):
        fetch(remote(site), folder)
    site.break_after = None
    assert fetch(remote(site), folder).read_bytes() == DATA
    assert site.ranges_asked == [None, None]


@pytest.mark.parametrize("conditions", [True, False])
def test_starts_again_when_the_file_has_changed(site, folder, conditions):
    interrupt(site, folder)
    site.data, site.etag, site.conditions = DATA[::-1], '"two"', conditions
    assert fetch(remote(site), folder).read_bytes() == DATA[::-1]
    assert site.ranges_asked[1] == "bytes=600000-"


def test_starts_again_when_the_file_has_become_shorter(site, folder):
    interrupt(site, folder)
    site.data, site.etag, site.conditions = DATA[:1000], '"two"', False
    assert fetch(remote(site), folder).read_bytes() == DATA[:1000]
    assert site.ranges_asked == [None, "bytes=600000-", None]


def test_starts_again_when_the_url_has_changed(site, folder):
    interrupt(site, folder)
    site.url += "?moved"
    assert fetch(remote(site), folder).read_bytes() == DATA
    assert site.ranges_asked == [None, None]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}"])
def test_starts_again_when_the_version_file_is_damaged(site, folder, content):
    interrupt(site, folder)
    (folder / "file.bin.part.json").write_bytes(content)
    assert fetch(remote(site), folder).read_bytes() == DATA


def test_starts_again_when_ranges_are_ignored(site, folder):
    interrupt(site, folder)
    site.ranges = False
    assert fetch(remote(site), folder).read_bytes() == DATA
    assert len(site.asked) == 2


def test_finishes_a_complete_part(site, folder):
    interrupt(site, folder)
    (folder / "file.bin.part").write_bytes(DATA)
    assert fetch(remote(site, md5=md5(DATA)), folder).read_bytes() == DATA
    assert site.ranges_asked == [None, "bytes=1000000-"]


def test_server_of_wrong_ranges(site, folder):
    site.status, site.headers = 206, {"Content-Range": "bytes 7-9/10"}
    with pytest.raises(UserError, match="other bytes than it is asked for"):
        fetch(remote(site), folder)


def test_interrupting_the_command_leaves_a_part(site, folder):
    def progress(done, total):
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(remote(site), folder, progress=progress)
    there = (folder / "file.bin.part").stat().length
    assert there >= transfers.CHUNK
    assert fetch(remote(site), folder).read_bytes() == DATA
    assert site.ranges_asked == [None, f"bytes={there}-"]


def test_wrong_checksum_deletes_the_download(site, folder):
    with pytest.raises(UserError) as caught:
        fetch(remote(site, md5="0" * 32), folder)
    assert names(folder) == []
    for part in (md5(DATA), "0" * 32, site.url, f"put it in {folder}"):
        assert part in str(caught.value)


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("with_length", [True, False])
def test_first_bytes(site, folder, ranges, with_length):
    site.ranges, site.with_length = ranges, with_length
    seen = []
    # the checksum of the whole file says nothing about its beginning
    file = remote(site, md5=md5(DATA), num_bytes=300_000)
    path = fetch(file, folder, progress=lambda *call: seen.append(call))
    assert path.read_bytes() == DATA[:300_000]
    assert site.ranges_asked == ["bytes=0-299999"]
    assert seen[-1] == (300_000, 300_000 if ranges or with_length else None)
    assert check(file, path) is Checksum.UNKNOWN


def test_first_bytes_resume(site, folder):
    interrupt(site, folder, num_bytes=800_000)
    path = fetch(remote(site, num_bytes=800_000), folder)
    assert path.read_bytes() == DATA[:800_000]
    assert site.ranges_asked == ["bytes=0-799999", "bytes=600000-799999"]


def test_first_bytes_of_a_part_that_has_more(site, folder):
    interrupt(site, folder)
    assert fetch(remote(site, num_bytes=500), folder).read_bytes() == DATA[:500]


def test_first_bytes_of_a_shorter_file(site, folder):
    assert fetch(remote(site, num_bytes=10_000_000), folder).read_bytes() == DATA


@pytest.mark.parametrize("status", [403, 404, 500])
def test_refusals(site, folder, status):
    site.status = status
    with pytest.raises(UserError) as caught:
        fetch(remote(site, hint="or from example.org"), folder)
    message = str(caught.value)
    assert message.startswith(f"cannot download file.bin from {site.url}: the server answers")
    assert f"answers {status} " in message
    assert message.endswith(f"get it yourself (or from example.org) and put it in {folder}")
    assert not folder.exists()


def test_web_page_in_place_of_the_file(site, folder):
    site.headers = {"Content-Type": "text/html; charset=utf-8"}
    with pytest.raises(UserError, match="a web page in its place"):
        fetch(remote(site), folder)


def assert_fails(url, folder, reason, seconds):
    begin = time.monotonic()
    with pytest.raises(UserError, match=reason) as caught:
        find_or_fetch(RemoteFile("x.tgz", url), [folder / "a", folder / "b"], folder)
    assert time.monotonic() - begin < seconds
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"cannot download x.tgz from {url}: ")
    assert message.endswith(f"put it in {folder / 'a'} or {folder / 'b'}")


def test_refused_connection(folder):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    assert_fails(f"http://127.0.0.1:{port}/x.tgz", folder, "Connection refused", 2)


def test_unresolvable_host(folder):
    assert_fails("http://nowhere.invalid/x", folder, "is this machine online", 20)


def test_failing_encryption(site, folder):
    assert_fails(site.url.replace("http:", "https:"), folder, "SSL", 5)


def test_no_answer(site, folder, monkeypatch):
    monkeypatch.setattr(transfers, "READ_TIMEOUT", 0.2)
    site.silent = True
    assert_fails(site.url, folder, "no answer for", 5)


def test_server_that_hangs_up(site, folder):
    class Silent(Handler):
        def answer(self, site):
            pass

    with Server(("127.0.0.1", 0), Silent) as server:
        server.site = site
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/x"
        assert_fails(url, folder, "Remote end closed connection without response", 5)
        thread.join()


def test_other_addresses(folder):
    assert_fails("nonsense", folder, "Invalid URL", 1)


class FullDisk:
    """A file on a disk that takes one more piece."""

    def __init__(self, file):
        self.file, self.pieces = file, 0

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()

    def write(self, data):
        self.pieces += 1
        if self.pieces > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self.file.write(data)


@pytest.mark.parametrize("known", [True, False])
def test_full_disk(site, folder, monkeypatch, known):
    def open_full(path, mode):
        return FullDisk(builtins.open(path, mode))

    site.with_length = known
    with monkeypatch.context() as patch:
        patch.setattr(transfers, "open", open_full, raising=False)
        with pytest.raises(UserError) as caught:
            fetch(remote(site), folder)
    needed = "0.7 MB more are needed" if known else "more room is needed"
    assert str(caught.value).startswith(f"the disk is full: {needed} in {folder} for file.bin")
    assert (folder / "file.bin.part").stat().length == transfers.CHUNK
    assert fetch(remote(site), folder).read_bytes() == DATA
    assert site.ranges_asked == [None, f"bytes={transfers.CHUNK}-"]


def test_folder_that_is_a_file(site, folder):
    folder.write_bytes(b"")
    with pytest.raises(UserError, match=f"cannot write {folder}.* to download file.bin"):
        fetch(remote(site), folder)


def test_folder_of_a_bucket(site):
    with pytest.raises(UserError, match="choose a folder of this machine"):
        fetch(remote(site), epath.Path("gs://bucket/folder"))
    assert site.asked == []


def test_two_processes(site, folder):
    failures = []

    def second(done, total):
        try:
            fetch(remote(site), folder)
        except UserError as error:
            failures.append(str(error))

    assert fetch(remote(site), folder, progress=second).read_bytes() == DATA
    assert set(failures) == {
        f"another process is downloading {folder / 'file.bin'}; wait for it, then run again"
    }


def test_files_of_users_come_first(site, folder, tmp_path):
    own = epath.Path(tmp_path) / "own"
    own.mkdir()
    file = remote(site, md5=md5(DATA), num_bytes=None)
    for content in (b"something else", DATA):
        (own / file.name).write_bytes(content)
        assert find_or_fetch(file, [folder, own], folder) == own / file.name
        assert (own / file.name).read_bytes() == content
    assert site.asked == []
    short = remote(site, num_bytes=2_000_000)
    assert find_or_fetch(short, [own], folder) == own / file.name
    assert names(own) == ["file.bin"]


def test_downloads_are_found_again(site, folder):
    file = remote(site)
    assert find_file(file, [folder]) is None
    path = find_or_fetch(file, [], folder)
    assert find_or_fetch(file, [], folder) == path == find_file(file, [folder])
    assert len(site.asked) == 1


def test_more_first_bytes_than_before(site, folder):
    for count, requests in ((100, 1), (50, 1), (200, 2), (200, 2)):
        path = find_or_fetch(remote(site, num_bytes=count), [], folder)
        assert path.read_bytes() == DATA[: max(count, 100)]
        assert len(site.asked) == requests


def test_checksums(tmp_path):
    path = epath.Path(tmp_path) / "file"
    path.write_bytes(DATA)
    assert check(RemoteFile("file", "", md5(DATA)), path) is Checksum.OFFICIAL
    assert check(RemoteFile("file", "", md5(b"")), path) is Checksum.DIFFERENT
    assert check(RemoteFile("file", ""), path) is Checksum.UNKNOWN
