"""What a run takes of a device's memory, or of all devices that are cores of one CPU; said before the run starts.

Three sums, in bytes:

    data     rows and weights that every lane reads; there before the start
    states   what is trained (weights, Adam's moments, a lane's newest windows for warm starts), twice: the one that the
             program works on in place, as it is donated, and the copy that the checkpoint before is written from;
             of several processes each has that copy of all lanes
    work     what one chunk has alive at once besides, by XLA's own account of the compiled program

A run that does not fit is refused before anything is written. The error names the setting that is furthest above its
default, of those that memory grows with.
"""

import math
import os
from typing import Any, NamedTuple

import jax
from jax.stages import Compiled

from pgd_jax.agents.base import AgentPlan
from pgd_jax.core import devices, logging, memory, processes, signals
from pgd_jax.core.config import (
    AgentConfig,
    BehaviourConfig,
    DenoiserConfig,
    RolloutConfig,
    SamplingConfig,
    WorldModelConfig,
)  # fmt: skip
from pgd_jax.core.errors import UserError
from pgd_jax.train.program import Program

GB = 1e9
SAMPLING_SIZES = ("trajectories_per_batch", "num_trajectories")
ROLLOUT_SIZES = ("rollouts_per_batch", "num_rollouts", "horizon")

Tree = Any  # a pytree of arrays or of their shapes
Times = dict[str, float]  # setting -> how many times its default it is


class Footprint(NamedTuple):
    """Bytes on one device, or on the several that share one memory."""

    data: float
    states: float
    work: float
    times: Times
    num_sharing: int = 1  # devices that it is of

    @property
    def total(self) -> float:
        return self.data + self.states + self.work


def compile(function: Any, *args: Tree, **static: Any) -> Compiled:
    """A jitted function compiled for these arguments, of which only shapes are read; the first signal ends it."""
    with signals.at_once():
        return function.lower(*args, **static).compile()


def of(compiled: Compiled, data: Tree, states: Tree, times: Times, num_sharing: int = 1, parts: int = 1) -> Footprint:
    """Of a compiled chunk that works on `states`, of which each of `parts` devices has its part, and reads `data`."""
    kept = tree_bytes(states) / parts
    kept += tree_bytes(states) if processes.are_several() else kept
    analysis: Any = compiled.memory_analysis()
    work = 0.0
    if analysis is not None:  # as on a platform that keeps no account
        # What is returned and is not the donated state itself is made beside it.
        made = analysis.output_size_in_bytes - analysis.alias_size_in_bytes
        work = max(float(analysis.temp_size_in_bytes + made), 0.0)
    return Footprint(num_sharing * tree_bytes(data), num_sharing * kept, num_sharing * work, times, num_sharing)


def of_agent(config: AgentConfig, compiled: Compiled, program: Program, states: Tree, shared: Tree) -> Footprint:
    """Of `loop.run_chunk`."""
    names = ("num_seeds", "hidden_dim", "num_hidden", "batch_size", "num_episodes", "dynamics_windows")
    usual = AgentConfig(hidden_dim=AgentPlan.hidden_dim, num_hidden=AgentPlan.num_hidden)
    times = times_of(config, usual, names)
    times["num_seeds or hyper"] = states.phase.shape[0] / usual.num_seeds
    del times["num_seeds"]
    if program.generator is not None:
        own = times_of(config.sampling, SamplingConfig(), SAMPLING_SIZES)
        times |= {f"sampling.{name}": value for name, value in own.items()}
        own = times_of(config.rollout, RolloutConfig(), ROLLOUT_SIZES)
        times |= {f"rollout.{name}": value for name, value in own.items()}
    parts, sharing = devices.size(program.mesh, devices.LANES), devices.sharing_memory(program.mesh)
    return of(compiled, shared, states, times, sharing, parts)


def of_denoiser(config: DenoiserConfig, compiled: Compiled, state: Tree, windows: Tree) -> Footprint:
    """Of `train.denoiser.train_chunk`."""
    usual = DenoiserConfig()
    times: Times = {}
    for part, names in (("unet", ("width", "num_blocks")), ("training", ("batch_size",)), ("data", ("window_length",))):
        found = times_of(getattr(config, part), getattr(usual, part), names)
        times |= {f"{part}.{name}": value for name, value in found.items()}
    return of(compiled, windows, state, times)


def of_policy(config: BehaviourConfig, compiled: Compiled, state: Tree, data: Tree) -> Footprint:
    """Of a behaviour policy's training."""
    return of(compiled, data, state, times_of(config, BehaviourConfig(), ("hidden_dim", "num_hidden", "batch_size")))


def of_world_model(config: WorldModelConfig, compiled: Compiled, state: Tree, data: Tree) -> Footprint:
    """Of `train.world_model.train_chunk`."""
    names = ("num_members", "hidden_dim", "num_hidden", "batch_size")
    return of(compiled, data, state, times_of(config, WorldModelConfig(), names))


def of_sampling(sampling: SamplingConfig, compiled: Compiled) -> Footprint:
    """Of sampling alone: what pgd-sample does."""
    times = times_of(sampling, SamplingConfig(), SAMPLING_SIZES)
    return of(compiled, (), (), times)


def of_rollouts(rollout: RolloutConfig, compiled: Compiled) -> Footprint:
    """Of rollouts of a world model alone."""
    return of(compiled, (), (), times_of(rollout, RolloutConfig(), ROLLOUT_SIZES))


def times_of(config: Any, usual: Any, names: tuple[str, ...]) -> Times:
    return {name: getattr(config, name) / getattr(usual, name) for name in names}


def announce(path: str | os.PathLike, found: Footprint) -> None:
    """Says what the run in directory `path` takes; the data are there already, the rest has to fit in what is free.

    Raises UserError, naming the setting to lower, where it does not.
    """
    free = memory.available().device
    where = f"the {found.num_sharing} devices of this CPU" if found.num_sharing > 1 else "a device"
    text = (
        f"{path}: takes {_gb(found.total)} on {where}: data {_gb(found.data)}, states {_gb(found.states)}, work "
        f"{_gb(found.work)}; free beside the data are {_gb(free)}"
    )
    if found.states + found.work > free:
        largest = max(found.times, key=lambda name: found.times[name])
        fewer = ", take one device (mesh=lanes=1)" if found.num_sharing > 1 else ""
        raise UserError(f"{text}: not enough memory; lower {largest}{fewer}, or free memory first")
    logging.info(text)


def announce_quietly(found: Footprint) -> None:
    """As `announce`, but says nothing of what fits."""
    if found.states + found.work > memory.available().device:
        announce("sampling", found)


def _gb(size: float) -> str:
    return f"{size / GB:.3g} GB"


def tree_bytes(tree: Tree) -> float:
    """Of arrays or their shapes; keys count as what they are made of."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if hasattr(leaf, "dtype")]
    return float(sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves))
