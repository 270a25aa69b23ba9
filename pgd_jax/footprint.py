"""What a run will take on each device, or on all that are cores of one CPU, from the shapes of its programs.

It is said before the run starts.

Three sums, in bytes:

    data     rows and weights that every lane reads; there before the start
    states   what is trained (weights, Adam's moments, a lane's newest windows for warm starts), twice: the one that the
             program works on in place, as it is donated, and the copy that the checkpoint before is written from
    work     the most that one chunk has alive at once besides: sampling, synthetic rows, gradients, episodes

Data and states are exact. The work is that of the traced program (`live_bytes`), the trace that is compiled next. XLA
fuses some of its arrays away and copies others, and tests/unit/test_footprint.py holds the estimate to within 2.5 times
its own account; a run is refused only where not even half of the work would fit.
"""

import functools
import math
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
from jax.extend import core
from jax.sharding import Mesh

from pgd_jax import devices, loop, notes
from pgd_jax.config import TrainingConfig
from pgd_jax.data import memory
from pgd_jax.diffusion import train
from pgd_jax.errors import UserError
from pgd_jax.networks.base import Network
from pgd_jax.program import LaneState, Program, ProgramHyper, Shared

LOOPS = ("scan", "while")
ON_EACH_DEVICE = "shard_map"  # its body has the shapes of one device
GB = 1e9

Tree = Any  # a pytree of arrays or of their shapes


class Footprint(NamedTuple):
    """Bytes on one device, or on the several that share one memory."""

    data: float
    states: float
    work: float
    states_by: str  # the settings that set the size of the states
    work_by: dict[str, float]  # settings that set most of the work, and how much of it each
    num_sharing: int = 1  # devices that it is of

    @property
    def total(self) -> float:
        return self.data + self.states + self.work


def of_agent(
    program: Program, num_phases: int, states: LaneState, hypers: ProgramHyper, shared: Shared
) -> Footprint:
    """Of `loop.run_chunk` with these arguments, of which only shapes are read.

    It is traced here as the run will trace it, which then need not again.
    """
    traced = loop.run_chunk.trace(program, num_phases, states, hypers, shared)
    parts, sharing = devices.size(program.mesh, devices.LANES), devices.sharing_memory(program.mesh)
    num_lanes, kept = sharing * states.phase.shape[0] // parts, tree_bytes(states) / parts
    work_by = {}
    if program.plan.synthetic_per_batch:
        work_by["sampling.trajectories_per_batch"] = float(num_lanes * _sampling(program, states, hypers, shared))
        work_by["sampling.num_trajectories"] = float(num_lanes * _synthetic(program, shared))
    work = sharing * max(live_bytes(traced.jaxpr.jaxpr) - kept, 0.0)
    return Footprint(
        sharing * tree_bytes(shared), sharing * 2.0 * kept, work, "num_seeds or sweep", work_by, num_sharing=sharing
    )


def of_denoiser(
    state: train.TrainState,
    windows: train.Windows,
    length: int,
    network: Network,
    config: TrainingConfig,
    mesh: Mesh | None = None,
) -> Footprint:
    """Of `train.train_chunk` with these arguments, of which only shapes are read."""
    traced = train.train_chunk.trace(state, windows, length=length, network=network, config=config, mesh=mesh)
    kept = tree_bytes(state)
    work = max(live_bytes(traced.jaxpr.jaxpr) - kept, 0.0)
    return Footprint(tree_bytes(windows), 2.0 * kept, work, "unet.width", {"training.batch_size": work})


