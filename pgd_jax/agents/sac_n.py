"""SAC-N (An et al. 2021, arXiv 2110.01548): SAC on data alone, its values the least of many critics.

    pi, Q_1 .. Q_N <- initial networks;  Q'_1 .. Q'_N <- copies of Q_1 .. Q_N;  alpha <- 1
    for each update, on one batch (s, a, r, s', terminal):
        a' ~ pi(s')
        y <- r + gamma (1 - terminal) (min_i Q'_i(s', a') - alpha log pi(a' | s'))
        Q_i <- Adam on (Q_i(s, a) - y)^2, i = 1 .. N
        b ~ pi(s)
        pi <- Adam on alpha log pi(b | s) - min_i Q_i(s, b)
        alpha <- Adam on -alpha (log pi(b | s) + target entropy), in log alpha
        Q'_i <- (1 - tau) Q'_i + tau Q_i

Algorithm 1 of the paper (its EDAC without the penalty): all of it is sac.py's. Actions that the data lack are where the
critics differ, so the minimum is pessimistic there; N is chosen by dataset: preset "sac_n_d4rl". The released code
makes the three losses of one and the same old networks; here, as in the algorithm, pi's is of the new critics.

Networks are 3 x 256 and start as the released code's. Observations are raw, as the environment shows them.
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
