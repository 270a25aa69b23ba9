"""EDAC, ensemble-diversified actor-critic (An et al. 2021, arXiv 2110.01548): SAC-N with a penalty for alike critics.

    as SAC-N, except for
        g_i <- grad_a Q_i(s, a),  u_i <- g_i / |g_i|,  i = 1 .. N
        Q_i <- Adam on sum_i (Q_i(s, a) - y)^2 + eta / (N - 1) sum_{i != j} <u_i, u_j>

Algorithm 1 of the paper. The penalty turns the critics' action gradients apart, so that they disagree next to the
data's actions. A small ensemble is then as pessimistic as a large one without the penalty. N and eta depend on the
dataset: preset "edac_d4rl". The sum has all pairs; the released code draws min(N, A) of the critics for each update.

Everything else is as in SAC-N (sac_n.py), also the networks and the raw observations.
"""

import functools

import jax
from flax import struct

from pgd_jax.agents import adam, critic as critics, losses, sac, sac_n
from pgd_jax.agents.base import AGENTS, Agent, AgentFamily, AgentPlan, Logs
from pgd_jax.core import ranges
from pgd_jax.core.hyper import Float, setting
from pgd_jax.core.types import Params, Transition
from pgd_jax.networks.base import Network


@struct.dataclass
class Hyper(sac.Hyper):
    """Published values for most locomotion tasks."""

    diversity: Float = setting(
        1.0, "eta, weight of the penalty for critics with similar action gradients", ranges.NOT_NEGATIVE
    )


def update_critic(
    member: Network, networks: sac.Networks, key: jax.Array, state: sac.State, batch: Transition, hyper: Hyper
) -> tuple[adam.Trained, Logs]:
    """As sac.update_critic, with EDAC's penalty. `member` is one critic of the ensemble."""
    action_gradient = jax.grad(lambda action, params: member.apply(params, batch.obs, action).sum())

    def penalty(params: Params, q: jax.Array) -> tuple[jax.Array, Logs]:
        action = batch.action.astype(q.dtype)  # a gradient has the dtype of the variable it is taken with respect to
        gradient = jax.vmap(functools.partial(action_gradient, action))(params)
        similarity = losses.gradient_similarity(gradient)
        return hyper.diversity * similarity, {"gradient_similarity": similarity}

    target = sac.td_target(networks, key, state, batch, hyper)
    return critics.step(networks.critic, state.critic, batch, target, hyper.critic_lr, hyper.adam_eps, penalty)


def build(obs_dim: int, action_dim: int, plan: AgentPlan) -> Agent:
    member = critics.build(obs_dim, action_dim, plan).member
    networks = sac_n.build_networks(obs_dim, action_dim, plan)
    return sac.offline(networks, functools.partial(update_critic, member))


AGENTS.add("edac", AgentFamily(Hyper, build, sac_n.PLAN, sees_raw_obs=True))
