"""Recorded chunks of steps on the disk: a file each, `part_00000012.npz`, arrays [T, E, ...] as in `streams.Rows`.

A recording grows by appending files, so a checkpoint need not hold what was recorded before it, and nothing is written
twice. A file is whole or not there; numpy's archive has a checksum of each array.
"""

import pathlib
import re
import zipfile

import numpy as np

from pgd_jax.core import places
from pgd_jax.core.errors import UserError
from pgd_jax.runs.collect import streams

FOLDER = "parts"
NAME = re.compile(r"part_\d{8}\.npz")


def path_of(folder: pathlib.Path, index: int) -> pathlib.Path:
    return folder / FOLDER / f"part_{index:08d}.npz"


def write(folder: pathlib.Path, index: int, rows: streams.Rows) -> None:
    """Writes part `index` of the recording in run directory `folder`, in place of one that a killed process left."""
    path = path_of(folder, index)
    with places.replacing(path) as temporary:
        with open(temporary, "wb") as file:
            np.savez(file, **rows._asdict())
        places.sync(temporary)
    places.sync(path.parent)


def read(folder: pathlib.Path, index: int) -> streams.Rows:
    """Raises UserError for a part that is missing or damaged."""
    path = path_of(folder, index)
    try:
        # Opened here: numpy leaves the file open where it is no archive.
        with open(path, "rb") as opened, np.load(opened) as file:
            return streams.Rows(**{name: file[name] for name in streams.Rows._fields})
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{path} is missing or damaged ({error}); start the collection again in a new directory"
        ) from None


def clean(folder: pathlib.Path) -> None:
    """Removes what writers that were killed left half-written; the caller has the run's lock, so none is at work."""
    for entry in list((folder / FOLDER).glob("part_*")):
        unfinished = places.PART.fullmatch(entry.name)
        if unfinished and NAME.fullmatch(unfinished["name"]):
            entry.unlink()


def join(folder: pathlib.Path, chunks: range, num_rows: int, from_end: bool) -> streams.Rows:
    """Parts `chunks` as rows [N, ...] in time order, stream after stream; N = `num_rows`, or all where there are fewer.

    Every stream gives equally many steps (the last one may give fewer): its first ones, or, `from_end`, its last ones.
    A stream's last row, which nothing follows, becomes a timeout unless it is terminal.
    """
    first = read(folder, chunks[0])
    num_steps, num_streams = first.rewards.shape
    wanted = min(-(-num_rows // num_streams), num_steps * len(chunks))
    needed = -(-wanted // num_steps)
    chunks = chunks[-needed:] if from_end else chunks[:needed]
    shapes = ((num_streams, needed * num_steps, *array.shape[2:]) for array in first)
    joined = streams.Rows(*(np.empty(shape, array.dtype) for shape, array in zip(shapes, first, strict=True)))
    for place, index in enumerate(chunks):
        for whole, part in zip(joined, read(folder, index), strict=True):
            whole[:, place * num_steps : (place + 1) * num_steps] = part.swapaxes(0, 1)
    steps = slice(-wanted, None) if from_end else slice(wanted)
    total = num_streams * wanted
    joined = streams.Rows(*(array[:, steps].reshape(total, *array.shape[2:])[:num_rows] for array in joined))
    joined.timeouts[wanted - 1 :: wanted] = True
    joined.timeouts[-1] = True
    joined.timeouts[joined.terminals] = False
    return joined
