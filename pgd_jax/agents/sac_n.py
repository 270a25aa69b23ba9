"""SAC-N (An et al. 2021, arXiv 2110.01548): SAC on offline data, with the minimum of many critics.

    pi, Q_1 .. Q_N <- initial networks;  Q'_1 .. Q'_N <- copies of Q_1 .. Q_N;  alpha <- 1
    for each update, on one batch (s, a, r, s', terminal):
        a' ~ pi(s')
        y <- r + gamma (1 - terminal) (min_i Q'_i(s', a') - alpha log pi(a' | s'))
        Q_i <- Adam on (Q_i(s, a) - y)^2, i = 1 .. N
        b ~ pi(s)
        pi <- Adam on alpha log pi(b | s) - min_i Q_i(s, b)
        alpha <- Adam on -alpha (log pi(b | s) + target entropy), in log alpha
        Q'_i <- (1 - tau) Q'_i + tau Q_i

Algorithm 1 of the paper is EDAC; SAC-N is the same without the penalty. The code is in sac.py. Critics disagree at
actions that the data lack, so the minimum is pessimistic there. N depends on the dataset: preset "sac_n_d4rl". The
released code computes all three losses with the old networks. Here, as in the algorithm, the loss of pi uses the new
critics.

Networks are 3 x 256, initialised as in the released code. Observations are raw, not standardised.
"""

from pgd_jax.agents import sac
from pgd_jax.agents.base import AGENTS, Agent, AgentFamily, AgentPlan
from pgd_jax.networks import mlp

PLAN = AgentPlan(hidden_dim=256, num_hidden=3, num_critics=10)
LOG_STD_MIN = -5.0
ACTOR_START, CRITIC_START = mlp.Start(bias=0.1, last=1e-3), mlp.Start(bias=0.1, last=3e-3)


def build_networks(obs_dim: int, action_dim: int, plan: AgentPlan) -> sac.Networks:
    return sac.build_networks(obs_dim, action_dim, plan, LOG_STD_MIN, ACTOR_START, CRITIC_START)


def build(obs_dim: int, action_dim: int, plan: AgentPlan) -> Agent:
    return sac.offline(build_networks(obs_dim, action_dim, plan))


AGENTS.add("sac_n", AgentFamily(sac.Hyper, build, PLAN, sees_raw_obs=True))
