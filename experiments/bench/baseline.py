"""What the benchmark is compared with: one phase as it is usually written, without this library's tricks.

    generate   a Python loop over batches; each a vmap of a trajectory's sampler, and PGD's guidance by calls of its own
    learn      a Python loop over updates; batches drawn without replacement, the actor's turn every second time
    evaluate   a vmap of episodes over their whole horizon

It computes what the program does with sampler "churned_heun" or "dpmpp_2m_sde", guidance "paper" and agent "td3_bc",
which tests/unit/test_baseline.py holds it to. Seeds are runs one after the other, of functions compiled once:

    run = baseline.phase(setting)
    for seed in range(8):
        agent, metrics = run(jax.random.key(seed), baseline.agent(setting, jax.random.key(seed)))
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.bench import (
    baseline_agent as td3_bc,
    baseline_sampler as samplers,
    baseline_unet as unets,
    setting as settings,
)
from pgd_jax.core.types import Normalizer, Params, Transition
from pgd_jax.data import normalizer as normalizers
from pgd_jax.envs.base import ENVS, EvalEnv

COEFFICIENT = 0.3  # lambda of PGD's rule

Metrics = dict[str, jax.Array]
Sample = Callable[[jax.Array, Params], jax.Array]
Learn = Callable[[jax.Array, td3_bc.Agent, Transition, Transition], tuple[td3_bc.Agent, Metrics]]
Evaluate = Callable[[jax.Array, Params], jax.Array]


class Data(NamedTuple):
    """What the phases of all seeds read."""

    denoiser: Params  # of baseline_unet.UNet
    normalizer: Normalizer
    real: Transition  # [N, ...]


@functools.cache
def data(setting: settings.Setting) -> Data:
    """The benchmark's own weights and rows."""
    shared = settings.shared(setting)
    return Data(unets.from_library(shared.model.denoiser, setting.num_blocks), shared.normalizer, shared.real)


def agent(setting: settings.Setting, key: jax.Array) -> td3_bc.Agent:
    return td3_bc.init(key, setting.obs_dim, setting.action_dim, setting.hidden_dim, setting.num_hidden)


def actor(setting: settings.Setting) -> td3_bc.Actor:
    return td3_bc.networks(setting.action_dim, setting.hidden_dim, setting.num_hidden)[0]


def policy_score(actor: td3_bc.Actor, params: Params, normalizer: Normalizer) -> samplers.Score:
    """x [T, D] network space -> g [T, A], the gradient of log pi(a | s) w.r.t. its action columns, network space.

    The deterministic policy is taken for a unit Gaussian around pi(s) (PGD's released code).
    """

    def score(x: jax.Array) -> jax.Array:
        mean = actor.apply({"params": params}, x[:, normalizer.layout.obs])

        def log_prob(u: jax.Array) -> jax.Array:
            return -0.5 * jnp.sum((normalizers.decode_action(normalizer, u) - mean) ** 2)

        return jax.grad(log_prob)(x[:, normalizer.layout.action])

    return score


