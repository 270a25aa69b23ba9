"""Episodes of a policy in host (Gymnasium) environments: for tasks without an in-graph version, and as a cross-check.

They run between chunks, never inside the program. In each step, one compiled call gives the actions of all lanes and
episodes. It runs on the CPU, so that it does not wait for an accelerator that computes the next chunk.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium
import jax
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from pgd_jax.envs.base import HostEnv

# Environments at once. A simulator's model takes up to 100 MB (the kitchen's meshes). With 64 of them, the compiled
# call of the policy (about 0.2 ms) costs little for each.
MAX_ENVIRONMENTS = 64


class Episodes(NamedTuple):
    """E finished episodes of L lanes. A return is NaN if the policy's action was not finite in any step."""

    returns: np.ndarray  # f64[L, E] sum of rewards
    discounted_returns: np.ndarray  # f64[L, E] sum of discount^t rewards
    lengths: np.ndarray  # i64[L, E] steps, the last one included
    successes: np.ndarray  # bool[L, E] whether any step's info had "success"; False if the environment has none


class OneEpisode(gymnasium.Wrapper):
    """Does nothing after the end of an episode, until it is reset with a seed.

    After an episode ends, the vector environment resets it in the next step, without a seed. That reset and all later
    steps return the last observation and no reward, at no cost. A non-finite action ends the episode with a reward of
    NaN; the simulator never sees the action.
    """

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        if seed is not None:
            self._last_obs, _ = self.env.reset(seed=seed, options=options)
            self._is_over = self.has_succeeded = False
        return self._last_obs, {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        if self._is_over:
            return self._last_obs, 0.0, False, False, {}
        if not np.isfinite(action).all():
            self._is_over = True
            return self._last_obs, float("nan"), False, True, {}
        self._last_obs, reward, terminated, truncated, info = self.env.step(action)
        self._is_over = terminated or truncated
        self.has_succeeded |= bool(info.get("success", False))
        return self._last_obs, float(reward), terminated, truncated, {}


def with_horizon(env: HostEnv, horizon: int) -> HostEnv:
    """`env` with episodes of at most `horizon` steps."""
    return env._replace(horizon=horizon, make=lambda: gymnasium.wrappers.TimeLimit(_without_limit(env.make()), horizon))


def _without_limit(env: gymnasium.Env) -> gymnasium.Env:
    return env.env if isinstance(env, gymnasium.wrappers.TimeLimit) else env


class Evaluator:
    """The environments of L lanes. They are built once and used for all evaluations of a run."""

    def __init__(self, env: HostEnv, num_lanes: int, num_episodes: int):
        self.num_lanes, self.num_episodes, self.horizon = num_lanes, num_episodes, env.horizon
        # A whole number of rounds of equal shape, so that the policy is compiled once.
        limit = max(MAX_ENVIRONMENTS // num_lanes, 1)
        self.episodes_at_once = max(n for n in range(1, num_episodes + 1) if num_episodes % n == 0 and n <= limit)
        self._obs_dim, self._action_dim = env.obs_dim, env.action_dim
        makers = [lambda: OneEpisode(env.make())] * (num_lanes * self.episodes_at_once)
        self._envs: Any = SyncVectorEnv(makers, copy=False, autoreset_mode=AutoresetMode.NEXT_STEP)

    def evaluate(
        self, policy: Callable[[np.ndarray], Any], seeds: np.ndarray, number: int, discount: np.ndarray
    ) -> Episodes:
        """Runs E episodes for each lane, each to its end or to the environment's horizon.

        `policy` maps obs f32[L, n, O] to actions f32[L, n, A], both in environment space. Episode e starts from a
        random state that depends on the lane's seed (`seeds` u32[L]), on `number` (of the evaluation) and on e only. So
        lanes with the same seed start alike, and a resumed run repeats its results. `discount` is f32[L].
        """
        rounds = range(0, self.num_episodes, self.episodes_at_once)
        parts = [self._round(policy, self._reset_seeds(seeds, number, first), discount) for first in rounds]
        return Episodes(*(np.concatenate(columns, axis=1) for columns in zip(*parts, strict=True)))

    def _reset_seeds(self, seeds: np.ndarray, number: int, first: int) -> list[int]:
        episodes = range(first, first + self.episodes_at_once)
        words = [np.random.SeedSequence([int(seed), number, e]) for seed in seeds for e in episodes]
        return [int(word.generate_state(1)[0]) for word in words]

    def _round(self, policy: Callable[[np.ndarray], Any], reset_seeds: list[int], discount: np.ndarray) -> Episodes:
        shape = self.num_lanes, self.episodes_at_once
        obs, _ = self._envs.reset(seed=reset_seeds)
        alive, weight = np.ones(shape, bool), np.ones((self.num_lanes, 1))
        returns, discounted, lengths = np.zeros(shape), np.zeros(shape), np.zeros(shape, np.int64)
        for _ in range(self.horizon):
            action = np.asarray(policy(obs.reshape(*shape, self._obs_dim)))
            obs, reward, terminated, truncated, _ = self._envs.step(action.reshape(-1, self._action_dim))
            reward = reward.reshape(shape)
            returns += reward
            discounted += weight * reward
            lengths += alive
            alive &= ~(terminated | truncated).reshape(shape)
            weight = weight * discount[:, None]
            if not alive.any():
                break
        successes = np.reshape([env.has_succeeded for env in self._envs.envs], shape)
        return Episodes(returns, discounted, lengths, successes)


def device() -> jax.Device | None:
    """The device that the policy runs on: the CPU, or None (JAX's default device) if JAX may not use the CPU."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return None
