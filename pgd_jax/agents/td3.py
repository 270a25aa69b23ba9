"""The common part of agents built on TD3 (Fujimoto et al. 2018, Algorithm 1). They add a target and an actor loss.

    pi, Q_1, Q_2 <- initial networks;  pi', Q'_1, Q'_2 <- copies of them
    for each update:
        for each of two batches (s, a, r, s', terminal):
            a' <- clip(pi'(s') + clip(noise, -c, c), -1, 1)
            y  <- the agent's target
            Q_i <- Adam on (Q_i(s, a) - y)^2, i = 1, 2
        pi <- Adam on the agent's loss                                      on the last batch
        pi', Q'_i <- (1 - tau) pi', Q'_i + tau pi, Q_i

The target networks move once per actor update (d = 2). One `update` is therefore two of the steps that papers count.
The critic loss is the sum over the critics, as in TD3. Some public code takes their mean: for two critics that halves
the gradient, which under Adam equals an epsilon twice as large.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct

from pgd_jax.agents import adam, critic as critics, losses
from pgd_jax.agents.base import AgentPlan, Logs
from pgd_jax.core import ranges
from pgd_jax.core.hyper import Float, setting
from pgd_jax.core.types import Params, Transition
from pgd_jax.networks import mlp
from pgd_jax.networks.base import Network

CRITIC_UPDATES_PER_ACTOR_UPDATE = 2


@struct.dataclass
class Hyper:
    """The floats of all these agents. An agent overrides learning rates and epsilon where its paper does."""

    actor_lr: Float = setting(3e-4, "Adam's learning rate for the actor", ranges.POSITIVE)
    critic_lr: Float = setting(3e-4, "Adam's learning rate for the critics", ranges.POSITIVE)
    adam_eps: Float = setting(1e-8, "Adam's epsilon", ranges.POSITIVE)
    discount: Float = setting(0.99, "gamma, the discount factor", ranges.SHARE)
    polyak: Float = setting(
        0.005, "tau, share of the new parameters in an update of the target networks", ranges.SHARE_ABOVE_0
    )
    target_noise: Float = setting(
        0.2, "standard deviation of the noise on the target policy's actions, environment space", ranges.NOT_NEGATIVE
    )
    target_noise_clip: Float = setting(
        0.5, "that noise is clipped to [-target_noise_clip, target_noise_clip]", ranges.NOT_NEGATIVE
    )


@struct.dataclass
class State:
    actor: adam.Trained
    critic: adam.Trained  # all critics, leading axis num_critics
    target_actor: Params
    target_critic: Params


class Networks(NamedTuple):
    actor: Network  # obs [..., O] -> action [..., A]
    critic: Network  # (obs [..., O], action [..., A]) -> [num_critics, ...]
    one_critic: Network  # one critic: (obs [..., O], action [..., A]) -> [...]


def networks(
    obs_dim: int,
    action_dim: int,
    plan: AgentPlan,
    actor_start: mlp.Start = mlp.FAN_IN,
    critic_start: mlp.Start = mlp.FAN_IN,
) -> Networks:
    actor = mlp.tanh_policy(obs_dim, action_dim, plan.hidden_dim, plan.num_hidden, actor_start)
    return Networks(actor, *critics.build(obs_dim, action_dim, plan, critic_start))


def init(networks: Networks, key: jax.Array, hyper: Hyper) -> State:
    del hyper
    key_actor, key_critic = jax.random.split(key)
    actor, critic = networks.actor.init(key_actor), networks.critic.init(key_critic)
    return State(adam.init(actor), adam.init(critic), target_actor=actor, target_critic=critic)


def next_actions(networks: Networks, key: jax.Array, state: State, batches: Transition, hyper: Hyper) -> jax.Array:
    """a' [K, B, A] for all batches in one pass: the target networks do not change within an update."""
    noise = losses.smoothing_noise(key, batches.action.shape, hyper.target_noise, hyper.target_noise_clip)
    return jnp.clip(networks.actor.apply(state.target_actor, batches.next_obs) + noise, -1.0, 1.0)


def next_values(networks: Networks, state: State, batches: Transition, next_action: jax.Array) -> jax.Array:
    """min_i Q'_i(s', a') [K, B]."""
    return networks.critic.apply(state.target_critic, batches.next_obs, next_action).min(axis=0)


def update_critic(
    networks: Networks, critic: adam.Trained, batches: Transition, targets: jax.Array, hyper: Hyper
) -> tuple[adam.Trained, Logs]:
    """One step for each of K batches [K, B, ...] towards its targets [K, B]. Logs are means over the K steps."""

    def step(critic: adam.Trained, item: tuple[Transition, jax.Array]) -> tuple[adam.Trained, Logs]:
        return critics.step(networks.critic, critic, *item, hyper.critic_lr, hyper.adam_eps)

    critic, logs = jax.lax.scan(step, critic, (batches, targets))
    return critic, jax.tree.map(jnp.mean, logs)


def last(batches: Transition) -> Transition:
    return jax.tree.map(lambda x: x[-1], batches)


def moved(state: State, actor: adam.Trained, critic: adam.Trained, hyper: Hyper) -> State:
    """The state with the new networks, and with target networks moved towards them."""
    return State(
        actor,
        critic,
        target_actor=optax.incremental_update(actor.params, state.target_actor, hyper.polyak),
        target_critic=optax.incremental_update(critic.params, state.target_critic, hyper.polyak),
    )


def act(networks: Networks, state: State, obs: jax.Array) -> jax.Array:
    return networks.actor.apply(state.actor.params, obs)


def log_prob(networks: Networks, state: State, obs: jax.Array, action: jax.Array) -> jax.Array:
    return losses.unit_gaussian_log_prob(action, networks.actor.apply(state.actor.params, obs))
