"""Who judges an agent: the environment inside the program, and the one on the host."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import numpy as np

from pgd_jax.agents.base import Agent, greedy
from pgd_jax.core import config as configs
from pgd_jax.core.errors import UserError
from pgd_jax.core.registry import nearest
from pgd_jax.core.types import Normalizer
from pgd_jax.data import catalogue
from pgd_jax.data.base import RawDataset
from pgd_jax.envs import host, ogbench
from pgd_jax.envs.base import ENVS, HOST_ENVS, EvalEnv, HostEnv
from pgd_jax.train import lanes, loop

SWITCHED_OFF = "none"


class HostPlan(NamedTuple):
    """What the host evaluates at the end of each chunk."""

    env: HostEnv
    num_episodes: int  # a lane


def check_known(name: str) -> None:
    """Raises UserError for an environment that neither the program nor the host has."""
    known = dict.fromkeys([*ENVS, *HOST_ENVS])
    if name not in ("", SWITCHED_OFF, *known):
        raise UserError(f'unknown environment "{name}"{nearest(name, known)} (known: {_listed(known)})')


def _listed(names: Iterable[str]) -> str:
    """The names; of OGBench's, which are many, one."""
    short = [name for name in names if not name.startswith(ogbench.PREFIX)]
    return f"{', '.join(short)}, and OGBench's such as {ogbench.PREFIX}cube-single-singletask-v0"


def in_graph(name: str, raw: RawDataset) -> EvalEnv | None:
    """The environment of that name inside the program, or None; UserError where the dataset is of another shape.

    Episodes are as long as D4RL's of the dataset: maze2d v0 has shorter ones than v1, and its scores count on that.
    """
    if name not in ENVS:
        return None
    env = ENVS.get(name)()
    _check_shape(name, env, raw)
    return env._replace(horizon=_horizon(name, raw) or env.horizon)


def _horizon(name: str, raw: RawDataset) -> int | None:
    task = catalogue.TASKS.get(raw.reference)
    return task.horizon if task is not None and task.env == name else None


def on_host(name: str, raw: RawDataset, config: configs.AgentConfig, has_twin: bool) -> HostPlan | None:
    """The host's environment of that name: where it has no twin inside the program, or `host_episodes` asks for it.

    Episodes are as long as D4RL's of the dataset: adroit's "longhorizon" ones have 200 to 600 steps, not 100 or 200.
    Raises UserError where it is asked for and there is none, a package that it needs is missing, or the dataset is of
    another shape.
    """
    if name not in HOST_ENVS:
        if config.host_episodes:
            raise UserError(
                f'host_episodes={config.host_episodes}, but there is no host environment for "{name or raw.name}" '
                f"(there are: {_listed(HOST_ENVS)}); set host_episodes=0"
            )
        return None
    num_episodes = config.host_episodes or config.num_episodes
    if not num_episodes or (has_twin and not config.host_episodes):
        return None
    env = HOST_ENVS.get(name)()
    _check_shape(name, env, raw)
    horizon = _horizon(name, raw)
    env = env if horizon in (None, env.horizon) else host.with_horizon(env, horizon)
    return HostPlan(env, num_episodes)


def _check_shape(name: str, env: EvalEnv | HostEnv, raw: RawDataset) -> None:
    dims = raw.observations.shape[1], raw.actions.shape[1]
    if dims != (env.obs_dim, env.action_dim):
        raise UserError(
            f'environment "{name}" has observations of {env.obs_dim} and actions of {env.action_dim}, {raw.name} has '
            f"{dims[0]} and {dims[1]}: name another environment, or environment=none"
        )


class HostEvaluator:
    """Greedy episodes of every lane's policy in the host's environments, which are built once."""

    def __init__(self, plan: HostPlan, agent: Agent, normalizer: Normalizer, population: lanes.Lanes):
        self._device, self._has_success = host.device(), plan.env.has_success
        self._normalizer = jax.device_put(normalizer, self._device)
        self._seeds = np.asarray(population.seeds)
        self._discount = np.asarray(population.hypers.agent.discount)
        self._evaluator = host.Evaluator(plan.env, len(population.settings), plan.num_episodes)

        def act(states: Any, normalizer: Normalizer, obs: jax.Array) -> jax.Array:
            return jax.vmap(lambda state, obs: greedy(agent, state, normalizer)(obs))(states, obs)

        self._act = jax.jit(act)

    def evaluate(self, states: loop.LaneState, phase: int) -> dict[str, np.ndarray]:
        """Measures [L] of the policies after `phase` (states [L, ...]), named as the program's own with "host_"."""
        episodes = self.episodes(states, phase)
        success = {"host_success_rate": episodes.successes.mean(axis=1)} if self._has_success else {}
        return success | {
            "host_return_mean": episodes.returns.mean(axis=1),
            "host_return_std": episodes.returns.std(axis=1),
            "host_discounted_return_mean": episodes.discounted_returns.mean(axis=1),
            "host_episode_length_mean": episodes.lengths.mean(axis=1),
        }

    def episodes(self, states: loop.LaneState, number: int) -> host.Episodes:
        """Episodes [L, E] of the policies; `number` (of the evaluation) decides from which states they start."""
        agents = jax.device_put(states.agent, self._device)

        def policy(obs: np.ndarray) -> jax.Array:
            return self._act(agents, self._normalizer, jax.device_put(obs, self._device))

        return self._evaluator.evaluate(policy, self._seeds, number, self._discount)
