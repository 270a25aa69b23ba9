"""The seam between the program and an environment that runs inside it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from pgd_jax.core.registry import Registry

EnvState = Any  # a pytree of arrays, the environment's own
IsTerminal = Callable[[jax.Array], jax.Array]  # obs [O] -> bool[]


class EvalEnv(NamedTuple):
    """An in-graph environment. Observations in environment space, actions in [-1, 1]; one instance, to be vmapped.

    `step` never resets; the time limit (`horizon`) is the caller's. `from_obs` gives a state that shows `obs`, which
    the dynamics error needs; it is None where an observation does not determine a state.
    """

    name: str
    obs_dim: int
    action_dim: int
    horizon: int
    reset: Callable[[jax.Array], tuple[jax.Array, EnvState]]  # key -> (obs [O], state)
    # (key, state, action [A]) -> (obs [O], state, reward [], terminal bool[])
    step: Callable[[jax.Array, EnvState, jax.Array], tuple[jax.Array, EnvState, jax.Array, jax.Array]]
    from_obs: Callable[[jax.Array], EnvState] | None  # obs [O] -> state
    # obs [O] -> bool[]: whether the environment can ever show it; None where every observation is taken to be possible.
    is_reachable: Callable[[jax.Array], jax.Array] | None = None
    # obs [O] -> reward []: where the observation alone decides it; files may then pay for obs[t] or for obs[t + 1].
    reward_of: Callable[[jax.Array], jax.Array] | None = None
    # Whether an episode that comes to this observation ends there; None where that is not known.
    is_terminal: IsTerminal | None = None
    # state -> (qpos, qvel): what D4RL's files keep under infos/; None where there is no such simulator.
    simulator: Callable[[EnvState], tuple[jax.Array, jax.Array]] | None = None


ENVS: Registry[Callable[[], EvalEnv]] = Registry("environment")


class HostEnv(NamedTuple):
    """An environment outside the program, for tasks without an in-graph twin and as a cross-check of those with one.

    `make` gives one Gymnasium environment with flat observations f32[O] as the dataset has them, actions in [-1, 1] and
    its own time limit (`horizon`) as truncation. Where a task is solved or not, `has_success` is set, and each step's
    info says under "success" whether it is: an episode that was told so once has succeeded.
    """

    name: str
    obs_dim: int
    action_dim: int
    horizon: int
    make: Callable[[], Any]  # () -> gymnasium.Env
    has_success: bool = False


# Under the same name as its in-graph twin, where it has one.
HOST_ENVS: Registry[Callable[[], HostEnv]] = Registry("host environment")
