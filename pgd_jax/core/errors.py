"""The errors that command lines print as one message, without a traceback."""


class UserError(ValueError):
    """Bad input: names what was found, what was expected, and what to do about it."""


def first_line(error: BaseException) -> str:
    """What an error of somebody else's code says first, or what kind it is."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


class Diverged(ArithmeticError):
    """A run stopped at a value that is not finite: names the lane and the phase. Its last checkpoint is kept."""


class Stopped(Exception):
    """A signal came, which the message names, outside a run's own loop: nothing is lost but what was under way."""
