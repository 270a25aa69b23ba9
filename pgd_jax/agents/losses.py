"""The formulas that agents are made of: pure, over arrays, free of networks and state.

B is the batch, E the members of a critic ensemble, A the action dimensions. Rewards and values are in environment
units, actions in environment space.
"""

import chex
import jax
import jax.numpy as jnp
from jax.scipy import stats

from pgd_jax.core.hyper import Float


def td_target(reward: jax.Array, terminal: jax.Array, next_value: jax.Array, discount: Float) -> jax.Array:
    """r + gamma (1 - terminal) V(s'), all [...]; a terminal state has no future, a time limit has."""
    chex.assert_equal_shape([reward, terminal, next_value])
    return reward + discount * (1.0 - terminal) * next_value


def ensemble_td_loss(q: jax.Array, target: jax.Array) -> jax.Array:
    """Squared error of q [E, B] against one target [B]: batch mean, summed over members (TD3, Algorithm 1)."""
    chex.assert_equal_shape([q[0], target])
    return jnp.square(q - target[None]).mean(axis=1).sum()


def smoothing_noise(key: jax.Array, shape: tuple[int, ...], std: Float, limit: Float) -> jax.Array:
    """clip(N(0, std^2), -limit, limit): TD3's target policy smoothing (Fujimoto et al. 2018, Algorithm 1)."""
    return jnp.clip(std * jax.random.normal(key, shape), -limit, limit)


def behaviour_regularised_loss(q: jax.Array, action: jax.Array, data_action: jax.Array, alpha: Float) -> jax.Array:
    """TD3+BC's actor loss: mean (pi(s) - a)^2 - lambda mean Q(s, pi(s)), with lambda = alpha / mean |Q| held constant.

    Fujimoto & Gu 2021, section 5. As the released code has it: |Q| is averaged at the policy's actions, not the data's,
    and the squared distance over the action dimensions too.

    Args:
        q: [B] Q(s, pi(s)).
        action: [B, A] pi(s).
        data_action: [B, A] a.
        alpha: strength of the value term; 0 is behaviour cloning.
    """
    chex.assert_equal_shape([action, data_action])
    scale = jnp.maximum(jnp.abs(q).mean(), 1e-6)  # all-zero rewards and a critic that has learned them
    weight = jax.lax.stop_gradient(alpha / scale)
    return jnp.square(action - data_action).mean() - weight * q.mean()


def robust_behaviour_regularised_loss(
    q: jax.Array, action: jax.Array, data_action: jax.Array, weight: Float | jax.Array, q_weight: Float = 1.0
) -> jax.Array:
    """ReBRAC's actor loss: mean [weight |pi(s) - a|^2] - q_weight mean Q(s, pi(s)) / mean |Q|, which is held constant.

    Tarasov et al. 2023. Unlike in TD3+BC the weight is the data's, and the squared distance is summed over
    the action dimensions.

    Args:
        q: [B] Q(s, pi(s)).
        action: [B, A] pi(s).
        data_action: [B, A] a.
        weight: [] or [B], strength of the data.
        q_weight: strength of the value term.
    """
    chex.assert_equal_shape([action, data_action])
    scale = jax.lax.stop_gradient(jnp.maximum(jnp.abs(q).mean(), 1e-6))  # as in behaviour_regularised_loss
    return (weight * jnp.square(action - data_action).sum(axis=-1)).mean() - q_weight * q.mean() / scale


def expectile_loss(value: jax.Array, target: jax.Array, expectile: Float) -> jax.Array:
    """Mean of |expectile - 1(u < 0)| u^2 with u = target - value, both [B] (Kostrikov et al. 2021, equation 5).

    Its minimiser is the expectile of the targets: their mean at 0.5, towards their maximum as it goes to 1.
    """
    chex.assert_equal_shape([value, target])
    u = target - value
    return (jnp.where(u < 0.0, 1.0 - expectile, expectile) * jnp.square(u)).mean()


def advantage_weight(advantage: jax.Array, temperature: Float, limit: Float) -> jax.Array:
    """min(exp(temperature * advantage), limit) (Kostrikov et al. 2021, equation 7), with no overflow in exp."""
    return jnp.exp(jnp.minimum(temperature * advantage, jnp.log(limit)))


def gradient_similarity(gradient: jax.Array) -> jax.Array:
    """EDAC's penalty: cosines between members' gradients [E, B, A] of Q by the action, batch mean of their sum over
    pairs i != j, divided by E - 1.

    An et al. 2021, section 4. Of unit vectors u_i the sum is |sum_i u_i|^2 - sum_i |u_i|^2, whose cost is linear in E.
    It is E for equal gradients, and least, at -E / (E - 1), for those whose directions cancel out.
    """
    square = jnp.square(gradient).sum(axis=-1, keepdims=True)
    unit = gradient / jnp.sqrt(jnp.maximum(square, 1e-12))  # a member that is flat at an action has no direction
    pairs = jnp.square(unit.sum(axis=0)).sum(axis=-1) - jnp.square(unit).sum(axis=(0, -1))
    return pairs.mean() / max(gradient.shape[0] - 1, 1)


def conservative_gap(sampled: jax.Array, log_density: jax.Array, q: jax.Array) -> jax.Array:
    """CQL's penalty: log int exp Q(s, a) da - Q(s, a_data), batch mean, summed over members.

    Kumar et al. 2020, equation 4, whose integral is estimated by importance sampling (their appendix).

    Args:
        sampled: [E, S, B] Q(s, a) of sampled actions.
        log_density: [S, B] log of the density that each was drawn from.
        q: [E, B] Q(s, a) of the data's actions.
    """
    chex.assert_equal_shape([sampled[0], log_density])
    chex.assert_equal_shape([sampled[:, 0], q])
    log_integral = jax.nn.logsumexp(sampled - log_density[None], axis=1) - jnp.log(log_density.shape[0])
    return (log_integral - q).mean(axis=1).sum()


def gaussian_log_prob(action: jax.Array, mean: jax.Array, log_std: jax.Array) -> jax.Array:
    """log N(action; mean, exp(log_std)^2), summed over the last axis. All [..., A]; finite for any action."""
    chex.assert_equal_shape([action, mean, log_std])
    return stats.norm.logpdf(action, mean, jnp.exp(log_std)).sum(axis=-1)


def unit_gaussian_log_prob(action: jax.Array, mean: jax.Array) -> jax.Array:
    """log N(action; mean, 1) of a deterministic policy, which has no density: as in Policy-Guided Diffusion."""
    return gaussian_log_prob(action, mean, jnp.zeros_like(mean))
