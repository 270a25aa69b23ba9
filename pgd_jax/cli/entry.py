"""How every command line starts: absl parses the flags, and a user's mistake is one message without a traceback."""

import contextlib
import functools
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence

from absl import app, flags, logging

from pgd_jax import compilation, interrupt, notes
from pgd_jax.errors import Diverged, Stopped, UserError

USER_ERROR, DIVERGED, STOPPED = 2, 3, interrupt.STOPPED  # exit statuses


def run(
    prepare: Callable[[], Callable[[], int | None]], doc: str, compiles: bool = True, keeps_nothing: bool = False
) -> None:
    """Runs a command under absl and exits; `doc` is what --help shows.

    `prepare()` defines the command's flags and returns its main function, called without arguments once they are
    parsed; that returns None, or the exit status. Flags are thus not defined at import, and several commands can be
    imported together. A UserError from either is printed to stderr as `error: ...`, with exit status 2; Diverged
    likewise, with 3. A command that `compiles` has --compilation_cache; together with --distributed, "auto" is none. It
    has a CPU's cores as devices, but for --distributed. One that `keeps_nothing` until its end is ended at once by the
    first signal.
    """
    notes.protect()
    with interrupt.command():
        try:
            _run(prepare, doc, compiles, keeps_nothing)
        finally:
            interrupt.leave()


def _run(prepare: Callable[[], Callable[[], int | None]], doc: str, compiles: bool, keeps_nothing: bool) -> None:
    inherited = set(flags.FLAGS)
    if compiles:
        places = "$JAX_COMPILATION_CACHE_DIR, else pgd_jax/compiled in the user's caches"
        text = f'where compiled programs are kept for the next start: a folder, "none", or "auto" ({places})'
        flags.DEFINE_string("compilation_cache", compilation.AUTO, text)
    with _plain_errors():
        main = prepare()
    own = set(flags.FLAGS) - inherited
    for name in own - {"config"}:  # whose settings are in `doc`
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
            interrupt.check()
            with interrupt.at_once() if keeps_nothing else contextlib.nullcontext():
                status = main()
            sys.stdout.flush()
            if lost := getattr(sys.stdout, "lost", ""):
                print(f"warning: some of this command's output could not be written: {lost}", file=sys.stderr)
            return status

    sys.modules["__main__"].__doc__ = doc  # where absl looks for the text of --help
    app.run(guarded, flags_parser=functools.partial(_parse, own))


def _parse(own: set[str], argv: Sequence[str]) -> list[str]:
    with _plain_errors():
        try:
            rest = flags.FLAGS(argv)
        except flags.Error as error:  # absl alone would print it with a page of help and exit with status 1
            raise UserError(str(error)) from None
        twice = [name for name in set(flags.FLAGS) if _is_ours(name, own) and flags.FLAGS[name].present > 1]
        if twice:
            raise UserError(f"--{min(twice)} is given more than once; keep the one that is meant")
        return rest


def _is_ours(name: str, own: set[str]) -> bool:
    return name in own or name.startswith("config.")


@contextlib.contextmanager
def _plain_errors() -> Iterator[None]:
    try:
        yield
    except Stopped as stopped:
        print(interrupt.stopped_by(str(stopped)), file=sys.stderr)
        sys.exit(STOPPED)
    except (UserError, Diverged) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(USER_ERROR if isinstance(error, UserError) else DIVERGED)


def status(is_finished: bool) -> int:
    """The exit status of a command whose run ended, or was stopped."""
    return 0 if is_finished else STOPPED


def define_path(name: str, help_text: str, default: str | None = None) -> flags.FlagHolder:
    """Defines a flag that must name a file or folder: an empty name would be the current folder's."""
    holder = flags.DEFINE_string(name, default, help_text)
    flags.register_validator(name, lambda value: bool(value and value.strip()), f"it is needed: {help_text}")
    return holder


def define_optional_path(name: str, help_text: str) -> flags.FlagHolder:
    """Likewise, for one that may be left out, but not be empty; None where it was."""
    holder = flags.DEFINE_string(name, None, help_text)
    flags.register_validator(name, lambda value: value is None or bool(value.strip()), f"it is empty: {help_text}")
    return holder


def refuse_ignored(names: Iterable[str], why: str) -> None:
    """Raises UserError where one of these flags was given, which `why` makes meaningless."""
    given = [name for name in names if flags.FLAGS[name].present]
    if given:
        raise UserError(f"--{given[0]} means nothing {why}; leave it out")
