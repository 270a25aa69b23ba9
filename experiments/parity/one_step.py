"""One step in the graph against one step of C MuJoCo, from states of real rollouts.

    python -m experiments.parity.one_step [--num_states=4096] [--hopper_file=hopper_medium_replay-v2.hdf5]

Both start from the same float32 state. Printed for each task: the error of the next observation, in standard deviations
of that column and at the worst column of a row (median, 99.9th percentile, largest), the same of the reward, the share
of steps that agree on whether the episode ended, and of rows that are further off than `LIMIT`. Beside these stands how
many rows C MuJoCo itself moves by as much when its state is changed in the last bit of a float32: at the moment of a
contact the physics decides between two outcomes, which no single-precision simulator can tell.

States come from rollouts of `behaviour` in C MuJoCo, whose actions hold on for some steps; for hopper, optionally from
a file with infos/qpos and infos/qvel, under its actions.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import gymnasium
import h5py
import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from pgd_jax.cli import entry
from pgd_jax.data import foreign
from pgd_jax.envs import base, gymnasium as hosts, locomotion  # noqa: F401  registers

PERSISTENCE = 0.8  # of the behaviour's noise from step to step
MAX_STEPS = 200  # of one rollout
MAX_BATCH = 256  # states at once: 1,024 of halfcheetah make jaxlib 0.10.2 wait for ever on two cores
LIMIT = 1e-3  # standard deviations of a column
ROUNDING = 2.0**-24  # half of float32's last bit, relative
NUM_ROUNDED = 4  # states drawn within it


class Steps(NamedTuple):
    """States and what C MuJoCo makes of them."""

    qpos: np.ndarray  # f[N, nq]
    qvel: np.ndarray  # f[N, nv]
    action: np.ndarray  # f32[N, A]
    next_obs: np.ndarray  # f64[N, O]
    reward: np.ndarray  # f64[N]
    terminal: np.ndarray  # bool[N]


class Errors(NamedTuple):
    observation: np.ndarray  # [N] worst column, in standard deviations of the column
    reward: np.ndarray  # [N] absolute
    terminal_agrees: np.ndarray  # bool[N]


def behaviour(generator: np.random.Generator, num_steps: int, action_dim: int) -> np.ndarray:
    """Actions f32[num_steps, A]: noise that holds on, of a size drawn for the rollout, clipped to the box."""
    noise = generator.normal(size=(num_steps, action_dim))
    for t in range(1, num_steps):
        noise[t] = PERSISTENCE * noise[t - 1] + np.sqrt(1.0 - PERSISTENCE**2) * noise[t]
    return np.clip(generator.uniform(0.2, 1.2) * noise, -1.0, 1.0).astype(np.float32)


def visited(env: gymnasium.Env, num_states: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(qpos f32[N, nq], qvel f32[N, nv], action f32[N, A]) of rollouts in C MuJoCo, the ending step included."""
    generator, found = np.random.default_rng(seed), []
    while len(found) < num_states:
        env.reset(seed=int(generator.integers(2**31)))
        for action in behaviour(generator, MAX_STEPS, env.action_space.shape[0]):
            data = env.unwrapped.data
            found.append((data.qpos.copy(), data.qvel.copy(), action))
            _, _, terminal, truncated, _ = env.step(action)
            if terminal or truncated:
                break
    qpos, qvel, action = (np.asarray(column, np.float32) for column in zip(*found[:num_states], strict=True))
    return qpos, qvel, action


