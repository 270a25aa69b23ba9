"""What a run rests on: its dataset, its denoiser, its behaviour policy. They may move, or change under the same name.

A run keeps where each was, from the run itself and from the root, and a fingerprint of its content. So it is found
again where both were moved together, or the run alone; and another one of the same name is told from it.
"""

import hashlib
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from pgd_jax.core.errors import UserError
from pgd_jax.data import loading
from pgd_jax.data.base import RawDataset

Record = dict[str, dict[str, str]]  # in config.json: what -> {"name", "fingerprint", "from_run", "absolute"}


class Rest(NamedTuple):
    """One of these things."""

    name: str  # as the config has it
    fingerprint: str  # of its content


def fingerprint(arrays: Mapping[str, Any]) -> str:
    """SHA-256 of arrays by name: their types, shapes and bytes."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        array = np.ascontiguousarray(array)
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.view(np.uint8).reshape(-1).data if array.size else b"")
    return digest.hexdigest()


def of_dataset(name: str, raw: RawDataset) -> Rest:
    arrays = {key: value for key, value in vars(raw).items() if isinstance(value, np.ndarray)}
    return Rest(name, fingerprint(arrays))


def of_model(name: str, *trees: Any) -> Rest:
    """A trained model: weights and statistics, pytrees of arrays."""
    leaves = jax.tree_util.tree_leaves_with_path(jax.device_get(trees))
    return Rest(name, fingerprint({jax.tree_util.keystr(path): leaf for path, leaf in leaves}))


def as_record(run: str | os.PathLike, found: Mapping[str, Rest]) -> Record:
    """What config.json keeps of them."""
    record = {}
    for what, rest in found.items():
        record[what] = {"name": rest.name, "fingerprint": rest.fingerprint}
        if what != "dataset" or loading.is_path(rest.name):
            absolute = os.path.abspath(os.path.expanduser(rest.name))
            record[what] |= {"from_run": os.path.relpath(absolute, os.path.abspath(run)), "absolute": absolute}
    return record


def find(run: str | os.PathLike, record: Record, what: str, name: str) -> str:
    """The path of a thing that run `run` calls `name`: as it lies from the run, else where it was, else by its name."""
    kept = record.get(what, {})
    if kept.get("name") != name:  # its user has written another one into config.json
        return name
    places = [os.path.normpath(os.path.join(os.path.abspath(run), kept["from_run"]))] if "from_run" in kept else []
    places += [kept["absolute"]] if "absolute" in kept else []
    return next((place for place in places if os.path.exists(place)), name)


def check(run: str | os.PathLike, record: Record, found: Mapping[str, Rest]) -> None:
    """Raises UserError where anything is not what run `run` began with."""
    for what, rest in found.items():
        kept = record.get(what, {}).get("fingerprint")
        if kept is not None and kept != rest.fingerprint:
            raise UserError(
                f"{os.fspath(run)}: the {what.replace('_', ' ')} {rest.name} is not the one that this run began with: "
                "its content is another; put that one back, or use a new directory"
            )
