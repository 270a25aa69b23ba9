"""IQL, implicit Q-learning (Kostrikov et al. 2021): values and policy are learned from the data's actions only.

    pi, V, Q_1, Q_2 <- initial networks;  Q'_1, Q'_2 <- copies of Q_1, Q_2
    for each update, on one batch (s, a, r, s', terminal):
        q <- min_i Q'_i(s, a)
        V <- Adam on |expectile - 1(q < V(s))| (q - V(s))^2                          equation 5
        w <- min(exp(beta (q - V(s))), 100)
        pi <- Adam on -w log pi(a | s), its learning rate decaying along a cosine    equation 7
        Q_i <- Adam on (Q_i(s, a) - r - gamma (1 - terminal) V(s'))^2, i = 1, 2      equation 6
        Q'_i <- (1 - tau) Q'_i + tau Q_i

V is updated first; the other updates use the new V, as in the released code. pi is the Gaussian of gaussian.py, which
is not squashed. "iql_deterministic" has a deterministic policy. Its log pi(a | s) is that of a unit Gaussian, so its
update is weighted regression on the data's actions. Observations are standardised. The paper scales the rewards of
locomotion tasks: `hyper.return_range` does that (preset "iql_d4rl").
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct

from pgd_jax.agents import adam, critic as critics, gaussian, losses
from pgd_jax.agents.base import AGENTS, Agent, AgentFamily, AgentPlan, Logs
from pgd_jax.core import ranges
from pgd_jax.core.hyper import Float, setting
from pgd_jax.core.types import Params, Transition
from pgd_jax.networks import mlp
from pgd_jax.networks.base import Network


@struct.dataclass
class Hyper:
    """Published values for locomotion. Adam's eps is that of Policy-Guided Diffusion (IQL's released code: 1e-8)."""

    actor_lr: Float = setting(3e-4, "Adam's learning rate for the actor", ranges.POSITIVE)
    value_lr: Float = setting(3e-4, "Adam's learning rate for the value network", ranges.POSITIVE)
    critic_lr: Float = setting(3e-4, "Adam's learning rate for the critics", ranges.POSITIVE)
    adam_eps: Float = setting(1e-5, "Adam's epsilon", ranges.POSITIVE)
    discount: Float = setting(0.99, "gamma, the discount factor", ranges.SHARE)
    polyak: Float = setting(
        0.005, "tau, share of the new parameters in an update of the target networks", ranges.SHARE_ABOVE_0
    )
    expectile: Float = setting(0.7, "expectile of the value regression (equation 5)", ranges.WITHIN_0_AND_1)
    temperature: Float = setting(
        3.0, "beta, inverse temperature of the advantage weights (equation 7)", ranges.NOT_NEGATIVE
    )
    max_weight: Float = setting(100.0, "upper limit of the advantage weights", ranges.POSITIVE)
    actor_decay_updates: Float = setting(
        1e6,
        "number of updates over which a cosine lowers the actor's learning rate to 0; a huge number: no decay",
        ranges.POSITIVE,
    )


@struct.dataclass
class State:
    actor: adam.Trained
    value: adam.Trained
    critic: adam.Trained  # all critics, leading axis num_critics
    target_critic: Params


class Networks(NamedTuple):
    actor: Network  # obs [..., O] -> (mean [..., A], log_std [A])
    value: Network  # obs [..., O] -> [...]
    critic: Network  # (obs [..., O], action [..., A]) -> [num_critics, ...]


def init(networks: Networks, key: jax.Array, hyper: Hyper) -> State:
    del hyper
    key_actor, key_value, key_critic = jax.random.split(key, 3)
    critic = networks.critic.init(key_critic)
    return State(
        actor=adam.init(networks.actor.init(key_actor)),
        value=adam.init(networks.value.init(key_value)),
        critic=adam.init(critic),
        target_critic=critic,
    )


def _update_critic(
    networks: Networks, hyper: Hyper, critic: adam.Trained, batch: Transition, next_value: jax.Array
) -> tuple[adam.Trained, Logs]:
    target = losses.td_target(batch.reward, batch.terminal, next_value, hyper.discount)
    return critics.step(networks.critic, critic, batch, target, hyper.critic_lr, hyper.adam_eps)


def update(networks: Networks, key: jax.Array, state: State, batches: Transition, hyper: Hyper) -> tuple[State, Logs]:
    """One update of each network from batches [1, B, ...]. The update is deterministic: the key is not used."""
    del key
    batch = jax.tree.map(lambda x: x[0], batches)
    q = networks.critic.apply(state.target_critic, batch.obs, batch.action).min(axis=0)
    value, value_logs = critics.step_value(
        networks.value, state.value, batch.obs, q, hyper.expectile, hyper.value_lr, hyper.adam_eps
    )
    v, next_v = networks.value.apply(value.params, jnp.stack([batch.obs, batch.next_obs]))
    weight = losses.advantage_weight(q - v, hyper.temperature, hyper.max_weight)
    actor_lr = hyper.actor_lr * adam.cosine_decay(state.actor.moments.count, hyper.actor_decay_updates)
    actor, actor_logs = gaussian.regress(networks.actor, state.actor, batch, weight, actor_lr, hyper.adam_eps)
    critic, critic_logs = _update_critic(networks, hyper, state.critic, batch, next_v)
    state = State(
        actor, value, critic, target_critic=optax.incremental_update(critic.params, state.target_critic, hyper.polyak)
    )
    return state, value_logs | actor_logs | critic_logs | {"v_mean": v.mean()}


def build(make_actor: Callable[..., Network], obs_dim: int, action_dim: int, plan: AgentPlan) -> Agent:
    networks = Networks(
        actor=make_actor(obs_dim, action_dim, plan.hidden_dim, plan.num_hidden),
        value=critics.value(obs_dim, plan),
        critic=critics.build(obs_dim, action_dim, plan).ensemble,
    )
    return Agent(
        init=functools.partial(init, networks),
        update=functools.partial(update, networks),
        act=lambda state, obs: gaussian.act(networks.actor, state.actor.params, obs),
        log_prob=lambda state, obs, action: gaussian.log_prob(networks.actor, state.actor.params, obs, action),
        batches_per_update=1,
    )


AGENTS.add("iql", AgentFamily(Hyper, functools.partial(build, mlp.gaussian_policy)))
AGENTS.add("iql_deterministic", AgentFamily(Hyper, functools.partial(build, mlp.unit_gaussian_policy)))
