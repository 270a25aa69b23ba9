"""What hosts send each other, on paper: bytes and seconds from the settings alone. Nothing is run.

    python -m experiments.bench.communication [--preset=paper] [--hosts=8,64,512] [--devices_per_host=8]

L lanes lie on A x W devices (core/devices.py), d of them on each of H hosts. A lane's phase has M windows of T rows of
D numbers, 4 bytes each. A host receives what it lacks, once:

    windows, once a phase   (L / A) 4 M T D (1 - d / W)   where W > d. A group of W devices has L / A lanes and divides
                                                          their windows; then each device needs all of them
    states, once a chunk    (L - h) S                     a lane's state and metrics have S bytes; the host has
                                                          h = (L / A) max(1, d / W) lanes already
    a denoiser's step       2 (1 - 1 / H) 4 P             the gradients of P weights, summed by a ring of hosts

Seconds are the bytes to one host over the rate of its link: an estimate. It knows no latency, and overlaps nothing.
tests/program/test_devices.py compares all three with the collectives of compiled programs.
"""

import math
import re
from typing import NamedTuple

import jax
import jax.numpy as jnp
from absl import flags

from pgd_jax.agents.base import AGENTS
from pgd_jax.cli import entry
from pgd_jax.core import presets
from pgd_jax.core.config import AgentConfig
from pgd_jax.core.types import Layout, Normalizer
from pgd_jax.runs import denoiser, footprint
from pgd_jax.runs.experiment import hyper_of
from pgd_jax.train.program import LaneState

FLOAT_BYTES = 4
NUM_METRICS = 15  # numbers that a lane logs in a phase, about; and one for each step of a window
POSITIVE = re.compile(r"0*[1-9]\d*")
COLLECTIVE = re.compile(r"= (\S+|\([^)]*\)) (?:all-gather|all-reduce)\(")  # the shapes of its results
SHAPE = re.compile(r"(pred|[a-z]+\d+)\[([\d,]*)\]")


class Mesh(NamedTuple):
    by_lanes: int  # A
    by_windows: int  # W
    devices_per_host: int  # d


class Lane(NamedTuple):
    """Bytes of one lane."""

    windows: int  # of a phase
    state: int  # networks, Adam's moments, key and phase; the windows too, if the next phase renews them
    metrics: int  # of a chunk


def of_windows(num_lanes: int, lane: Lane, mesh: Mesh) -> int:
    """Bytes that a device has gathered once it has all windows of its lanes; 0 where it samples all of them itself."""
    return num_lanes // mesh.by_lanes * lane.windows if mesh.by_windows > 1 else 0


def of_states(num_lanes: int, lane: Lane, mesh: Mesh) -> int:
    """Bytes that a device has gathered once it has what all lanes leave behind; 0 where it has all lanes anyway."""
    return num_lanes * (lane.state + lane.metrics) if mesh.by_lanes > 1 else 0


def to_a_host(num_lanes: int, lane: Lane, mesh: Mesh) -> tuple[float, float]:
    """Bytes that a host receives: (of windows, once a phase; of states, once a chunk)."""
    share_of_windows = min(mesh.devices_per_host / mesh.by_windows, 1.0)
    share_of_lanes = max(mesh.devices_per_host / mesh.by_windows, 1.0) / mesh.by_lanes
    windows, states = of_windows(num_lanes, lane, mesh), of_states(num_lanes, lane, mesh)
    return windows * (1.0 - share_of_windows), states * (1.0 - share_of_lanes)


def in_program(compiled: str) -> int:
    """Bytes of the results of all gathers and sums in a compiled program's text; each counts once, in loops too."""
    shapes = [shape for results in COLLECTIVE.findall(compiled) for shape in SHAPE.findall(results)]
    return sum(_item_bytes(dtype) * math.prod(map(int, filter(None, sizes.split(",")))) for dtype, sizes in shapes)


def _item_bytes(dtype: str) -> int:
    return 1 if dtype == "pred" else int(re.sub(r"\D", "", dtype)) // 8


