"""Finds HDF5 arrays with rows that were never written, which HDF5 reads as zeros without a warning.

HDF5 makes space for rows when they are written: chunk by chunk, or for a whole contiguous array. So a recording that
was cut short lacks chunks. For virtual arrays and raw storage in other files, those files are checked.
"""

import itertools
import os
import pathlib

import h5py
from h5py import h5d

from pgd_jax.core.errors import UserError


def check_written(source: str, key: str, array: h5py.Dataset, num_rows: int | None = None) -> None:
    """Raises UserError if any of the first `num_rows` rows (None: all) of an array was never written.

    The error calls the file `source` and the array `key`.
    """
    num_rows = array.shape[0] if num_rows is None and array.shape else num_rows
    if not array.size or not num_rows:
        return
    made = array.id.get_create_plist()
    layout = made.get_layout()
    if layout == h5d.VIRTUAL:
        _check_sources(source, key, array)
    elif made.get_external_count():
        _check_raw_files(source, key, array, made)
    elif layout == h5d.CHUNKED and (row := _first_missing(array, num_rows)) is not None:
        more = f", or read the first {row} rows alone (max_rows={row})" if row else ""
        raise UserError(f"{source}: {key} was never written from row {row} on; record or fetch it again{more}")
    elif layout == h5d.CONTIGUOUS and not array.id.get_storage_size():
        raise UserError(f"{source}: {key} was never written, not one of its {array.shape[0]} rows; record it again")


def check_all(source: str, file: h5py.File) -> None:
    """`check_written` for every array in a file."""

    def look(key: str, item: h5py.Dataset | h5py.Group) -> None:
        if isinstance(item, h5py.Dataset):
            check_written(source, key, item)

    file.visititems(look)


def _first_missing(array: h5py.Dataset, num_rows: int) -> int | None:
    """The first row below `num_rows` that lies in a chunk without space in the file; None if there is none."""
    steps = [range(0, size, chunk) for size, chunk in zip(array.shape, array.chunks, strict=True)]
    steps[0] = range(0, num_rows, array.chunks[0])
    number = 1
    for step in map(len, (range(0, array.shape[0], array.chunks[0]), *steps[1:])):
        number *= step
    if array.id.get_num_chunks() == number:
        return None
    corners = itertools.product(*steps)
    return next((at[0] for at in corners if array.id.get_chunk_info_by_coord(at).byte_offset is None), None)


def _check_sources(source: str, key: str, array: h5py.Dataset) -> None:
    """Checks a virtual array: each source exists and is written, and together they have all its elements."""
    covered = 0
    for mapping in array.virtual_sources():
        covered += mapping.vspace.get_select_npoints()
        path = pathlib.Path(source if mapping.file_name == "." else mapping.file_name)
        # HDF5 looks beside the file first, then in the working directory.
        found = next((each for each in (pathlib.Path(source).parent / path, path) if each.is_file()), None)
        if found is None:
            raise UserError(f"{source}: {key} is put together from {mapping.file_name}, which is not there")
        with h5py.File(found, "r") as file:
            if not isinstance(part := file.get(mapping.dset_name), h5py.Dataset):
                raise UserError(f"{source}: {key} is put together from {found}, which has no {mapping.dset_name}")
            check_written(str(found), mapping.dset_name, part)
    if covered < array.size:
        raise UserError(f"{source}: {key} is put together from parts that leave some of its {array.shape[0]} rows out")


def _check_raw_files(source: str, key: str, array: h5py.Dataset, made: h5py.h5p.PropDCID) -> None:
    """Checks raw storage in other files: each file exists and is as long as the array needs."""
    held = 0
    for index in range(made.get_external_count()):
        name, offset, size = made.get_external(index)
        path = os.fsdecode(name)
        if not os.path.isfile(path):
            raise UserError(f"{source}: {key} is stored in {path}, which is not there")
        held += min(max(os.path.getsize(path) - offset, 0), size)
    if held < array.size * array.dtype.itemsize:
        raise UserError(f"{source}: {key} is stored in other files, which end before its {array.shape[0]} rows")
