"""Minari datasets (https://minari.farama.org), local and remote -> RawDataset.

The `minari` library (the extra `minari`) reads them, in any of its storage formats (HDF5; Arrow and Parquet if
`minari[arrow]` is installed), from $MINARI_DATASETS_PATH, else ~/.minari/datasets. It takes about a millisecond per
episode. So a dataset is converted once, episode by episode, to a flat HDF5 file in this library's cache. The file is
written again when the dataset's files change. `Reading.max_rows` and the free memory limit how much of it is read.

Minari's D4RL/... and mujoco/... datasets were recorded again on other versions of the tasks; they are not D4RL's. So
their returns are never normalised, neither by D4RL's scores nor by Minari's own (ref_min_score, which few have). Their
environment is set only if this library has the same task (`minari_metadata.ENVIRONMENTS`).

The minari library trusts a dataset, whoever made it. So minari_metadata and `foreign` check the files first.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import re
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator
from typing import Any

import h5py

from pgd_jax.core import logging, places, signals
from pgd_jax.core.errors import Stopped, UserError
from pgd_jax.core.registry import nearest
from pgd_jax.data import d4rl, foreign, minari_metadata, minari_rows, storage
from pgd_jax.data.base import RawDataset, Reading

PREFIX = "minari:"  # starts a dataset's name on command lines: "minari:D4RL/pen/human-v2"
CACHE_VERSION = 3  # version of the conversion: a new one makes every cached file again
STAGE = re.compile(r"\.pgd_jax-(?P<host>.+)-(?P<process>\d+)-\w+")  # names of folders in which datasets are made
CACHED = re.compile(r"[0-9a-f]{16}\.hdf5")  # names of flat copies

# minari/dataset/minari_dataset.py, DATASET_ID_RE, with a version: a namespace has at least two characters.
ID = re.compile(r"(?:[-\w](?:[-\w]|/(?=[-\w]))*[-\w]/)?[-\w]+-v\d+")


def load(dataset_id: str, download: bool = False, reading: Reading = Reading()) -> RawDataset:
    """Minari dataset `dataset_id` ("D4RL/pen/human-v2"), from its flat copy. It is fetched only if `download` is set.

    `reading` says how to read it. For columns and flags see minari_rows. Raises UserError for a dataset that is
    unknown, that cannot be read, or whose spaces are not vectors.
    """
    folder = _find(dataset_id, download)
    cached = cache_path(dataset_id, folder)
    if not cached.is_file():
        _convert(dataset_id, folder, cached)
    try:
        return d4rl.read(cached, name=PREFIX + dataset_id, reference="", reading=reading)
    except UserError as error:
        raise UserError(f"{PREFIX}{dataset_id}, in its flat copy (made anew once it is removed): {error}") from error


def root() -> pathlib.Path:
    """The folder of Minari's datasets (minari/storage/datasets_root_dir.py). Asking the library would create it."""
    return pathlib.Path(os.environ.get("MINARI_DATASETS_PATH", "~/.minari/datasets")).expanduser()


