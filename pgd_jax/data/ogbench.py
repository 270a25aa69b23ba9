"""OGBench's datasets for single tasks (Park et al. 2025, arXiv 2410.20092) -> RawDataset.

`ogbench:<environment>-<kind>-singletask[-task1..5]-v0` is read from OGBench's own file `<environment>-<kind>-v0.npz` in
$OGBENCH_DATASET_DIR, by default ~/.ogbench/data, where the package stores it. The contents of such a file are read like
this (package 1.2.2, utils.py and relabel_utils.py):

- `terminals` ends a trajectory: it is our timeout. That row has an action, but its successor was not recorded. So it is
  kept as a row but is not a transition; the package does the same.
- The file has no rewards. Rewards and masks depend on the task: the package computes them from `qpos` (and
  `button_states`). Both belong to the state in which a step begins, r(s): 0 at the goal and -1 elsewhere, or minus the
  number of parts that are not in place. A mask of 0 means that the task is solved: it is our terminal. The recording
  goes on after it. As in D4RL's antmaze, rows that stay at the goal are pieces of one row each.
- If there is a file under the task's whole name (`...-singletask-task1-v0.npz`), it is read instead: an output of the
  package's loader that somebody saved, with `rewards` and `masks`, and mostly with `next_observations`. These are read
  without the package. With next_observations, the last row of a trajectory is a transition too.
"""

import os
import pathlib
import re
from typing import Any, NamedTuple

import numpy as np

from pgd_jax.core import memory
from pgd_jax.core.errors import UserError
from pgd_jax.core.registry import nearest
from pgd_jax.data import columns, d4rl, fetch, npz
from pgd_jax.data.base import NEXT_TOLERANCE, RawDataset, Reading
from pgd_jax.envs import ogbench

PREFIX = ogbench.PREFIX
SERVER = "https://rail.eecs.berkeley.edu/datasets/ogbench"
MIRROR = "OGBENCH_MIRROR"

KINDS = {True: ("navigate", "stitch", "explore"), False: ("play", "noisy")}  # whether the agent moves -> kinds
MANIPULATION = ("cube", "scene", "puzzle")
WITH_BUTTONS = ("scene", "puzzle")
FORM = "<environment>-<kind>-singletask[-task1..5]-v0"
NAME = re.compile(rf"(?P<env>{'|'.join(ogbench.ENVIRONMENTS)})-(?P<kind>[a-z]+)-(?P<task>singletask(?:-task[1-5])?)-v0")


class Name(NamedTuple):
    """A dataset's name in parts."""

    name: str  # "cube-double-play-singletask-task1-v0"
    env: str  # "cube-double"
    kind: str  # "play": how it was recorded
    task: str  # "singletask-task1"

    @property
    def file_name(self) -> str:
        return f"{self.env}-{self.kind}-v0.npz"

    @property
    def env_name(self) -> str:
        """The task's name in the package and, after PREFIX, in HOST_ENVS."""
        return f"{self.env}-{self.task}-v0"


def load(name: str, download: bool = False, reading: Reading = Reading()) -> RawDataset:
    """OGBench dataset `name` ("cube-double-play-singletask-task1-v0"). It is fetched only if `download` is set.

    `reading` says how to read it. Raises UserError for an unknown name, a missing file and a fault inside the file.
    """
    parts = parse(name)
    if reading.action_bounds:
        raise UserError(f"{PREFIX}{name}: actions of OGBench are in [-1, 1]; leave action_bounds out")
    path = _find(parts, download)
    fetch.verify(path)
    arrays = _arrays(parts, npz.File(path), reading.max_rows)
    d4rl.check_content(str(path), arrays)
    if not reading.max_rows and not arrays["timeouts"].any():
        raise UserError(f"{path}: nothing says where a trajectory ends: its terminals are all 0")
    fields: dict[str, Any] = {"next_observations": None} | arrays
    tolerance = reading.next_tolerance or NEXT_TOLERANCE
    return RawDataset(PREFIX + name, PREFIX + parts.env_name, "", **fields, next_tolerance=tolerance)


def parse(name: str) -> Name:
    """The parts of `name`. Raises UserError for a name that is not that of a single task with state observations."""
    if found := NAME.fullmatch(name):
        return Name(name, found["env"], found["kind"], found["task"])
    if name.startswith(("visual-", "powderworld")):
        what = "pictures" if name.startswith("visual-") else "pictures, and its actions draw"
        raise UserError(f'OGBench\'s "{name}" shows {what}; this library learns from state vectors and real actions')
    if plain := re.fullmatch(rf"(?P<env>{'|'.join(ogbench.ENVIRONMENTS)})-(?P<kind>[a-z]+)(-oraclerep)?-v0", name):
        task = f"{PREFIX}{plain['env']}-{plain['kind']}-singletask-v0"
        raise UserError(
            f'OGBench\'s "{name}" is goal-conditioned and has no rewards; name one of its tasks: {task}, the default, '
            f"or {task.replace('-v0', '-task1-v0')} to task5"
        )
    raise UserError(
        f'unknown OGBench dataset "{name}"{nearest(name, known())}; expected {FORM} with an environment of '
        f"{', '.join(ogbench.ENVIRONMENTS)}"
    )


