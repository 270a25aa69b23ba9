"""The program: generate -> learn -> evaluate, as one jitted call over lanes and phases.

run_chunk    vmap over L lanes, scan over P phases
  phase        generate: map over batches of windows, scan over N noise steps, guided by the lane's own policy
               learn:    scan over U updates of synthetic + real batches
               evaluate: E episodes, until the last one ends
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from pgd_jax.agents.base import Agent, Hyper as AgentHyper, State as AgentState
from pgd_jax.analysis import dynamics_error as dynamics
from pgd_jax.data import codec as codecs
from pgd_jax.diffusion import guidance, samplers, schedules, train
from pgd_jax.envs import evaluate as evaluation
from pgd_jax.envs.base import EvalEnv
from pgd_jax.networks.base import Network
from pgd_jax.types import Codec, LogProb, Params, Transition

Metrics = dict[str, jax.Array]


class Plan(NamedTuple):
    """Everything static about the program: shapes, loop lengths, choices. One trace per value."""

    sampler: str
    guidance: str
    num_steps: int
    stochastic: bool
    window_length: int
    num_trajectories: int
    trajectories_per_batch: int
    updates_per_phase: int
    batch_size: int
    synthetic_per_batch: int
    num_episodes: int
    dynamics_windows: int  # of a phase, whose transitions are compared with the environment's own; 0 for none


class Program(NamedTuple):
    """The static argument of `run_chunk`. Build it once and reuse it: its functions are compared by identity."""

    plan: Plan
    agent: Agent
    network: Network | None  # the denoiser's; None where nothing is generated
    env: EvalEnv | None  # None: trained without evaluation


@struct.dataclass
class ProgramHyper:
    """Every float of an experiment; traced, so that each is free to differ between lanes."""

    agent: AgentHyper
    guidance_coefficient: jax.Array | float = 1.0  # lambda
    reward_scale: jax.Array | float = 1.0  # the agent learns from scale * reward + shift
    reward_shift: jax.Array | float = 0.0
    sigma_min: jax.Array | float = schedules.SIGMA_MIN
    sigma_max: jax.Array | float = schedules.SIGMA_MAX
    rho: jax.Array | float = schedules.RHO
    churn: samplers.Churn = struct.field(default_factory=samplers.Churn)


@struct.dataclass
class LaneState:
    key: jax.Array
    phase: jax.Array  # i32[] phases finished
    agent: AgentState


@struct.dataclass
class Shared:
    """What all lanes read: an argument of the program, never a constant in it."""

    denoiser: Params | None  # averaged weights
    codec: Codec
    real: Transition  # [N, ...]


class Synthetic(NamedTuple):
    """Generated transitions, flattened, and where the valid ones are (those after a generated terminal are not)."""

    transition: Transition  # [M * T, ...]
    valid: jax.Array  # bool[M * T]
    index: jax.Array  # i32[M * T] the valid rows first
    num_valid: jax.Array  # i32[] at least M: the first row of every window is valid


def generate(
    key: jax.Array, log_prob: LogProb, coefficient: jax.Array, hyper: ProgramHyper, shared: Shared, program: Program
) -> jax.Array:
    """Guided windows f32[M, T, D] in network space, `trajectories_per_batch` at a time; coefficient 0 is unguided."""
    plan, codec = program.plan, shared.codec
    guided = guidance.guide(
        train.denoiser(program.network, shared.denoiser), log_prob, codec, coefficient, plan.num_steps, plan.guidance
    )
    sigmas = schedules.karras(plan.num_steps, hyper.sigma_min, hyper.sigma_max, hyper.rho)
    shape = (plan.trajectories_per_batch, plan.window_length, codec.layout.dim)
    sample = samplers.SAMPLERS.get(plan.sampler).sample

    def batch(key: jax.Array) -> jax.Array:
        return sample(key, guided.denoise, sigmas, shape, hyper.churn if plan.stochastic else None, guided.shift)

    windows = jax.lax.map(batch, jax.random.split(key, plan.num_trajectories // plan.trajectories_per_batch))
    return windows.reshape(plan.num_trajectories, plan.window_length, codec.layout.dim)


def flatten(codec: Codec, windows: jax.Array) -> Synthetic:
    """Windows f32[M, T, D] -> transitions [M * T], with the valid rows' indices compacted once, not per batch."""
    transition, valid = codecs.to_transitions(codec, windows)
    num_rows = valid.size
    transition = jax.tree.map(lambda leaf: leaf.reshape(num_rows, *leaf.shape[2:]), transition)
    valid = valid.reshape(num_rows)
    index = jnp.nonzero(valid, size=num_rows, fill_value=0)[0].astype(jnp.int32)
    return Synthetic(transition, valid, index, jnp.sum(valid, dtype=jnp.int32))


