"""The one error type that a user's mistake raises; command lines print it without a traceback."""


class UserError(ValueError):
    """Bad input: names what was found, what was expected, and what to do about it."""
