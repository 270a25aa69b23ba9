"""A run is a directory: what was asked for (config.json), metrics, checkpoints, and later the report's files.

The same command on the same directory resumes; another config on it is refused. One process at a time works on a run.
"""

import dataclasses
import fcntl
import json
import os
import pathlib
import re
import socket
import weakref
from typing import Any

from absl import logging as absl_logging

from pgd_jax.core import config as configs, logging, places, processes, provenance
from pgd_jax.core.errors import UserError

CONFIG = "config.json"
LOCK = "lock"
FINISHED = "finished"
PARTIAL = ".pgd_jax-partial"  # ending of a file that was not finished
HOLDER = re.compile(r"(pid \d+ on .*\n)?")  # what a lock file holds


def sync(path: pathlib.Path) -> None:
    """Makes a file's content, or a directory's list of names, survive a power cut."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def replace_text(path: pathlib.Path, text: str) -> None:
    """Writes a text file so that a reader, or a crash, sees the old content or the new one, never half of it."""
    partial = path.with_name(path.name + PARTIAL)
    partial.unlink(missing_ok=True)  # of a process that was killed, or a link
    with open(partial, "x", encoding="utf-8") as file:
        file.write(text)
    sync(partial)
    os.replace(partial, path)
    sync(path.parent)


class _Lock:
    """An flock held until `release()`, garbage collection, or the death of the process, however it dies."""

    def __init__(self, path: pathlib.Path):
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        self.release = weakref.finalize(self, os.close, fd)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(fd, 200, 0).decode(errors="replace").strip() or "unknown"
            self.release()
            raise UserError(
                f"{path.parent} is in use by another process ({holder}); wait for it to end, or use another directory"
            ) from None
        except OSError as error:  # some network file systems are mounted without flock
            absl_logging.warning("%s cannot be locked (%s): do not start a second process on this run", path, error)
            return
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"pid {os.getpid()} on {socket.gethostname()}\n".encode(), 0)


@dataclasses.dataclass(frozen=True)
class RunDir:
    """An open run, locked for this process; `close()` it, or use it in a `with` statement."""

    path: pathlib.Path
    config: dict[str, Any]  # as JSON gives it back: lists, not tuples
    _lock: _Lock | None = dataclasses.field(repr=False, compare=False)

    @property
    def metrics_path(self) -> pathlib.Path:
        return self.path / "metrics.jsonl"

    @property
    def checkpoints_path(self) -> pathlib.Path:
        return self.path / "checkpoints"

    def mark_finished(self) -> None:
        replace_text(self.path / FINISHED, provenance.moment() + "\n")

    def close(self) -> None:
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> "RunDir":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_run(path: str | os.PathLike, kind: str, config: dict[str, Any]) -> RunDir:
    """Creates the run in a new or empty directory, or opens the one that is there to resume it.

    `kind` names the command family ("denoiser", "agent"); `config` is plain JSON data (tuples become lists).
    Raises UserError, with nothing written, for a path that is a file, a directory with other things in it, a run of
    another kind or config (every differing field is listed), or a run that another process works on. Library versions
    that changed since the run began are only warned about. Of several processes the first one locks and writes.
    """
    path = _path(path)
    if processes.are_several() and not places.PLAIN.fullmatch(str(path.absolute())):
        raise UserError(f"{path}: with several processes a path may hold letters, digits and / . , ; = + @ - _ only")
    config = _as_json(config)
    _holds_run(path, kind, config)
    processes.wait("looked at the run")
    lock = failure = None
    if processes.is_first():
        try:
            lock = _begin(path, kind, config)
        except (UserError, OSError) as error:  # which the others must hear of: they would wait for this process
            failure = error
    if processes.any_of(failure is not None):
        raise failure or UserError(f"{path}: the first process could not open the run; its message says why")
    return RunDir(path, config, lock)


def is_finished(path: str | os.PathLike, kind: str, config: dict[str, Any]) -> bool:
    """Whether this very run is in `path` and at its end. Only reads; errors as `open_run`."""
    return _holds_run(_path(path), kind, _as_json(config)) and (_path(path) / FINISHED).exists()


def _path(path: str | os.PathLike) -> pathlib.Path:
    if not os.fspath(path).strip():
        raise UserError("the run directory has no name, and would be the current folder; name one")
    return pathlib.Path(path)


def _begin(path: pathlib.Path, kind: str, config: dict[str, Any]) -> _Lock:
    """Locks the run and, where it is new, writes what it is."""
    path.mkdir(parents=True, exist_ok=True)
    lock = _Lock(path / LOCK)
    try:
        # Between the first look and the lock another process may have made the run.
        if _holds_run(path, kind, config):
            _warn_of_versions(path, load_record(path, kind)["versions"])
        else:
            replace_text(path / CONFIG, json.dumps(_record(kind, config), indent=2) + "\n")
    except BaseException:
        lock.release()
        raise
    return lock


def load_record(path: str | os.PathLike, kind: str) -> dict[str, Any]:
    """All of config.json: kind, config, versions, git_commit, git_modified, device, num_devices, created (UTC).

    Raises UserError where `path` is no run, or one of another kind.
    """
    file = pathlib.Path(path) / CONFIG
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        message = f'{path} is not a run directory (it has no {CONFIG}); a run of kind "{kind}" is needed'
        raise UserError(message) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read ({error}); restore it, or use another directory") from None
    if not isinstance(record, dict) or not {"kind", "config", "versions"} <= record.keys():
        raise UserError(f"{file} was not written by this library; use another directory")
    if record["kind"] != kind:
        raise UserError(f'{path} holds a run of kind "{record["kind"]}", not "{kind}"; use another directory')
    return record


def load_config(path: str | os.PathLike, kind: str) -> dict[str, Any]:
    """The config of a run, for those that only read it; errors as `load_record`."""
    return load_record(path, kind)["config"]


def read_config(cls: type[configs.Config], path: str | os.PathLike, kind: str) -> configs.Config:
    """Likewise, as the dataclass; raises UserError for a run of another version, whose settings are others."""
    try:
        return configs.from_dict(cls, load_config(path, kind))
    except UserError as error:
        raise UserError(f"{pathlib.Path(path) / CONFIG}: {error}; was it made by another version of pgd_jax?") from None


def say_what_it_names(path: str | os.PathLike, what: str, name: str) -> None:
    """Says that something outside run `path` is read because its config.json says so: a run may come from anybody."""
    logging.info(f"{path}: its {CONFIG} names the {what} {name}, which is read")


def _holds_run(path: pathlib.Path, kind: str, config: dict[str, Any]) -> bool:
    """Whether this very run is in `path` already; UserError where anything else is."""
    if path.exists() and not path.is_dir():
        raise UserError(f"{path} is a file; a run needs a directory")
    if (path / CONFIG).exists():
        differences = _differences(load_config(path, kind), config)
        if differences:
            listed = "\n".join(f"  {line}" for line in differences)
            advice = "Use another directory, or the old settings."
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
            return bool(HOLDER.fullmatch(file.read(300).decode(errors="replace")))
    return entry.name == CONFIG + PARTIAL


def _as_json(config: dict[str, Any]) -> dict[str, Any]:
    try:
        return json.loads(json.dumps(config, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise UserError(f"the config cannot be stored as JSON: {error}") from None


def _flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, str]:
    flat = {}
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            flat.update(_flatten(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = json.dumps(value, sort_keys=True)
    return flat


def _differences(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    run, command = _flatten(ours), _flatten(theirs)
    return [
        f"{name}: run has {run.get(name, 'nothing')}, command has {command.get(name, 'nothing')}"
        for name in sorted(run.keys() | command.keys())
        if run.get(name) != command.get(name)
    ]


def _record(kind: str, config: dict[str, Any]) -> dict[str, Any]:
    return {"kind": kind, "config": config} | provenance.now()


def _warn_of_versions(path: pathlib.Path, recorded: dict[str, str]) -> None:
    changes = _differences(recorded, provenance.versions())
    if changes:
        absl_logging.warning(
            "%s resumes under other versions; results may differ in rounding: %s", path, "; ".join(changes)
        )