def cache_path(dataset_id: str, folder: pathlib.Path) -> pathlib.Path:
    """The path of the flat copy of the dataset in `folder`. Its name depends on the files' names, sizes and times."""
    files = sorted(path for path in (folder / "data").rglob("*") if path.is_file())
    facts = [(path.relative_to(folder).as_posix(), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    digest = hashlib.sha256(json.dumps([CACHE_VERSION, dataset_id, facts]).encode()).hexdigest()
    cache = pathlib.Path(os.environ.get("PGD_JAX_CACHE_DIR", "~/.cache/pgd_jax/datasets")).expanduser()
    return cache / "minari" / dataset_id / f"{digest[:16]}.hdf5"


def _find(dataset_id: str, download: bool) -> pathlib.Path:
    folder = root() / dataset_id
    if not ID.fullmatch(dataset_id):
        raise UserError(
            f'"{dataset_id}" is no name of a Minari dataset; expected one such as D4RL/pen/human-v2{_near(dataset_id)}'
        )
    if (folder / "data").is_dir():
        return folder
    if folder.exists():
        raise UserError(f'{folder} holds no Minari dataset (it has no folder "data"); remove it, and fetch it again')
    if not download:
        raise UserError(
            f'Minari dataset "{dataset_id}" is not in {root()}{_near(dataset_id)}; '
            "fetch it with the `download` setting, or put it there"
        )
    _download(dataset_id, folder)
    return folder


def _near(dataset_id: str) -> str:
    """`nearest` among the local datasets (`minari.list_local_datasets` raises if one of them has a malformed name)."""
    files = root().glob("**/data/metadata.json")
    return nearest(dataset_id, [file.parent.parent.relative_to(root()).as_posix() for file in files])


def _download(dataset_id: str, folder: pathlib.Path) -> None:
    minari = library()
    try:
        with staged(), quiet(), contextlib.redirect_stdout(sys.stderr):
            minari.download_dataset(dataset_id)
        if not (folder / "data").is_dir():
            raise OSError("nothing came")
    except Exception as error:  # the remote's client may be any of several libraries
        raise UserError(
            f'could not fetch Minari dataset "{dataset_id}": {error}; get it another way and put it at {folder}'
        ) from error


def described(folder: pathlib.Path) -> dict[str, str]:
    """ "env" and "reference" that `load` gives for the dataset in `folder`, by its metadata alone; {} without them."""
    try:
        return minari_metadata.task_of(minari_metadata.read(folder))
    except (UserError, AttributeError, TypeError):  # not there, or damaged
        return {}


def _convert(dataset_id: str, folder: pathlib.Path, cached: pathlib.Path) -> None:
    """Reads a dataset with the library, episode by episode, and writes its flat copy, which replaces older ones."""
    source = PREFIX + dataset_id
    metadata = minari_metadata.read(folder)
    with quiet(), places.replacing(cached) as temporary:  # another process may be writing the same
        with _readable(folder):
            task = minari_metadata.task_of(metadata) | {"minari": dataset_id}
            if metadata["data_format"] == "hdf5":
                with h5py.File(folder / "data" / "main_data.hdf5", "r") as file:
                    foreign.refuse(f"{folder}/data/main_data.hdf5", file)
                    storage.check_all(f"{folder}/data/main_data.hdf5", file)
            dataset = library().load_dataset(dataset_id)
            pieces, bounds, done = minari_rows.convert(
                source, dataset.observation_space, dataset.action_space, dataset.iterate_episodes
            )
        with h5py.File(temporary, "w") as file:
            num_rows = minari_rows.append(source, file, _guarded(folder, pieces), bounds)
            for key, text in task.items():
                file[f"metadata/{key}"] = text
    for path in set(cached.parent.glob("*.hdf5")) - {cached}:
        if CACHED.fullmatch(path.name):
            path.unlink(missing_ok=True)
    logging.info(f"{source}: {num_rows} rows kept in {cached}{'; ' * bool(done)}{done}")


def _guarded(folder: pathlib.Path, pieces: Iterator[minari_rows.Rows]) -> Iterator[minari_rows.Rows]:
    with _readable(folder):
        for piece in pieces:
            signals.check()
            yield piece


@contextlib.contextmanager
def _readable(folder: pathlib.Path) -> Iterator[None]:
    """Raises UserError for the errors of minari, h5py, Arrow and Gymnasium on a damaged dataset."""
    try:
        yield
    except (UserError, Stopped):
        raise
    except Exception as error:
        raise UserError(
            f"{folder} cannot be read by minari {library().__version__} ({type(error).__name__}: {error}); "
            "fetch or write it again, or install what is missing"
        ) from error


def library() -> Any:
    """The module `minari`. Raises UserError if it is not installed."""
    try:
        with quiet():
            import minari
    except ImportError as error:
        raise UserError(
            f'Minari datasets need the package "minari" ({error}): pip install "pgd_jax[minari]"'
        ) from error
    return minari


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Turns off Minari's warnings about optional metadata, newer versions and old namespaces."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def staged() -> Iterator[None]:
    """Lets Minari work in an empty folder. If the block succeeds, its datasets are moved to `root`.

    So a dataset is complete or absent, and never replaces another.
    """
    target = root()
    target.mkdir(parents=True, exist_ok=True)
    before = os.environ.get("MINARI_DATASETS_PATH")
    for entry in target.iterdir():
        if (found := STAGE.fullmatch(entry.name)) and places.is_abandoned(entry, found):
            shutil.rmtree(entry, ignore_errors=True)
    # The name starts with a dot, because Minari ignores hidden folders.
    with tempfile.TemporaryDirectory(prefix=f"{places.mark()}-", dir=target) as place:
        os.environ["MINARI_DATASETS_PATH"] = place
        try:
            yield
        finally:
            del os.environ["MINARI_DATASETS_PATH"]
            if before is not None:
                os.environ["MINARI_DATASETS_PATH"] = before
        _move(pathlib.Path(place), target)


def _move(source: pathlib.Path, target: pathlib.Path) -> None:
    """Moves what `target` does not have. Namespaces are folders of datasets and are merged."""
    for entry in source.iterdir():
        if not (target / entry.name).exists():
            os.rename(entry, target / entry.name)
        elif entry.is_dir() and not (entry / "data").exists():
            _move(entry, target / entry.name)
