"""Collects a dataset into a D4RL-format HDF5 file: the behaviour runs in this library's own environments.

    pgd-collect --dataset=maze2d-umaze-waypoint-v0 --num_rows=1000000 --out=umaze.hdf5       a built-in dataset
    pgd-collect --dataset=maze2d-large-v1 --out=maze2d-large-v1.hdf5                         D4RL's waypoint recipe
    pgd-collect --dataset=hopper-medium-replay-v2 --out=hopper_medium_replay-v2.hdf5         D4RL's protocol, by SAC

The last one trains online for hours. Its work directory (by default <out>.run) resumes with the same command, serves
the other datasets of the environment (--workdir), and may be removed at the end. Files are of the same kind as D4RL's,
not D4RL's own: scores on them cannot be compared with published ones.
"""

import dataclasses
import functools
import pathlib
import shlex
import sys
from collections.abc import Callable
from typing import Any

from absl import flags

from pgd_jax.cli import entry
from pgd_jax.core.errors import UserError
from pgd_jax.core.registry import nearest
from pgd_jax.runs.collect import collection


def run() -> None:
    entry.run(_prepare, __doc__)


def _prepare() -> Callable[[], int]:
    flags.DEFINE_string(
        "dataset",
        "maze2d-umaze-waypoint-v0",
        "a built-in dataset, D4RL's name of a maze or a walker, or <task>-<kind>-v0; a wrong name is answered with all",
    )
    flags.DEFINE_integer("num_rows", None, "rows to write; by default as many as the built-in dataset or D4RL has")
    entry.define_optional_path("out", "HDF5 file to write; an existing one is never overwritten")
    entry.define_optional_path("workdir", "with training: directory to create or resume; by default <out>.run")
    flags.DEFINE_integer(
        "max_steps", collection.Settings.max_steps, "with training: steps at which it ends at the latest"
    )
    flags.DEFINE_float(
        "fraction", collection.Settings.fraction, "with training: of the expert score, the medium policy's"
    )
    flags.DEFINE_float("random_return", None, "return that scores 0; by default D4RL's")
    flags.DEFINE_float("expert_return", None, "return that scores 1; by default D4RL's")
    flags.DEFINE_bool("allow_partial", False, "take the policy after max_steps for the medium one")
    for field in dataclasses.fields(collection.OnlinePlan):
        flags.DEFINE_integer(field.name, getattr(collection.OnlinePlan, field.name), field.metadata["help"])
    return functools.partial(_collect, flags.FLAGS)


def _collect(options: flags.FlagValues) -> int:
    from pgd_jax.data.mazes import collect
    from pgd_jax.runs.collect import protocol  # after the flags: --help and mistakes need not wait for JAX

    name, command = options.dataset, shlex.join(["pgd-collect", *sys.argv[1:]])
    known = [*collect.RECIPES, *protocol.requests()]
    if name not in known:
        raise UserError(f'unknown dataset "{name}"{nearest(name, known)} (known: {", ".join(known)})')
    if not options.out:
        raise UserError(f"--out is missing: the file to write, for example --out={name}.hdf5")
    path = pathlib.Path(options.out)
    if name in collect.RECIPES:
        of_training = {
            field.name for cls in (collection.OnlinePlan, collection.Settings) for field in dataclasses.fields(cls)
        }
        entry.check_not_given(
            sorted({"workdir"} | of_training - {"seed"}), f"with {name}, for which nothing is trained"
        )
        collect.write(name, path, options.num_rows, options.seed, command)
    else:
        plan, settings = _of(collection.OnlinePlan, options), _of(collection.Settings, options)
        workdir = pathlib.Path(options.workdir or f"{path}.run")
        request = protocol.requests()[name]
        if not protocol.write(request, plan, settings, options.num_rows, workdir, path, command):
            return entry.STOPPED
    print(f"{name}: {path.resolve()}")
    return 0


def _of(cls: type, options: flags.FlagValues) -> Any:
    """The dataclass whose fields are flags."""
    return cls(**{field.name: options[field.name].value for field in dataclasses.fields(cls)})


if __name__ == "__main__":
    run()
