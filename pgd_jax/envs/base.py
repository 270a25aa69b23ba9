"""The interfaces of environments: inside the compiled program, and on the host."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from pgd_jax.core.registry import Registry

EnvState = Any  # a pytree of arrays, the environment's own
IsTerminal = Callable[[jax.Array], jax.Array]  # obs [O] -> bool[]


class EvalEnv(NamedTuple):
    """An in-graph environment: observations in environment space, actions in [-1, 1]. Its functions can be vmapped.

    `step` never resets; the caller applies the time limit (`horizon`). `from_obs` returns a state that shows `obs`, for
    the dynamics error. It is None if an observation does not determine a state.
    """

    name: str
    obs_dim: int
    action_dim: int
    horizon: int
    reset: Callable[[jax.Array], tuple[jax.Array, EnvState]]  # key -> (obs [O], state)
    # (key, state, action [A]) -> (obs [O], state, reward [], terminal bool[])
    step: Callable[[jax.Array, EnvState, jax.Array], tuple[jax.Array, EnvState, jax.Array, jax.Array]]
    from_obs: Callable[[jax.Array], EnvState] | None  # obs [O] -> state
    # obs [O] -> bool[]: whether the environment can ever show it; None: every observation counts as possible.
    is_reachable: Callable[[jax.Array], jax.Array] | None = None
    # obs [O] -> reward [], if the observation alone determines it. Files may then pay for obs[t] or for obs[t + 1].
    reward_of: Callable[[jax.Array], jax.Array] | None = None
    # obs [O] -> bool[]: whether an episode ends when it comes to this observation; None if that is not known.
    is_terminal: IsTerminal | None = None
    # state -> (qpos, qvel), which D4RL's files keep under infos/; None without such a simulator.
    simulator: Callable[[EnvState], tuple[jax.Array, jax.Array]] | None = None


ENVS: Registry[Callable[[], EvalEnv]] = Registry("environment")


class HostEnv(NamedTuple):
    """An environment outside the program: for tasks without an in-graph version, and to cross-check in-graph ones.

    `make` returns one Gymnasium environment. Its observations f32[O] are flat, as in the dataset; actions are in
    [-1, 1]; it truncates at its time limit (`horizon`). If a task can be solved, `has_success` is set, and each step's
    info has a bool "success". An episode has succeeded if any of its steps has.
    """

    name: str
    obs_dim: int
    action_dim: int
    horizon: int
    make: Callable[[], Any]  # () -> gymnasium.Env
    has_success: bool = False


# A host environment has the name of its in-graph version, if there is one.
HOST_ENVS: Registry[Callable[[], HostEnv]] = Registry("host environment")
