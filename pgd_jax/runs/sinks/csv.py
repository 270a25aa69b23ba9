"""`metrics.csv` in the run's directory: a line for each row, a column for each measure, for a spreadsheet or pandas.

A float that varies between lanes is a column `setting.<name>`. Lists of numbers stay in metrics.jsonl alone.
"""

import csv
from collections.abc import Sequence
from typing import Any, TextIO

from pgd_jax.core import places
from pgd_jax.runs.metrics import Row
from pgd_jax.runs.sinks.base import SINKS, SinkFamily, Target

FILE = "metrics.csv"


class Table:
    """The file, which is written anew where rows have new columns, and where the run goes on."""

    def __init__(self, target: Target):
        self._path = target.path / FILE
        self._columns: list[str] = []
        self._rewrite([_flat(row) for row in target.rows])

    def write(self, rows: Sequence[Row]) -> None:
        found = [_flat(row) for row in rows]
        if not {key for row in found for key in row} <= set(self._columns):
            with open(self._path, newline="", encoding="utf-8") as file:
                found = [*csv.DictReader(file), *found]
            self._rewrite(found)
            return
        with open(self._path, "a", newline="", encoding="utf-8") as file:
            _writer(file, self._columns).writerows(found)

    def close(self) -> None:
        pass

    def _rewrite(self, rows: Sequence[dict[str, Any]]) -> None:
        """Makes the file anew, with every column that any of the rows has."""
        self._columns = list(dict.fromkeys(key for row in rows for key in row))
        with places.replacing(self._path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
            writer = _writer(file, self._columns)
            writer.writeheader()
            writer.writerows(rows)


def _writer(file: TextIO, columns: Sequence[str]) -> csv.DictWriter:
    return csv.DictWriter(file, columns, lineterminator="\n")


def _flat(row: Row) -> dict[str, Any]:
    setting = {f"setting.{name}": value for name, value in row.get("setting", {}).items()}
    flat = {key: value for key, value in row.items() if not isinstance(value, (dict, list))}
    about = {key: flat.pop(key) for key in ("lane", "phase", "seed", "group") if key in flat}
    return about | setting | flat


SINKS.add("csv", SinkFamily(Table))
