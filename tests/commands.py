"""Runs as commands make them: how one is asked for, and all of it that must not depend on when it was stopped."""

import json

import jax
import numpy as np

from pgd_jax.core import config as configs, hyper as floats
from pgd_jax.runs import agent as agent_runs, denoiser, experiment, metrics


def flags(config, prefix="config"):
    """The options of a command line that say all of a config."""
    for name, value in configs.to_dict(config).items():
        if name == "hyper":
            for float_name, values in floats.flatten(experiment.complete(config).hyper).items():
                yield f"--{prefix}.hyper.{float_name}={','.join(map(repr, values))}"
        elif isinstance(value, dict):
            yield from flags(getattr(config, name), f"{prefix}.{name}")
        else:
            yield f"--{prefix}.{name}={value}"


def content(path):
    """(rows without their times, {leaf: (dtype, shape, bytes)} of the last checkpoint)."""
    rows = metrics.read(path / "metrics.jsonl")
    rows = [{key: value for key, value in row.items() if not key.startswith("wall_")} for row in rows]
    kind = json.loads((path / "config.json").read_text())["kind"]
    tree = agent_runs.load(path)[1] if kind == agent_runs.KIND else denoiser.load(path)[2:]
    leaves = {jax.tree_util.keystr(name): leaf for name, leaf in jax.tree_util.tree_leaves_with_path(tree)}
    return rows, {name: bits(leaf) for name, leaf in leaves.items()}


def bits(leaf):
    data = jax.random.key_data(leaf) if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
    return str(data.dtype), data.shape, np.asarray(data).tobytes()
