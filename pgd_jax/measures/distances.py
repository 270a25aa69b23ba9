"""Distances between the distributions of two samples, in-graph and with bounded memory."""

import chex
import jax
import jax.numpy as jnp

from pgd_jax.core.errors import UserError

MAX_WINDOWS = 1_024  # windows of each sample: three square matrices of this size take 12 MB per lane
SMALLEST = 1e-12  # lower limit of a divisor that is 0 if all windows are equal


def wasserstein(x: jax.Array, y: jax.Array) -> jax.Array:
    """1-Wasserstein distances f32[D] between the marginals of x f32[N, D] and y f32[M, D], in the units of the columns.

    They are exact for samples of any sizes. W1 is the integral of |F - G| over the line (Vallender 1974). The empirical
    distribution functions F and G are constant between neighbours of the sorted union. A grid of quantiles would need
    the same sort and lose the tails.
    """
    chex.assert_equal_shape_suffix([x, y], 1)
    (num_x, _), (num_y, _) = x.shape, y.shape
    is_x = jnp.concatenate([jnp.ones(num_x, jnp.int32), jnp.zeros(num_y, jnp.int32)])

    def column(values: jax.Array) -> jax.Array:
        values, from_x = jax.lax.sort((values, is_x), num_keys=1)
        count_x = jnp.cumsum(from_x)  # integers, because a sum of 10^5 terms 1 / N would drift
        count_y = jnp.arange(1, num_x + num_y + 1) - count_x
        apart = jnp.abs(count_x.astype(jnp.float32) / num_x - count_y.astype(jnp.float32) / num_y)
        return jnp.sum(apart[:-1] * jnp.diff(values))

    # One column after another: all columns at once would take a gigabyte for 40 lanes.
    return jax.lax.map(column, jnp.concatenate([x, y]).T)


def of_windows(windows: jax.Array, reference: jax.Array) -> dict[str, jax.Array]:
    """Measures f32[] of whole windows f32[M, T, D] against reference f32[R, T, D], from at most 1,024 of each.

    mmd               unbiased squared maximum mean discrepancy (Gretton et al. 2012, JMLR 13, eq. 3) with the kernel
                      exp(-|x - y|^2 / (2 s^2)). If both have the same distribution, its expectation is 0 and it may be
                      negative by chance. s^2 is the median squared distance within the reference, so that all samples
                      compared with one reference share the kernel.
    diversity         mean distance of two generated windows, divided by that of two reference windows
    nearest_distance  mean distance of a generated window to the nearest other one, divided by that of equally many
                      reference windows (more windows lie closer); small if windows are copies of each other

    The first windows of each are used, so windows must be independent draws, not neighbours in an episode. Raises
    UserError for fewer than two windows of either.
    """
    chex.assert_equal_shape_suffix([windows, reference], 2)
    if min(len(windows), len(reference)) < 2:
        raise UserError(
            f"distances need two windows or more on each side: found {len(windows)} generated, {len(reference)} real"
        )
    # Centred on the reference's mean, |x|^2 + |y|^2 - 2 x.y has the smallest rounding error.
    y = reference[:MAX_WINDOWS].reshape(-1, windows[0].size)
    centre = jnp.mean(y, axis=0, keepdims=True)
    x, y = windows[:MAX_WINDOWS].reshape(-1, windows[0].size) - centre, y - centre
    xx, yy, xy = squared_distances(x, x), squared_distances(y, y), squared_distances(x, y)
    same = min(len(x), len(y))
    return {
        "mmd": _mmd(xx, yy, xy),
        "diversity": _ratio(_off_diagonal_mean(jnp.sqrt(xx)), _off_diagonal_mean(jnp.sqrt(yy))),
        "nearest_distance": _ratio(_nearest(xx[:same, :same]), _nearest(yy[:same, :same])),
    }


def squared_distances(x: jax.Array, y: jax.Array) -> jax.Array:
    """|x_i - y_j|^2 f32[N, M] of x f32[N, K] and y f32[M, K], accurate to 1e-6 of their squared lengths."""
    # Full precision: with a GPU's default of 10 mantissa bits, the error is as large as the distance of neighbours.
    product = jnp.matmul(x, y.T, precision=jax.lax.Precision.HIGHEST)
    return jnp.maximum(jnp.sum(x**2, axis=1)[:, None] + jnp.sum(y**2, axis=1)[None, :] - 2.0 * product, 0.0)


def _mmd(xx: jax.Array, yy: jax.Array, xy: jax.Array) -> jax.Array:
    scale = -0.5 / jnp.maximum(_off_diagonal_median(yy), SMALLEST)
    within = _off_diagonal_mean(jnp.exp(scale * xx)) + _off_diagonal_mean(jnp.exp(scale * yy))
    return within - 2.0 * jnp.mean(jnp.exp(scale * xy))


def _without_diagonal(matrix: jax.Array, value: float) -> jax.Array:
    return jnp.where(jnp.eye(len(matrix), dtype=bool), value, matrix)


def _off_diagonal_mean(matrix: jax.Array) -> jax.Array:
    return jnp.sum(_without_diagonal(matrix, 0.0)) / (matrix.size - len(matrix))


def _off_diagonal_median(matrix: jax.Array) -> jax.Array:
    """The median of a symmetric matrix off its diagonal. Each pair counts twice, which does not change the median."""
    ordered = jnp.sort(_without_diagonal(matrix, jnp.inf).ravel())
    middle = (matrix.size - len(matrix)) // 2
    return 0.5 * (ordered[middle - 1] + ordered[middle])


def _nearest(squared: jax.Array) -> jax.Array:
    return jnp.mean(jnp.sqrt(jnp.min(_without_diagonal(squared, jnp.inf), axis=1)))


def _ratio(numerator: jax.Array, denominator: jax.Array) -> jax.Array:
    return numerator / jnp.maximum(denominator, SMALLEST)
