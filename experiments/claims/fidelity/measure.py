"""One point: synthetic data of every target policy, and how on-policy and how true they are.

Windows and rollouts are measured alike: transitions of the first T - 1 rows, of which the first k are a horizon of k.
A rollout starts at a real observation, a window at one that the denoiser made. A point's measures, of P policies:

log_likelihood               [P, H] mean of log pi(a|s) over the first k rows, for each horizon k
dynamics_error               [P, H] mean squared error of the next observation (`measures.dynamics.errors`)
dynamics_error_median        [P, H] median over windows of a window's mean error
reward_error                 [P, H] mean squared error of the reward
dynamics_error_by_position   [P, T - 1]
defined_share                [P] share of rows, not terminal, for which the simulator's answer is finite
mmd, diversity               [P] of whole windows (`measures.distances.of_windows`)
"""

import functools
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.claims.fidelity import setting as settings
from experiments.claims.fidelity.models import Models, Policies
from experiments.claims.fidelity.points import Point
from experiments.guidance_study import measure as guided
from pgd_jax.agents.base import Agent
from pgd_jax.core.config import RolloutConfig
from pgd_jax.core.types import Normalizer, Transition
from pgd_jax.data import normalizer as normalizers
from pgd_jax.envs.base import EvalEnv
from pgd_jax.generators import diffusion, ensemble, one_step
from pgd_jax.measures import distances, dynamics, quality

HORIZONS = (1, 2, 4, 8, 15)


class Drawn(NamedTuple):
    """Synthetic data of every policy."""

    rows: Transition  # [P, M, T, ...]
    valid: jax.Array  # bool[P, M, T]
    windows: jax.Array  # f32[P, M, T, D] network space


def horizons_of(window_length: int) -> tuple[int, ...]:
    """The last one is a whole window's."""
    return (*(k for k in HORIZONS if k < window_length - 1), window_length - 1)


def point(
    setting: settings.Setting, request: settings.Request, task: str, agent: str, seed: int, models: Models,
    policies: Policies,
) -> Point:  # fmt: skip
    """The seconds of the first points are with their compilation."""
    began = time.perf_counter()
    drawn = jax.block_until_ready(draw(setting, request, seed, models, policies))
    seconds = time.perf_counter() - began
    steps, measures = horizons_of(models.window_length), measures_of(drawn, models, policies)
    return Point(task, agent, *request, seed, setting.num_windows, seconds, steps, measures)


def draw(setting: settings.Setting, request: settings.Request, seed: int, models: Models, policies: Policies) -> Drawn:
    """Points of one seed start from the same noise."""
    keys = jax.random.split(jax.random.key(setting.noise + seed), setting.num_policies)
    generator, strength = request.generator, jnp.float32(request.strength)
    if generator == settings.DATA:
        return of_windows(models.normalizer, jnp.broadcast_to(models.real, (len(keys), *models.real.shape)))
    if generator in settings.MODEL_NOISE:
        noise = jnp.float32(settings.MODEL_NOISE[generator])
        rollout = ensemble.Hyper(penalty=jnp.float32(0.0), model_noise=noise, action_noise=strength)
        plan = rollout_plan(models.window_length, setting.num_windows, models.env)
        return roll_out(policies.agent, plan, keys, policies.states, rollout, models.world, models.normalizer)
    cell, trained = setting.cells[generator], models.denoiser
    sampling = cell.plan(setting.num_windows, models.window_length, trained.network)
    hyper, model = jax.tree.map(jnp.float32, cell.hyper), diffusion.Model(trained.params)
    agent, states = policies
    windows = guided.generate(agent, sampling, keys, states, strength, hyper, model, models.normalizer)
    return of_windows(models.normalizer, windows)


@jax.jit
def of_windows(normalizer: Normalizer, windows: jax.Array) -> Drawn:
    return Drawn(*normalizers.to_transitions(normalizer, windows), windows)


def rollout_plan(length: int, num_rollouts: int, env: EvalEnv) -> ensemble.Plan:
    """Without a penalty, which is for learning from rewards; what ends an episode is the task's rule, if it has one."""
    config = RolloutConfig(horizon=length, num_rollouts=num_rollouts, rollouts_per_batch=num_rollouts)
    return ensemble.Plan(config, env.is_terminal, is_penalised=False)


