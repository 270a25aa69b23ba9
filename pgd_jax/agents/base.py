"""The seam between the program and an offline RL algorithm."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from pgd_jax.core.registry import Registry
from pgd_jax.core.types import Normalizer, Transition
from pgd_jax.data import normalizer as normalizers

State = Any  # a pytree of arrays, the agent's own
Hyper = Any  # a flax.struct pytree of floats, the agent's own; one lane per value
Logs = dict[str, jax.Array]  # f32[] each


@dataclasses.dataclass(frozen=True)
class AgentPlan:
    """Everything static about an agent: shapes and choices. Floats live in the agent's Hyper."""

    hidden_dim: int = 256
    num_hidden: int = 2


class Agent(NamedTuple):
    """An offline RL algorithm as pure functions, like optax's GradientTransformation.

    Observations are in network space (standardised), actions in environment space ([-1, 1]).
    `update` consumes `batches_per_update` batches at once, leading axis K, so that periodic work (TD3's delayed actor)
    is a loop level, not a cond.
    """

    init: Callable[[jax.Array, Hyper], State]  # (key, hyper) -> state
    update: Callable[
        [jax.Array, State, Transition, Hyper], tuple[State, Logs]
    ]  # (key, state, batches [K, B, ...], hyper)
    act: Callable[[State, jax.Array], jax.Array]  # (state, obs [..., O]) -> action [..., A], for evaluation
    log_prob: Callable[[State, jax.Array, jax.Array], jax.Array]  # (state, obs [..., O], action [..., A]) -> [...]
    batches_per_update: int


def greedy(agent: Agent, state: State, normalizer: Normalizer) -> Callable[[jax.Array], jax.Array]:
    """obs [..., O] -> action [..., A], both in environment space, as an environment has them."""
    return lambda obs: agent.act(state, normalizers.encode_obs(normalizer, obs))


class AgentFamily(NamedTuple):
    """What a registry entry holds: the default hyperparameters and the factory."""

    hyper: Callable[[], Hyper]  # () -> published defaults, Python floats
    build: Callable[[int, int, AgentPlan], Agent]  # (obs_dim, action_dim, plan) -> Agent


AGENTS: Registry[AgentFamily] = Registry("agent")
