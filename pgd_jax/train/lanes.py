"""Lanes: one for each combination of hyperparameter values and seed, stacked along one axis."""

import itertools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pgd_jax.core import hyper as floats
from pgd_jax.core.errors import UserError
from pgd_jax.train.program import ProgramHyper

MAX_LANES = 1_000_000  # more is surely a typing error
COEFFICIENT = "generator.guidance_coefficient"  # always listed: reports compare lanes by it
OF_GUIDANCE = ("generator.guided_share", "generator.guidance.")  # without effect in an unguided lane


class Lanes(NamedTuple):
    """L lanes: their hyperparameters (leaves f32[L]), seeds u32[L], and the settings that name each lane."""

    hypers: ProgramHyper
    seeds: jax.Array
    # For each lane, by short names: the floats that differ between lanes or from their default.
    settings: list[dict[str, float]]


def build(hyper: ProgramHyper, values: Mapping[str, Any], num_seeds: int, first_seed: int) -> Lanes:
    """Lanes for each combination of values and each seed. The seed varies fastest.

    `values` maps the name of a float to one number or several (see `floats.values`). A float that is left out has its
    default. Raises UserError for an unknown name, and for values that are not finite numbers.
    """
    complete = floats.values(hyper, values)
    several = {name: each for name, each in complete.items() if len(each) > 1}
    if (count := num_seeds * math.prod(map(len, several.values()))) > MAX_LANES:
        raise UserError(f"num_seeds={num_seeds} and the values make {count} lanes; at most {MAX_LANES} are taken")
    defaults = {name: default for name, default, _ in floats.described(hyper)}
    told = [name for name in complete if name in several or complete[name] != (defaults[name],) or name == COEFFICIENT]
    seeds, settings, rows = range(first_seed, first_seed + num_seeds), [], []
    for combination in itertools.product(*complete.values()):
        row = dict(zip(complete, combination, strict=True))
        idle = OF_GUIDANCE if row.get(COEFFICIENT) == 0.0 else ()
        names = [name for name in told if name in several or not name.startswith(idle)]
        settings += [{floats.short(name, complete): row[name] for name in names}] * num_seeds
        rows += [row] * num_seeds
    columns = {name: jnp.asarray(np.asarray([row[name] for row in rows], np.float32)) for name in complete}
    lane_seeds = np.asarray([seed for _ in range(len(rows) // num_seeds) for seed in seeds], np.uint32)
    return Lanes(floats.filled(hyper, columns), jnp.asarray(lane_seeds), settings)
