"""Small offline MDPs whose values are known in closed form, and what each agent's own objective makes of them.

No agent aims at the optimal action alone: TD3+BC trades it against the data's mean, IQL re-weights the data. So an
agent is tested against the exact minimiser of its objective under the true values, found here by quadrature.
"""

from typing import NamedTuple

import numpy as np
import scipy.stats
from scipy.integrate import quad
from scipy.optimize import brentq, minimize_scalar

from pgd_jax.core.types import Transition

OPTIMAL_ACTION = 0.5
NUM_ACTIONS = 129


class Probe(NamedTuple):
    data: Transition  # numpy, [N, ...]
    discount: float


def _rows(obs, action, reward, next_obs, terminal, next_action=0.0) -> Transition:
    columns = np.broadcast_arrays(action, reward, terminal, next_action)
    action, reward, terminal, next_action = (np.asarray(column, np.float32) for column in columns)
    return Transition(np.float32(obs), action[:, None], reward, np.float32(next_obs), terminal, next_action[:, None])


def _join(*parts: Transition) -> Transition:
    return Transition(*(np.concatenate(columns) for columns in zip(*parts)))


def peak(x):
    """1 - (x - 1/2)^2, the reward of the two control probes."""
    return 1.0 - (x - OPTIMAL_ACTION) ** 2


def _midpoints(count: int) -> np.ndarray:
    return np.linspace(-1.0, 1.0, 2 * count + 1)[1::2]


def constant_reward(terminal: bool) -> Probe:
    """Reward 1 for ever, or once: every state and action is worth 1 / (1 - gamma) = 2, or 1.

    All actions in every state: an agent that lowers values of actions which a state lacks has nothing to lower.
    """
    obs, action = (x.ravel() for x in np.meshgrid(_midpoints(12), _midpoints(32)))
    return Probe(_rows(obs[:, None], action, 1.0, -obs[:, None], float(terminal), action[::-1]), discount=0.5)


def contextual_bandit() -> Probe:
    """Context s = -1 or 1, one action, reward peak(s a): the best action is s / 2, the data uniform over [-1, 1]."""
    action = np.linspace(-1.0, 1.0, NUM_ACTIONS)
    contexts = [np.full((NUM_ACTIONS, 1), s) for s in (-1.0, 1.0)]
    parts = [_rows(obs, action, peak(obs[:, 0] * action), obs, 1.0) for obs in contexts]
    return Probe(_join(*parts), discount=0.9)


def two_steps() -> Probe:
    """The first action, unrewarded, is the second state x, which pays peak(x) whatever the second action.

    obs = (step, x). So Q(first, a) = gamma peak(a): credit has to travel one step back.
    """
    action = np.linspace(-1.0, 1.0, NUM_ACTIONS)
    start, end = np.zeros((NUM_ACTIONS, 2)), np.stack([np.ones(NUM_ACTIONS), action], axis=1)
    idle = np.random.default_rng(0).permutation(action)
    first = _rows(start, action, 0.0, end, 0.0, next_action=idle)
    return Probe(_join(first, _rows(end, idle, peak(action), end, 1.0)), discount=0.9)


def td3_bc_action(scale: float, mean_abs_q, alpha: float = 2.5) -> float:
    """Minimiser of E (pi - a)^2 - lambda scale peak(pi) for actions a of mean 0, lambda = alpha / mean_abs_q(pi).

    Setting the derivative 2 pi + 2 lambda scale (pi - 1/2) to zero, with lambda held constant in it.
    """

    def slope(pi):
        return pi + alpha / mean_abs_q(pi) * scale * (pi - OPTIMAL_ACTION)

    return brentq(slope, 0.0, OPTIMAL_ACTION)


def td3_bc_bandit_action() -> float:
    return td3_bc_action(1.0, mean_abs_q=peak)


def two_steps_mean_abs_q(pi: float, discount: float = 0.9) -> float:
    """Half of a batch are first states, worth gamma peak(pi), half are second ones, worth peak(x) with x uniform."""
    return (discount * peak(pi) + quad(lambda x: abs(peak(x)) / 2.0, -1.0, 1.0)[0]) / 2.0


