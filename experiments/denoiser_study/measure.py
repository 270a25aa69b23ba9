"""Trains one recipe and measures the windows that its network makes."""

import functools
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.denoiser_study import recipes
from experiments.denoiser_study.recipes import Recipe
from pgd_jax.core.config import SamplingConfig
from pgd_jax.core.types import Normalizer, Params
from pgd_jax.data import normalizer as normalizers
from pgd_jax.diffusion import edm, guidance
from pgd_jax.envs.base import ENVS
from pgd_jax.generators import diffusion
from pgd_jax.measures import quality
from pgd_jax.networks.base import Network
from pgd_jax.report import windows as real_windows
from pgd_jax.runs import denoiser as denoisers
from pgd_jax.train import denoiser as training

NUM_WINDOWS, DYNAMICS_WINDOWS = 1_024, 512  # equal rows: windows of 32 rows are half as many
LEVELS = (0.02, 0.1, 0.5, 2.0)  # noise levels of the validation losses
KEY_SAMPLES, KEY_REFERENCE, KEY_LEVELS = 17, 18, 19


def point(recipe: Recipe, dataset: str, seed: int) -> dict[str, Any]:
    """A line of points.jsonl."""
    data = denoisers.prepare(recipes.config(recipe, dataset, seed, 1e6))
    dim, length = data.normalizer.layout.dim, recipe.window_length
    network = recipes.build(recipe, dim)
    params = network.init(jax.random.key(seed))
    flops = flops_of(network, params, length, dim)
    config = recipes.config(recipe, dataset, seed, flops)
    state, seconds = _train(network, config, data)
    found = _losses(network, state.ema, data, length) | _measures(network, state.ema, data, recipe)
    return {
        "recipe": recipe.name, "seed": seed, "dataset": data.raw.name, "num_steps": config.training.num_steps,
        "batch_size": config.training.batch_size, "mflops": flops / 1e6, "seconds": seconds,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)), **found,
    }  # fmt: skip


def flops_of(network: Network, params: Params, length: int, dim: int) -> float:
    """Of one denoised window, by XLA's count of the compiled program."""
    num = 64
    denoise = jax.jit(lambda params, x: edm.denoiser(network, params)(x, jnp.float32(0.5)))
    analysis: Any = denoise.lower(params, jnp.zeros((num, length, dim))).compile().cost_analysis()
    return float(analysis["flops"]) / num


def _train(network: Network, config: Any, data: denoisers.Data) -> tuple[training.TrainState, float]:
    plan = config.training
    state = training.init(jax.random.key(plan.seed), network, plan)
    began = time.perf_counter()
    for _ in range(plan.num_steps // plan.steps_per_chunk):
        state, _ = training.train_chunk(
            state, data.training, length=config.data.window_length, network=network, config=plan
        )
    return jax.block_until_ready(state), time.perf_counter() - began


def _losses(network: Network, params: Params, data: denoisers.Data, length: int) -> dict[str, float]:
    """The weighted denoising error on held-out windows at each of LEVELS."""
    assert data.validation is not None

    @jax.jit
    def loss(params: Params, key: jax.Array, sigma: jax.Array) -> jax.Array:
        key_index, key_noise = jax.random.split(key)
        index = jax.random.randint(key_index, (1_024,), 0, data.validation.starts.shape[0])
        x0 = training.gather(data.validation, index, length)
        noise = jax.random.normal(key_noise, x0.shape)
        return edm.error(edm.denoiser(network, params), x0, jnp.full(len(index), sigma), noise)

    key = jax.random.key(KEY_LEVELS)
    return {f"loss_{sigma:g}": float(loss(params, key, jnp.float32(sigma))) for sigma in LEVELS}


def _measures(network: Network, params: Params, data: denoisers.Data, recipe: Recipe) -> dict[str, float]:
    length, scale = recipe.window_length, 16 / recipe.window_length
    num = int(NUM_WINDOWS * scale)
    plan = diffusion.Plan(SamplingConfig(num_trajectories=num, trajectories_per_batch=num), length, network)
    hyper = jax.tree.map(jnp.float32, diffusion.Hyper())
    sample = jax.jit(
        lambda key, model: diffusion.sample(
            plan, key, guidance.uniform, jnp.float32(0.0), hyper, model, data.normalizer
        )
    )
    windows = sample(jax.random.key(KEY_SAMPLES), diffusion.Model(params))
    real = real_windows.real(jax.random.key(KEY_REFERENCE), data.raw, length, num)
    reference = normalizers.encode(data.normalizer, jnp.asarray(real))
    found = _measured(data.raw.env, int(DYNAMICS_WINDOWS * scale), windows, data.normalizer, reference)
    names = ("dynamics_error", "dynamics_error_median", "reward_error", "diversity", "mmd")
    return {name: float(np.asarray(found[name])) for name in names}


@functools.partial(jax.jit, static_argnums=(0, 1))
def _measured(
    environment: str, num_stepped: int, windows: jax.Array, normalizer: Normalizer, reference: jax.Array
) -> quality.Measures:
    """Compiled once for all recipes of a window length: the simulator takes a minute."""
    env = ENVS.get(environment)()
    return quality.measure(windows, guidance.uniform, normalizer, env, reference, num_stepped, env.reward_of)