def announce(path: str | os.PathLike, found: Footprint) -> None:
    """Says what the run in directory `path` takes; the data are there already, the rest has to fit in what is free.

    Raises UserError, naming the setting to lower, where not even the states and half of the work would.
    """
    free, to_come = memory.available().device, found.states + found.work
    sizes = {found.states_by: found.states} | found.work_by
    largest = max(sizes, key=sizes.get)
    where = f"the {found.num_sharing} devices of this CPU" if found.num_sharing > 1 else "a device"
    shares = ", ".join(f"{_gb(size)} by {name}" for name, size in found.work_by.items())
    text = (
        f"{path}: takes about {_gb(found.total)} on {where}: data {_gb(found.data)}, states {_gb(found.states)}, work "
        f"{_gb(found.work)}{f' ({shares})' if shares else ''}; free beside the data are {_gb(free)}"
    )
    if found.states + 0.5 * found.work > free:
        fewer = ", take one device (mesh=lanes=1)" if found.num_sharing > 1 else ""
        raise UserError(f"{text}: that will not do; lower {largest}{fewer}, or free memory first")
    notes.say(f"{text}, which may be too little: if so, lower {largest}" if to_come > free else text)


def _gb(size: float) -> str:
    return f"{size / GB:.3g} GB"


def _sampling(program: Program, states: LaneState, hypers: ProgramHyper, shared: Shared) -> int:
    """Of one batch of one lane's windows: the sampler's own, the denoiser's and the policy's activations."""
    plan = program.plan
    program = program._replace(plan=plan._replace(num_trajectories=plan.trajectories_per_batch), mesh=None)

    def sample(state: LaneState, hyper: ProgramHyper, shared: Shared) -> jax.Array:
        log_prob = functools.partial(program.agent.log_prob, state.agent)
        start = None if state.windows is None else state.windows[: plan.trajectories_per_batch]
        return loop.generate(state.key, log_prob, hyper.guidance_coefficient, hyper, shared, program, start)

    one_lane = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), (states, hypers))
    return live_bytes(jax.make_jaxpr(sample)(*one_lane, shared).jaxpr)


def _synthetic(program: Program, shared: Shared) -> int:
    """Of all windows of one lane's phase, as its learning has them: transitions, and an index i32 of the valid ones."""
    layout = shared.codec.layout
    return program.plan.num_trajectories * program.plan.window_length * 4 * (2 * layout.obs_dim + layout.action_dim + 3)


def tree_bytes(tree: Tree) -> float:
    return float(sum(_bytes(leaf) for leaf in jax.tree.leaves(tree)))


def _bytes(leaf: Any) -> int:
    """Of an array, its shape or its type in a trace; 0 of what is none."""
    return math.prod(leaf.shape) * leaf.dtype.itemsize if hasattr(leaf, "dtype") else 0


def live_bytes(jaxpr: core.Jaxpr) -> int:
    """The most bytes that are alive at once of what `jaxpr` makes, its results included and its arguments not.

    Every array counts from the operation that makes it to the last that reads it, in the order of the trace, as if no
    two operations were fused; a loop has its results beside what one turn of it makes.
    """
    last_use = {variable: i for i, eqn in enumerate(jaxpr.eqns) for variable in _variables(eqn.invars)}
    last_use |= dict.fromkeys(_variables(jaxpr.outvars), len(jaxpr.eqns))
    held: dict[core.Var, int] = {}
    now = most = 0
    for i, eqn in enumerate(jaxpr.eqns):
        bodies = list(_bodies(eqn))
        within = max(map(live_bytes, bodies), default=0)
        made = bodies[0].outvars if eqn.primitive.name == ON_EACH_DEVICE else eqn.outvars
        sizes = [_bytes(variable.aval) for variable in made]
        is_loop = eqn.primitive.name in LOOPS
        most = max(most, now + (sum(sizes) + within if is_loop else max(sum(sizes), within)))
        held |= {var: size for var, size in zip(eqn.outvars, sizes, strict=True) if var in last_use}
        now = now + sum(held.get(var, 0) for var in eqn.outvars)
        now -= sum(held.pop(var, 0) for var in set(_variables(eqn.invars)) if last_use[var] == i)
    return most


def _variables(atoms: list[Any]) -> Iterator[core.Var]:
    return (atom for atom in atoms if not isinstance(atom, core.Literal))


def _bodies(eqn: core.JaxprEqn) -> Iterator[core.Jaxpr]:
    """The programs within an operation: a loop's body, a function called, the branches of a choice."""
    for value in eqn.params.values():
        for part in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(part, (core.Jaxpr, core.ClosedJaxpr)):
                yield getattr(part, "jaxpr", part)