def td3_bc_two_steps_action(discount: float = 0.9) -> float:
    return td3_bc_action(discount, two_steps_mean_abs_q)


def td3_awr_action(scale: float, mean_abs_q, cloning: float, expectile: float = 0.7, temperature: float = 3.0) -> float:
    """Minimiser of E cloning w(a) (pi - a)^2 - scale peak(pi) / mean_abs_q(pi), a uniform, w by IQL's value.

    The derivative 2 cloning (E w pi - E w a) + 2 scale (pi - 1/2) / mean_abs_q(pi) is zero. ReBRAC's w is 1: it is
    TD3+BC's action with alpha = 1 / cloning.
    """
    value = scipy.stats.expectile(scale * peak(np.linspace(-1.0, 1.0, NUM_ACTIONS)), expectile)

    def moment(power):
        return quad(lambda a: a**power * np.exp(temperature * (scale * peak(a) - value)) / 2.0, -1.0, 1.0)[0]

    total, first = moment(0), moment(1)

    def slope(pi):
        return cloning * (total * pi - first) + scale * (pi - OPTIMAL_ACTION) / mean_abs_q(pi)

    return brentq(slope, 0.0, 1.0)


def iql_action(scale: float, temperature: float = 3.0) -> tuple[float, float]:
    """Mean and std of uniform actions weighted by exp(beta scale peak(a)): V cancels, no weight reaches 100."""

    def moment(power):
        return quad(lambda a: a**power * np.exp(temperature * scale * peak(a)), -1.0, 1.0)[0]

    mean = moment(1) / moment(0)
    return mean, np.sqrt(moment(2) / moment(0) - mean**2)


NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(64)
WEIGHTS = WEIGHTS / WEIGHTS.sum()  # of a standard normal


def squashed_entropy(mean: float, std: float) -> float:
    """Of tanh(u), u ~ N(mean, std^2): that of u and E log(1 - tanh(u)^2)."""
    log_slope = np.log1p(-(np.tanh(mean + std * NODES) ** 2))
    return np.log(std) + 0.5 * np.log(2.0 * np.pi * np.e) + WEIGHTS @ log_slope


def soft_action(entropy: float) -> float:
    """tanh(mean) of the squashed Gaussian of this entropy with the most E peak(a): what a learned temperature leads to.

    Any value that rises with peak has nearly the same, as the policy is narrow.
    """

    def loss(mean):
        std = brentq(lambda std: squashed_entropy(mean, std) - entropy, 1e-4, 0.5)
        return -WEIGHTS @ peak(np.tanh(mean + std * NODES))

    return np.tanh(minimize_scalar(loss, bounds=(0.0, 1.5)).x)


def soft_first_action(entropy: float) -> float:
    """Of the two steps' first states: in the second ones, the other half, the policy has all the entropy that it can.

    `entropy` is the target, the mean over both.
    """
    most = -minimize_scalar(lambda std: -squashed_entropy(0.0, std), bounds=(0.1, 2.0)).fun
    return soft_action(2.0 * entropy - most)


def conservative_errors(weight: float) -> tuple[float, float]:
    """(E (Q - r)^2, log int exp Q da - E Q) of CQL's critic in the bandit, whose actions are uniform.

    Q minimises E (Q - r)^2 + weight (log int exp Q da - E Q): Q(a) + weight / 2 (2 exp Q(a) / Z - 1) = r(a), with
    Z = int exp Q da. It rises with r, so that the best action is the same, and E Q = E r.
    """
    reward = peak(_midpoints(256))

    def value(log_z):
        return np.array([brentq(lambda q: q + weight * (np.exp(q - log_z) - 0.5) - r, -20.0, 20.0) for r in reward])

    log_z = brentq(lambda log_z: np.log(2.0 * np.exp(value(log_z)).mean()) - log_z, -3.0, 5.0)
    q = value(log_z)
    return ((q - reward) ** 2).mean(), log_z - q.mean()
