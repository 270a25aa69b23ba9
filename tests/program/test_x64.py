"""JAX_ENABLE_X64=1, which a user's own program may need: everything of this library stays float32, in any mixture."""

import os
import subprocess
import sys

import pytest

from pgd_jax.core import config as configs
from pgd_jax.runs import denoiser as denoisers
from tests import worlds

PYTHON = """
import jax, jax.numpy as jnp, numpy as np, sys
import pgd_jax as pgd
data = pgd.load_dataset(sys.argv[1])
denoiser = pgd.load_denoiser(sys.argv[2], data)
weight = jnp.ones(1)
assert weight.dtype == jnp.float64

def log_prob(obs, action):
    return -jnp.sum(weight * action**2, axis=-1)

made = denoiser.sample(jax.random.key(0), 8, log_prob=log_prob, num_steps=3)
assert made.obs.dtype == np.float32 and np.isfinite(pgd.measures.log_likelihood(made, log_prob))
own = pgd.train_denoiser(data, num_steps=10, ema_period=5, batch_size=8, width=8, num_blocks=2, window_length=8)
small = dict(num_phases=1, updates_per_phase=2, batch_size=8, synthetic_per_batch=6, num_steps=3, num_trajectories=4)
result = pgd.train_agent(data, own, trajectories_per_batch=4, num_episodes=1, **small)
policy = result.policy()
assert policy(np.zeros(3)).dtype == jnp.float32
own.sample(jax.random.key(1), 4, log_prob=policy.log_prob, num_steps=3)
assert {leaf.dtype for leaf in jax.tree.leaves(own.trained.params)} == {np.dtype(np.float32)}
assert jnp.ones(1).dtype == jnp.float64, "the user's own choice stays"
"""


def run(*line, x64):
    environment = os.environ | {"JAX_ENABLE_X64": str(int(x64))}
    done = subprocess.run([sys.executable, *map(str, line)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def flags(config, prefix="config"):
    for name, value in configs.to_dict(config).items() if not isinstance(config, dict) else config.items():
        if isinstance(value, dict):
            yield from flags(value, f"{prefix}.{name}")
        else:
            yield f"--{prefix}.{name}={value}"


@pytest.mark.parametrize("first", [True, False])
def test_runs_made_with_it_and_without_it_are_the_same(tmp_path, first):
    """A denoiser made one way, an agent on it the other way, sampled the first way again."""
    dataset = worlds.write_dataset(tmp_path / "tiny.hdf5")
    config = worlds.denoiser_config(dataset, num_steps=10)
    run("-m", "pgd_jax.cli.train_denoiser", f"--workdir={tmp_path / 'd'}", *flags(config), x64=first)
    sizes = ["num_phases=1", "updates_per_phase=4", "batch_size=8", "synthetic_per_batch=6", "num_episodes=1"]
    sampling = ["num_steps=3", "num_trajectories=4", "trajectories_per_batch=4"]
    options = [f"--config.{each}" for each in sizes] + [f"--config.sampling.{each}" for each in sampling]
    run(
        "-m", "pgd_jax.cli.train_agent", f"--workdir={tmp_path / 'a'}", f"--config.denoiser={tmp_path / 'd'}", *options,
        x64=not first,
    )  # fmt: skip
    run(
        "-m", "pgd_jax.cli.sample", f"--run={tmp_path / 'a'}", f"--out={tmp_path / 'x.hdf5'}", "--num_trajectories=4",
        x64=first,
    )  # fmt: skip


def test_a_program_of_a_user_who_needs_it(tmp_path):
    dataset = worlds.write_dataset(tmp_path / "tiny.hdf5")
    assert denoisers.fit(worlds.denoiser_config(dataset, num_steps=10), tmp_path / "d")
    run("-c", PYTHON, dataset, tmp_path / "d", x64=True)
