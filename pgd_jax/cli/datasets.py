"""Lists the datasets that have a name, with their tasks and what of them is on this machine.

    pgd-datasets                                        every name: D4RL's, built-in ones, local Minari datasets
    pgd-datasets --match=hopper                         those with "hopper" in their name
    pgd-datasets --cached                               those with a file here, and other files beside them

`judged` says where an agent is evaluated: in the compiled program, on the host through Gymnasium, or nowhere (-).
`steps` is the episode limit; `random` and `expert` are the returns that count as 0 and 100.
"""

import pathlib
from collections.abc import Iterator
from typing import NamedTuple

import h5py
from absl import flags

from pgd_jax.cli import entry
from pgd_jax.data import catalogue, collect, d4rl, minari, sources
from pgd_jax.data.base import DATASETS
from pgd_jax.envs.base import ENVS, HOST_ENVS
from pgd_jax.errors import UserError
from pgd_jax.registry import nearest

HEADER = ("dataset", "environment", "judged", "steps", "random", "expert", "file")
LEFT = {0, 1, 2, 6}  # columns of text; the others are numbers


class Dataset(NamedTuple):
    """One line of the list."""

    name: str
    env: str
    horizon: int | None
    reference: str  # D4RL name whose scores apply, or ""
    path: pathlib.Path  # where its file is or would be


def run() -> None:
    entry.run(_prepare, __doc__)


def _prepare():
    match = flags.DEFINE_string("match", "", "list only names that contain this")
    cached = flags.DEFINE_boolean("cached", False, "list only what is on this machine")
    return lambda: print("\n".join(table(match.value, cached.value)))


def table(match: str = "", cached: bool = False) -> list[str]:
    """The list as lines of text, its header first. Raises UserError where no name contains `match`."""
    named = [dataset for dataset in known() if match in dataset.name]
    if not named:
        near = nearest(match, [dataset.name for dataset in known()])
        raise UserError(f'no dataset name contains "{match}"{near}')
    lines = [HEADER, *(_cells(dataset) for dataset in named if not cached or dataset.path.exists())]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEADER))]
    return ["  ".join(_pad(i, cell, widths[i]) for i, cell in enumerate(line)).rstrip() for line in lines]


def known() -> Iterator[Dataset]:
    """Every named dataset, and the files that lie in the caches beside them."""
    listed = []
    for task in catalogue.TASKS.values():
        listed.append(Dataset(task.name, task.env, task.horizon, task.name, sources.cache_path(task.name)))
    for name in DATASETS:
        recipe = collect.RECIPES.get(name)
        listed.append(Dataset(name, recipe.env, recipe.horizon, recipe.reference, collect.cache_path(name)))
    yield from listed
    for folder in dict.fromkeys(dataset.path.parent for dataset in listed):
        for path in sorted(set(folder.glob("*.hdf5")) - {dataset.path for dataset in listed}):
            yield _other(path)
    for file in sorted(minari.root().glob("**/data/metadata.json")):
        folder = file.parent.parent
        name = minari.PREFIX + folder.relative_to(minari.root()).as_posix()
        task = minari.described(folder)
        yield Dataset(name, task.get("env", ""), None, task.get("reference", ""), folder)


def _other(path: pathlib.Path) -> Dataset:
    """A file that no name stands for: what it says of itself."""
    try:
        with h5py.File(path, "r") as file:
            metadata = d4rl.metadata_of(file)
    except OSError:
        metadata = {}
    return Dataset(str(path), metadata.get("env", ""), None, metadata.get("reference", ""), path)


def _cells(dataset: Dataset) -> tuple[str, ...]:
    places = ("in-graph" * (dataset.env in ENVS), "host" * (dataset.env in HOST_ENVS))
    scores = catalogue.reference_scores(dataset.reference) or ()
    numbers = [f"{score:.5g}" for score in scores] or ["-", "-"]
    here = f"{_size(dataset.path) / 1e6:.1f} MB  {dataset.path}" if dataset.path.exists() else "-"
    judged = "+".join(filter(None, places)) or "-"
    return (dataset.name, dataset.env or "-", judged, str(dataset.horizon or "-"), *numbers, here)


def _size(path: pathlib.Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(part.stat().st_size for part in path.rglob("*") if part.is_file())


def _pad(column: int, cell: str, width: int) -> str:
    return cell.ljust(width) if column in LEFT else cell.rjust(width)


if __name__ == "__main__":
    run()
