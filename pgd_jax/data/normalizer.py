"""Environment space <-> network space of trajectory rows (obs | action | reward | terminal).

Every column is standardised with dataset statistics. Before that, actions are clipped to +-0.999 and taken through
arctanh, so that tanh maps every generated action back to a legal one (PGD, arXiv 2404.06356).

A reward or terminal with only two values is a decision that follows from states and actions. A sampler that removes
noise settles large columns first, so such a column is shrunk until its two values are `flag_gap` apart: states and
actions are then settled before it.

Everything except `fit` is pure and takes any leading axes.
"""

from collections.abc import Iterator

import chex
import jax
import jax.numpy as jnp
import numpy as np

from pgd_jax.core.types import Layout, Normalizer, Transition

ACTION_LIMIT = 0.999  # arctanh(1) is infinite; D4RL actions touch +-1
TERMINAL_THRESHOLD = 0.5

# The std of a constant column, relative to its value (or to 1 if that is 0): its own standard deviation is 0.
CONSTANT_STD = 1e-3
# Lowest std of the terminal column, which has no unit. Without it, a flag set in one of 10^8 rows would become 10^4.
TERMINAL_STD_FLOOR = 1e-3

ROWS_PER_BLOCK = 8_192  # rows that are float64 at once


def fit(
    rows: np.ndarray,
    layout: Layout,
    squash: bool = True,
    occurrences: np.ndarray | None = None,
    flag_gap: float = 0.0,
) -> Normalizer:
    """Statistics of rows f32[N, D] in environment space, computed in float64 on the host and stored as float32.

    Row i counts `occurrences[i]` times (int[N]; None: once each): sigma_data = 1 holds for training windows only if the
    statistics are those of the windows. `squash=False` only standardises actions, which keeps Gaussian test worlds
    Gaussian. `flag_gap` is the distance in network space between the two values of a reward or terminal that takes only
    two; 0: standard deviation 1, as every other column.

    The rows are read twice, block by block: all of them in float64 would double the memory of a dataset.
    """
    chex.assert_shape(rows, (None, layout.dim))

    def blocks() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Rows that occur, and how often."""
        for start in range(0, len(rows), ROWS_PER_BLOCK):
            block = np.array(rows[start : start + ROWS_PER_BLOCK], np.float64)
            count = np.ones(len(block)) if occurrences is None else occurrences[start : start + ROWS_PER_BLOCK]
            block, count = block[count > 0], count[count > 0].astype(np.float64)
            if squash:
                block[:, layout.action] = np.arctanh(np.clip(block[:, layout.action], -ACTION_LIMIT, ACTION_LIMIT))
            yield block, count

    lowest, highest = np.full(layout.dim, np.inf), np.full(layout.dim, -np.inf)
    number, total, squares = 0.0, np.zeros(layout.dim), np.zeros(layout.dim)
    for block, count in blocks():
        number += count.sum()
        total += count @ block
        lowest = np.minimum(lowest, block.min(axis=0, initial=np.inf))
        highest = np.maximum(highest, block.max(axis=0, initial=-np.inf))
    mean = total / number
    is_flag = lowest < highest
    for block, count in blocks():
        squares += count @ (block - mean) ** 2
        is_flag &= ((block == lowest) | (block == highest)).all(axis=0)
    size = np.where(mean == 0.0, 1.0, np.abs(mean))
    std = np.where(lowest == highest, CONSTANT_STD * size, np.sqrt(squares / number))
    std[layout.terminal] = max(std[layout.terminal], TERMINAL_STD_FLOOR)
    shrunk = np.where(is_flag & (flag_gap > 0.0), flag_gap * std / np.where(is_flag, highest - lowest, 1.0), 1.0)
    reward_std, terminal_std = shrunk[layout.reward :].tolist()
    return Normalizer(
        jnp.asarray(mean, jnp.float32), jnp.asarray(std, jnp.float32), layout, squash, (reward_std, terminal_std)
    )


def _standardise(normalizer: Normalizer, x: jax.Array, part: slice) -> jax.Array:
    lead = (1,) * (x.ndim - 1)
    return (x - normalizer.mean[part].reshape(*lead, -1)) / normalizer.std[part].reshape(*lead, -1)


def _restore(normalizer: Normalizer, x: jax.Array, part: slice) -> jax.Array:
    lead = (1,) * (x.ndim - 1)
    return x * normalizer.std[part].reshape(*lead, -1) + normalizer.mean[part].reshape(*lead, -1)


def encode_obs(normalizer: Normalizer, obs: jax.Array) -> jax.Array:
    """obs [..., O]: environment space -> network space. With numpy arrays in the normalizer, the result is numpy."""
    return _standardise(normalizer, obs, normalizer.layout.obs)


def decode_obs(normalizer: Normalizer, obs: jax.Array) -> jax.Array:
    """obs [..., O]: network space -> environment space."""
    return _restore(normalizer, obs, normalizer.layout.obs)


def encode_action(normalizer: Normalizer, action: jax.Array) -> jax.Array:
    """action [..., A]: environment space -> network space (pre-tanh, standardised)."""
    if normalizer.squash:
        action = jnp.arctanh(jnp.clip(action, -ACTION_LIMIT, ACTION_LIMIT))
    return _standardise(normalizer, action, normalizer.layout.action)


def decode_action(normalizer: Normalizer, action: jax.Array) -> jax.Array:
    """action [..., A]: network space -> environment space, in [-1, 1] (float32 tanh reaches both ends)."""
    action = decode_preimage(normalizer, action)
    return jnp.tanh(action) if normalizer.squash else action


def decode_preimage(normalizer: Normalizer, action: jax.Array) -> jax.Array:
    """action [..., A]: network space -> u of a = tanh(u)."""
    return _restore(normalizer, action, normalizer.layout.action)


def log_slope(u: jax.Array) -> jax.Array:
    """log da/du of a = tanh(u), elementwise: log(1 - a^2) without cancellation near |a| = 1."""
    return 2.0 * (jnp.log(2.0) - u - jax.nn.softplus(-2.0 * u))


def action_range(normalizer: Normalizer) -> tuple[jax.Array, jax.Array]:
    """(lowest, highest) result of `encode_action`, f32[A] each, network space. For normalizers that squash."""
    limit = jnp.broadcast_to(
        jnp.arctanh(jnp.asarray(ACTION_LIMIT, normalizer.std.dtype)), (normalizer.layout.action_dim,)
    )
    low, high = (_standardise(normalizer, bound, normalizer.layout.action) for bound in (-limit, limit))
    return low, high


def _outcome_std(normalizer: Normalizer, x: jax.Array) -> jax.Array:
    """Standard deviations of the last two columns of x [..., D] in network space, with the dtype of x."""
    return jnp.asarray(normalizer.outcome_std, x.dtype).reshape(*(1,) * (x.ndim - 1), 2)


def _encode_outcome(normalizer: Normalizer, rows: jax.Array) -> jax.Array:
    """Reward and terminal of rows [..., D]: environment space -> network space."""
    outcome = slice(normalizer.layout.reward, normalizer.layout.dim)
    return _outcome_std(normalizer, rows) * _standardise(normalizer, rows[..., outcome], outcome)


def _decode_outcome(normalizer: Normalizer, x: jax.Array) -> jax.Array:
    outcome = slice(normalizer.layout.reward, normalizer.layout.dim)
    return _restore(normalizer, x[..., outcome] / _outcome_std(normalizer, x), outcome)


@jax.jit
def encode(normalizer: Normalizer, rows: jax.Array) -> jax.Array:
    """rows [..., D]: environment space -> network space. It is jitted: otherwise memory would hold three copies."""
    layout = normalizer.layout
    chex.assert_axis_dimension(rows, -1, layout.dim)
    obs = encode_obs(normalizer, rows[..., layout.obs])
    action = encode_action(normalizer, rows[..., layout.action])
    return jnp.concatenate([obs, action, _encode_outcome(normalizer, rows)], axis=-1)


def decode(normalizer: Normalizer, x: jax.Array) -> jax.Array:
    """x [..., D]: network space -> environment space; the terminal column stays a real number."""
    layout = normalizer.layout
    chex.assert_axis_dimension(x, -1, layout.dim)
    obs = decode_obs(normalizer, x[..., layout.obs])
    action = decode_action(normalizer, x[..., layout.action])
    return jnp.concatenate([obs, action, _decode_outcome(normalizer, x)], axis=-1)


def standardised(normalizer: Normalizer, x: jax.Array) -> jax.Array:
    """x [..., D] in network space, rescaled so that reward and terminal too are in standard deviations of the data."""
    first, outcome = jnp.split(x, [normalizer.layout.reward], axis=-1)
    return jnp.concatenate([first, outcome / _outcome_std(normalizer, x)], axis=-1)


def to_transitions(normalizer: Normalizer, x: jax.Array) -> tuple[Transition, jax.Array]:
    """Windows x f32[..., T, D] in network space -> (Transition with axes [..., T], valid bool[..., T]).

    Transition t is (row t, obs and action of row t+1). Its terminal is 1 where the decoded column exceeds 0.5.
    `valid[t]` has two conditions. No row before t is terminal: rows after the end of a generated trajectory are not
    experience. And the transition is whole: the last row has no successor, so it is valid only if it is terminal.
    (Such a last row must count, because without `past_end` a terminal is always the last row of a window.) The
    `next_obs` and `next_action` of a terminal row mean nothing and must not be bootstrapped from.
    """
    layout = normalizer.layout
    chex.assert_axis_dimension(x, -1, layout.dim)
    chex.assert_axis_dimension_gt(x, -2, 1)
    env_rows = decode(normalizer, x)
    obs, action = x[..., layout.obs], env_rows[..., layout.action]
    is_terminal = env_rows[..., layout.terminal] > TERMINAL_THRESHOLD
    terminal = is_terminal.astype(jnp.float32)
    transitions = Transition(
        obs=obs,
        action=action,
        reward=env_rows[..., layout.reward],
        next_obs=following(obs),
        terminal=terminal,
        next_action=following(action),
    )
    alive = jnp.cumsum(terminal, axis=-1) - terminal == 0.0
    return transitions, jnp.concatenate([alive[..., :-1], (alive & is_terminal)[..., -1:]], axis=-1)


def following(rows: jax.Array) -> jax.Array:
    """The next row of each row of windows [..., T, D]. The last row has none and follows itself."""
    return jnp.concatenate([rows[..., 1:, :], rows[..., -1:, :]], axis=-2)


def to_environment_space(normalizer: Normalizer, transitions: Transition) -> Transition:
    """The same transitions with obs and next_obs in environment space, for export and plots. All else is already."""
    return transitions._replace(
        obs=decode_obs(normalizer, transitions.obs), next_obs=decode_obs(normalizer, transitions.next_obs)
    )
