"""What a run will take on each device, or on all that are cores of one CPU, from the shapes of its programs.

It is said before the run starts.

Three sums, in bytes:

    data     rows and weights that every lane reads; there before the start
    states   what is trained (weights, Adam's moments, a lane's newest windows for warm starts), twice: the one that the
             program works on in place, as it is donated, and the copy that the checkpoint before is written from
    work     the most that one chunk has alive at once besides: sampling, synthetic rows, gradients, episodes

Data and states are exact. The work is that of the traced program (`live_bytes`), the trace that is compiled next. XLA
fuses some of its arrays away and copies others, and tests/unit/test_footprint.py holds the estimate to within 2.5 times
its own account; a run is refused only where not even half of the work would fit. The error then names the setting whose
default would save the most, by how memory grows with each (`Footprint.savings`).
"""

import functools
import math
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
from jax.extend import core
from jax.sharding import Mesh

from pgd_jax import devices, loop, notes
from pgd_jax.config import AgentConfig, BehaviourConfig, DenoiserConfig, SamplingConfig
from pgd_jax.data import memory
from pgd_jax.diffusion import train
from pgd_jax.errors import UserError
from pgd_jax.networks.base import Network
from pgd_jax.program import LaneState, Plan, Program, ProgramHyper, Shared
from pgd_jax.types import Layout

LOOPS = ("scan", "while")
ON_EACH_DEVICE = "shard_map"  # its body has the shapes of one device
GB = 1e9

Tree = Any  # a pytree of arrays or of their shapes


class Footprint(NamedTuple):
    """Bytes on one device, or on the several that share one memory."""

    data: float
    states: float
    work: float
    work_by: dict[str, float]  # settings that set most of the work, and how much of it each
    # () -> bytes that each setting would save at its default; asked for only where there is too little memory
    savings: Callable[[], dict[str, float]]
    num_sharing: int = 1  # devices that it is of

    @property
    def total(self) -> float:
        return self.data + self.states + self.work


def of_agent(
    config: AgentConfig, program: Program, states: LaneState, hypers: ProgramHyper, shared: Shared
) -> Footprint:
    """Of `loop.run_chunk` with these arguments, of which only shapes are read.

    It is traced here as the run will trace it, which then need not again.
    """
    traced = loop.run_chunk.trace(program, config.phases_per_chunk, states, hypers, shared)
    parts, sharing = devices.size(program.mesh, devices.LANES), devices.sharing_memory(program.mesh)
    num_lanes, kept = sharing * states.phase.shape[0] // parts, tree_bytes(states) / parts
    work_by = {}
    if program.plan.synthetic_per_batch:
        work_by["sampling.trajectories_per_batch"] = float(num_lanes * _sampling(program, states, hypers, shared))
        work_by["sampling.num_trajectories"] = float(num_lanes * _synthetic(program, shared))
    work = sharing * max(live_bytes(traced.jaxpr.jaxpr) - kept, 0.0)
    found = Footprint(sharing * tree_bytes(shared), sharing * 2.0 * kept, work, work_by, dict, sharing)

    def savings() -> dict[str, float]:
        own = _own_work(program, states, hypers, shared)
        learning, evaluation, description = (
            num_lanes * own.get(name, 0.0) for name in ("learn", "evaluate", "describe")
        )
        windows = sharing * 2.0 * tree_bytes(states.windows) / parts
        agents, usual = found.states - windows, AgentConfig()
        return {
            "num_seeds or sweep": _saved(found.states + work, states.phase.shape[0], usual.num_seeds),
            "hidden_dim": _saved(agents, config.hidden_dim**2, usual.hidden_dim**2)
            + _saved(learning + evaluation, config.hidden_dim, usual.hidden_dim),
            "num_hidden": _saved(agents + learning, config.num_hidden, usual.num_hidden),
            "batch_size": _saved(learning, config.batch_size, usual.batch_size),
            "num_episodes": _saved(evaluation, config.num_episodes, usual.num_episodes),
            "dynamics_windows": _saved(description, config.dynamics_windows, usual.dynamics_windows),
        } | {
            f"sampling.{name}": _saved(size, getattr(config.sampling, name), getattr(usual.sampling, name))
            for name, size in (
                ("trajectories_per_batch", work_by.get("sampling.trajectories_per_batch", 0.0)),
                ("num_trajectories", work_by.get("sampling.num_trajectories", 0.0) + windows + description),
            )
        }

    return found._replace(savings=savings)


def of_denoiser(
    config: DenoiserConfig, network: Network, state: train.TrainState, windows: train.Windows, mesh: Mesh | None = None
) -> Footprint:
    """Of `train.train_chunk` with these arguments, of which only shapes are read."""
    training, length, usual = config.training, config.data.window_length, DenoiserConfig()
    traced = train.train_chunk.trace(state, windows, length=length, network=network, config=training, mesh=mesh)
    states, work = _of_training(traced, state)

    def savings() -> dict[str, float]:
        width = (config.unet.width, usual.unet.width)
        return {
            "unet.width": _saved(states, width[0] ** 2, width[1] ** 2) + _saved(work, *width),
            "unet.num_blocks": _saved(states, 4.0**config.unet.num_blocks, 4.0**usual.unet.num_blocks),
            "training.batch_size": _saved(work, training.batch_size, usual.training.batch_size),
            "data.window_length": _saved(work, length, usual.data.window_length),
        }

    return Footprint(tree_bytes(windows), states, work, {"training.batch_size": work}, savings)


