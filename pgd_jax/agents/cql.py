"""CQL, conservative Q-learning (Kumar et al. 2020, arXiv 2006.04779): SAC with critics that are low off the data.

    pi, Q_1, Q_2 <- initial networks;  Q'_1, Q'_2 <- copies of Q_1, Q_2;  beta <- 1
    for each update, on one batch (s, a, r, s', terminal):
        a' ~ pi(s')
        y <- r + gamma (1 - terminal) min_i Q'_i(s', a')
        c_1 .. c_3n <- n actions each from the uniform distribution, from pi(s) and from pi(s');  p_j <- density of c_j
        Q_i <- Adam on (Q_i(s, a) - y)^2 + alpha (log mean_j exp(Q_i(s, c_j)) / p_j - Q_i(s, a)), i = 1, 2
        b ~ pi(s)
        pi <- Adam on beta log pi(b | s) - min_i Q_i(s, b)
        beta <- Adam on -beta (log pi(b | s) + target entropy), in log beta
        Q'_i <- (1 - tau) Q'_i + tau Q_i

This is CQL(H), equation 4. Importance sampling estimates log int exp Q(s, c) dc. alpha is constant: there is no
Lagrange multiplier. It stands beside the whole TD error, where equation 4 has half of it: alpha 10 here is 5 there. The
target has no entropy term, as in the code behind the published D4RL scores. Actions of pi(s') are proposals for the
integral in s, also where s' is terminal.

Networks are 3 x 256. Observations are standardised. Public code initialises networks with orthogonal matrices and the
log std at -1; here they start as PyTorch's linear layers do.
"""

import functools

import jax
import jax.numpy as jnp
from flax import struct

from pgd_jax.agents import adam, critic as critics, losses, sac, squashed
from pgd_jax.agents.base import AGENTS, Agent, AgentFamily, AgentPlan, Logs
from pgd_jax.core import ranges
from pgd_jax.core.hyper import Float, setting
from pgd_jax.core.types import Params, Transition

PLAN = AgentPlan(hidden_dim=256, num_hidden=3)
NUM_ACTIONS = 10  # n


@struct.dataclass
class Hyper(sac.Hyper):
    """Values behind the published D4RL scores for locomotion."""

    actor_lr: Float = setting(3e-5, "Adam's learning rate for the actor", ranges.POSITIVE)
    temperature_lr: Float = setting(3e-5, "Adam's learning rate for the entropy weight", ranges.POSITIVE)
    conservatism: Float = setting(
        10.0, "alpha, weight of the penalty that lowers the critics away from the data", ranges.NOT_NEGATIVE
    )


def proposals(networks: sac.Networks, key: jax.Array, actor: Params, batch: Transition) -> tuple[jax.Array, jax.Array]:
    """Sampled actions [3 n, B, A], and the log of the density that each was drawn from [3 n, B]."""
    key_uniform, key_current, key_next = jax.random.split(key, 3)
    sample = functools.partial(squashed.sample, networks.actor, actor, sample_shape=(NUM_ACTIONS,))
    current, next_ = sample(batch.obs, key_current), sample(batch.next_obs, key_next)
    uniform = jax.random.uniform(key_uniform, current[0].shape, minval=-1.0, maxval=1.0)
    of_uniform = jnp.full_like(current[1], -batch.action.shape[-1] * jnp.log(2.0))
    return jnp.concatenate([uniform, current[0], next_[0]]), jnp.concatenate([of_uniform, current[1], next_[1]])


def td_target(networks: sac.Networks, key: jax.Array, state: sac.State, batch: Transition, hyper: Hyper) -> jax.Array:
    """The TD target y [B], without an entropy term."""
    next_action, _ = squashed.sample(networks.actor, state.actor.params, batch.next_obs, key)
    next_value = networks.critic.apply(state.target_critic, batch.next_obs, next_action).min(axis=0)
    return losses.td_target(batch.reward, batch.terminal, next_value, hyper.discount)


def update_critic(
    networks: sac.Networks, key: jax.Array, state: sac.State, batch: Transition, hyper: Hyper
) -> tuple[adam.Trained, Logs]:
    key_target, key_proposals = jax.random.split(key)
    target = td_target(networks, key_target, state, batch, hyper)
    action, log_density = proposals(networks, key_proposals, state.actor.params, batch)
    obs = jnp.broadcast_to(batch.obs, (*action.shape[:-1], batch.obs.shape[-1]))

    def penalty(params: Params, q: jax.Array) -> tuple[jax.Array, Logs]:
        gap = losses.conservative_gap(networks.critic.apply(params, obs, action), log_density, q)
        return hyper.conservatism * gap, {"conservative_gap": gap}

    return critics.step(networks.critic, state.critic, batch, target, hyper.critic_lr, hyper.adam_eps, penalty)


def build(obs_dim: int, action_dim: int, plan: AgentPlan) -> Agent:
    return sac.offline(sac.build_networks(obs_dim, action_dim, plan), update_critic)


AGENTS.add("cql", AgentFamily(Hyper, build, PLAN))
