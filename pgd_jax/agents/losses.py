"""The loss formulas of the agents: pure functions of arrays, without networks or state.

B is the batch size, E the number of critics in an ensemble, A the number of action dimensions. Rewards and values are
in environment units, actions in environment space.
"""

import chex
import jax
import jax.numpy as jnp
from jax.scipy import stats

from pgd_jax.core.hyper import Float


def td_target(reward: jax.Array, terminal: jax.Array, next_value: jax.Array, discount: Float) -> jax.Array:
    """r + gamma (1 - terminal) V(s'), all [...]. `terminal` is 1 where the MDP ended, and 0 at a time limit."""
    chex.assert_equal_shape([reward, terminal, next_value])
    return reward + discount * (1.0 - terminal) * next_value


def ensemble_td_loss(q: jax.Array, target: jax.Array) -> jax.Array:
    """Squared error of q [E, B] against target [B]: mean over the batch, sum over members (TD3, Algorithm 1)."""
    chex.assert_equal_shape([q[0], target])
    return jnp.square(q - target[None]).mean(axis=1).sum()


def smoothing_noise(key: jax.Array, shape: tuple[int, ...], std: Float, limit: Float) -> jax.Array:
    """clip(N(0, std^2), -limit, limit): TD3's target policy smoothing (Fujimoto et al. 2018, Algorithm 1)."""
    return jnp.clip(std * jax.random.normal(key, shape), -limit, limit)


def behaviour_regularised_loss(q: jax.Array, action: jax.Array, data_action: jax.Array, alpha: Float) -> jax.Array:
    """TD3+BC's actor loss: mean (pi(s) - a)^2 - lambda mean Q(s, pi(s)), with lambda = alpha / mean |Q| held constant.

    Fujimoto & Gu 2021, section 5. As in the released code, |Q| is averaged at the policy's actions, not the data's. The
    squared distance is a mean over the batch and over the action dimensions.

    Args:
        q: [B] Q(s, pi(s)).
        action: [B, A] pi(s).
        data_action: [B, A] a.
        alpha: strength of the value term; 0 is behaviour cloning.
    """
    chex.assert_equal_shape([action, data_action])
    scale = jnp.maximum(jnp.abs(q).mean(), 1e-6)  # with all-zero rewards a trained critic is 0 everywhere
    weight = jax.lax.stop_gradient(alpha / scale)
    return jnp.square(action - data_action).mean() - weight * q.mean()


def robust_behaviour_regularised_loss(
    q: jax.Array, action: jax.Array, data_action: jax.Array, weight: Float | jax.Array, q_weight: Float = 1.0
) -> jax.Array:
    """ReBRAC's actor loss: mean [weight |pi(s) - a|^2] - q_weight mean Q(s, pi(s)) / mean |Q|, mean |Q| held constant.

    Tarasov et al. 2023. Two things differ from TD3+BC: the weight multiplies the cloning term, and the squared distance
    is a sum over the action dimensions.

    Args:
        q: [B] Q(s, pi(s)).
        action: [B, A] pi(s).
        data_action: [B, A] a.
        weight: [] or [B], weight of the cloning term.
        q_weight: weight of the value term.
    """
    chex.assert_equal_shape([action, data_action])
    scale = jax.lax.stop_gradient(jnp.maximum(jnp.abs(q).mean(), 1e-6))  # as in behaviour_regularised_loss
    return (weight * jnp.square(action - data_action).sum(axis=-1)).mean() - q_weight * q.mean() / scale


def expectile_loss(value: jax.Array, target: jax.Array, expectile: Float) -> jax.Array:
    """Mean of |expectile - 1(u < 0)| u^2 with u = target - value, both [B] (Kostrikov et al. 2021, equation 5).

    Its minimiser is the expectile of the targets: at 0.5 their mean; towards 1 it approaches their maximum.
    """
    chex.assert_equal_shape([value, target])
    u = target - value
    return (jnp.where(u < 0.0, 1.0 - expectile, expectile) * jnp.square(u)).mean()


def advantage_weight(advantage: jax.Array, temperature: Float, limit: Float) -> jax.Array:
    """min(exp(temperature * advantage), limit), without overflow in exp (Kostrikov et al. 2021, equation 7)."""
    return jnp.exp(jnp.minimum(temperature * advantage, jnp.log(limit)))


def gradient_similarity(gradient: jax.Array) -> jax.Array:
    """EDAC's penalty [], from the members' action gradients dQ/da [E, B, A] (An et al. 2021, section 4).

    It is the sum of the cosines between the gradients of members i != j, divided by E - 1: mean over the batch. For
    unit vectors u_i the sum is |sum_i u_i|^2 - sum_i |u_i|^2, whose cost is linear in E. The penalty is E for equal
    gradients. Its minimum is -E / (E - 1), for gradients whose directions cancel out.
    """
    square = jnp.square(gradient).sum(axis=-1, keepdims=True)
    unit = gradient / jnp.sqrt(jnp.maximum(square, 1e-12))  # a zero gradient has no direction
    pairs = jnp.square(unit.sum(axis=0)).sum(axis=-1) - jnp.square(unit).sum(axis=(0, -1))
    return pairs.mean() / max(gradient.shape[0] - 1, 1)


def conservative_gap(sampled: jax.Array, log_density: jax.Array, q: jax.Array) -> jax.Array:
    """CQL's penalty []: log int exp Q(s, a) da - Q(s, a_data), mean over the batch, sum over members.

    Kumar et al. 2020, equation 4. Importance sampling estimates the integral (their appendix).

    Args:
        sampled: [E, S, B] Q(s, a) at S sampled actions.
        log_density: [S, B] log of the density that each action was drawn from.
        q: [E, B] Q(s, a) at the data's actions.
    """
    chex.assert_equal_shape([sampled[0], log_density])
    chex.assert_equal_shape([sampled[:, 0], q])
    log_integral = jax.nn.logsumexp(sampled - log_density[None], axis=1) - jnp.log(log_density.shape[0])
    return (log_integral - q).mean(axis=1).sum()


def gaussian_log_prob(action: jax.Array, mean: jax.Array, log_std: jax.Array) -> jax.Array:
    """log N(action; mean, exp(log_std)^2) [...], a sum over the last axis of [..., A]. Finite for any action."""
    chex.assert_equal_shape([action, mean, log_std])
    return stats.norm.logpdf(action, mean, jnp.exp(log_std)).sum(axis=-1)


def unit_gaussian_log_prob(action: jax.Array, mean: jax.Array) -> jax.Array:
    """log N(action; mean, 1) [...]: what Policy-Guided Diffusion takes as the density of a deterministic policy."""
    return gaussian_log_prob(action, mean, jnp.zeros_like(mean))