def sampling(
    setting: settings.Setting,
    sampler: str = "churned_heun",
    windows_per_batch: int = 512,
    sigmas: jax.Array | None = None,
    coefficient: float = COEFFICIENT,
    compute_dtype: str = "float32",
) -> Sample:
    """`sample(key, actor's params) -> windows f32[M, T, D]`, network space; sigmas f32[N + 1] are EDM's by default."""
    batch = min(windows_per_batch, setting.num_windows)
    if setting.num_windows % batch:
        raise ValueError(f"num_windows={setting.num_windows} must be a multiple of windows_per_batch={batch}")
    layout, shared = setting.layout, data(setting)
    network = unets.UNet(layout.dim, setting.width, setting.num_blocks, jnp.dtype(compute_dtype))
    levels = samplers.karras(setting.num_steps) if sigmas is None else sigmas

    def sample_one(key: jax.Array, denoiser: Params, policy: Params) -> jax.Array:
        denoise = samplers.precondition(functools.partial(network.apply, {"params": denoiser}))
        score = policy_score(actor(setting), policy, shared.normalizer)
        steer = samplers.guidance(denoise, score, coefficient, setting.num_steps, layout.action)
        key_start, key_steps = jax.random.split(key)
        # The noised data's own variance: s^2 + 1 where the data are standardised.
        x = jnp.sqrt(levels[0] ** 2 + 1.0) * jax.random.normal(key_start, (setting.window_length, layout.dim))
        return samplers.SAMPLERS[sampler](key_steps, x, denoise, steer, levels)

    sample_batch = jax.jit(jax.vmap(sample_one, in_axes=(0, None, None)))

    def sample(key: jax.Array, policy: Params) -> jax.Array:
        keys = jax.random.split(key, (setting.num_windows // batch, batch))
        return jnp.concatenate([sample_batch(keys_of_batch, shared.denoiser, policy) for keys_of_batch in keys])

    return sample


def to_rows(normalizer: Normalizer, windows: jax.Array, num_rows: int | None = None) -> Transition:
    """The valid transitions of windows f32[M, T, D] as numpy rows [R, ...]; what follows a terminal row is not valid.

    `num_rows` fixes R, as each other number of rows would be compiled for: rows are repeated, or the last left out.
    """
    layout = normalizer.layout
    x, decoded = jax.device_get((windows, normalizers.decode(normalizer, windows)))
    is_terminal = decoded[..., layout.terminal] > 0.5
    is_valid = np.cumsum(is_terminal, axis=1) - is_terminal == 0
    is_valid[:, -1] &= is_terminal[:, -1]  # the last row has no successor, and needs none only where it is terminal
    obs = x[..., layout.obs]
    next_obs = np.concatenate([obs[:, 1:], obs[:, -1:]], axis=1)
    action, reward = decoded[..., layout.action], decoded[..., layout.reward]
    rows = Transition(obs, action, reward, next_obs, is_terminal.astype(np.float32))
    index = np.flatnonzero(is_valid)
    index = index if num_rows is None else np.resize(index, num_rows)
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[index], rows)


def draw(key: jax.Array, rows: Transition, num: int, replace: bool) -> Transition:
    """A batch [num, ...] of rows [R, ...]."""
    index = jax.random.choice(key, rows.reward.shape[0], (num,), replace=replace)
    return jax.tree.map(lambda leaf: leaf[index], rows)


def updates(setting: settings.Setting, replace: bool = False) -> Learn:
    """`learn(key, agent, synthetic rows [S, ...], real rows [N, ...]) -> (agent, losses of the last updates)`.

    Does `setting.num_updates` critic updates and half as many of the actor.
    """

    def batch_of(key: jax.Array, synthetic: Transition, real: Transition) -> tuple[Transition, jax.Array]:
        key_synthetic, key_real, key_noise = jax.random.split(key, 3)
        made = draw(key_synthetic, synthetic, setting.synthetic_per_batch, replace)
        seen = draw(key_real, real, setting.batch_size - setting.synthetic_per_batch, replace)
        batch = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), made, seen)
        return batch, td3_bc.smoothing_noise(key_noise, batch.action.shape)

    # Two functions chosen in Python, since a branch within one would hand back the actor's whole state either way.
    @jax.jit
    def update_critic(key: jax.Array, agent: td3_bc.Agent, synthetic: Transition, real: Transition) -> tuple:
        key, key_batch = jax.random.split(key)
        return key, *td3_bc.update_critic(agent, *batch_of(key_batch, synthetic, real))

    @jax.jit
    def update_both(key: jax.Array, agent: td3_bc.Agent, synthetic: Transition, real: Transition) -> tuple:
        key, key_batch = jax.random.split(key)
        return key, *td3_bc.update_both(agent, *batch_of(key_batch, synthetic, real))

    def learn(
        key: jax.Array, agent: td3_bc.Agent, synthetic: Transition, real: Transition
    ) -> tuple[td3_bc.Agent, Metrics]:
        metrics: Metrics = {}
        for step in range(1, setting.num_updates + 1):
            if step % 2:
                key, agent, metrics["critic_loss"] = update_critic(key, agent, synthetic, real)
            else:
                key, agent, metrics["critic_loss"], metrics["actor_loss"] = update_both(key, agent, synthetic, real)
        return agent, metrics

    return learn


def episode(
    key_reset: jax.Array, key_steps: jax.Array, policy: Callable[[jax.Array], jax.Array], env: EvalEnv
) -> jax.Array:
    """The return of one episode of `policy` (obs [O] -> action [A], environment space) over the horizon."""

    def step(carry: tuple, key: jax.Array) -> tuple[tuple, None]:
        obs, state, is_alive, total = carry
        obs, state, reward, terminal = env.step(key, state, policy(obs))
        return (obs, state, is_alive & ~terminal, total + jnp.where(is_alive, reward, 0.0)), None

    carry = (*env.reset(key_reset), jnp.array(True), jnp.float32(0.0))
    return jax.lax.scan(step, carry, jax.random.split(key_steps, env.horizon))[0][-1]


def evaluation(setting: settings.Setting) -> Evaluate:
    """`evaluate(key, actor's params) -> returns f32[E]`."""
    env, normalizer = ENVS.get(setting.environment)(), data(setting).normalizer

    @jax.jit
    def evaluate(key: jax.Array, params: Params) -> jax.Array:
        def policy(obs: jax.Array) -> jax.Array:
            return actor(setting).apply({"params": params}, normalizers.encode_obs(normalizer, obs))

        key_reset, key_steps = jax.random.split(key)
        keys = (jax.random.split(key_reset, setting.num_episodes), jax.random.split(key_steps, setting.num_episodes))
        return jax.vmap(functools.partial(episode, policy=policy, env=env))(*keys)

    return evaluate


def phase(
    setting: settings.Setting, sample: Sample | None = None, learn: Learn | None = None
) -> Callable[[jax.Array, td3_bc.Agent], tuple[td3_bc.Agent, dict[str, float]]]:
    """`run(key, agent) -> (agent, metrics)`: generate, guided by the agent's policy; learn; evaluate."""
    sample, learn = sample or sampling(setting), learn or updates(setting)
    evaluate, shared = evaluation(setting), data(setting)
    num_rows = setting.num_windows * (setting.window_length - 1)  # what windows without a terminal row hold

    def run(key: jax.Array, agent: td3_bc.Agent) -> tuple[td3_bc.Agent, dict[str, float]]:
        key_sample, key_learn, key_evaluate = jax.random.split(key, 3)
        windows = sample(key_sample, agent.actor.params)
        synthetic = jax.device_put(to_rows(shared.normalizer, windows, num_rows))
        agent, losses = learn(key_learn, agent, synthetic, shared.real)
        returns = evaluate(key_evaluate, agent.actor.params)
        metrics = jax.device_get(losses | {"return_mean": jnp.mean(returns), "return_std": jnp.std(returns)})
        return agent, {name: float(value) for name, value in metrics.items()}

    return run
