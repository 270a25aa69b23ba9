"""Where a run's time goes: each part of a phase jitted and timed alone, on the run's own lanes."""

import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from pgd_jax import loop
from pgd_jax.experiment import Experiment

MAX_UPDATES = 200  # a lane, timed and scaled to a phase
LONG_ENOUGH_S = 1.0  # a first run this long says enough; shorter ones are run again


class Part(NamedTuple):
    """One part of one phase of all lanes."""

    name: str
    seconds: float  # for the whole phase
    count: int  # how many of `unit` a phase of all lanes does
    unit: str
    measured_share: float  # of the phase's work that was run; the rest is scaled

    @property
    def rate(self) -> float:
        """`unit`s a second."""
        return self.count / self.seconds


def measure(key: jax.Array, experiment: Experiment, states: loop.LaneState) -> list[Part]:
    """Times generate, learn and evaluate of one phase of all lanes (states [L, ...]), those that the run has.

    Generation is timed on one batch a lane, learning on at most 200 updates; both cost the same each time they repeat.
    """
    key_generate, key_learn, key_evaluate = jax.random.split(key, 3)
    program, num_lanes = experiment.program, len(experiment.lanes.settings)
    plan = program.plan
    parts, synthetic = [], None
    if program.network is not None:
        short = program._replace(plan=plan._replace(num_trajectories=plan.trajectories_per_batch))
        seconds, synthetic = _time(_generate, short, key_generate, experiment, states)
        num_batches = plan.num_trajectories // plan.trajectories_per_batch
        count = num_lanes * plan.num_trajectories
        parts.append(Part("generate", seconds * num_batches, count, "trajectories", 1.0 / num_batches))
    step = program.agent.batches_per_update
    num_updates = max(min(plan.updates_per_phase, MAX_UPDATES) // step, 1) * step
    short = program._replace(plan=plan._replace(updates_per_phase=num_updates))
    seconds, _ = _time(_learn, short, key_learn, experiment, states, synthetic)
    share = num_updates / plan.updates_per_phase
    parts.append(Part("learn", seconds / share, num_lanes * plan.updates_per_phase, "updates", share))
    if program.env is not None:
        seconds, metrics = _time(_evaluate, program, key_evaluate, experiment, states)
        # Steps of episodes while they lasted: evaluation ends with its longest one.
        num_steps = round(plan.num_episodes * float(metrics["episode_length_mean"].sum()))
        parts.append(Part("evaluate", seconds, num_steps, "environment steps", 1.0))
    return parts


def _time(
    part: Callable[..., Any], program: loop.Program, key: jax.Array, experiment: Experiment, *inputs: Any
) -> tuple[float, Any]:
    """(seconds of a run after compilation, its result); a run shorter than a second is a warm-up for a second one."""
    arguments = (
        jax.random.split(key, len(experiment.lanes.settings)),
        experiment.lanes.hypers,
        experiment.shared,
        *inputs,
    )
    compiled = part.lower(program, *arguments).compile()
    for _ in range(2):
        began = time.perf_counter()
        result = jax.block_until_ready(compiled(*arguments))
        seconds = time.perf_counter() - began
        if seconds > LONG_ENOUGH_S:
            break
    return seconds, result


@functools.partial(jax.jit, static_argnums=0)
def _generate(
    program: loop.Program, keys: jax.Array, hypers: loop.ProgramHyper, shared: loop.Shared, states: loop.LaneState
) -> loop.Synthetic:
    def lane(key: jax.Array, hyper: loop.ProgramHyper, state: loop.LaneState) -> loop.Synthetic:
        log_prob = functools.partial(program.agent.log_prob, state.agent)
        windows = loop.generate(key, log_prob, hyper.guidance_coefficient, hyper, shared, program)
        return loop.flatten(shared.codec, windows)

    return jax.vmap(lane)(keys, hypers, states)


@functools.partial(jax.jit, static_argnums=0)
def _learn(
    program: loop.Program, keys: jax.Array, hypers: loop.ProgramHyper, shared: loop.Shared, states: loop.LaneState,
    synthetic: loop.Synthetic | None,
) -> Any:  # fmt: skip
    def lane(key: jax.Array, hyper: loop.ProgramHyper, state: loop.LaneState, made: loop.Synthetic | None) -> Any:
        return loop.learn(key, state.agent, made, hyper, shared, program)

    return jax.vmap(lane)(keys, hypers, states, synthetic)


@functools.partial(jax.jit, static_argnums=0)
def _evaluate(
    program: loop.Program, keys: jax.Array, hypers: loop.ProgramHyper, shared: loop.Shared, states: loop.LaneState
) -> loop.Metrics:
    def lane(key: jax.Array, hyper: loop.ProgramHyper, state: loop.LaneState) -> loop.Metrics:
        return loop.evaluate(key, state.agent, hyper, shared, program)

    return jax.vmap(lane)(keys, hypers, states)
