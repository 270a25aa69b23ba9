"""Results in formats for other programs: a tidy results.csv, and policy pools as in Unifloral (arXiv 2504.11453).

A pool is a folder with a file for each trained policy, `<algorithm>_<dataset>_<YYYY-mm-dd_HH-MM-SS>.npz`. The file
holds the returns of many episodes of the policy's last checkpoint. Nothing is pickled or unpickled.
"""

import csv
import datetime
import os
import pathlib
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from pgd_jax.core import places
from pgd_jax.core.errors import UserError

# Columns of results.csv, which has a row for each seed and evaluation. `setting` has the floats by which lanes of a
# method differ.
COLUMNS: dict[str, type] = {
    "dataset": str, "method": str, "setting": str, "seed": int, "update": int,
    "measure": str, "score": float, "episodes": int, "commit": str,
}  # fmt: skip
TIME = "%Y-%m-%d_%H-%M-%S"
# In Unifloral the algorithm is one or two words, joined by "_". The rest, up to the time, is the dataset.
NAME = re.compile(r"([^_]+(?:_[^_]+)?)_(.+)_(\d{4}-\d{2}-\d{2}_\d{2}-\d{2}-\d{2})\.npz")

Row = dict[str, Any]


class Policy(NamedTuple):
    """One trained policy of a pool."""

    algorithm: str
    dataset: str
    returns: np.ndarray  # f64[E] one an episode
    scores: np.ndarray | None = None  # f64[E] the same, normalised (0 random, 100 expert), where that is known
    args: Mapping[str, Any] = {}  # settings: texts, numbers, truths

    @property
    def values(self) -> np.ndarray:
        """Scores, or returns where there are none."""
        return self.returns if self.scores is None else self.scores


def write_results(path: str | os.PathLike, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes `rows`, which have COLUMNS, as CSV with exact numbers. Raises UserError if a row lacks a column.

    Rows are read and written one after another. The file appears when all are written.
    """
    path = pathlib.Path(path)
    with places.naming(path), places.replacing(path) as temporary:
        with open(temporary, "x", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(COLUMNS), lineterminator="\n")
            writer.writeheader()
            for number, row in enumerate(rows):
                if missing := COLUMNS.keys() ^ row.keys():
                    columns, wrong = ", ".join(COLUMNS), ", ".join(sorted(missing))
                    raise UserError(f"results row {number}: columns are {columns}; check {wrong}")
                writer.writerow({name: kind(row[name]) for name, kind in COLUMNS.items()})
        places.sync(temporary)


def read_results(path: str | os.PathLike) -> list[Row]:
    """The rows of a results.csv, with numbers as numbers and further columns as text. Raises UserError otherwise."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or [])]
            if missing:
                raise UserError(f"{os.fspath(path)} is no results.csv: it has no column {', '.join(missing)}")
            return [_typed(row, f"{os.fspath(path)}, line {reader.line_num}") for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{os.fspath(path)} cannot be read as results.csv ({error})") from None


def _typed(row: Mapping[str, Any], where: str) -> Row:
    if None in row or None in row.values():
        raise UserError(f"{where}: it has more or fewer cells than the header")
    found: Row = dict(row)
    for name, kind in COLUMNS.items():
        try:
            found[name] = kind(row[name])
        except ValueError:
            raise UserError(f'{where}: {name} is "{row[name]}", which is no number') from None
    return found


def write_pool(
    folder: str | os.PathLike, policies: Sequence[Policy], begun: datetime.datetime | None = None
) -> list[pathlib.Path]:
    """Writes a file for each policy into `folder` and returns the paths. Other files in the folder are kept.

    File names of policies with the same algorithm and dataset differ only in the time, in seconds. The first has the
    time `begun` (default: now), each further one the next free second. `args` is stored as an array of (name, value)
    pairs; Unifloral's loader reads it like the dictionary that Unifloral pickles.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    moment = (begun or datetime.datetime.now()).replace(microsecond=0)
    written = []
    for policy in policies:
        stem, shift = f"{word(policy.algorithm, 2)}_{word(policy.dataset)}", datetime.timedelta()
        while (path := folder / f"{stem}_{(moment + shift).strftime(TIME)}.npz").exists():
            shift += datetime.timedelta(seconds=1)
        named = {"algorithm": policy.algorithm, "dataset": policy.dataset} | dict(policy.args)
        arrays: dict[str, Any] = _described("final_returns", policy.returns) | {"args": _as_pairs(named)}
        if policy.scores is not None:
            arrays |= _described("final_scores", policy.scores)
        with places.replacing(path) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, **arrays)
        written.append(path)
    return written


def read_pool(folder: str | os.PathLike) -> list[Policy]:
    """The policies in `folder`, sorted by file name. Raises UserError if there are none, or if a file is no policy.

    Files that Unifloral wrote can be read too. Their settings are pickled and are not read: `args` is then empty.
    """
    files = sorted(pathlib.Path(folder).glob("*.npz"))
    if not files:
        raise UserError(f"{os.fspath(folder)} holds no policy pool (<algorithm>_<dataset>_<time>.npz)")
    return [_read_policy(path) for path in files]


def _read_policy(path: pathlib.Path) -> Policy:
    named = NAME.fullmatch(path.name)
    if named is None:
        raise UserError(f"{path}: the name is not <algorithm>_<dataset>_<YYYY-mm-dd_HH-MM-SS>.npz")
    try:
        with np.load(path, allow_pickle=False) as file:
            returns = np.asarray(file["final_returns"], np.float64).reshape(-1)
            scores = np.asarray(file["final_scores"], np.float64).reshape(-1) if "final_scores" in file else None
            args = _from_pairs(file) if "args" in file else {}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is not a policy of a pool ({error})") from None
    algorithm, dataset = (str(args.pop(key, named[i])) for i, key in ((1, "algorithm"), (2, "dataset")))
    return Policy(algorithm, dataset, returns, scores, args)


def _described(name: str, values: np.ndarray) -> dict[str, np.ndarray]:
    values = np.asarray(values, np.float64)
    return {name: values, f"{name}_mean": values.mean(), f"{name}_std": values.std()}


def _as_pairs(args: Mapping[str, Any]) -> np.ndarray:
    """A record [] of pairs: `dict(array.item())` is `args`. Values other than text, numbers and bools become text."""
    fields: list[tuple[str, Any]] = []
    pairs: list[tuple[str, Any]] = []
    for key, value in args.items():
        is_plain = isinstance(value, (str, int, float)) and not np.asarray(value).dtype.hasobject
        plain = value if is_plain else str(value)
        fields.append((f"f{len(fields)}", [("name", np.asarray(key).dtype), ("value", np.asarray(plain).dtype)]))
        pairs.append((key, plain))
    return np.array(tuple(pairs), dtype=fields)


def _from_pairs(file: Any) -> dict[str, Any]:
    try:
        return dict(file["args"].item())
    except ValueError:  # pickled
        return {}


def word(name: str, num_words: int = 1) -> str:
    """`name` as part of a file name: the last part of a path, with at most `num_words` words joined by "_"."""
    plain = re.sub(r"[^\w.+=-]+", "-", pathlib.PurePath(name).name.removesuffix(".hdf5"), flags=re.ASCII).strip("-")
    words = [word for word in plain.split("_") if word] or ["unnamed"]
    return "_".join(filter(None, [*words[: num_words - 1], "-".join(words[num_words - 1 :])]))
