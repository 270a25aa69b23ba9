"""The errors that command lines print as one message, without a traceback."""


class UserError(ValueError):
    """Bad input. The message says what was found, what was expected, and what to do."""


def first_line(error: BaseException) -> str:
    """The first line of an error from other code, or the name of its type."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


class Diverged(ArithmeticError):
    """A run stopped at a value that is not finite. The message names lane and phase. The last checkpoint is kept."""


class Stopped(Exception):
    """A signal came outside a run's own loop. The message names it. Only the work in progress is lost."""