@functools.partial(jax.jit, static_argnums=(0, 1))
def roll_out(
    agent: Agent,
    plan: ensemble.Plan,
    keys: jax.Array,
    states: Any,
    hyper: ensemble.Hyper,
    model: one_step.Model,
    normalizer: Normalizer,
) -> Drawn:
    def one(key: jax.Array, state: Any) -> tuple[Transition, jax.Array]:
        return ensemble.sample(plan, key, functools.partial(agent.act, state), hyper, model, normalizer)

    rows, valid = jax.vmap(one)(keys, states)
    ends = (normalizers.decode_obs(normalizer, rows.obs), rows.action, rows.reward[..., None], rows.terminal[..., None])
    return Drawn(rows, valid, normalizers.encode(normalizer, jnp.concatenate(ends, axis=-1)))


def measures_of(drawn: Drawn, models: Models, policies: Policies) -> dict[str, np.ndarray]:
    normalizer, reference = models.normalizer, models.reference
    # A rollout's last row has a successor, a window's has none.
    rows, valid = jax.tree.map(lambda leaf: leaf[:, :, :-1], (drawn.rows, drawn.valid))
    log_prob = _log_prob(policies.agent, policies.states, rows)
    error, reward_error, weight = _errors(models.env, normalizer, rows, valid, reference)
    apart = _distances(normalizer, drawn.windows, reference)
    found = jax.device_get((log_prob, valid, error, reward_error, weight, rows.terminal))
    log_prob, valid, error, reward_error, weight, terminal = (np.asarray(leaf, np.float64) for leaf in found)
    steps = horizons_of(models.window_length)
    return {
        "log_likelihood": _means(log_prob, valid, steps),
        "dynamics_error": _means(error, weight, steps),
        "dynamics_error_median": _medians(error, weight, steps),
        "reward_error": _means(reward_error, weight, steps),
        "dynamics_error_by_position": _ratio((weight * error).sum(axis=1), weight.sum(axis=1)),
        "defined_share": _ratio(weight.sum(axis=(1, 2)), (valid * (1.0 - terminal)).sum(axis=(1, 2))),
    } | {name: np.asarray(apart[name]) for name in ("mmd", "diversity")}


@functools.partial(jax.jit, static_argnums=0)
def _log_prob(agent: Agent, states: Any, rows: Transition) -> jax.Array:
    return jax.vmap(agent.log_prob)(states, rows.obs, rows.action)


@functools.partial(jax.jit, static_argnums=0)
def _errors(
    env: EvalEnv, normalizer: Normalizer, rows: Transition, valid: jax.Array, reference: jax.Array
) -> tuple[jax.Array, ...]:
    """Errors of observations and rewards, and weights, [P, M, T - 1]. No policy: the simulator is compiled once."""
    num_policies = len(valid)
    rows, valid = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), (rows, valid))
    obs = normalizers.decode_obs(normalizer, rows.obs)
    next_obs, reward = dynamics.steps(env, obs, rows.action)
    due = quality.held_to(env.reward_of, normalizer, reference)(obs, reward)
    found = dynamics.errors(normalizer, rows, valid, next_obs, due)
    return tuple(leaf.reshape(num_policies, -1, leaf.shape[-1]) for leaf in found)


@jax.jit
def _distances(normalizer: Normalizer, windows: jax.Array, reference: jax.Array) -> dict[str, jax.Array]:
    windows, reference = (normalizers.standardised(normalizer, x) for x in (windows, reference))
    return jax.lax.map(lambda own: distances.of_windows(own, reference), windows)


def _means(values: np.ndarray, weight: np.ndarray, steps: tuple[int, ...]) -> np.ndarray:
    """Of values and weights [P, M, T - 1], over the first k rows for each k of `steps`: [P, H]."""
    total, number = (np.cumsum(each.sum(axis=1), axis=-1) for each in (weight * values, weight))
    return _ratio(total, number)[:, np.array(steps) - 1]


def _medians(values: np.ndarray, weight: np.ndarray, steps: tuple[int, ...]) -> np.ndarray:
    """Likewise, the median over windows of their own means; windows without a row are left out."""
    means = _ratio(*(np.cumsum(each, axis=-1) for each in (weight * values, weight)))[..., np.array(steps) - 1]
    return np.array([[np.median(each[np.isfinite(each)]) for each in of_policy.T] for of_policy in means])


def _ratio(total: np.ndarray, number: np.ndarray) -> np.ndarray:
    """NaN of nothing."""
    return np.divide(total, number, out=np.full(total.shape, np.nan), where=number > 0.0)
