"""Quality of generated windows: on-policy likelihood, dynamics error, distance to the data, diversity, possible states.

Log-likelihood and dynamics error are the measures of PGD (arXiv 2404.06356). The others find faults that these two
miss: many copies of one data window have no dynamics error, and a reward can be wrong although the motion is right. A
row counts if its transition is *valid* (`normalizers.to_transitions`). Values are f32[] unless a shape is given.

log_likelihood            mean over valid rows of log pi(a|s): per action
wasserstein               mean over columns of wasserstein_by_column
wasserstein_by_column     f32[D] 1-Wasserstein distance of the marginals in network space: in standard deviations of the
                          data. It is over all rows of the windows, valid or not, because a denoiser learns whole
                          windows: rows that it generates after an early terminal count too
mmd, diversity, nearest_distance   of whole windows, also in standard deviations: `distances.of_windows`
unreachable_share         share of valid rows whose observation the environment can never show; 0 if unknown
early_terminal_share      share of windows with a terminal before their last row. The reference has no such windows;
                          training windows past the end (`DataConfig.past_end`) are such windows
impossible_share          share of all M * T rows whose observation is unreachable, or that are at or after their
                          window's first early terminal

For the first windows, if the environment can be put into the state that shows an observation:

dynamics_error            mean squared error of the next observation (`dynamics_error.errors`)
dynamics_error_reachable  the same over rows in reachable states
dynamics_error_median     median over windows of a window's mean error; windows without a measured row are left out
dynamics_error_by_position   f32[T - 1] the same for each row of a window
reward_error, reward_error_by_position   mean squared error of the reward, over the same rows; the latter f32[T - 1]
dynamics_defined_share    share of valid rows that are not terminal for which the simulator's values are finite

A mean over no rows is 0.
"""

import functools
from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

from pgd_jax.core.types import LogProb, Normalizer, Transition
from pgd_jax.data import normalizer as normalizers
from pgd_jax.envs.base import EvalEnv
from pgd_jax.measures import distances, dynamics

Measures = dict[str, jax.Array]
RewardOf = Callable[[jax.Array], jax.Array]  # obs f32[O], environment space -> f32[]


def measure(
    windows: jax.Array,
    log_prob: LogProb,
    normalizer: Normalizer,
    env: EvalEnv | None,
    reference: jax.Array,
    dynamics_windows: int,
    reward_of: RewardOf | None = None,
) -> Measures:
    """The module's measures of generated windows f32[M, T, D] against real ones, reference f32[R, T, D].

    Both are independent draws in network space, 2 or more of each. Three arguments are static: `env`;
    `dynamics_windows`, the number of windows that the simulator steps; and `reward_of`, the environment's reward of an
    observation, or None. An environment pays for obs[t + 1], but some files pay for obs[t], such as D4RL's maze2d. With
    `reward_of`, rewards are compared by the rule that the reference follows.
    """
    chex.assert_equal_shape_suffix([windows, reference], 2)
    rows, valid = normalizers.to_transitions(normalizer, windows)
    reachable = dynamics.is_reachable(env, normalizers.decode_obs(normalizer, rows.obs))
    log_likelihood = jnp.where(valid, log_prob(rows.obs, rows.action), 0.0)
    in_std = functools.partial(normalizers.standardised, normalizer)
    apart = distances.wasserstein(*(in_std(x).reshape(-1, normalizer.layout.dim) for x in (windows, reference)))
    measures = {
        "log_likelihood": jnp.sum(log_likelihood) / jnp.sum(valid.astype(jnp.float32)),
        "wasserstein": jnp.mean(apart),
        "wasserstein_by_column": apart,
    }
    measures |= distances.of_windows(in_std(windows), in_std(reference)) | _impossible(rows, valid, reachable)
    if env is None or env.from_obs is None or not dynamics_windows:
        return measures
    # The last row of a window has no successor.
    rows, valid, reachable = jax.tree.map(lambda leaf: leaf[:dynamics_windows, :-1], (rows, valid, reachable))
    return measures | _untrue(rows, valid, reachable, normalizer, env, held_to(reward_of, normalizer, reference))


