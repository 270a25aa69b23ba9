"""The kinds of command, each with an undisturbed run."""

import pathlib
from typing import NamedTuple

from tests import worlds
from tests.stress import kinds
from tests.stress.kinds import Kind
from tests.stress.processes import Command, Undisturbed


class Case(NamedTuple):
    """In the order of `kills.kill_often`'s first arguments, and of `full_disks.fill_often`'s."""

    kind: Kind
    folder: pathlib.Path  # for its disturbed runs
    cache: pathlib.Path
    wanted: Undisturbed


def prepare(folder: pathlib.Path) -> list[Case]:
    """Makes a dataset, a denoiser on it, and agents on that; the denoiser's case comes first."""
    first = _case(kinds.denoiser(pathlib.Path(worlds.write_dataset(folder / "tiny.hdf5"))), folder)
    return [first, *(_case(kind, folder) for kind in kinds.agents(first.wanted.path))]


def _case(kind: Kind, folder: pathlib.Path) -> Case:
    """Two undisturbed runs, which must be the same: the first one compiles, the second one tells the time."""
    names = [f"{kind.name}_first", f"{kind.name}_undisturbed"]
    commands = [Command(kind, folder / name, folder / f"{name}.log", folder / "compiled") for name in names]
    first, wanted = (command.undisturbed() for command in commands)
    assert first.content == wanted.content, f"{kind.name}: two undisturbed runs differ"
    (folder / kind.name).mkdir()
    return Case(kind, folder / kind.name, folder / "compiled", wanted)
