"""Where a dataset comes from: a path, a built-in name, a D4RL name, a Minari or an OGBench dataset."""

import dataclasses
import os
import pathlib
from typing import Any

import numpy as np

from pgd_jax.core import logging
from pgd_jax.core.errors import UserError
from pgd_jax.core.registry import nearest
from pgd_jax.data import catalogue, d4rl, episodes, fetch, ogbench, outliers
from pgd_jax.data.base import DATASETS, RawDataset, Reading

MINARI = "minari:"


def load(dataset: str, download: bool = False, reading: Reading = Reading()) -> RawDataset:
    """The dataset called `dataset`: an HDF5 file's path, a built-in name, D4RL's, "minari:<id>", "ogbench:<name>".

    D4RL names are looked for where the d4rl package keeps them ($D4RL_DATASET_DIR, else ~/.d4rl/datasets) and fetched
    only if `download` is set, from D4RL's server or from $D4RL_MIRROR. `reading` says how much of it is taken, and how.
    Raises UserError for an unknown name, a missing file and anything wrong inside it.
    """
    raw = _load(dataset, download, reading)
    if found := episodes.cuts(raw):
        logging.warning(f"{raw.name}: {found}")
    return outliers.treat(raw, reading.outliers)


def is_path(dataset: str) -> bool:
    """Whether it names a file, and none of the datasets that are called by names of their own."""
    path = pathlib.Path(dataset).expanduser()
    return not dataset.startswith((MINARI, ogbench.PREFIX)) and (
        path.is_file() or path.suffix in (".hdf5", ".h5") or os.sep in dataset
    )


def _load(dataset: str, download: bool, reading: Reading) -> RawDataset:
    if dataset.startswith(MINARI):
        from pgd_jax.data import minari  # an extra

        return minari.load(dataset.removeprefix(MINARI), download, reading)
    if dataset.startswith(ogbench.PREFIX):
        return ogbench.load(dataset.removeprefix(ogbench.PREFIX), download, reading)
    if is_path(dataset):
        path = pathlib.Path(dataset).expanduser()
        return d4rl.read(path, name=path.stem, reference=catalogue.name_of_file(path.name), reading=reading)
    if dataset in DATASETS:
        if reading.action_bounds:
            raise UserError(f"{dataset}: actions of built-in datasets are in [-1, 1]; leave action_bounds out")
        return first_rows(DATASETS.get(dataset)(), reading.max_rows)
    if dataset in catalogue.TASKS:
        path = _cached(catalogue.TASKS[dataset], download)
        return d4rl.read(path, name=dataset, reference=dataset, reading=reading)
    raise UserError(
        f'unknown dataset "{dataset}"{nearest(dataset, [*DATASETS, *catalogue.TASKS])}; '
        f"built in: {', '.join(DATASETS) or 'none'}; otherwise a D4RL name (pgd-datasets lists them), "
        f'"minari:<id>", "{ogbench.PREFIX}<name>", or the path of an HDF5 file'
    )


def first_rows(raw: RawDataset, max_rows: int) -> RawDataset:
    """`raw` without what follows its first `max_rows` rows; all of it for 0."""
    if not max_rows:
        return raw
    arrays = {name: array for name, array in vars(raw).items() if isinstance(array, np.ndarray)}
    first: dict[str, Any] = {name: array[:max_rows] for name, array in arrays.items()}
    return dataclasses.replace(raw, **first)


def root() -> pathlib.Path:
    """Where D4RL's files are kept, by the d4rl package too (offline_env.py)."""
    return pathlib.Path(os.environ.get("D4RL_DATASET_DIR", "~/.d4rl/datasets")).expanduser()


def cache_path(name: str) -> pathlib.Path:
    """The file of D4RL dataset `name`, there or not."""
    return root() / catalogue.task(name).file_name


def _cached(task: catalogue.Task, download: bool) -> pathlib.Path:
    path, url = cache_path(task.name), fetch.url_of(task)
    if not path.is_file():
        if not download:
            raise UserError(
                f'D4RL dataset "{task.name}" is not here: put {url} at {path}, or fetch it with the `download` setting'
            )
        fetch.download(url, path)
    return path