def of_policy(config: BehaviourConfig, traced: Any, state: Tree, data: Tree) -> Footprint:
    """Of a behaviour policy's training, `traced` with its state and data."""
    states, work = _of_training(traced, state)

    def savings() -> dict[str, float]:
        usual = BehaviourConfig()
        hidden = (config.hidden_dim, usual.hidden_dim)
        return {
            "hidden_dim": _saved(states, hidden[0] ** 2, hidden[1] ** 2) + _saved(work, *hidden),
            "num_hidden": _saved(states + work, config.num_hidden, usual.num_hidden),
            "batch_size": _saved(work, config.batch_size, usual.batch_size),
        }

    return Footprint(tree_bytes(data), states, work, {"batch_size": work}, savings)


def of_sampling(plan: Plan, layout: Layout, traced: Any) -> Footprint:
    """Of `loop.generate` alone, traced: what pgd-sample does."""
    work, usual = float(live_bytes(traced.jaxpr.jaxpr)), SamplingConfig()
    windows = 4.0 * plan.num_trajectories * plan.window_length * layout.dim

    def savings() -> dict[str, float]:
        batch, number = plan.trajectories_per_batch, plan.num_trajectories
        return {
            "trajectories_per_batch": _saved(work - windows, batch, usual.trajectories_per_batch),
            "num_trajectories": _saved(windows, number, usual.num_trajectories),
        }

    return Footprint(0.0, 0.0, work, {}, savings)


def _of_training(traced: Any, state: Tree) -> tuple[float, float]:
    """(states, work) of a traced chunk that is given `state` to work on."""
    kept = tree_bytes(state)
    return 2.0 * kept, max(live_bytes(traced.jaxpr.jaxpr) - kept, 0.0)


def _saved(size: float, value: float, default: float) -> float:
    """Bytes that a setting saves at its default, of a part that grows with it in proportion; less than 0: it adds."""
    return size * (1.0 - default / value) if value else 0.0


def _own_work(program: Program, states: LaneState, hypers: ProgramHyper, shared: Shared) -> dict[str, float]:
    """Of one lane: learning, evaluating and describing the synthetic data, each by itself."""
    program = program._replace(mesh=None)
    state, hyper = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), (states, hypers))
    synthetic = None
    if program.plan.synthetic_per_batch:
        shape = (program.plan.num_trajectories, program.plan.window_length, shared.codec.layout.dim)
        synthetic = jax.eval_shape(loop.flatten, shared.codec, jax.ShapeDtypeStruct(shape, "float32"))

    def describe(state: LaneState, synthetic: loop.Synthetic, shared: Shared) -> loop.Metrics:
        return loop.describe(synthetic, functools.partial(program.agent.log_prob, state.agent), shared, program)

    found = {"learn": _live(loop.learn, state.key, state.agent, synthetic, hyper, shared, program=program)}
    if program.env is not None:
        found["evaluate"] = _live(loop.evaluate, state.key, state.agent, hyper, shared, program=program)
    if synthetic is not None:
        found["describe"] = _live(describe, state, synthetic, shared)
    return found


def _live(function: Callable[..., Any], *args: Tree, **static: Any) -> float:
    return float(live_bytes(jax.make_jaxpr(functools.partial(function, **static))(*args).jaxpr))


def announce(path: str | os.PathLike, found: Footprint) -> None:
    """Says what the run in directory `path` takes; the data are there already, the rest has to fit in what is free.

    Raises UserError, naming the setting to lower, where not even the states and half of the work would.
    """
    free, to_come = memory.available().device, found.states + found.work
    where = f"the {found.num_sharing} devices of this CPU" if found.num_sharing > 1 else "a device"
    shares = ", ".join(f"{_gb(size)} by {name}" for name, size in found.work_by.items() if size > 0.01 * found.work)
    text = (
        f"{path}: takes about {_gb(found.total)} on {where}: data {_gb(found.data)}, states {_gb(found.states)}, work "
        f"{_gb(found.work)}{f' ({shares})' if shares else ''}; free beside the data are {_gb(free)}"
    )
    if to_come <= free:
        notes.say(text)
        return
    savings = found.savings()
    largest = max(savings, key=savings.get)
    if found.states + 0.5 * found.work > free:
        fewer = ", take one device (mesh=lanes=1)" if found.num_sharing > 1 else ""
        raise UserError(f"{text}: not enough memory; lower {largest}{fewer}, or free memory first")
    notes.say(f"{text}, which may be too little: if so, lower {largest}")


def announce_quietly(found: Footprint) -> None:
    """As `announce`, but says nothing of what fits."""
    if found.states + found.work > memory.available().device:
        announce("sampling", found)


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
