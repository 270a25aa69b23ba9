"""The published updates of the agents that are SAC but for their critics, as those of transcriptions.py."""

import jax
import numpy as np
import scipy.special

from tests.parity.networks import action_gradient, adam, critics, members, min_q, squashed, together
from tests.parity.transcriptions import bootstrap, targets_follow

SAC_LOW, EDAC_LOW = -20.0, -5.0  # of log std


def soft_target(nets, b, noise, h, low):
    """r + gamma (min_i Q'_i(s', a') - alpha log pi(a' | s')) (Haarnoja et al. 2018, equations 3 and 5)."""
    a, log_prob, _ = squashed(nets["actor"].theta, b["next_obs"], noise, low)
    q = min_q(nets["target_critic"].theta, b["next_obs"], a)
    return bootstrap(b, q - np.exp(nets["log_temperature"].theta) * log_prob, h)


def actor_and_temperature(nets, b, noise, h, low):
    """min alpha log pi(a | s) - min_i Q_i(s, a), and min -alpha (log pi(a | s) + target entropy) in log alpha."""
    alpha = np.exp(nets["log_temperature"].theta)
    a, log_prob, backward = squashed(nets["actor"].theta, b["obs"], noise, low)
    q, of_q = critics(nets["critic"].theta, b["obs"], a)
    is_least = np.arange(len(q))[:, None] == q.argmin(axis=0)
    grad = backward(of_q(is_least / -len(a))[1], np.full(len(a), alpha / len(a)))
    of_log_alpha = -alpha * (log_prob.mean() + h["entropy_per_action_dim"] * a.shape[1])
    return nets | {
        "actor": adam(nets["actor"], grad, h["actor_lr"], h["adam_eps"]),
        "log_temperature": adam(nets["log_temperature"], of_log_alpha, h["temperature_lr"], h["adam_eps"]),
    }


def fit(nets, b, y, noise, h, low, penalty=None):
    """Critics down the sum of mean squared errors and what else there is, actor, temperature, targets."""
    q, backward = critics(nets["critic"].theta, b["obs"], b["action"])
    grad = backward(2.0 * (q - y) / len(y))[0]
    if penalty is not None:
        grad = jax.tree.map(np.add, grad, penalty)
    critic = adam(nets["critic"], grad, h["critic_lr"], h["adam_eps"])
    return targets_follow(actor_and_temperature(nets | {"critic": critic}, b, noise["actor"], h, low), h)


def sac_n(nets, batches, noise, h):
    """An et al. 2021, Algorithm 1 without the penalty."""
    (b,) = batches
    return fit(nets, b, soft_target(nets, b, noise["critic"], h, EDAC_LOW), noise, h, EDAC_LOW)


def edac(nets, batches, noise, h):
    """An et al. 2021, Algorithm 1: eta / (N - 1) sum_{i != j} <u_i, u_j> of unit vectors u_i = g_i / |g_i|.

    du/dg = (1 - u u^T) / |g|.
    """
    (b,), theta = batches, nets["critic"].theta
    each = [action_gradient(member, b["obs"], b["action"]) for member in members(theta)]
    g = np.stack([gradient for gradient, _ in each])
    norm = np.sqrt((g**2).sum(axis=-1, keepdims=True))
    u = g / norm
    of_u = 2.0 * h["diversity"] / (len(u) - 1) / len(b["obs"]) * (u.sum(axis=0) - u)
    of_g = (of_u - u * (u * of_u).sum(axis=-1, keepdims=True)) / norm
    penalty = together([backward(grad) for (_, backward), grad in zip(each, of_g, strict=True)])
    return fit(nets, b, soft_target(nets, b, noise["critic"], h, EDAC_LOW), noise, h, EDAC_LOW, penalty)


def cql(nets, batches, noise, h):
    """Kumar et al. 2020, equation 4, with the integral by importance sampling and no entropy in the target."""
    (b,), actor, theta = batches, nets["actor"].theta, nets["critic"].theta
    current, next_ = (squashed(actor, b[s], noise[s], SAC_LOW)[:2] for s in ("obs", "next_obs"))
    density = [np.full(current[1].shape, -np.log(2.0) * b["action"].shape[1]), current[1], next_[1]]
    a, log_density = np.concatenate([noise["uniform"], current[0], next_[0]]), np.concatenate(density)
    q, backward = critics(theta, np.tile(b["obs"], (len(a), 1)), a.reshape(-1, a.shape[-1]))
    ratio = q.reshape(len(q), *a.shape[:2]) - log_density
    weight = h["conservatism"] / len(b["obs"])
    up = backward(weight * scipy.special.softmax(ratio, axis=1).reshape(len(q), -1))[0]
    of_data = critics(theta, b["obs"], b["action"])[1]
    down = of_data(np.full((len(q), len(b["obs"])), -weight))[0]
    a_next, _, _ = squashed(actor, b["next_obs"], noise["critic"], SAC_LOW)
    y = bootstrap(b, min_q(nets["target_critic"].theta, b["next_obs"], a_next), h)
    return fit(nets, b, y, noise, h, SAC_LOW, jax.tree.map(np.add, up, down))
