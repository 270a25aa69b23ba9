"""Checks of a dataset's arrays, one by one: rank and type, then the values in blocks of rows."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import h5py
import numpy as np

from pgd_jax.core import action_bounds, signals
from pgd_jax.core.errors import UserError
from pgd_jax.data import storage

ACTION_TOLERANCE = 1e-4  # how far outside [-1, 1] an action may be by rounding
BLOCK_BYTES = 8 << 20  # part of a file that is in memory at a time

REQUIRED = ("observations", "actions", "rewards", "terminals")
OPTIONAL = ("timeouts", "next_observations")
VECTORS = ("observations", "actions", "next_observations")
FLAGS = ("terminals", "timeouts", "masks")  # OGBench's files have masks

Arrays = dict[str, np.ndarray]


class Described(Protocol):
    """The description of an array before it is read, as numpy, HDF5 and others have it."""

    @property
    def shape(self) -> Any: ...  # None for HDF5's "null" arrays

    @property
    def dtype(self) -> np.dtype: ...


def width(source: str, key: str, array: Described) -> int:
    """The width of a row: dim for [N, dim], 1 for [N] and [N, 1]. Raises UserError for another shape or type."""
    is_vector, shape = key in VECTORS, array.shape
    if key == "actions" and array.dtype.kind in "iub":
        raise UserError(
            f"{source}: actions are whole numbers (type {array.dtype}); this library is for continuous actions, real "
            "numbers [N, A] in [-1, 1]"
        )
    is_right = shape is not None and array.dtype.kind in "fiub"
    if is_right and is_vector:
        is_right = len(shape) == 2 and shape[1] > 0
    elif is_right:
        is_right = len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)
    if not is_right:
        expected = "numbers [N, dim]" if is_vector else "numbers [N] or [N, 1]"
        raise UserError(f"{source}: {key} has shape {shape} and type {array.dtype}; expected {expected}")
    return shape[1] if is_vector else 1


def agree(source: str, arrays: Mapping[str, Described]) -> int:
    """The number of rows. Raises UserError if a shape or type is wrong, if lengths differ, or if there are no rows."""
    widths = {key: width(source, key, array) for key, array in arrays.items()}
    num_rows = {key: array.shape[0] for key, array in arrays.items()}
    if len(set(num_rows.values())) > 1:
        raise UserError(f"{source}: arrays differ in length: {', '.join(f'{k} {n}' for k, n in num_rows.items())}")
    if num_rows["observations"] == 0:
        raise UserError(f"{source} is empty: its arrays have no rows")
    if widths.get("next_observations", widths["observations"]) != widths["observations"]:
        raise UserError(
            f"{source}: observations are {arrays['observations'].shape}, next_observations "
            f"{arrays['next_observations'].shape}; they must agree"
        )
    return num_rows["observations"]


def convert(
    source: str,
    key: str,
    block: np.ndarray,
    first_row: int = 0,
    bounds: str = action_bounds.UNIT,
    rounding: "Rounding | None" = None,
) -> np.ndarray:
    """A block of rows as f32[n, dim], f32[n] or, for flags, bool[n]. Actions within `bounds` are scaled to [-1, 1].

    `rounding` collects the error of the cast to float32. Raises UserError, naming the row (the block starts at
    `first_row`), for values that are not finite, for actions outside the bounds by more than rounding, and for flags
    that are neither 0 nor 1.
    """
    if key not in VECTORS and block.ndim == 2:
        block = block[:, 0]
    with np.errstate(over="ignore"):  # a value too large for float32 becomes inf and is reported as such
        exact = action_bounds.to_unit(source, block, bounds) if key == "actions" else block
        values = exact.astype(np.float32)
    if not (finite := np.isfinite(values)).all():
        row = first_row + int(np.argwhere(~finite)[0, 0])
        raise UserError(f"{source}: {key} holds NaN or infinity, first in row {row}; remove or repair it")
    if key == "actions":
        if (outside := np.abs(values).max(axis=1) > 1.0 + ACTION_TOLERANCE).any():
            row = int(np.argmax(outside))
            raise UserError(
                f"{source}: actions must lie in {_bounds(bounds)}; row {first_row + row} holds {block[row].tolist()}; "
                'name their own bounds, such as action_bounds="-2:2", or rescale them'
            )
        values = np.clip(values, -1.0, 1.0)
    if rounding is not None:
        rounding.add(exact, values)
    if key not in FLAGS:
        return values
    if (wrong := (values != 0.0) & (values != 1.0)).any():
        row = int(wrong.argmax())
        raise UserError(f"{source}: {key} must be 0 or 1; row {first_row + row} holds {values[row]}")
    return values == 1.0


def _bounds(bounds: str) -> str:
    return f'the bounds "{bounds}"' if bounds else "[-1, 1]"


class Rounding:
    """Compares the spread of an array's columns with the error of the cast to float32, block by block.

    Raises UserError if the cast loses the spread of a column: for example POSIX seconds, of which float32 keeps every
    128th, or metres of a map projection. A spread below SPREAD counts as jitter of a constant column.
    """

    LOST, SPREAD = 1e-3, 1e-3  # error, relative to the standard deviation; standard deviation, in the column's units

    def __init__(self) -> None:
        self.count = 0

    def add(self, block: np.ndarray, values: np.ndarray) -> None:
        """A block of rows as it is stored, and as `convert` made it."""
        if block.dtype.itemsize <= np.dtype(np.float32).itemsize or block.dtype.kind not in "fiu":
            return
        exact, values = block.reshape(len(block), -1), values.reshape(len(block), -1)
        if not self.count:
            self.first = exact[0].astype(np.float64)
            self.total, self.squares, self.error = (np.zeros(exact.shape[1]) for _ in range(3))
        self.count += len(exact)
        away = exact - values  # float64, and in place from here on: a block may be large
        self.error = np.maximum(self.error, np.abs(away, out=away).max(axis=0))
        np.subtract(exact, self.first, out=away)  # relative to a row: squares of large offsets would be rounded
        self.total += away.sum(axis=0)
        self.squares += np.einsum("ij,ij->j", away, away)

    def check(self, source: str, key: str) -> None:
        if not self.count:
            return
        mean = self.total / self.count
        std = np.sqrt(np.maximum(self.squares / self.count - mean**2, 0.0))
        lost = (self.error > self.LOST * std) & (std > self.SPREAD)
        if lost.any():
            column = int(lost.argmax())
            where = f"{key}[:, {column}]" if len(mean) > 1 else key
            centre = self.first[column] + mean[column]
            raise UserError(
                f"{source}: {where} lies around {centre:.10g} with a standard deviation of {std[column]:.3g}; float32, "
                f"in which networks compute, has steps of {np.spacing(np.float32(abs(centre))):.3g} there and would "
                f"lose it: subtract an offset from the column, such as {centre:.6g}, and write the file again"
            )


def read(
    source: str,
    key: str,
    array: h5py.Dataset,
    num_rows: int,
    num_columns: int | None = None,
    bounds: str = action_bounds.UNIT,
) -> np.ndarray:
    """The first rows of an array in a file, and of vectors the first columns, converted block by block."""
    shape = (num_rows, num_columns or array.shape[1]) if key in VECTORS else (num_rows,)
    values, rounding = np.empty(shape, bool if key in FLAGS else np.float32), Rounding()
    storage.check_written(source, key, array, num_rows)
    for rows in blocks(array, num_rows):
        signals.check()
        part = array[rows, :num_columns] if key in VECTORS else array[rows]
        values[rows] = convert(source, key, part, rows.start, bounds, rounding)
    rounding.check(source, key)
    return values


def blocks(array: h5py.Dataset, num_rows: int) -> Iterator[slice]:
    """Slices of consecutive rows of about BLOCK_BYTES. They are whole HDF5 chunks, so each is decompressed once."""
    per_row = max(array.dtype.itemsize * int(np.prod(array.shape[1:])), 1)
    per_chunk = array.chunks[0] if array.chunks else 1
    size = max(BLOCK_BYTES // per_row // per_chunk, 1) * per_chunk
    for start in range(0, num_rows, size):
        yield slice(start, min(start + size, num_rows))
