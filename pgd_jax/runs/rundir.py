"""A run is a directory: what was asked for (config.json), metrics, checkpoints, and later the report's files.

The same command on the same directory resumes; another config on it is refused. One process at a time works on a run.
"""

import dataclasses
import json
import os
import pathlib
from typing import Any

from absl import logging as absl_logging

from pgd_jax.core import logging, places, processes, provenance
from pgd_jax.core.errors import UserError
from pgd_jax.runs import checkpoint, lock, records
from pgd_jax.runs.lock import Lock

LOCK = "lock"
FINISHED = "finished"


@dataclasses.dataclass(frozen=True)
class RunDir:
    """An open run, locked for this process; `close()` it, or use it in a `with` statement."""

    path: pathlib.Path
    config: dict[str, Any]  # as JSON gives it back: lists, not tuples
    record: dict[str, Any]  # all of config.json, which each checkpoint keeps too
    _lock: Lock | None = dataclasses.field(repr=False, compare=False)

    @property
    def metrics_path(self) -> pathlib.Path:
        return self.path / "metrics.jsonl"

    @property
    def checkpoints_path(self) -> pathlib.Path:
        return self.path / "checkpoints"

    def mark_finished(self, step: int | None = None) -> None:
        """Says that the run is at its end, with checkpoint `step` where it has any."""
        last = "" if step is None else f"{checkpoint.folder_name(step)}\n"
        places.replace_text(self.path / FINISHED, f"{provenance.moment()}\n{last}")

    def close(self) -> None:
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> "RunDir":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_run(
    path: str | os.PathLike, kind: str, config: dict[str, Any], rests_on: dict[str, Any] | None = None
) -> RunDir:
    """Creates the run in a new or empty directory, or opens the one that is there to resume it.

    `kind` names the command family ("denoiser", "agent"); `config` is plain JSON data (tuples become lists);
    `rests_on` is kept beside it (rests.py). A run may be made longer (records.LENGTHS).

    Raises UserError, with nothing written, for a path that is a file, a directory with other things in it, a run of
    another kind or config (every differing field is listed), or a run that another process works on. Library versions
    that changed since the run began are only warned about. Of several processes the first one locks and writes.
    """
    path = records.directory(path)
    if processes.are_several() and not places.PLAIN.fullmatch(str(path.absolute())):
        raise UserError(f"{path}: with several processes a path may hold letters, digits and / . , ; = + @ - _ only")
    config = _as_json(config)
    _holds_run(path, kind, config)
    processes.wait("looked at the run")
    held = failure = None
    if processes.is_first():
        try:
            held = _begin(path, kind, config, rests_on or {})
        except (UserError, OSError) as error:  # which the others must hear of: they would wait for this process
            failure = error
    if processes.any_of(failure is not None):
        raise failure or UserError(f"{path}: the first process could not open the run; its message says why")
    return RunDir(path, config, records.load_record(path, kind), held)


def is_finished(path: str | os.PathLike, kind: str, config: dict[str, Any]) -> bool:
    """Whether this very run is in `path` and at its end. Only reads; errors as `open_run`."""
    config = records.completed(_as_json(config), kind)
    is_same = _holds_run(records.directory(path), kind, config) and records.load_config(path, kind) == config
    return is_same and is_at_end(path)


def is_at_end(path: str | os.PathLike) -> bool:
    """Whether the run in `path` says that it is finished, and has the checkpoint that it ended with."""
    try:
        moment, *names = (records.directory(path) / FINISHED).read_text(encoding="utf-8").split()
    except (FileNotFoundError, NotADirectoryError, UnicodeDecodeError, ValueError):
        return False
    missing = [name for name in names if not checkpoint.is_there(records.directory(path) / "checkpoints", name)]
    if missing:
        logging.warning(f"{path}: it is marked as finished ({moment}), but its last checkpoint {missing[0]} is gone")
    return not missing


def _begin(path: pathlib.Path, kind: str, config: dict[str, Any], rests_on: dict[str, Any]) -> Lock:
    """Locks the run and, where it is new, writes what it is."""
    path.mkdir(parents=True, exist_ok=True)
    lock = Lock(path / LOCK)
    try:
        # Between the first look and the lock another process may have made the run.
        if _holds_run(path, kind, config):
            record = records.load_record(path, kind)
            _warn_of_versions(path, record["versions"])
            if record["config"] != config:  # longer than it was
                record = record | {"config": config}
                places.replace_text(path / records.CONFIG, json.dumps(record, indent=2) + "\n")
                (path / FINISHED).unlink(missing_ok=True)
        else:
            record = {"kind": kind, "config": config, "rests_on": rests_on} | provenance.now()
        if not (path / records.CONFIG).exists():
            places.replace_text(path / records.CONFIG, json.dumps(record, indent=2) + "\n")
    except BaseException:
        lock.release()
        raise
    return lock


def check_place(path: str | os.PathLike) -> None:
    """Raises UserError where no run can be made in `path`, before anything is read for it."""
    if not os.path.lexists(records.directory(path)):
        places.check_place(records.directory(path))


def _holds_run(path: pathlib.Path, kind: str, config: dict[str, Any]) -> bool:
    """Whether this very run is in `path` already; UserError where anything else is."""
    if path.exists() and not path.is_dir():
        raise UserError(f"{path} is a file; a run needs a directory")
    if (path / records.CONFIG).exists() or (path.is_dir() and records.kept(path) is not None):
        held, config = records.load_config(path, kind), records.completed(config, kind)
        grown = [name for name in records.LENGTHS.get(kind, ()) if config.get(name, 0) > held.get(name, 0)]
        if records.differences(held | {name: config[name] for name in grown}, config):
            differences = records.differences(held, config)
            listed = "\n".join(f"  {line}" for line in differences)
            advice = "Use another directory, or the old settings."
            if kind == "denoiser" and [line.split(":")[0] for line in differences] == ["training.num_steps"]:
                advice = (
                    "Its learning rate's cosine was laid out for that length: train another one, in a new directory."
                )
            raise UserError(f"{path} holds a run with other settings:\n{listed}\n{advice}")
        return True
    # A crash while the run was made can leave these two.
    names = {entry.name for entry in path.iterdir() if not _is_leftover(entry)} if path.exists() else set()
    if strangers := sorted(names):
        raise UserError(f"{path} is not empty and not a run (it holds {strangers[0]}); use a new or empty directory")
    return False


def _is_leftover(entry: pathlib.Path) -> bool:
    """Whether it is one of the two that a crash can leave while a run is made."""
    if entry.name == LOCK and not entry.is_symlink() and entry.is_file():
        with open(entry, "rb") as file:
            return bool(lock.HOLDER.fullmatch(file.read(300).decode(errors="replace")))
    return entry.name == records.CONFIG + places.PARTIAL


def _as_json(config: dict[str, Any]) -> dict[str, Any]:
    try:
        return json.loads(json.dumps(config, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise UserError(f"the config cannot be stored as JSON: {error}") from None


def _warn_of_versions(path: pathlib.Path, recorded: dict[str, str]) -> None:
    changes = records.differences(recorded, provenance.versions())
    if changes:
        absl_logging.warning(
            "%s resumes under other versions; results may differ in rounding: %s", path, "; ".join(changes)
        )
