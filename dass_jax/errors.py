"""The one exception that means: the user can mend this; and what is told of system errors."""

import errno


class UserError(ValueError):
    """A mistake in what the user gave: a flag, a configuration field, a file, a shape.

    The message is one line that says what is wrong and what to do. Commands print it without a
    traceback; library callers catch it as the ``ValueError`` it is.
    """


def is_disk_full(error: BaseException) -> bool:
    """Whether the system refused to write for want of room, on the disk or in a quota."""
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
