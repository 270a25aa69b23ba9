"""The program: generate -> learn -> evaluate, as one jitted call over lanes and phases.

run_chunk    scan over P phases, vmap over L lanes
  phase        generate: map over batches of windows, scan over N noise steps, guided by the lane's own policy
               learn:    scan over U updates of synthetic + real batches
               evaluate: E episodes, until the last one ends
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from pgd_jax.agents.base import Agent, State as AgentState, greedy, log_prob_of
from pgd_jax.core import devices
from pgd_jax.core.errors import UserError
from pgd_jax.core.hyper import Float
from pgd_jax.core.types import Transition
from pgd_jax.envs import evaluate as evaluation
from pgd_jax.generators.base import Guide, Metrics, Synthetic, describe
from pgd_jax.train.program import LaneState, Program, ProgramHyper, Shared


def num_best(share: Float, num_rows: int) -> jax.Array:
    """The number of rows i32[] in a share f32[] of them, rounded, at least 1. If it is below 1, the best are first."""
    nearest = jnp.round(jnp.asarray(share, jnp.float32) * num_rows).astype(jnp.int32)
    return jnp.where(share < 1.0, jnp.clip(nearest, 1, num_rows), num_rows)


def as_read(agent: Agent, made: Transition) -> Transition:
    """Synthetic rows, with next_action only if the agent learns from it, because it takes memory."""
    if agent.needs_next_action and made.next_action is None:
        raise UserError("the agent learns from next_action, which this generator does not give: choose another agent")
    return made if agent.needs_next_action else made._replace(next_action=None)


def draw(
    key: jax.Array, synthetic: Synthetic | None, hyper: ProgramHyper, shared: Shared, program: Program
) -> Transition:
    """Batches [K, B, ...]: synthetic rows, then real ones, each drawn with replacement."""
    plan, num_batches = program.plan, program.agent.batches_per_update
    key_synthetic, key_real = jax.random.split(key)
    shape = (num_batches, plan.batch_size - plan.synthetic_per_batch)
    rows = jax.random.randint(key_real, shape, 0, num_best(hyper.best_share, shared.real.reward.shape[0]))
    batch = jax.tree.map(lambda leaf: leaf[rows], shared.real)
    if synthetic is not None:
        shape = (num_batches, plan.synthetic_per_batch)
        rows = synthetic.order[jax.random.randint(key_synthetic, shape, 0, synthetic.num_valid)]
        made = jax.tree.map(lambda leaf: leaf[rows], as_read(program.agent, synthetic.transition))
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
    """`updates_per_phase` gradient updates. Logs are means over the updates."""

    def update(state: AgentState, key: jax.Array) -> tuple[AgentState, Metrics]:
        key_batch, key_update = jax.random.split(key)
        return program.agent.update(key_update, state, draw(key_batch, synthetic, hyper, shared, program), hyper.agent)

    keys = jax.random.split(key, program.plan.updates_per_phase // program.agent.batches_per_update)
    state, logs = jax.lax.scan(update, state, keys)
    return state, jax.tree.map(jnp.mean, logs)


def evaluate(key: jax.Array, state: AgentState, hyper: ProgramHyper, shared: Shared, program: Program) -> Metrics:
    """Metrics f32[] of E episodes of the greedy policy, in environment units: mean and standard deviation of returns,
    mean discounted return, mean length.
    """

    assert program.env is not None
    policy = greedy(program.agent, state, shared.normalizer)
    episodes = evaluation.evaluate(key, policy, program.env, program.plan.num_episodes, hyper.agent.discount)
    return {
        "return_mean": jnp.mean(episodes.returns),
        "return_std": jnp.std(episodes.returns),
        "discounted_return_mean": jnp.mean(episodes.discounted_returns),
        "episode_length_mean": jnp.mean(episodes.lengths.astype(jnp.float32)),
    }


def generate(
    key: jax.Array, state: LaneState, hyper: ProgramHyper, shared: Shared, program: Program
) -> tuple[Any, Synthetic, Metrics]:
    """The generator's new state, the phase's synthetic data for the lane's policy, and measures of the data."""
    generator, agent = program.generator, program.agent
    assert generator is not None
    guide = Guide(log_prob_of(agent, state.agent), functools.partial(agent.act, state.agent), state.phase)
    carried, synthetic = generator.generate(
        key, state.generator, guide, hyper.generator, shared.model, shared.normalizer, program.mesh
    )
    synthetic = synthetic._replace(transition=as_read(agent, synthetic.transition))
    num_measured = min(program.plan.dynamics_windows, generator.num_windows)
    length, normalizer = generator.window_length, shared.normalizer
    metrics = describe(synthetic, guide.log_prob, normalizer, program.env, length, num_measured, generator.is_whole)
    return carried, synthetic, metrics


def phase(program: Program, hyper: ProgramHyper, shared: Shared, state: LaneState) -> tuple[LaneState, Metrics]:
    """One lane, one phase."""
    key, key_generate, key_learn, key_evaluate = jax.random.split(state.key, 4)
    carried, synthetic = None, None
    metrics: Metrics = {}
    if program.generator is not None:
        carried, synthetic, metrics = generate(key_generate, state, hyper, shared, program)
        metrics.pop("dynamics_error_by_window", None)  # thousands of numbers per phase, which only a report needs
    learning = devices.in_turn(functools.partial(learn, program=program), program.mesh)
    agent_state, logs = learning(key_learn, state.agent, synthetic, hyper, shared)
    metrics |= logs
    if program.is_judged:
        metrics |= evaluate(key_evaluate, agent_state, hyper, shared, program)
    return LaneState(key, state.phase + 1, agent_state, carried), metrics


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=(2,))
def run_chunk(
    program: Program, num_phases: int, states: LaneState, hypers: ProgramHyper, shared: Shared
) -> tuple[LaneState, Metrics]:
    """`num_phases` phases of L lanes in one call. States and hypers have a leading axis L, metrics are [L, P, ...].

    The states are donated. The same phases in smaller chunks give the same bits. On several devices (`program.mesh`)
    states and hypers are divided by lane, and each device has a copy of `shared` (`devices.place`).
    """

    def chunk(states: LaneState, hypers: ProgramHyper, shared: Shared) -> tuple[LaneState, Metrics]:
        lanes = jax.vmap(functools.partial(phase, program), in_axes=(0, None, 0))
        # The vmap over lanes is inside the scan over phases. A scan inside the vmap would be traced once more.
        states, metrics = jax.lax.scan(lambda s, _: lanes(hypers, shared, s), states, None, length=num_phases)
        return states, jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), metrics)

    return devices.by_lane(chunk, program.mesh, num_by_lane=2, num_copied=1)(states, hypers, shared)


@functools.partial(jax.jit, static_argnums=(0,))
def init(program: Program, seeds: jax.Array, hypers: ProgramHyper, shared: Shared) -> LaneState:
    """The first states of L lanes, from seeds u32[L]. Lanes with the same seed start equal.

    With warm starts, the first windows are sampled here.
    """

    def lane(seed: jax.Array, hyper: ProgramHyper, shared: Shared) -> LaneState:
        key, key_agent, key_generator = jax.random.split(jax.random.key(seed), 3)
        carried = None
        if program.generator is not None:
            carried = program.generator.init(key_generator, hyper.generator, shared.model, shared.normalizer)
        return LaneState(key, jnp.int32(0), program.agent.init(key_agent, hyper.agent), carried)

    lanes = jax.vmap(lane, in_axes=(0, 0, None))
    return devices.by_lane(lanes, program.mesh, num_by_lane=2, num_copied=1)(seeds, hypers, shared)
