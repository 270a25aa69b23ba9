"""How every command line starts: absl parses the flags, and a user's mistake is one message without a traceback."""

import contextlib
import errno
import functools
import itertools
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence

from absl import app, flags, logging as absl_logging

from pgd_jax.core import compilation, logging, plugins, signals
from pgd_jax.core.errors import Diverged, Stopped, UserError

USER_ERROR, DIVERGED, STOPPED = 2, 3, signals.STOPPED  # exit statuses


# What the system may refuse to any program, and what to do about it.
FULL = "make room there; the same command goes on with a run"
NO_PLACE = "choose a place that can be written to"
ADVICE = {
    errno.ENOSPC: FULL, errno.EDQUOT: FULL, errno.EFBIG: FULL, errno.EROFS: NO_PLACE, errno.EACCES: NO_PLACE,
    errno.EPERM: NO_PLACE, errno.ENOTDIR: "a part of the path is a file", errno.EISDIR: "a file is needed there",
    errno.ENAMETOOLONG: "choose a shorter name", errno.ENOENT: "it, or the folder that it is in, is not there",
    errno.ELOOP: "its links lead in a circle", errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.EIO: "the disk may be failing", errno.ESTALE: "the network file system has lost it", errno.ENOTSUP: NO_PLACE,
}  # fmt: skip

Main = Callable[[], int | None]
Prepare = Callable[[], Main | tuple[Main, str]]


def run(prepare: Prepare, doc: str, compiles: bool = True, keeps_nothing: bool = False) -> None:
    """Runs a command under absl and exits; `doc` is what --help shows.

    `prepare()` defines the command's flags and returns its main function, and if it likes what --help shows besides.
    The function is called without arguments once flags are parsed, and returns None, or the exit status. Flags are thus
    not defined at import, and several commands can be imported together. A UserError from either is printed to stderr
    as `error: ...`, with exit status 2; Diverged likewise, with 3. A command that `compiles` has --compilation_cache;
    together with --distributed, "auto" is none. It has a CPU's cores as devices, but for --distributed. One that
    `keeps_nothing` until its end is ended at once by the first signal.
    """
    logging.protect()
    os.environ["MPLBACKEND"] = "agg"  # nothing is shown; one that a notebook left may not be installed here
    with signals.command():
        try:
            _run(prepare, doc, compiles, keeps_nothing)
        finally:
            signals.leave()


def _run(prepare: Prepare, doc: str, compiles: bool, keeps_nothing: bool) -> None:
    inherited = set(flags.FLAGS)
    flags.DEFINE_boolean("quiet", False, "say nothing but warnings and errors, and what the command answers")
    flags.DEFINE_list("import", [], "modules of your own to import first: they add agents, samplers, datasets, ...")
    if compiles:
        places = "$JAX_COMPILATION_CACHE_DIR, else pgd_jax/compiled in the user's caches"
        text = f'where compiled programs are kept for the next start: a folder, "none", or "auto" ({places})'
        flags.DEFINE_string("compilation_cache", compilation.AUTO, text)
    with plain_errors():
        plugins.load(_plugins(sys.argv[1:]))
        prepared = prepare()
        main, more = prepared if isinstance(prepared, tuple) else (prepared, "")
    own = {name for name in set(flags.FLAGS) - inherited if _is_defined_here(name)}
    for name in own - {"config"}:  # whose settings are in `doc`
        # --help shows those of the script that was started: of a console script, none that it imports.
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS[name])

    def guarded(argv: Sequence[str]) -> int | None:
        if not flags.FLAGS["verbosity"].present:
            absl_logging.set_verbosity(absl_logging.WARNING)  # orbax tells of every file at INFO
        logging.set_quiet(flags.FLAGS.quiet)
        with plain_errors():
            if len(argv) > 1:
                raise UserError(f'unexpected argument "{argv[1]}": options are written --name=value (see --help)')
            if compiles:
                compilation.use_float32()
                are_several = "distributed" in flags.FLAGS and bool(flags.FLAGS.distributed)
                compilation.keep(flags.FLAGS.compilation_cache, are_several)
                if not are_several:
                    compilation.divide_cpu()
                    from pgd_jax.core import processes  # on use: it needs JAX

                    processes.check_devices()
            signals.check()
            with signals.at_once() if keeps_nothing else contextlib.nullcontext():
                status = main()
            sys.stdout.flush()
            if lost := getattr(sys.stdout, "lost", ""):
                logging.warning(f"some of this command's output could not be written: {lost}")
            return status

    sys.modules["__main__"].__doc__ = f"{doc}\n{more}\n" if more else doc  # where absl looks for the text of --help
    app.run(guarded, flags_parser=functools.partial(_parse, own))


