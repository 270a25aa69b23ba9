"""Generates a built-in dataset into a D4RL-format HDF5 file.

pgd-collect --dataset=maze2d-umaze-waypoint-v0 --num_rows=1000000 --out=umaze.hdf5
"""

import functools
import pathlib
from collections.abc import Callable

from absl import flags

from pgd_jax.cli import entry
from pgd_jax.data import collect
from pgd_jax.errors import UserError


def run() -> None:
    entry.run(_prepare, __doc__)


def _prepare() -> Callable[[], None]:
    names = ", ".join(collect.RECIPES)
    flags.DEFINE_string("dataset", "maze2d-umaze-waypoint-v0", f"one of: {names}")
    flags.DEFINE_integer("num_rows", collect.DEFAULT_NUM_ROWS, "rows to write")
    flags.DEFINE_string("out", "", "HDF5 file to write; an existing one is never overwritten")
    flags.DEFINE_integer("seed", 0, "seed of the generation")
    return functools.partial(_write, flags.FLAGS)


def _write(options: flags.FlagValues) -> None:
    if not options.out:
        raise UserError(f"--out is missing: the file to write, for example --out={options.dataset}.hdf5")
    collect.write(options.dataset, options.out, options.num_rows, options.seed)
    print(f"{options.num_rows} rows of {options.dataset} in {pathlib.Path(options.out).resolve()}")


if __name__ == "__main__":
    run()