def recorded(path: str, num_states: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same from random rows of a D4RL file."""
    with h5py.File(path) as file:
        foreign.refuse(path, file)
        arrays = [file[key][()].astype(np.float32) for key in ("infos/qpos", "infos/qvel", "actions")]
    rows = np.random.default_rng(seed).choice(len(arrays[0]), min(num_states, len(arrays[0])), replace=False)
    return tuple(array[rows] for array in arrays)


def in_mujoco(env: gymnasium.Env, qpos: np.ndarray, qvel: np.ndarray, action: np.ndarray) -> Steps:
    """One step of C MuJoCo from every state."""
    env.reset(seed=0)
    results = []
    for row in zip(qpos, qvel, action, strict=True):
        env.unwrapped.set_state(np.float64(row[0]), np.float64(row[1]))
        obs, reward, terminal, _, _ = env.unwrapped.step(row[2])
        results.append((obs, reward, terminal))
    next_obs, reward, terminal = (np.asarray(column) for column in zip(*results, strict=True))
    return Steps(qpos, qvel, action, next_obs, reward, terminal)


@functools.partial(jax.jit, static_argnums=0)
def in_graph(name: str, qpos: jax.Array, qvel: jax.Array, action: jax.Array) -> tuple[jax.Array, ...]:
    """(next obs f32[N, O], reward f32[N], terminal bool[N]), by way of the state itself, not of what is observed."""
    task = locomotion.TASKS[name]
    model = locomotion.mjx.load(task.file_name, task.frame_skip)

    def one(qpos: jax.Array, qvel: jax.Array, action: jax.Array) -> tuple[jax.Array, ...]:
        obs, _, reward, terminal = locomotion.make(name).step(jax.random.key(0), model.place(qpos, qvel), action)
        return obs, reward, terminal

    return jax.vmap(one)(qpos, qvel, action)


def errors(name: str, steps: Steps) -> Errors:
    """How far the in-graph task `name` is from `steps`."""
    columns = (steps.qpos, steps.qvel, steps.action)
    starts = range(0, len(steps.reward), MAX_BATCH)
    # Each is waited for: two such programs in flight have been seen to hang likewise.
    found = [
        jax.device_get(in_graph(name, *(jnp.asarray(each[i : i + MAX_BATCH]) for each in columns))) for i in starts
    ]
    next_obs, reward, terminal = map(np.concatenate, zip(*found, strict=True))
    relative = np.abs(next_obs - steps.next_obs) / steps.next_obs.std(axis=0)
    return Errors(relative.max(axis=1), np.abs(reward - steps.reward), terminal == steps.terminal)


def share_undecided(env: gymnasium.Env, steps: Steps, seed: int) -> float:
    """Share of rows that C MuJoCo moves by more than LIMIT when the state is changed within float32's rounding."""
    generator, scale = np.random.default_rng(seed), steps.next_obs.std(axis=0)
    moved = np.zeros(len(steps.reward), bool)
    for _ in range(NUM_ROUNDED):
        rounded = [
            np.float64(state) * (1.0 + ROUNDING * generator.uniform(-1.0, 1.0, state.shape))
            for state in (steps.qpos, steps.qvel)
        ]
        again = in_mujoco(env, *rounded, steps.action)
        moved |= (np.abs(again.next_obs - steps.next_obs) / scale).max(axis=1) > LIMIT
    return float(moved.mean())


def report(env: gymnasium.Env, name: str, source: str, steps: Steps, seed: int) -> str:
    found = errors(name, steps)
    quantiles = [np.quantile(error, (0.5, 0.999, 1.0)) for error in (found.observation, found.reward)]
    cells = [" ".join(f"{value:8.1e}" for value in row) for row in quantiles]
    agrees = f"{100.0 * found.terminal_agrees.mean():.2f} % ({int(steps.terminal.sum())} ended)"
    beyond = 100.0 * (found.observation > LIMIT).mean()
    undecided = 100.0 * share_undecided(env, steps, seed)
    return (
        f"{name:12} {source:10} {len(steps.reward):6}   {cells[0]}   {cells[1]}   {agrees:20} "
        f"{beyond:6.3f} %  ({undecided:.3f} %)"
    )


def _prepare() -> Callable[[], None]:
    flags.DEFINE_integer("num_states", 4096, "states a task")
    flags.DEFINE_string("hopper_file", "", "D4RL-format file of hopper with infos/qpos and infos/qvel")
    flags.DEFINE_integer("seed", 0, "seed of the rollouts")
    return functools.partial(_main, flags.FLAGS)


def _main(options: flags.FlagValues) -> None:
    header = f"{'task':12} {'states':10} {'number':>6}   {'obs error: 50 %, 99.9 %, max':26}   {'reward error':26}   "
    print(header + f"{'same end':20} beyond {LIMIT:g} (C MuJoCo, rounded)")
    for name in locomotion.TASKS:
        env = base.HOST_ENVS.get(name)().make()
        sources = {"rollouts": visited(env, options.num_states, options.seed)}
        if name == "hopper" and options.hopper_file:
            sources["file"] = recorded(options.hopper_file, options.num_states, options.seed)
        for source, states in sources.items():
            print(report(env, name, source, in_mujoco(env, *states), options.seed), flush=True)


if __name__ == "__main__":
    entry.run(_prepare, __doc__, keeps_nothing=True)
