"""Where a run's rows go: metrics.jsonl, whose failure ends the run, and sinks beside it, whose failure does not."""

from collections.abc import Sequence

from pgd_jax.core import logging, processes
from pgd_jax.runs import metrics
from pgd_jax.runs.rundir import RunDir
from pgd_jax.runs.sinks import base as sink_seam


class Log:
    """Of an open run. To be closed, or used in a `with` statement."""

    def __init__(self, directory: RunDir, sinks: Sequence[str], last_phase: int):
        """Drops rows of phases after `last_phase`, the last one of the checkpoint at which the run goes on."""
        self._writer = metrics.MetricsWriter(directory.metrics_path)
        if lost := self._writer.truncate_after(last_phase):
            logging.warning(f"{directory.path}: {lost}; the run goes on, and its reports say so")
        also = f", and to {', '.join(sinks)}" if sinks else ""
        logging.info(f"{directory.path}: every number goes to {directory.metrics_path}{also}")
        self._sinks = _open(directory, sinks)

    def write(self, rows: Sequence[metrics.Row]) -> None:
        self._writer.write(rows)
        self._sinks.write(rows)

    def close(self) -> None:
        self._writer.close()
        self._sinks.close()

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def show(directory: RunDir, sinks: Sequence[str]) -> None:
    """Shows the rows of a finished run, in the first process."""
    if processes.is_first():
        _open(directory, sinks).close()


def _open(directory: RunDir, names: Sequence[str]) -> sink_seam.Sinks:
    """With the rows that are in metrics.jsonl."""
    rows = metrics.read(directory.metrics_path) if names else []
    return sink_seam.Sinks(names, sink_seam.Target(directory.path, directory.record, rows))
