"""Transfers of a file over HTTP that go on after an interruption, whatever its reason."""

import contextlib
import fcntl
import json
import os
import pathlib
import re
import socket
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from dass_jax.errors import UserError
from dass_jax.workdir import write_json

if TYPE_CHECKING:
    import requests

# seconds; without them a machine that has no network may wait for many minutes
CONNECT_TIMEOUT = 5
READ_TIMEOUT = 30
CHUNK = 1 << 18

# called with the bytes that are there and the bytes that there will be, None where not known
Progress = Callable[[int, int | None], None]


class UnavailableError(Exception):
    """The server does not give the file; the message is the reason."""


class StoppedError(Exception):
    """The connection ended before the file did; the message is the reason."""


class _Promise(NamedTuple):
    """The bytes that a server is about to send; ``end`` is None where it does not tell."""

    start: int
    end: int | None


class Transfer:
    """One file on its way from a server into a folder.

    Attributes:
      part: the file that has the bytes so far; one beside it tells which version they are of.
      total: how many bytes there will be, None while that is not known.
    """

    def __init__(
        self, url: str, target: pathlib.Path, num_bytes: int | None, progress: Progress
    ) -> None:
        """Prepares a transfer; nothing happens yet.

        Args:
          url: where the file is.
          target: where it goes when it is complete.
          num_bytes: how many of its first bytes are wanted; None for all.
          progress: told after each piece.
        """
        self.part = target.with_name(f"{target.name}.part")
        self.total: int | None = None
        self._target = target
        self._state = target.with_name(f"{target.name}.part.json")
        self._url = url
        self._num_bytes = num_bytes
        self._progress = progress

    def run(self) -> None:
        """Completes ``part``.

        Raises:
          UnavailableError: the server does not give the file.
          StoppedError: the connection ended too early.
          UserError: another process is at the same file.
          OSError: ``part`` cannot be written.
        """
        # the second time without ranges: the file has changed, or the server cannot do them
        for ranged in (True, False):
            start, version = self._there() if ranged else (0, "")
            with self._request(start, version, ranged) as response:
                if promise := self._accept(response, start, version):
                    self._receive(response, promise)
                    return
        raise UnavailableError("the server sends other bytes than it is asked for")

    def finish(self) -> None:
        """Gives the complete file its name, so that no reader ever sees half of it."""
        os.replace(self.part, self._target)
        self._state.unlink(missing_ok=True)

    def discard(self) -> None:
        """Deletes what was transferred."""
        self._state.unlink(missing_ok=True)
        self.part.unlink(missing_ok=True)

    def size(self) -> int:
        """How many bytes are there."""
        return self.part.stat().st_size if self.part.exists() else 0

    def resumable(self) -> bool:
        """Whether a later transfer can go on from the bytes that are there."""
        return self._there() != (0, "")

    def _there(self) -> tuple[int, str]:
        """How many bytes of which version are there; none where the version is not known."""
        size = self.size()
        try:
            state = json.loads(self._state.read_text())
            url, version = state["url"], state["version"]
        except (OSError, ValueError, KeyError, TypeError):
            return 0, ""
        enough = self._num_bytes is not None and size >= self._num_bytes
        return (0, "") if size == 0 or enough or url != self._url else (size, version)

    @contextlib.contextmanager
    def _request(self, start: int, version: str, ranged: bool) -> "Iterator[requests.Response]":
        import requests

        # were it compressed on the way, ranges would not count the bytes of the file
        headers = {"Accept-Encoding": "identity"}
        if ranged and (start or self._num_bytes is not None):
            last = "" if self._num_bytes is None else self._num_bytes - 1
            headers["Range"] = f"bytes={start}-{last}"
        if start:
            headers["If-Range"] = version
        timeout = (CONNECT_TIMEOUT, READ_TIMEOUT)
        try:
            response = requests.get(self._url, headers=headers, stream=True, timeout=timeout)
        except requests.RequestException as error:
            raise UnavailableError(_reason(error)) from error
        with response:
            yield response

    def _accept(self, response: "requests.Response", start: int, version: str) -> _Promise | None:
        """What the server will send; None if it must be asked for the whole file."""
        headers, status = response.headers, response.status_code
        limits = re.match(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", headers.get("Content-Range", ""))
        first, total = limits.groups() if limits else (None, None)
        if status == 416:
            # everything is there already, only the last steps of an earlier run are missing
            return _Promise(start, start) if start and total == str(start) else None
        if status not in (200, 206):
            raise UnavailableError(f"the server answers {status} {response.reason}".rstrip())
        if headers.get("Content-Type", "").startswith("text/html"):
            raise UnavailableError("the server sends a web page in its place")
        if status == 200:
            start, total = 0, headers.get("Content-Length")
        # some servers overlook the condition that the version is still the same
        elif first != str(start) or (start and _version(response) not in ("", version)):
            return None
        if total is None or not total.isdecimal():
            return _Promise(start, None)
        return _Promise(start, min(int(total), self._num_bytes or int(total)))

    def _receive(self, response: "requests.Response", promise: _Promise) -> None:
        done, self.total = promise
        self.part.parent.mkdir(parents=True, exist_ok=True)
        with open(self.part, "ab") as output:
            self._lock(output, done)
            output.truncate(done)
            if done == 0:
                self._remember(response)
            self._progress(done, self.total)
            for chunk in self._chunks(response, done):
                output.write(chunk)
                done += len(chunk)
                self._progress(done, self.total)
        if self.total is not None and done < self.total:
            raise StoppedError("the server closed the connection")

    def _chunks(self, response: "requests.Response", done: int) -> Iterator[bytes]:
        from urllib3.exceptions import HTTPError

        # not the iterator of requests: it unpacks .tgz files that a server declares compressed
        stream = response.raw.stream(CHUNK, decode_content=False)
        end = self._num_bytes if self.total is None else self.total
        while end is None or done < end:
            try:
                chunk = next(stream, b"")
            except (HTTPError, OSError) as error:
                raise StoppedError(_reason(error)) from error
            if not chunk:
                return
            chunk = chunk if end is None else chunk[: end - done]
            done += len(chunk)
            yield chunk

    def _lock(self, output: BinaryIO, start: int) -> None:
        """Keeps two processes from writing the same file; it is released when that is closed."""
        try:
            fcntl.flock(output, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"another process is downloading {self._target}; wait for it, then run again"
            ) from error
        except OSError:
            pass  # some network file systems have no locks
        if output.tell() < start:
            raise StoppedError(f"another process has changed {self.part}")

    def _remember(self, response: "requests.Response") -> None:
        if version := _version(response):
            write_json(self._state, {"url": self._url, "version": version})
        else:
            self._state.unlink(missing_ok=True)


def _version(response: "requests.Response") -> str:
    """What tells versions of a file apart; empty if nothing does."""
    tag = response.headers.get("ETag", "")
    # weak tags call files the same that differ in some bytes
    return tag if tag.startswith('"') else response.headers.get("Last-Modified", "")


def _reason(error: Exception) -> str:
    """What the system says about an error that libraries have wrapped several times."""
    import requests
    from urllib3.exceptions import ProtocolError, ReadTimeoutError

    if isinstance(error, requests.ConnectTimeout):
        return f"no connection within {CONNECT_TIMEOUT} s"
    if isinstance(error, requests.ReadTimeout | ReadTimeoutError):
        return f"no answer for {READ_TIMEOUT} s"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, socket.gaierror):
            return f"{cause.strerror} (is this machine online?)"
        if isinstance(cause, OSError) and not isinstance(cause, requests.RequestException):
            return cause.strerror or str(cause)
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, ProtocolError):
        return "the connection broke"
    return " ".join(str(error).split())
