"""The one exception that means: the user can mend this."""


class UserError(ValueError):
    """A mistake in what the user gave: a flag, a configuration field, a file, a shape.

    The message is one line that says what is wrong and what to do. Commands print it without a
    traceback; library callers catch it as the ``ValueError`` it is.
    """