def known() -> list[str]:
    """The names of all default tasks."""
    return [
        f"{env}-{kind}-singletask-v0"
        for env in ogbench.ENVIRONMENTS
        for kind in KINDS[not env.startswith(MANIPULATION)]
    ]


def root() -> pathlib.Path:
    """The folder of OGBench's files."""
    return pathlib.Path(os.environ.get("OGBENCH_DATASET_DIR", "~/.ogbench/data")).expanduser()


def cache_path(name: str) -> pathlib.Path:
    """The file that `load` reads, whether it exists or not."""
    own = root() / f"{name}.npz"
    return own if own.is_file() else root() / parse(name).file_name


def _find(parts: Name, download: bool) -> pathlib.Path:
    path, url = cache_path(parts.name), fetch.below(MIRROR, SERVER, parts.file_name)
    if not path.is_file():
        if not download:
            raise UserError(
                f'OGBench dataset "{parts.name}" is not here: put {url} at {path} (or its folder in '
                "$OGBENCH_DATASET_DIR), or fetch it with the `download` setting"
            )
        fetch.download(url, path, npz.check_whole, MIRROR)
    return path


def _arrays(parts: Name, file: npz.File, max_rows: int) -> columns.Arrays:
    """RawDataset's arrays by name, from either kind of file. Shapes and memory are checked before values are read."""
    source, is_labelled = str(file.path), file.path.stem == parts.name
    keys = ["observations", "actions", "terminals", *(["rewards", "masks"] if is_labelled else [])]
    has_next = is_labelled and "next_observations" in file.headers
    headers = {key: file.header(key) for key in keys + ["next_observations"] * has_next}
    num_rows = columns.agree(source, headers)
    dims = headers["observations"].shape[1], headers["actions"].shape[1]
    if dims != (expected := ogbench.ENVIRONMENTS[parts.env][:2]):
        raise UserError(
            f"{source} has observations of {dims[0]} and actions of {dims[1]}; {parts.env} has {expected[0]} and "
            f"{expected[1]}: it is a file of another environment"
        )
    num_read = min(num_rows, max_rows) if max_rows else num_rows
    memory.require(source, num_read, *dims, has_next)
    task = {} if is_labelled else _rewards_and_masks(parts, file, num_rows, num_read)
    found = {key: _converted(source, key, file.read(key, num_read)) for key in headers}
    found |= {key: _converted(source, key, array) for key, array in task.items()}
    solved, ends = ~found.pop("masks"), found.pop("terminals")
    terminals = solved if has_next else solved & ~ends
    return found | {"terminals": terminals, "timeouts": ends & ~terminals}


def _converted(source: str, key: str, array: np.ndarray) -> np.ndarray:
    rounding = columns.Rounding()
    values = columns.convert(source, key, array, rounding=rounding)
    rounding.check(source, key)
    return values


def _rewards_and_masks(parts: Name, file: npz.File, num_rows: int, num_read: int) -> columns.Arrays:
    """ "rewards" and "masks" f32[num_read] of the task, by the package's rule. UserError if it is not installed."""
    keys = ["qpos", *(["button_states"] if parts.env.startswith(WITH_BUTTONS) else [])]
    if "qpos" not in file.headers and "masks" in file.headers:
        raise UserError(
            f"{file.path} has rewards and masks and no qpos, so that nothing says of which task they are; if it is "
            f"{parts.name}, call the file {parts.name}.npz"
        )
    for key in keys:
        shape = file.header(key).shape
        if len(shape) != 2 or shape[0] != num_rows:
            raise UserError(f"{file.path}: {key} has shape {shape}; expected [{num_rows}, dim], a row each")
    try:
        from ogbench.relabel_utils import relabel_dataset  # an extra
    except ImportError as error:
        raise UserError(
            f'{file.path} has no rewards; its task\'s come from the package "ogbench" ({error}): '
            'pip install "pgd_jax[ogbench]"'
        ) from error
    env = ogbench.make(parts.env_name)
    env.reset()
    task: Any = env.unwrapped
    widths = {"qpos": task.model.nq, "button_states": getattr(task, "_num_buttons", 0)}
    for key in keys:
        if (width := file.header(key).shape[1]) != widths[key]:
            raise UserError(f"{file.path}: {key} has {width} columns; {parts.env} has {widths[key]}")
    rows: dict[str, np.ndarray] = {key: file.read(key, num_read) for key in keys}
    relabel_dataset(parts.env_name, env, rows)
    return {"rewards": rows["rewards"], "masks": rows["masks"]}
