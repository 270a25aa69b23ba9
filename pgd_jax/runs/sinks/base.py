"""The seam of sinks, and how a run keeps them: what fails in one is said once, and never stops the run."""

import contextlib
import importlib.util
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from pgd_jax.core import logging
from pgd_jax.core.errors import UserError, first_line
from pgd_jax.core.registry import Registry
from pgd_jax.runs import metrics
from pgd_jax.runs.metrics import Row


class Target(NamedTuple):
    """What a sink is opened for."""

    path: pathlib.Path  # the run's directory: a sink's files lie in it
    record: Mapping[str, Any]  # the run's config.json: "kind", "config", versions
    rows: Sequence[Row] = ()  # those that the run has already, up to the checkpoint at which it goes on


class Sink(Protocol):
    """Takes a run's rows as they come: dicts of numbers, strings and lists of numbers. An exception ends it alone."""

    def write(self, rows: Sequence[Row]) -> None:
        """The rows of one chunk. They are on the disk, or on their way, when it returns."""

    def close(self) -> None: ...


class SinkFamily(NamedTuple):
    """What a registry entry holds."""

    # Opens the sink as the run begins or goes on. It shows `target.rows` too, and no row twice: after a crash it may
    # have been given rows that the run computes again.
    open: Callable[[Target], Sink]
    # Shows image files, by name, in the sink's place for `target`; None: it shows none.
    show_figures: Callable[[Target, Mapping[str, pathlib.Path]], None] | None = None
    needs: str = ""  # the package that it imports; the extra of the sink's name installs it


SINKS: Registry[SinkFamily] = Registry("sink")


def check(names: Sequence[str], of_figures: bool = False) -> None:
    """Raises UserError for a sink that is unknown, named twice or not installed, or that cannot show figures."""
    if isinstance(names, str):
        raise UserError(f'sinks="{names}" must be a list of names, such as ["{names}"]')
    for name in names:
        family = SINKS.get(name)
        if list(names).count(name) > 1:
            raise UserError(f'sink "{name}" is named more than once; keep one')
        if of_figures and family.show_figures is None:
            raise UserError(f'sink "{name}" shows no figures; leave it out')
        if family.needs and not _is_installed(family.needs):
            raise UserError(
                f'sink "{name}" needs {family.needs}, which is not installed: pip install "pgd_jax[{name}]"'
            )


def _is_installed(package: str) -> bool:
    spec = importlib.util.find_spec(package)
    return spec is not None and spec.origin is not None  # a folder of that name is none


def show_figures(names: Sequence[str], target: Target, figures: Mapping[str, pathlib.Path]) -> None:
    """Shows image files, by name, in each of the sinks; says which one could not."""
    for name in names:
        show = SINKS.get(name).show_figures
        assert show is not None, "`check` comes before"
        try:
            show(target, figures)
        except Exception as error:
            logging.warning(f"the figures are not shown by {_failure(name, error)}; they are in {target.path}")


class Sinks:
    """The sinks of a run, of which one that fails is told of once and left out from then on."""

    def __init__(self, names: Iterable[str], target: Target):
        self._path, self._sinks = target.path, {}
        for name in names:
            with self._leaving_out(name):
                self._sinks[name] = SINKS.get(name).open(target)

    def write(self, rows: Iterable[Row]) -> None:
        found = [metrics.plain(row) for row in rows] if self._sinks else []
        for name, sink in list(self._sinks.items()):
            with self._leaving_out(name):
                sink.write(found)

    def close(self) -> None:
        for name, sink in list(self._sinks.items()):
            with self._leaving_out(name):
                del self._sinks[name]
                sink.close()

    @contextlib.contextmanager
    def _leaving_out(self, name: str) -> Iterator[None]:
        """Leaves the sink out from now on where the block fails."""
        try:
            yield
        except Exception as error:
            logging.warning(
                f"{self._path} goes on without {_failure(name, error)}. Every row is in metrics.jsonl; the sink gets "
                "those that it lacks when the command is started again"
            )
            if sink := self._sinks.pop(name, None):
                with contextlib.suppress(Exception):
                    sink.close()


def _failure(name: str, error: Exception) -> str:
    return f'sink "{name}", which failed ({type(error).__name__}: {first_line(error)})'
