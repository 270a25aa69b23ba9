"""The interface between the compiled program and an offline RL algorithm."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from pgd_jax.core.config import NO_NORM, AgentConfig
from pgd_jax.core.registry import Registry
from pgd_jax.core.types import LogProb, Normalizer, Squashed, Transition
from pgd_jax.data import normalizer as normalizers

State = Any  # a pytree of arrays, the agent's own
Hyper = Any  # a flax.struct pytree of floats, the agent's own; each lane has its own values
Logs = dict[str, jax.Array]  # f32[] each


@dataclasses.dataclass(frozen=True)
class AgentPlan:
    """The static settings of an agent: sizes and choices, named as in `AgentConfig`. Floats are in its Hyper."""

    hidden_dim: int = 256
    num_hidden: int = 2
    critic_hidden_dim: int = 0  # of critics and values; 0: as hidden_dim
    critic_num_hidden: int = 0  # of critics and values; 0: as num_hidden
    critic_norm: str = NO_NORM  # or LAYER_NORM: LayerNorm after each hidden layer of critics and values
    num_critics: int = 2  # members of the ensemble, computed as one batched product


class Agent(NamedTuple):
    """An offline RL algorithm as pure functions, like optax's GradientTransformation.

    Observations are in network space (standardised), actions in environment space ([-1, 1]). An agent whose paper uses
    raw observations says so in its family (`sees_raw_obs`). `on_raw_obs` then wraps its functions, so that callers
    treat all agents alike.
    `update` takes `batches_per_update` batches at once, leading axis K. Periodic work, such as TD3's delayed actor, is
    therefore a level of a loop, not a cond.
    """

    init: Callable[[jax.Array, Hyper], State]  # (key, hyper) -> state
    update: Callable[
        [jax.Array, State, Transition, Hyper], tuple[State, Logs]
    ]  # (key, state, batches [K, B, ...], hyper)
    act: Callable[[State, jax.Array], jax.Array]  # (state, obs [..., O]) -> action [..., A], for evaluation
    log_prob: Callable[[State, jax.Array, jax.Array], jax.Array]  # (state, obs [..., O], action [..., A]) -> [...]
    batches_per_update: int
    needs_next_action: bool = False  # whether `update` reads Transition.next_action, which is None otherwise
    # (state, obs [..., O], u [..., A]) -> log density of u [...], for a policy a = tanh(u); None for other policies
    preimage_log_prob: Callable[[State, jax.Array, jax.Array], jax.Array] | None = None


def log_prob_of(agent: Agent, state: State) -> LogProb:
    """The policy's log density, in the form that guidance takes."""
    log_prob = functools.partial(agent.log_prob, state)
    if agent.preimage_log_prob is None:
        return log_prob
    return Squashed(log_prob, functools.partial(agent.preimage_log_prob, state))


def greedy(agent: Agent, state: State, normalizer: Normalizer) -> Callable[[jax.Array], jax.Array]:
    """The greedy policy: obs [..., O] -> action [..., A], both in environment space."""
    return lambda obs: agent.act(state, normalizers.encode_obs(normalizer, obs))


def on_raw_obs(agent: Agent, normalizer: Normalizer) -> Agent:
    """Wraps an agent that learns from observations in environment space: callers give them in network space."""
    statistics = jax.device_get(normalizer)
    raw = functools.partial(normalizers.decode_obs, statistics)

    def update(key: jax.Array, state: State, batches: Transition, hyper: Hyper) -> tuple[State, Logs]:
        batches = batches._replace(obs=raw(batches.obs), next_obs=raw(batches.next_obs))
        return agent.update(key, state, batches, hyper)

    preimage = agent.preimage_log_prob
    return agent._replace(
        update=update,
        preimage_log_prob=preimage and (lambda state, obs, u: preimage(state, raw(obs), u)),
        act=lambda state, obs: agent.act(state, raw(obs)),
        log_prob=lambda state, obs, action: agent.log_prob(state, raw(obs), action),
    )


class AgentFamily(NamedTuple):
    """A registry entry: the default hyperparameters, the factory, and the published sizes."""

    hyper: Callable[[], Hyper]  # () -> published defaults, Python floats
    build: Callable[[int, int, AgentPlan], Agent]  # (obs_dim, action_dim, plan) -> Agent
    plan: AgentPlan = AgentPlan()  # the published sizes
    sees_raw_obs: bool = False  # whether the agent learns from raw observations, not from standardised ones

    def plan_of(self, config: AgentConfig) -> AgentPlan:
        """The published sizes, replaced where `config` sets one. 0 and "" keep the published value."""
        fields = [field.name for field in dataclasses.fields(AgentPlan)]
        return dataclasses.replace(self.plan, **{name: value for name in fields if (value := getattr(config, name))})

    def make(self, config: AgentConfig, normalizer: Normalizer) -> Agent:
        """The agent of a run. It takes observations in network space, also where `sees_raw_obs`."""
        layout = normalizer.layout
        agent = self.build(layout.obs_dim, layout.action_dim, self.plan_of(config))
        return on_raw_obs(agent, normalizer) if self.sees_raw_obs else agent


AGENTS: Registry[AgentFamily] = Registry("agent")
