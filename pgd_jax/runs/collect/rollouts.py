"""Episodes of a fixed stochastic policy as a run: chunks of steps, appended to the disk, resumable."""

import functools
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from pgd_jax.agents import sac
from pgd_jax.core.types import Params
from pgd_jax.envs.base import EvalEnv
from pgd_jax.runs import checkpoint, driver, rundir
from pgd_jax.runs.collect import parts, streams

KIND = "rollouts"


class RolloutProgram(NamedTuple):
    """What is compiled."""

    env: EvalEnv
    agent: sac.Sac
    num_streams: int
    num_steps: int  # of each stream in a chunk


@struct.dataclass
class State:
    streams: streams.Streams
    key: jax.Array


def init(program: RolloutProgram, key: jax.Array) -> State:
    key_start, key = jax.random.split(key)
    return State(streams.start(program.env, key_start, program.num_streams), key)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=2)
def run_chunk(program: RolloutProgram, actor: Params, state: State) -> tuple[State, streams.Rows]:
    """One chunk of steps of every stream -> (state, rows [T, E, ...])."""

    def step(running: streams.Streams, key: jax.Array) -> tuple[streams.Streams, streams.Rows]:
        key_action, key_env = jax.random.split(key)
        action, log_prob = program.agent.sample(actor, running.obs, key_action)
        return streams.step(program.env, key_env, running, action, log_prob)

    key, key_steps = jax.random.split(state.key)
    running, rows = jax.lax.scan(step, state.streams, jax.random.split(key_steps, program.num_steps))
    return State(running, key), rows


def record(
    program: RolloutProgram, actor: Params, key: jax.Array, num_rows: int, path: pathlib.Path, config: dict[str, Any]
) -> bool:
    """Records at least `num_rows` rows in run directory `path`, or resumes; returns whether they are all there.

    The first rows are the same however many are asked for, so that a later call may ask for more.
    """
    rows_per_chunk = program.num_streams * program.num_steps
    initial = functools.partial(init, program, key)

    def advance(state: State) -> tuple[State, dict[str, Any]]:
        state, rows = run_chunk(program, actor, state)
        return state, {"rows": rows, "reward_mean": jnp.mean(rows.rewards)}

    def keep(chunk: int, found: dict[str, Any], seconds: float) -> list[dict[str, Any]]:
        parts.write(path, chunk, found["rows"])
        step = (chunk + 1) * rows_per_chunk
        return [{"lane": 0, "phase": chunk, "step": step, "reward_mean": found["reward_mean"], "wall_s": seconds}]

    job = driver.Job(
        advance,
        rows=keep,  # before the checkpoint that takes them as written
        summary=lambda rows: f"reward {rows[-1]['reward_mean']:.3f}",
        num_chunks=-(-num_rows // rows_per_chunk),
        phases_per_chunk=1,
        units_per_chunk=rows_per_chunk,
        unit="step",
        metadata={},
    )
    with rundir.open_run(path, KIND, config) as directory:
        parts.clean(path)
        if (checkpoint.latest(directory.checkpoints_path) or 0) >= job.num_chunks:
            return True
        return driver.run(job, directory, initial, jax.eval_shape(initial))
