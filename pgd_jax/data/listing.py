"""The list of named datasets: environment, reference scores, and the file if it is on this machine."""

import pathlib
from collections.abc import Iterator
from typing import NamedTuple

import h5py

from pgd_jax.core.errors import UserError
from pgd_jax.core.registry import nearest
from pgd_jax.data import catalogue, d4rl, foreign, loading, minari, ogbench
from pgd_jax.data.base import DATASETS
from pgd_jax.data.mazes import collect
from pgd_jax.envs.base import ENVS, HOST_ENVS
from pgd_jax.envs.ogbench import ENVIRONMENTS

HEADER = ("dataset", "environment", "judged", "steps", "random", "expert", "file")
LEFT = {0, 1, 2, 6}  # columns of text; the others are numbers


class Dataset(NamedTuple):
    """One line of the list."""

    name: str
    env: str
    horizon: int | None
    reference: str  # D4RL name whose scores apply, or ""
    path: pathlib.Path | None  # where its file is or would be; None: a plug-in makes the dataset in its own code

    @property
    def here(self) -> pathlib.Path | None:
        """The file, if it is on this machine."""
        return self.path if self.path is not None and self.path.exists() else None


def table(match: str = "", cached: bool = False) -> list[str]:
    """The list as lines of text, with its header first. Raises UserError if no name contains `match`."""
    named = [dataset for dataset in known() if match in dataset.name]
    if not named:
        near = nearest(match, [dataset.name for dataset in known()])
        raise UserError(f'no dataset name contains "{match}"{near}')
    lines = [HEADER, *(_cells(dataset) for dataset in named if dataset.here or not cached)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEADER))]
    return ["  ".join(_pad(i, cell, widths[i]) for i, cell in enumerate(line)).rstrip() for line in lines]


def known() -> Iterator[Dataset]:
    """Every named dataset, and the other files in the caches."""
    listed = []
    for task in catalogue.TASKS.values():
        listed.append(Dataset(task.name, task.env, task.horizon, task.name, loading.cache_path(task.name)))
    for name in DATASETS:
        if name not in collect.RECIPES:
            listed.append(Dataset(name, "", None, "", None))
            continue
        recipe = collect.RECIPES.get(name)
        listed.append(Dataset(name, recipe.env, recipe.horizon, recipe.reference, collect.cache_path(name)))
    yield from listed
    for folder in dict.fromkeys(dataset.path.parent for dataset in listed if dataset.path is not None):
        for path in sorted(set(folder.glob("*.hdf5")) - {dataset.path for dataset in listed}):
            yield _other(path)
    for file in sorted(minari.root().glob("**/data/metadata.json")):
        folder = file.parent.parent
        name = minari.PREFIX + folder.relative_to(minari.root()).as_posix()
        found = minari.described(folder)
        yield Dataset(name, found.get("env", ""), None, found.get("reference", ""), folder)
    for name in ogbench.known():  # the default task of each file; its other tasks use the same file
        parts = ogbench.parse(name)
        if (path := ogbench.root() / parts.file_name).is_file():
            horizon = ENVIRONMENTS[parts.env][2]
            yield Dataset(ogbench.PREFIX + name, ogbench.PREFIX + parts.env_name, horizon, "", path)


def _other(path: pathlib.Path) -> Dataset:
    """The dataset of a file without a known name, described by its own metadata."""
    try:
        with h5py.File(path, "r") as file:
            foreign.refuse(str(path), file)
            metadata = d4rl.metadata_of(file)
    except (OSError, RuntimeError, UserError):
        metadata = {}
    return Dataset(str(path), metadata.get("env", ""), None, metadata.get("reference", ""), path)


def _cells(dataset: Dataset) -> tuple[str, ...]:
    places = ("in-graph" * (dataset.env in ENVS), "host" * (dataset.env in HOST_ENVS))
    scores = catalogue.reference_scores(dataset.reference) or ()
    numbers = [f"{score:.5g}" for score in scores] or ["-", "-"]
    here = f"{_size(dataset.here) / 1e6:.1f} MB  {dataset.here}" if dataset.here else "-"
    judged = "+".join(filter(None, places)) or "-"
    return (dataset.name, dataset.env or "-", judged, str(dataset.horizon or "-"), *numbers, here)


def _size(path: pathlib.Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(part.stat().st_size for part in path.rglob("*") if part.is_file())


def _pad(column: int, cell: str, width: int) -> str:
    return cell.ljust(width) if column in LEFT else cell.rjust(width)
