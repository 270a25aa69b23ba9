"""How far one sample is from another: distances between distributions, in-graph and of bounded memory."""

import chex
import jax
import jax.numpy as jnp

from pgd_jax.core.errors import UserError

MAX_WINDOWS = 1_024  # of each side: three matrices of that size squared are 12 MB a lane
SMALLEST = 1e-12  # a divisor that is 0 where all windows are equal


def wasserstein(x: jax.Array, y: jax.Array) -> jax.Array:
    """1-Wasserstein distances f32[D] between the marginals of x f32[N, D] and y f32[M, D], in the columns' own units.

    Exact for samples of any two sizes: W1 is the integral of |F - G| over the line (Vallender 1974), and the empirical
    distribution functions F and G are constant between neighbours of the sorted union. A grid of quantiles would cost
    the same sort and cut the tails off.
    """
    chex.assert_equal_shape_suffix([x, y], 1)
    (num_x, _), (num_y, _) = x.shape, y.shape
    is_x = jnp.concatenate([jnp.ones(num_x, jnp.int32), jnp.zeros(num_y, jnp.int32)])

    def column(values: jax.Array) -> jax.Array:
        values, from_x = jax.lax.sort((values, is_x), num_keys=1)
        count_x = jnp.cumsum(from_x)  # integers: 10^5 additions of 1 / N would drift
        count_y = jnp.arange(1, num_x + num_y + 1) - count_x
        apart = jnp.abs(count_x.astype(jnp.float32) / num_x - count_y.astype(jnp.float32) / num_y)
        return jnp.sum(apart[:-1] * jnp.diff(values))

    # One column after the other: all at once, 40 lanes would hold a gigabyte.
    return jax.lax.map(column, jnp.concatenate([x, y]).T)


def of_windows(windows: jax.Array, reference: jax.Array) -> dict[str, jax.Array]:
    """Measures f32[] of whole windows f32[M, T, D] against reference f32[R, T, D], of at most 1,024 of each.

    mmd               unbiased squared maximum mean discrepancy (Gretton et al. 2012, JMLR 13, eq. 3) with the kernel
                      exp(-|x - y|^2 / (2 s^2)); 0 in expectation, negative by chance, where both are of one law. s^2 is
                      the median squared distance of the reference alone: one kernel for all that is compared with it.
    diversity         mean distance of two generated windows over that of two reference windows
    nearest_distance  mean distance of a generated window to the nearest other one, over the same of as many reference
                      windows (more windows lie closer); small where windows are copies of each other

    The first windows are taken: both sides must be independent draws, not neighbours of one episode. Raises UserError
    for fewer than two windows on either side.
    """
    chex.assert_equal_shape_suffix([windows, reference], 2)
    if min(len(windows), len(reference)) < 2:
        raise UserError(
            f"distances need two windows or more on each side: found {len(windows)} generated, {len(reference)} real"
        )
    # Round the reference's mean, |x|^2 + |y|^2 - 2 x.y loses the least to rounding.
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
    """|x_i - y_j|^2 f32[N, M] of x f32[N, K] and y f32[M, K], to 1e-6 of their squared lengths."""
    # In full precision: a GPU's default of 10 bits of mantissa would be off by as much as neighbours are apart.
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
    """Of a symmetric matrix: each pair counts twice, which leaves the median of the pairs as it is."""
    ordered = jnp.sort(_without_diagonal(matrix, jnp.inf).ravel())
    middle = (matrix.size - len(matrix)) // 2
    return 0.5 * (ordered[middle - 1] + ordered[middle])


def _nearest(squared: jax.Array) -> jax.Array:
    return jnp.mean(jnp.sqrt(jnp.min(_without_diagonal(squared, jnp.inf), axis=1)))


def _ratio(numerator: jax.Array, denominator: jax.Array) -> jax.Array:
    return numerator / jnp.maximum(denominator, SMALLEST)
