"""Floating-point operations of agents by hand: matrix products only, two a multiply-add; the least that is needed.

Elementwise work (normalisation, Adam, noise) is left out, and so is every product that a compiler may share. Each count
is of one row of an update's batch. Where the actor moves with every second update, it is the mean over two.
"""

from collections.abc import Callable

from pgd_jax.agents import cql as cql_agent
from pgd_jax.agents.base import AgentPlan


def dense(in_dim: int, out_dim: int) -> int:
    """One row through one layer."""
    return 2 * in_dim * out_dim


def mlp(in_dim: int, out_dim: int, hidden_dim: int, num_hidden: int) -> int:
    """One row through networks/mlp.py."""
    return dense(in_dim, hidden_dim) + (num_hidden - 1) * dense(hidden_dim, hidden_dim) + dense(hidden_dim, out_dim)


class Products:
    """One row through each network of an agent, and back."""

    def __init__(self, obs_dim: int, action_dim: int, plan: AgentPlan, policy_outputs: int = 1):
        actor = (plan.hidden_dim, plan.num_hidden)
        critic = (plan.critic_hidden_dim or plan.hidden_dim, plan.critic_num_hidden or plan.num_hidden)
        self.num_critics = plan.num_critics
        self.actor = mlp(obs_dim, policy_outputs * action_dim, *actor)
        self.critic = mlp(obs_dim + action_dim, 1, *critic)
        self.value = mlp(obs_dim, 1, *critic)
        # Back to the parameters: two products a layer, one in the first, whose input is data.
        self.actor_gradient = 3 * self.actor - dense(obs_dim, actor[0])
        self.critic_gradient = 3 * self.critic - dense(obs_dim + action_dim, critic[0])
        self.value_gradient = 3 * self.value - dense(obs_dim, critic[0])

    @property
    def td(self) -> int:
        """The policy and the target critics in the next state, and the gradient of all critics."""
        return self.actor + self.num_critics * (self.critic + self.critic_gradient)

    def ascent(self, num_critics: int) -> int:
        """Of the actor through so many critics, without these critics' parameters."""
        return self.actor_gradient + 2 * num_critics * self.critic


def bc(obs_dim: int, action_dim: int, plan: AgentPlan) -> float:
    return Products(obs_dim, action_dim, plan).actor_gradient


def iql(obs_dim: int, action_dim: int, plan: AgentPlan) -> float:
    """The gradients of all losses, the target critics once, the new value twice."""
    of = Products(obs_dim, action_dim, plan)
    gradients = of.actor_gradient + of.value_gradient + of.num_critics * of.critic_gradient
    return gradients + of.num_critics * of.critic + 2 * of.value


def awac(obs_dim: int, action_dim: int, plan: AgentPlan) -> float:
    """For the weight, the new critics at two actions, one of them a sample."""
    of = Products(obs_dim, action_dim, plan)
    return of.td + of.actor_gradient + of.actor + 2 * of.num_critics * of.critic


def td3_bc(obs_dim: int, action_dim: int, plan: AgentPlan) -> float:
    of = Products(obs_dim, action_dim, plan)
    return of.td + of.ascent(1) / 2


def rebrac(obs_dim: int, action_dim: int, plan: AgentPlan) -> float:
    of = Products(obs_dim, action_dim, plan)
    return of.td + of.ascent(of.num_critics) / 2


def td3_awr(obs_dim: int, action_dim: int, plan: AgentPlan) -> float:
    of = Products(obs_dim, action_dim, plan)
    weight = of.num_critics * of.critic + of.value_gradient + of.value
    return of.td + (of.ascent(of.num_critics) + weight) / 2


def sac_n(obs_dim: int, action_dim: int, plan: AgentPlan) -> float:
    of = Products(obs_dim, action_dim, plan, policy_outputs=2)
    return of.td + of.ascent(of.num_critics)


def edac(obs_dim: int, action_dim: int, plan: AgentPlan) -> float:
    """SAC-N's, the way back from each critic to its action, and twice as much back through that: the way there is the
    TD error's, and ReLU's own derivative has none."""
    of = Products(obs_dim, action_dim, plan)
    return sac_n(obs_dim, action_dim, plan) + 3 * of.num_critics * of.critic


def cql(obs_dim: int, action_dim: int, plan: AgentPlan) -> float:
    """The policy in both states once for all its samples, and the critics' gradient at three times as many actions."""
    of = Products(obs_dim, action_dim, plan, policy_outputs=2)
    proposals = 2 * of.actor + 3 * cql_agent.NUM_ACTIONS * of.num_critics * of.critic_gradient
    return of.td + of.ascent(of.num_critics) + proposals


AGENTS: dict[str, Callable[[int, int, AgentPlan], float]] = {
    "bc": bc, "td3_bc": td3_bc, "rebrac": rebrac, "td3_awr": td3_awr, "iql": iql, "awac": awac, "cql": cql,
    "sac_n": sac_n, "edac": edac,
}  # fmt: skip