def _plugins(argv: list[str]) -> list[str]:
    """The modules that --import names, which must be there before the flags are defined."""
    found = []
    for argument, following in itertools.pairwise([*argv, ""]):
        name, equals, value = argument.partition("=")
        if name in ("--import", "-import"):
            found.append(value if equals else following)
    return [name for text in found for name in text.split(",") if name]


def _parse(own: set[str], argv: Sequence[str]) -> list[str]:
    with plain_errors():
        try:
            rest = flags.FLAGS(argv)
        except flags.Error as error:  # absl alone would print it with a page of help and exit with status 1
            raise UserError(str(error)) from None
        # Not by absl's own count, which for a flag of several values is theirs.
        given = [argument.lstrip("-").partition("=")[0] for argument in argv[1:] if argument.startswith("-")]
        given = [name.removeprefix("no") if name not in flags.FLAGS else name for name in given]
        twice = [name for name in given if _is_ours(name, own) and given.count(name) > 1]
        if twice:
            raise UserError(f"--{min(twice)} is given more than once; keep the one that is meant")
        return rest


def _is_defined_here(name: str) -> bool:
    """Not by a library that was imported meanwhile."""
    module = flags.FLAGS.find_module_defining_flag(name) or ""
    return module == sys.argv[0] or module.startswith(("pgd_jax.", "experiments."))


def _is_ours(name: str, own: set[str]) -> bool:
    return name in own or name.startswith("config.")


@contextlib.contextmanager
def plain_errors() -> Iterator[None]:
    """Within, what a user can put right ends the process with one message and its exit status."""
    try:
        yield
    except Stopped as stopped:
        print(signals.stopped_by(str(stopped)), file=sys.stderr)
        sys.exit(STOPPED)
    except (UserError, Diverged) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(USER_ERROR if isinstance(error, UserError) else DIVERGED)
    except OSError as error:
        if error.errno not in ADVICE:
            raise
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{error.strerror or error}; {ADVICE[error.errno]}", file=sys.stderr)
        sys.exit(USER_ERROR)


def status(is_finished: bool) -> int:
    """The exit status of a command whose run ended, or was stopped."""
    return 0 if is_finished else STOPPED


class _Path(flags.ArgumentParser):
    """A path, of which `~` is the user's home, as a shell has it only where no `=` comes before."""

    def parse(self, argument: str) -> str:
        return os.path.expanduser(argument)


def define_path(name: str, help_text: str, default: str | None = None) -> flags.FlagHolder:
    """Defines a flag that must name a file or folder: an empty name would be the current folder's."""
    holder = flags.DEFINE(_Path(), name, default, help_text)
    flags.register_validator(name, lambda value: bool(value and value.strip()), f"it is needed: {help_text}")
    return holder


def define_optional_path(name: str, help_text: str) -> flags.FlagHolder:
    """Likewise, for one that may be left out, but not be empty; None where it was."""
    holder = flags.DEFINE(_Path(), name, None, help_text)
    flags.register_validator(name, lambda value: value is None or bool(value.strip()), f"it is empty: {help_text}")
    return holder


def check_not_given(names: Iterable[str], why: str) -> None:
    """Raises UserError where one of these flags was given, which `why` makes meaningless."""
    given = [name for name in names if flags.FLAGS[name].present]
    if given:
        raise UserError(f"--{given[0]} means nothing {why}; leave it out")