def _impossible(rows: Transition, valid: jax.Array, reachable: jax.Array) -> Measures:
    """rows, valid and reachable [M, T]."""
    early = jnp.cumsum(rows.terminal[:, :-1], axis=1) > 0.0
    over = jnp.concatenate([early, early[:, -1:]], axis=1)
    return {
        "unreachable_share": _mean((~reachable).astype(jnp.float32), valid.astype(jnp.float32)),
        "early_terminal_share": jnp.mean(early[:, -1].astype(jnp.float32)),
        "impossible_share": jnp.mean((over | ~reachable).astype(jnp.float32)),
    }


def _untrue(
    rows: Transition,
    valid: jax.Array,
    reachable: jax.Array,
    normalizer: Normalizer,
    env: EvalEnv,
    due: Callable[[jax.Array, jax.Array], jax.Array],
) -> Measures:
    """rows, valid and reachable are [K, T - 1]; `due` gives the true rewards, as `held_to` returns it."""
    obs = normalizers.decode_obs(normalizer, rows.obs)
    next_obs, reward = dynamics.steps(env, obs, rows.action)
    obs_error, reward_error, weight = dynamics.errors(normalizer, rows, valid, next_obs, due(obs, reward))
    asked = valid.astype(jnp.float32) * (1.0 - rows.terminal)
    return {
        "dynamics_error": _mean(obs_error, weight),
        "dynamics_error_reachable": _mean(obs_error, weight * reachable.astype(jnp.float32)),
        "dynamics_error_median": _median(_mean(obs_error, weight, axis=1), jnp.sum(weight, axis=1) > 0.0),
        "dynamics_error_by_position": _mean(obs_error, weight, axis=0),
        "reward_error": _mean(reward_error, weight),
        "reward_error_by_position": _mean(reward_error, weight, axis=0),
        "dynamics_defined_share": _mean(weight, asked),
    }


def held_to(
    reward_of: RewardOf | None, normalizer: Normalizer, reference: jax.Array
) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """(obs f32[..., O], environment's reward f32[...] of the step from obs) -> the true reward by the data's own rule.

    Files of one task may pay for obs[t] or for obs[t + 1]: D4RL's were relabelled by obs[t], those recorded here were
    not. The reference f32[R, T, D] decides; in a tie the environment's rule holds.
    """
    if reward_of is None:
        return lambda obs, reward: reward
    paid_at = jax.vmap(jax.vmap(reward_of))
    rows = normalizers.decode(normalizer, reference)
    paid, due = rows[..., :-1, normalizer.layout.reward], paid_at(rows[..., normalizer.layout.obs])
    is_of_obs = jnp.sum((paid - due[:, :-1]) ** 2) < jnp.sum((paid - due[:, 1:]) ** 2)
    return lambda obs, reward: jnp.where(is_of_obs, paid_at(obs), reward)


def _mean(values: jax.Array, weight: jax.Array, axis: int | None = None) -> jax.Array:
    """The mean with weights 0 and 1; 0 if all weights are 0. A window of one terminal row must not stop the run."""
    return jnp.sum(weight * values, axis) / jnp.maximum(jnp.sum(weight, axis), 1.0)


def _median(values: jax.Array, counts: jax.Array) -> jax.Array:
    """The median of the values f32[N] where `counts` bool[N] is true; 0 if none is."""
    ordered, num = jnp.sort(jnp.where(counts, values, jnp.inf)), jnp.sum(counts, dtype=jnp.int32)
    middle = 0.5 * (ordered[jnp.maximum(num - 1, 0) // 2] + ordered[num // 2])
    return jnp.where(num > 0, middle, 0.0)
