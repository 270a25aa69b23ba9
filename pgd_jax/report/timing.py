"""Where a run's time goes: each part of a phase jitted and timed alone, on the run's own lanes."""

import dataclasses
import functools
import time
from typing import Any

import jax

from pgd_jax.generators import diffusion
from pgd_jax.runs.experiment import Experiment
from pgd_jax.train import loop

MAX_UPDATES = 200  # updates per lane that are timed; the time is scaled to a phase
LONG_ENOUGH_S = 1.0  # a shorter first run is repeated


@dataclasses.dataclass(frozen=True)
class Part:
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
    """Times the parts of one phase of all lanes (states [L, ...]): generate, learn and evaluate, if the run has them.

    Generation is timed on one batch per lane, learning on at most 200 updates. The times are scaled to a whole phase.
    """
    key_generate, key_learn, key_evaluate = jax.random.split(key, 3)
    program, num_lanes = experiment.program, len(experiment.lanes.settings)
    plan = program.plan
    parts, synthetic = [], None
    if program.generator is not None:
        seconds, synthetic, share = _time_generation(key_generate, experiment, states)
        count = num_lanes * program.generator.num_windows
        parts.append(Part("generate", seconds / share, count, "trajectories", share))
    step = program.agent.batches_per_update
    num_updates = max(min(plan.updates_per_phase, MAX_UPDATES) // step, 1) * step
    short = program._replace(plan=plan._replace(updates_per_phase=num_updates))
    seconds, _ = _time(_learn, short, key_learn, experiment, states, synthetic)
    share = num_updates / plan.updates_per_phase
    parts.append(Part("learn", seconds / share, num_lanes * plan.updates_per_phase, "updates", share))
    if program.is_judged:
        seconds, metrics = _time(_evaluate, program, key_evaluate, experiment, states)
        # Steps of episodes until each ended; evaluation itself ends with the longest one.
        num_steps = round(plan.num_episodes * float(metrics["episode_length_mean"].sum()))
        parts.append(Part("evaluate", seconds, num_steps, "environment steps", 1.0))
    return parts


def _time_generation(
    key: jax.Array, experiment: Experiment, states: loop.LaneState
) -> tuple[float, loop.Synthetic, float]:
    """(seconds, synthetic data, share of a phase's windows): of one batch where the generator is made of batches."""
    program, share = experiment.program, 1.0
    assert program.generator is not None
    plan = program.generator.plan
    if isinstance(plan, diffusion.Plan):
        share = 1.0 / plan.num_batches
        batch = dataclasses.replace(plan.sampling, num_trajectories=plan.sampling.trajectories_per_batch, warm_steps=0)
        generator = diffusion.of_plan(plan._replace(sampling=batch, guided_batches=None))
        program, states = program._replace(generator=generator), dataclasses.replace(states, generator=None)
    return *_time(_generate, program, key, experiment, states), share


def _time(
    part: jax.stages.Wrapped, program: loop.Program, key: jax.Array, experiment: Experiment, *inputs: Any
) -> tuple[float, Any]:
    """(seconds of a run after compilation, its result). If the first run takes less than a second, it is repeated."""
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
        return loop.generate(key, state, hyper, shared, program)[1]

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
