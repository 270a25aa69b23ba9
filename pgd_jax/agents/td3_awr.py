"""TD3-AWR (Jackson et al. 2025, arXiv 2504.11453): ReBRAC whose cloning term is weighted by the advantage.

    pi, V, Q_1, Q_2 <- initial networks;  pi', Q'_1, Q'_2 <- copies of pi, Q_1, Q_2
    for each update:
        Q_1, Q_2 <- as ReBRAC's, from two batches                           (rebrac.py)
        q <- min_i Q'_i(s, a)                                               on the last batch (s, a)
        V <- Adam on |expectile - 1(q < V(s))| (q - V(s))^2                 IQL's value (Kostrikov et al. 2021, eq. 5)
        w <- min(exp(temperature (q - V(s))), 100)                          AWR's weight (ibid., eq. 7)
        p <- min_i Q_i(s, pi(s))
        pi <- Adam on beta_a w |pi(s) - a|^2 - c p / mean |p|
        pi', Q'_i <- (1 - tau) pi', Q'_i + tau pi, Q_i

The critic is ReBRAC's. The actor's loss is ReBRAC's with the cloning term weighted by the advantage: TD3 plus AWR, as
TD3+BC is TD3 plus BC. With q_weight c = 0 the actor is trained by advantage-weighted regression only. The paper tries
temperatures 0.5, 3 and 10 and expectiles 0.5, 0.7 and 0.9. V is updated first; the actor uses the new V, as in iql.py.

Networks, raw observations and rows are as in ReBRAC.
"""

import functools
from typing import NamedTuple

import jax
from flax import struct

from pgd_jax.agents import adam, critic as critics, losses, rebrac, td3
from pgd_jax.agents.base import AGENTS, Agent, AgentFamily, AgentPlan, Logs
from pgd_jax.core import ranges
from pgd_jax.core.hyper import Float, setting
from pgd_jax.core.types import Transition
from pgd_jax.networks.base import Network


@struct.dataclass
class Hyper(rebrac.Hyper):
    """ReBRAC's values. Temperature and expectile are the middle ones of those that the paper tries."""

    value_lr: Float = setting(1e-3, "Adam's learning rate for the value network", ranges.POSITIVE)
    expectile: Float = setting(0.7, "expectile of the value regression", ranges.WITHIN_0_AND_1)
    temperature: Float = setting(3.0, "inverse temperature of the advantage weights", ranges.NOT_NEGATIVE)
    max_weight: Float = setting(100.0, "upper limit of the advantage weights", ranges.POSITIVE)
    q_weight: Float = setting(1.0, "c, weight of the critic in the actor's loss", ranges.NOT_NEGATIVE)


@struct.dataclass
class State:
    td3: td3.State
    value: adam.Trained


class Networks(NamedTuple):
    td3: td3.Networks
    value: Network  # obs [..., O] -> [...]


def init(networks: Networks, key: jax.Array, hyper: Hyper) -> State:
    key_td3, key_value = jax.random.split(key)
    return State(td3.init(networks.td3, key_td3, hyper), adam.init(networks.value.init(key_value)))


def update(networks: Networks, key: jax.Array, state: State, batches: Transition, hyper: Hyper) -> tuple[State, Logs]:
    """Two critic updates, one value update and one actor update from batches [2, B, ...].

    Critic logs are means over the two updates.
    """
    targets = rebrac.td_targets(networks.td3, key, state.td3, batches, hyper)
    critic, critic_logs = td3.update_critic(networks.td3, state.td3.critic, batches, targets, hyper)
    batch = td3.last(batches)
    q = networks.td3.critic.apply(state.td3.target_critic, batch.obs, batch.action).min(axis=0)
    value, value_logs = critics.step_value(
        networks.value, state.value, batch.obs, q, hyper.expectile, hyper.value_lr, hyper.adam_eps
    )
    v = networks.value.apply(value.params, batch.obs)
    weight = losses.advantage_weight(q - v, hyper.temperature, hyper.max_weight)
    actor, actor_logs = rebrac.update_actor(
        networks.td3, hyper, state.td3.actor, critic.params, batch, hyper.actor_bc * weight, hyper.q_weight
    )
    own_logs = {"v_mean": v.mean(), "advantage_weight": weight.mean()}
    moved = td3.moved(state.td3, actor, critic, hyper)
    return State(moved, value), actor_logs | value_logs | critic_logs | own_logs


def act(networks: Networks, state: State, obs: jax.Array) -> jax.Array:
    return td3.act(networks.td3, state.td3, obs)


def log_prob(networks: Networks, state: State, obs: jax.Array, action: jax.Array) -> jax.Array:
    """log N(action; pi(s), 1) [...]."""
    return td3.log_prob(networks.td3, state.td3, obs, action)


def build(obs_dim: int, action_dim: int, plan: AgentPlan) -> Agent:
    networks = Networks(
        td3.networks(obs_dim, action_dim, plan, rebrac.ACTOR_START, rebrac.CRITIC_START),
        critics.value(obs_dim, plan, rebrac.CRITIC_START),
    )
    return Agent(
        init=functools.partial(init, networks),
        update=functools.partial(update, networks),
        act=functools.partial(act, networks),
        log_prob=functools.partial(log_prob, networks),
        batches_per_update=td3.CRITIC_UPDATES_PER_ACTOR_UPDATE,
        needs_next_action=True,
    )


AGENTS.add("td3_awr", AgentFamily(Hyper, build, rebrac.PLAN, sees_raw_obs=True))
