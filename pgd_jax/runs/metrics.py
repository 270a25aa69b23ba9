"""Metrics as JSON Lines: one object per lane and phase, the source of truth for every report.

JSON has no NaN or infinity: such a value is stored as null and its key named under "nonfinite"; `read` gives NaN back.
"""

import collections
import json
import math
import os
import pathlib
from collections.abc import Iterable
from typing import Any, NamedTuple

from pgd_jax.core import places
from pgd_jax.core.errors import UserError

# The first that the rows have judges a run: of agents more is better, of models less.
SUCCESS = "host_success_rate"
SCORES = ("normalised_score", "return_mean", "host_normalised_score", SUCCESS, "host_return_mean")
LOSSES = ("validation_loss", "validation_error", "train_loss")

Row = dict[str, Any]  # numbers, strings, None, numpy or JAX scalars, and lists or arrays of numbers


class MetricsWriter:
    """Appends rows to a JSON Lines file; what `write` returned from survives a crash.

    Write the rows of a phase before its checkpoint is saved: on resume `truncate_after` that checkpoint's last phase
    then leaves every finished phase exactly once.
    """

    def __init__(self, path: str | os.PathLike):
        self._path = pathlib.Path(path)
        if self._path.is_symlink():
            raise UserError(
                f"{self._path} is a link, which may lead to any file; a run writes into its own folder only"
            )
        if self._path.exists() and not self._path.read_bytes().endswith(b"\n"):
            _rewrite(self._path, _parse(self._path))  # a half-written last line must not run into the next row
        self._file = open(self._path, "a", encoding="utf-8")

    def write(self, rows: Iterable[Row]) -> None:
        """Appends one chunk of rows and waits until they are on the disk."""
        with places.naming(self._path):
            self._file.write("".join(_encode(row) + "\n" for row in rows))
            self._file.flush()
            os.fsync(self._file.fileno())

    def truncate_after(self, phase: int) -> str:
        """Drops rows of phases later than `phase` and a half-written last line; rows without a phase stay.

        Returns what is wrong with those up to there, as `gaps` does.
        """
        self._file.close()
        kept = [row for row in _parse(self._path) if row.get("phase", phase) <= phase]
        _rewrite(self._path, kept)
        self._file = open(self._path, "a", encoding="utf-8")
        return gaps(kept, phase)

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> "MetricsWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read(path: str | os.PathLike) -> list[dict[str, Any]]:
    """All rows of a metrics file, without a half-written last line; UserError for a missing or broken file."""
    return [_restore(row) for row in _parse(pathlib.Path(path))]


def gaps(rows: Iterable[Row], last_phase: int) -> str:
    """Which rows up to `last_phase` are missing or there twice, in words; "" where each lane has each phase once."""
    seen = collections.Counter((row["lane"], row["phase"]) for row in rows if {"lane", "phase"} <= row.keys())
    lanes = {lane for lane, _ in seen} or {0}
    missing = sorted({phase for phase in range(last_phase + 1) for lane in lanes if not seen[lane, phase]})
    twice = sorted({phase for (_, phase), count in seen.items() if count > 1})
    found = [
        f"rows of {_ranges(phases)} are {how}" for phases, how in ((missing, "gone"), (twice, "there twice")) if phases
    ]
    return f"metrics.jsonl was changed: {', and '.join(found)}" if found else ""


def _ranges(phases: list[int]) -> str:
    """[1, 2, 3, 7] -> "phases 1-3, 7"."""
    parts: list[list[int]] = []
    for phase in phases:
        if parts and phase == parts[-1][1] + 1:
            parts[-1][1] = phase
        else:
            parts.append([phase, phase])
    texts = [f"{low}-{high}" if high > low else str(low) for low, high in parts]
    return f"phase{'s' * (len(phases) > 1)} {', '.join(texts)}"


class NonFinite(NamedTuple):
    """Where a value first was NaN or infinite."""

    lane: int
    phase: int
    key: str


def first_nonfinite(rows: Iterable[Row], keys: Iterable[str]) -> NonFinite | None:
    """The first value under `keys` that is NaN or infinite, in the order of the rows; absent keys are passed over."""
    keys = list(keys)
    for row in rows:
        for key in keys:
            if key in row and _split(row[key])[1]:
                return NonFinite(int(row["lane"]), int(row["phase"]), key)
    return None


def plain(row: Row) -> Row:
    """The row with plain Python numbers and lists in the place of arrays and their scalars."""
    return {key: value.tolist() if hasattr(value, "tolist") else value for key, value in row.items()}


def _split(value: Any) -> tuple[Any, bool]:
    """(the value as JSON data, null for NaN and infinity; whether there was any)."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        items = [_split(item) for item in value]
        return [item for item, _ in items], any(lost for _, lost in items)
    lost = isinstance(value, float) and not math.isfinite(value)
    return (None if lost else value), lost


def _encode(row: Row) -> str:
    parts = {key: _split(value) for key, value in row.items()}
    flagged = [key for key, (_, lost) in parts.items() if lost]
    data = {key: value for key, (value, _) in parts.items()}
    return json.dumps(data | {"nonfinite": flagged} if flagged else data, allow_nan=False)


def _restore(row: dict[str, Any]) -> dict[str, Any]:
    for key in row.pop("nonfinite", []):
        row[key] = _null_to_nan(row[key])
    return row


def _null_to_nan(value: Any) -> Any:
    if isinstance(value, list):
        return [_null_to_nan(item) for item in value]
    return math.nan if value is None else value


def _parse(path: pathlib.Path) -> list[dict[str, Any]]:
    """The rows as stored. Only the last line may be broken: a crash cuts the end of a file, nothing else."""
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        raise UserError(f"no metrics file {path}") from None
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError("not an object")
        except ValueError as error:
            if number == len(lines):
                break
            raise UserError(f"{path}, line {number} is not a metrics row ({error}); the file was damaged") from None
        rows.append(row)
    return rows


def _rewrite(path: pathlib.Path, stored: list[dict[str, Any]]) -> None:
    places.replace_text(path, "".join(json.dumps(row, allow_nan=False) + "\n" for row in stored))
