"""Online training: SAC in an in-graph environment, a chunk of the whole loop compiled as one program.

    for each of T steps of E streams:
        act (uniformly at random at first), record, put the rows into the replay buffer
        E updates, each on a batch from the buffer
    evaluate greedy episodes

The buffer is handed from chunk to chunk beside the state: no checkpoint holds it, as the rows can fill it again.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from pgd_jax.agents import sac
from pgd_jax.agents.base import AgentPlan, Logs
from pgd_jax.core import validation
from pgd_jax.core.errors import UserError
from pgd_jax.core.types import Transition
from pgd_jax.envs import evaluate
from pgd_jax.envs.base import ENVS, EvalEnv
from pgd_jax.runs.collect import streams
from pgd_jax.runs.collect.collection import OnlinePlan


class OnlineProgram(NamedTuple):
    """What is compiled."""

    plan: OnlinePlan
    env: EvalEnv
    agent: sac.Sac


@struct.dataclass
class State:
    sac: sac.State
    streams: streams.Streams
    num_steps: jax.Array  # i32[] of all streams together
    key: jax.Array


def validate(plan: OnlinePlan) -> None:
    """Raises UserError for settings that cannot work."""
    names = [field.name for field in dataclasses.fields(plan) if field.name not in ("seed", "num_exploring_steps")]
    validation.check_positive(plan, *names)
    validation.check_seed("seed", plan.seed)
    if plan.steps_per_chunk % plan.num_envs or plan.replay_capacity % plan.steps_per_chunk:
        raise UserError(
            f"replay_capacity={plan.replay_capacity} must be a multiple of steps_per_chunk={plan.steps_per_chunk}, and "
            f"that of num_envs={plan.num_envs}"
        )
    if plan.num_exploring_steps < 1 or plan.num_exploring_steps % plan.num_envs:
        raise UserError(
            f"num_exploring_steps={plan.num_exploring_steps} must be a positive multiple of num_envs={plan.num_envs}"
        )


@functools.cache  # a program built again would be compiled again
def build(plan: OnlinePlan, env_name: str) -> OnlineProgram:
    env = ENVS.get(env_name)()
    return OnlineProgram(plan, env, sac.build(env.obs_dim, env.action_dim, AgentPlan(plan.hidden_dim, plan.num_hidden)))


@functools.partial(jax.jit, static_argnums=0)
def init(program: OnlineProgram) -> State:
    key_agent, key_streams, key = jax.random.split(jax.random.key(program.plan.seed), 3)
    running = streams.start(program.env, key_streams, program.plan.num_envs)
    return State(program.agent.init(key_agent), running, jnp.int32(0), key)


def empty_replay(program: OnlineProgram) -> Transition:
    """Zeros [replay_capacity, ...] on the host."""
    env, capacity = program.env, program.plan.replay_capacity
    zeros: Any = functools.partial(np.zeros, dtype=np.float32)
    obs, action = (capacity, env.obs_dim), (capacity, env.action_dim)
    return Transition(zeros(obs), zeros(action), zeros(capacity), zeros(obs), zeros(capacity))


def transitions(rows: Any) -> Transition:
    """What SAC learns from, of streams.Rows on host or device: a time limit is no terminal."""
    terminal = rows.terminals.astype(np.float32)
    return Transition(rows.observations, rows.actions, rows.rewards, rows.next_observations, terminal)


def _act(program: OnlineProgram, key: jax.Array, state: State) -> tuple[jax.Array, jax.Array]:
    """(actions f32[E, A], their log-likelihoods f32[E])"""
    key_policy, key_uniform = jax.random.split(key)
    action, log_prob = program.agent.sample(state.sac.actor.params, state.streams.obs, key_policy)
    uniform = jax.random.uniform(key_uniform, action.shape, minval=-1.0, maxval=1.0)
    exploring = state.num_steps < program.plan.num_exploring_steps
    density = -float(np.log(2.0)) * program.env.action_dim
    return jnp.where(exploring, uniform, action), jnp.where(exploring, density, log_prob)


def _learn(
    program: OnlineProgram, key: jax.Array, agent_state: sac.State, batches: Transition
) -> tuple[sac.State, Logs]:
    """An update on each of batches [K, B, ...]; logs [K]."""

    def update(agent_state: sac.State, x: tuple[jax.Array, Transition]) -> tuple[sac.State, Logs]:
        return program.agent.update(x[0], agent_state, x[1], sac.Hyper())

    return jax.lax.scan(update, agent_state, (jax.random.split(key, batches.reward.shape[0]), batches))


def _step(
    program: OnlineProgram, carry: tuple[State, Transition], key: jax.Array
) -> tuple[tuple[State, Transition], tuple[streams.Rows, Logs]]:
    (state, replay), plan = carry, program.plan
    key_action, key_env, key_batch, key_learn = jax.random.split(key, 4)
    running, rows = streams.step(program.env, key_env, state.streams, *_act(program, key_action, state))
    place = state.num_steps % plan.replay_capacity
    replay = jax.tree.map(
        lambda x, new: jax.lax.dynamic_update_slice_in_dim(x, new, place, 0), replay, transitions(rows)
    )
    num_steps = state.num_steps + plan.num_envs
    shape = (plan.num_envs, plan.batch_size)
    chosen = jax.random.randint(key_batch, shape, 0, jnp.minimum(num_steps, plan.replay_capacity))
    # Gathered outside the cond, which would copy the buffer.
    batches = jax.tree.map(lambda x: x[chosen], replay)
    learn = functools.partial(_learn, program, key_learn)
    nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(learn, state.sac, batches)[1])
    agent_state, logs = jax.lax.cond(
        num_steps > plan.num_exploring_steps, learn, lambda agent_state, _: (agent_state, nothing), state.sac, batches
    )
    return (State(agent_state, running, num_steps, state.key), replay), (rows, logs)


def _as_learned_from(plan: OnlinePlan, rows: streams.Rows, replay: Transition, place: jax.Array) -> streams.Rows:
    """`rows` with what the buffer holds of them, from `place` on, to the last bit.

    XLA computes a value again where that is cheaper than keeping it, and may round it otherwise there: rows recorded
    beside the buffer differed from it in one number in a hundred, and a resumed run from an undisturbed one.
    """
    held = jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, place, plan.steps_per_chunk), replay)
    held = jax.tree.map(lambda x: x.reshape(-1, plan.num_envs, *x.shape[1:]), held)
    return rows._replace(
        observations=held.obs,
        actions=held.action,
        rewards=held.reward,
        next_observations=held.next_obs,
        terminals=held.terminal > 0.0,
    )


@functools.partial(jax.jit, static_argnums=0, donate_argnums=(1, 2))
def run_chunk(program: OnlineProgram, state: State, replay: Transition) -> tuple[State, Transition, streams.Rows, Logs]:
    """One chunk -> (state, buffer, rows [T, E, ...], metrics f32[]). Losses are 0 before there are updates."""
    plan, agent = program.plan, program.agent
    key, key_steps, key_episodes = jax.random.split(state.key, 3)
    keys = jax.random.split(key_steps, plan.steps_per_chunk // plan.num_envs)
    before = state.num_steps
    (state, replay), (rows, logs) = jax.lax.scan(functools.partial(_step, program), (state, replay), keys)
    rows = _as_learned_from(plan, rows, replay, before % plan.replay_capacity)
    num_updates = state.num_steps - jnp.clip(plan.num_exploring_steps, before, state.num_steps)
    logs = {name: values.sum() / jnp.maximum(num_updates, 1).astype(jnp.float32) for name, values in logs.items()}
    policy = functools.partial(agent.act, state.sac.actor.params)
    episodes = evaluate.evaluate(key_episodes, policy, program.env, plan.num_episodes)
    logs |= {"return_mean": episodes.returns.mean(), "return_std": episodes.returns.std()}
    logs |= {"length_mean": episodes.lengths.astype(jnp.float32).mean()}
    return dataclasses.replace(state, key=key), replay, rows, logs