def draw(
    key: jax.Array, synthetic: Synthetic | None, hyper: ProgramHyper, shared: Shared, program: Program
) -> Transition:
    """Batches [K, B, ...]: synthetic rows, then real ones, each drawn with replacement."""
    plan, num_batches = program.plan, program.agent.batches_per_update
    key_synthetic, key_real = jax.random.split(key)
    shape = (num_batches, plan.batch_size - plan.synthetic_per_batch)
    rows = jax.random.randint(key_real, shape, 0, shared.real.reward.shape[0])
    batch = jax.tree.map(lambda leaf: leaf[rows], shared.real)
    if synthetic is not None:
        shape = (num_batches, plan.synthetic_per_batch)
        rows = synthetic.index[jax.random.randint(key_synthetic, shape, 0, synthetic.num_valid)]
        made = jax.tree.map(lambda leaf: leaf[rows], synthetic.transition)
        batch = jax.tree.map(lambda a, b: jnp.concatenate([a, b], axis=1), made, batch)
    return batch._replace(reward=hyper.reward_scale * batch.reward + hyper.reward_shift)


def learn(
    key: jax.Array,
    state: AgentState,
    synthetic: Synthetic | None,
    hyper: ProgramHyper,
    shared: Shared,
    program: Program,
) -> tuple[AgentState, Metrics]:
    """`updates_per_phase` gradient updates; logs are means over them."""

    def update(state: AgentState, key: jax.Array) -> tuple[AgentState, Metrics]:
        key_batch, key_update = jax.random.split(key)
        return program.agent.update(key_update, state, draw(key_batch, synthetic, hyper, shared, program), hyper.agent)

    keys = jax.random.split(key, program.plan.updates_per_phase // program.agent.batches_per_update)
    state, logs = jax.lax.scan(update, state, keys)
    return state, jax.tree.map(jnp.mean, logs)


def evaluate(key: jax.Array, state: AgentState, hyper: ProgramHyper, shared: Shared, program: Program) -> Metrics:
    """Returns of E episodes of the greedy policy, environment units: mean, standard deviation, discounted mean."""

    def policy(obs: jax.Array) -> jax.Array:
        return program.agent.act(state, codecs.encode_obs(shared.codec, obs))

    episodes = evaluation.evaluate(key, policy, program.env, program.plan.num_episodes, hyper.agent.discount)
    return {
        "return_mean": jnp.mean(episodes.returns),
        "return_std": jnp.std(episodes.returns),
        "discounted_return_mean": jnp.mean(episodes.discounted_returns),
        "episode_length_mean": jnp.mean(episodes.lengths.astype(jnp.float32)),
    }


def describe(synthetic: Synthetic, log_prob: LogProb, shared: Shared, program: Program) -> Metrics:
    """How on-policy and how true the synthetic data are.

    log pi(a|s) per action under the policy that guided them, and the normalised squared error of the next observation
    against the environment in the first K = `dynamics_windows` windows, which are independent draws: of all rows, of
    rows in reachable states, by window f32[K] and by position in the window f32[T - 1].
    """
    rows = synthetic.transition
    weight = synthetic.valid.astype(jnp.float32)
    total = jnp.sum(weight)
    metrics = {
        "synthetic_log_likelihood": jnp.sum(weight * log_prob(rows.obs, rows.action)) / total,
        "synthetic_valid_share": total / weight.size,
        "synthetic_reward_mean": jnp.sum(weight * rows.reward) / total,
    }
    if program.env is not None and program.env.from_obs is not None and program.plan.dynamics_windows:
        metrics |= _dynamics(synthetic, shared, program)
    return metrics


def _dynamics(synthetic: Synthetic, shared: Shared, program: Program) -> Metrics:
    length, num_rows = program.plan.window_length, program.plan.dynamics_windows * program.plan.window_length
    rows, valid = jax.tree.map(lambda leaf: leaf[:num_rows], (synthetic.transition, synthetic.valid))
    measured = dynamics.of_transitions(program.env, shared.codec, rows, valid)
    error, weight, reachable = (leaf.reshape(-1, length) for leaf in measured)

    def mean(weight: jax.Array, axis: int | None = None) -> jax.Array:
        # Over 1 at least: a window of nothing but a terminal row has no error to speak of, and must not stop the run.
        return jnp.sum(weight * error, axis) / jnp.maximum(jnp.sum(weight, axis), 1.0)

    return {
        "dynamics_error": mean(weight),
        "dynamics_error_reachable": mean(weight * reachable),
        "synthetic_reachable_share": jnp.sum(weight * reachable) / jnp.maximum(jnp.sum(weight), 1.0),
        "dynamics_defined_share": jnp.sum(weight)
        / jnp.maximum(jnp.sum(valid.astype(jnp.float32) * (1.0 - rows.terminal)), 1.0),
        "dynamics_error_by_window": mean(weight, 1),
        "dynamics_error_by_position": mean(weight, 0)[:-1],  # the last row has no successor
    }


def phase(program: Program, hyper: ProgramHyper, shared: Shared, state: LaneState) -> tuple[LaneState, Metrics]:
    """One lane, one phase."""
    key, key_generate, key_learn, key_evaluate = jax.random.split(state.key, 4)
    synthetic, metrics = None, {}
    if program.plan.synthetic_per_batch:
        log_prob = functools.partial(program.agent.log_prob, state.agent)
        # The first set is unguided: an untrained policy has nothing to say about good actions.
        coefficient = jnp.where(state.phase > 0, hyper.guidance_coefficient, 0.0)
        windows = generate(key_generate, log_prob, coefficient, hyper, shared, program)
        synthetic = flatten(shared.codec, windows)
        metrics |= describe(synthetic, log_prob, shared, program)
        metrics.pop("dynamics_error_by_window", None)  # thousands of numbers a phase: only a report asks for them
    agent_state, logs = learn(key_learn, state.agent, synthetic, hyper, shared, program)
    metrics |= logs
    if program.env is not None:
        metrics |= evaluate(key_evaluate, agent_state, hyper, shared, program)
    return LaneState(key, state.phase + 1, agent_state), metrics


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=(2,))
def run_chunk(
    program: Program, num_phases: int, states: LaneState, hypers: ProgramHyper, shared: Shared
) -> tuple[LaneState, Metrics]:
    """`num_phases` phases of L lanes in one call; states and hypers have a leading axis L, metrics [L, P, ...].

    The states are donated. The same phases in smaller chunks give the same bits.
    """

    def lane(state: LaneState, hyper: ProgramHyper) -> tuple[LaneState, Metrics]:
        return jax.lax.scan(lambda s, _: phase(program, hyper, shared, s), state, None, length=num_phases)

    return jax.vmap(lane)(states, hypers)


@functools.partial(jax.jit, static_argnums=(0,))
def init(program: Program, seeds: jax.Array, hypers: ProgramHyper) -> LaneState:
    """The lanes' first states from seeds i32[L]; lanes of one seed start equal."""

    def lane(seed: jax.Array, hyper: ProgramHyper) -> LaneState:
        key, key_agent = jax.random.split(jax.random.key(seed))
        return LaneState(key, jnp.int32(0), program.agent.init(key_agent, hyper.agent))

    return jax.vmap(lane)(seeds, hypers)
