"""How every command line starts: absl parses the flags, and a user's mistake is one message without a traceback."""

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence

from absl import app, flags, logging

from pgd_jax import compilation
from pgd_jax.errors import Diverged, UserError

USER_ERROR, DIVERGED = 2, 3  # exit statuses


def run(prepare: Callable[[], Callable[[], int | None]], doc: str, compiles: bool = True) -> None:
    """Runs a command under absl and exits; `doc` is what --help shows.

    `prepare()` defines the command's flags and returns its main function, called without arguments once they are
    parsed; that returns None, or the exit status. Flags are thus not defined at import, and several commands can be
    imported together. A UserError from either is printed to stderr as `error: ...`, with exit status 2; Diverged
    likewise, with 3. A command that `compiles` has --compilation_cache; together with --distributed, "auto" is none. It
    has a CPU's cores as devices, but for --distributed.
    """
    inherited = set(flags.FLAGS)
    if compiles:
        places = "$JAX_COMPILATION_CACHE_DIR, else pgd_jax/compiled in the user's caches"
        text = f'where compiled programs are kept for the next start: a folder, "none", or "auto" ({places})'
        flags.DEFINE_string("compilation_cache", compilation.AUTO, text)
    with _plain_errors():
        main = prepare()
    for name in set(flags.FLAGS) - inherited - {"config"}:  # whose settings are in `doc`
        # --help shows those of the script that was started: of a console script, none that it imports.
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS[name])

    def guarded(argv: Sequence[str]) -> int | None:
        if not flags.FLAGS["verbosity"].present:
            logging.set_verbosity(logging.WARNING)  # orbax tells of every file at INFO
        with _plain_errors():
            if len(argv) > 1:
                raise UserError(f'unexpected argument "{argv[1]}": options are written --name=value (see --help)')
            if compiles:
                are_several = "distributed" in flags.FLAGS and bool(flags.FLAGS.distributed)
                compilation.keep(flags.FLAGS.compilation_cache, are_several)
                if not are_several:
                    compilation.divide_cpu()
            return main()

    sys.modules["__main__"].__doc__ = doc  # where absl looks for the text of --help
    app.run(guarded, flags_parser=_parse)


def _parse(argv: Sequence[str]) -> list[str]:
    with _plain_errors():
        try:
            return flags.FLAGS(argv)
        except flags.Error as error:  # absl alone would print it with a page of help and exit with status 1
            raise UserError(str(error)) from None


@contextlib.contextmanager
def _plain_errors() -> Iterator[None]:
    try:
        yield
    except (UserError, Diverged) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(USER_ERROR if isinstance(error, UserError) else DIVERGED)
