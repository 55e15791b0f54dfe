"""The one exception that means: the user can mend this; and what is told of system errors."""

import contextlib
import errno
import os
from collections.abc import Iterator


class UserError(ValueError):
    """A mistake in what the user gave: a flag, a configuration field, a file, a shape.

    The message is one line that says what is wrong and what to do. Commands print it without a
    traceback; library callers catch it as the ``ValueError`` it is.
    """


class UnreadableError(UserError):
    """The system refuses to read a file, which may be sound: nothing must be thrown away for it."""


# what passes, or is a matter of rights, and says nothing about a file's content
_REFUSALS = (
    errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.EIO, errno.ENOMEM, errno.ESTALE,
    errno.ETIMEDOUT,
)  # fmt: skip


def _refusal(error: BaseException, codes: tuple[int, ...]) -> str | None:
    """Which of these errors of the system is behind an exception, in the system's words."""
    # tensorstore and array_record tell it in the text of exceptions of their own
    for code in codes:
        if getattr(error, "errno", None) == code or os.strerror(code) in str(error):
            return os.strerror(code)
    return None


@contextlib.contextmanager
def reading(path: os.PathLike[str]) -> Iterator[None]:
    """Tells a file or folder that the system refuses to read from one that is damaged.

    Args:
      path: What is being read.

    Raises:
      UnreadableError: If the system refuses; other errors pass.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if reason := _refusal(error, _REFUSALS):
            raise UnreadableError(
                f"cannot read {os.fspath(path)} ({reason}): run the same command again when it "
                "can be read"
            ) from error
        raise


def is_disk_full(error: BaseException) -> bool:
    """Whether the system refused to write for want of room, on the disk or in a quota."""
    return _refusal(error, (errno.ENOSPC, errno.EDQUOT)) is not None


@contextlib.contextmanager
def writing(path: os.PathLike[str]) -> Iterator[None]:
    """Names the file or folder that cannot be written, and why, in one line.

    Args:
      path: What is being written.

    Raises:
      UserError: If the disk is full, or the system refuses to write there.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if is_disk_full(error):
            raise UserError(
                f"the disk is full: cannot write {os.fspath(path)}; make room and run the same "
                "command again to go on"
            ) from error
        if isinstance(error, OSError):
            # a temporary file, or what stands where a folder is needed
            culprit = f": {error.filename}" if error.filename else ""
            reason = f"{error.strerror or error}{culprit}"
            raise UserError(f"cannot write {os.fspath(path)} ({reason})") from error
        raise