def lane_of(config: AgentConfig, window_length: int, layout: Layout) -> Lane:
    windows = FLOAT_BYTES * config.sampling.num_trajectories * window_length * layout.dim
    agent = AGENTS.get(config.agent).make(config, Normalizer(jnp.zeros(layout.dim), jnp.ones(layout.dim), layout))
    learned = jax.eval_shape(lambda key: agent.init(key, hyper_of(config).agent), jax.random.key(0))
    state = footprint.tree_bytes(LaneState(jax.random.key(0), jnp.int32(0), learned))
    metrics = FLOAT_BYTES * config.phases_per_chunk * (NUM_METRICS + window_length - 1)
    return Lane(windows, int(state) + bool(config.sampling.warm_steps) * windows, metrics)


def received(num_hosts: int, lane: Lane, num_weights: int, devices_per_host: int) -> dict[str, tuple[float, float]]:
    """What lies over the hosts -> bytes to each of them, (once a phase or a step, once a chunk)."""
    num_devices = num_hosts * devices_per_host
    by_lanes, by_windows = Mesh(num_devices, 1, devices_per_host), Mesh(1, num_devices, devices_per_host)
    grown = lane._replace(windows=num_hosts * lane.windows)
    return {
        "lanes, one on each device": to_a_host(num_devices, lane, by_lanes),
        "windows of one lane, M on each host": to_a_host(1, grown, by_windows),
        "windows of one lane, M in all": to_a_host(1, lane, by_windows),
        "a denoiser's batch, a step": (2.0 * (1.0 - 1.0 / num_hosts) * FLOAT_BYTES * num_weights, 0.0),
    }


def table(lane: Lane, num_weights: int, hosts: list[int], devices_per_host: int, gbit_per_s: float) -> str:
    found = {num: received(num, lane, num_weights, devices_per_host) for num in hosts}
    lines = [
        "| over the hosts | hosts | to a host, a phase | to a host, a chunk | to all hosts | seconds |",
        "|---|---|---|---|---|---|",
    ]
    for name in found[hosts[0]]:
        for num in hosts:
            a_phase, a_chunk = found[num][name]
            sizes = [_size(number) for number in (a_phase, a_chunk, num * (a_phase + a_chunk))]
            seconds = 8e-9 * (a_phase + a_chunk) / gbit_per_s
            lines.append(f"| {' | '.join([name, str(num), *sizes, f'{seconds:.2g}'])} |")
    return "\n".join(lines)


def _size(num_bytes: float) -> str:
    units = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
    return next((f"{num_bytes / size:.3g} {unit}" for size, unit in units if num_bytes >= size), f"{num_bytes:.0f}")


def _prepare():
    flags.DEFINE_string("preset", "paper", "whose settings")
    flags.DEFINE_list("hosts", ["8", "64", "512"], "numbers of hosts")
    flags.register_validator("hosts", lambda hosts: hosts and all(map(POSITIVE.fullmatch, hosts)), "numbers are needed")
    flags.DEFINE_integer("devices_per_host", 8, "devices on each", lower_bound=1)
    flags.DEFINE_float("gbit_per_s", 100.0, "rate of a host's link", lower_bound=1e-9)
    flags.DEFINE_integer("obs_dim", 11, "numbers of an observation", lower_bound=1)
    flags.DEFINE_integer("action_dim", 3, "numbers of an action", lower_bound=1)
    return lambda: _main(flags.FLAGS)


def _main(options: flags.FlagValues) -> None:
    config, of_model = presets.config(options.preset, "agent"), presets.config(options.preset, "denoiser")
    layout = Layout(options.obs_dim, options.action_dim)
    lane = lane_of(config, of_model.data.window_length, layout)
    weights = jax.eval_shape(denoiser.network_of(of_model, layout).init, jax.random.key(0))
    num_weights = sum(leaf.size for leaf in jax.tree.leaves(weights))
    windows, state = _size(lane.windows), _size(lane.state + lane.metrics)
    print(f"a lane: {windows} of windows a phase, {state} of state and metrics; a denoiser of {num_weights:,} weights")
    print(table(lane, num_weights, list(map(int, options.hosts)), options.devices_per_host, options.gbit_per_s))


if __name__ == "__main__":
    entry.run(_prepare, __doc__, keeps_nothing=True)
