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


def is_disk_full(error: BaseException) -> bool:
    """Whether the system refused to write for want of room, on the disk or in a quota."""
    codes = (errno.ENOSPC, errno.EDQUOT)
    # tensorstore and array_record tell it in the text of exceptions of their own
    return getattr(error, "errno", None) in codes or any(
        os.strerror(code) in str(error) for code in codes
    )


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
