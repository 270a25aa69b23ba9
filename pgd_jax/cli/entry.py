"""How every command line starts: absl parses the flags, and a user's mistake is one line without a traceback."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

from absl import app

from pgd_jax.errors import UserError


def run(main: Callable[[Sequence[str]], Any], doc: str) -> None:
    """Runs `main(argv)` under absl and exits; `doc` is what --help shows.

    Define the command's flags before the call, in the function that makes it rather than at import, so that several commands
    can be imported together. A UserError is printed to stderr as `error: ...`, with exit status 2.
    """

    def guarded(argv: Sequence[str]) -> Any:
        try:
            if len(argv) > 1:
                raise UserError(f"unexpected argument {argv[1]!r}: options are written --name=value (see --help)")
            return main(argv)
        except UserError as error:
            print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
            sys.exit(2)

    sys.modules["__main__"].__doc__ = doc  # where absl looks for the text of --help
    app.run(guarded)
