"""Seeds x hyperparameters as one axis: a lane for every combination of swept floats and seed."""

import itertools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pgd_jax.errors import UserError
from pgd_jax.loop import ProgramHyper
from pgd_jax.registry import nearest

MAX_LANES = 1_000_000  # more are a slip of the pen


class Lanes(NamedTuple):
    """L lanes: their hyperparameters (leaves f32[L]), seeds u32[L], and what tells each apart."""

    hypers: ProgramHyper
    seeds: jax.Array
    settings: list[dict[str, float]]  # the swept floats of each lane, by name


def names(hyper: Any) -> list[str]:
    """Dotted names of every float: "guidance_coefficient", "agent.alpha", ..."""
    paths = jax.tree_util.tree_flatten_with_path(hyper)[0]
    return [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in paths]


def parse_sweep(sweep: str, known: list[str]) -> dict[str, list[float]]:
    """`"guidance_coefficient=0,1; agent.alpha=2.5"` -> values by name; UserError names the part that is wrong."""
    values: dict[str, list[float]] = {}
    for part in filter(None, (part.strip() for part in sweep.split(";"))):
        name, equals, text = (piece.strip() for piece in part.partition("="))
        if not equals or not text:
            raise UserError(f'sweep: "{part}" must read name=value or name=value,value')
        if name not in known:
            raise UserError(f'sweep: unknown hyperparameter "{name}"{nearest(name, known)} (known: {", ".join(known)})')
        if name in values:
            raise UserError(f'sweep: "{name}" is given twice')
        try:
            values[name] = [float(value) for value in text.split(",")]
        except ValueError:
            raise UserError(f'sweep: "{part}" has a value that is not a number') from None
        if not np.all(np.isfinite(values[name])):
            raise UserError(f'sweep: "{part}" has a value that is not finite')
    return values


def build(hyper: ProgramHyper, sweep: str, num_seeds: int, first_seed: int) -> Lanes:
    """Lanes for each combination of the swept values (slowest) and each seed (fastest)."""
    known = names(hyper)
    values = parse_sweep(sweep, known)
    leaves, structure = jax.tree.flatten(hyper)
    if (count := num_seeds * math.prod(map(len, values.values()))) > MAX_LANES:
        raise UserError(f"num_seeds={num_seeds} and the sweep make {count} lanes; at most {MAX_LANES} are taken")
    seeds = range(first_seed, first_seed + num_seeds)
    settings, lane_seeds, columns = [], [], []
    for combination in itertools.product(*values.values()):
        setting = dict(zip(values, combination, strict=True))
        for seed in seeds:
            settings.append(setting)
            lane_seeds.append(seed)
            columns.append([setting.get(name, leaf) for name, leaf in zip(known, leaves, strict=True)])
    table = jnp.asarray(np.asarray(columns, np.float32))
    hypers = jax.tree.unflatten(structure, [table[:, i] for i in range(len(known))])
    return Lanes(hypers, jnp.asarray(np.asarray(lane_seeds, np.uint32)), settings)
