"""Generates a built-in dataset into a D4RL-format HDF5 file:

python -m pgd_jax.cli.collect --dataset=maze2d-umaze-waypoint-v0 --num_rows=1000000 --out=umaze.hdf5
"""

import pathlib
from collections.abc import Sequence

from absl import flags

from pgd_jax.cli import entry
from pgd_jax.data import collect
from pgd_jax.errors import UserError


def main(argv: Sequence[str]) -> None:
    options = flags.FLAGS
    if not options.out:
        raise UserError(f"--out is missing: the file to write, for example --out={options.dataset}.hdf5")
    collect.write(options.dataset, options.out, options.num_rows, options.seed)
    print(f"{options.num_rows} rows of {options.dataset} in {pathlib.Path(options.out).resolve()}")


def run() -> None:
    flags.DEFINE_string("dataset", "maze2d-umaze-waypoint-v0", f"one of: {', '.join(collect.RECIPES)}")
    flags.DEFINE_integer("num_rows", collect.DEFAULT_NUM_ROWS, "rows to write")
    flags.DEFINE_string("out", "", "HDF5 file to write; an existing one is never overwritten")
    flags.DEFINE_integer("seed", 0, "seed of the generation")
    entry.run(main, __doc__)


if __name__ == "__main__":
    run()
