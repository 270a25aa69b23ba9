"""'Same' kernel-3 convolutions over time, [B, T, C] -> [B, T, F], in as few operations as matrix products allow.

A kernel is [3, C, F]: what the row before, the row itself and the row after are multiplied with.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from pgd_jax.networks.product import product

# Winograd's F(4, 3): four outputs of a kernel of three by six products in place of twelve. The matrices are those of
# Lavin & Gray 2016 (arXiv 1509.09308), for F(4x4, 3x3) in two dimensions; the points are 0, 1, -1, 2, -2 and infinity.
TILE = 4
MIN_CHANNELS = 32  # with fewer on either side the sums cost what the products save, and every tile has to be compiled
OF_INPUT = (  # B^T, of the tile's rows with one on each side
    (4, 0, -5, 0, 1, 0), (0, -4, -4, 1, 1, 0), (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0), (0, 2, -1, -2, 1, 0), (0, 4, 0, -5, 0, 1),
)  # fmt: skip
OF_KERNEL = (  # G
    (1 / 4, 0, 0), (-1 / 6, -1 / 6, -1 / 6), (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6), (1 / 24, -1 / 12, 1 / 6), (0, 0, 1),
)  # fmt: skip
OF_OUTPUT = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))  # A^T


def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """x [B, T, C] with kernel [3, C, F]; zeros stand beyond the ends.

    On CPU wide kernels go by tiles of four rows, equal to the direct sum within rounding. Elsewhere it is one matrix
    product, whose rate is not the limit there, and in bfloat16, whose rounding the tiles' differences would multiply.
    Not by XLA's convolution, whose CPU gradient inside `lax.scan` falls back to a naive kernel (19x slower measured).
    """
    if x.dtype != jnp.float32 or not is_wide(*kernel.shape[1:]):
        return direct(x, kernel)
    return jax.lax.platform_dependent(x, kernel, cpu=by_tiles, default=direct)


def is_wide(channels: int, features: int) -> bool:
    return min(channels, features) >= MIN_CHANNELS


@jax.jit
def direct(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Shifted copies side by side, times the kernel: 3 C F products a row."""
    before, after = _shifted(x, 1), _shifted(x, -1)
    return product(jnp.concatenate([before, x, after], axis=-1), kernel.reshape(-1, kernel.shape[-1]))


@jax.jit
def by_tiles(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Winograd's F(4, 3): 3/2 C F products a row."""
    batch, length, channels = x.shape
    num_tiles = -(-length // TILE)
    # A row in front, and so many behind that one more tile begins, of which the last real one needs the first row.
    padded = jnp.pad(x, ((0, 0), (1, (num_tiles + 1) * TILE - length - 1), (0, 0)))
    tiles = padded.reshape(batch, num_tiles + 1, TILE, channels)
    rows = [tiles[:, :-1, i] for i in range(TILE)] + [tiles[:, 1:, i] for i in range(2)]
    products = [product(_sum(of_x, rows), _sum(of_k, kernel)) for of_x, of_k in zip(OF_INPUT, OF_KERNEL, strict=True)]
    out = jnp.stack([_sum(weights, products) for weights in OF_OUTPUT], axis=2)
    return out.reshape(batch, num_tiles * TILE, -1)[:, :length]


@jax.jit
def convolve_repeated(below: jax.Array, kernel: jax.Array) -> jax.Array:
    """below [B, T/2, C], every row of it twice, with kernel [3, C, F]: [B, T, F] by half the products, none repeated.

    Row 2t has below[t - 1], below[t], below[t] around it, row 2t + 1 has below[t], below[t], below[t + 1].
    """
    before, here, after = jnp.split(product(below, jnp.concatenate([*kernel], axis=-1)), 3, axis=-1)
    even, odd = _shifted(before, 1) + here + after, before + here + _shifted(after, -1)
    batch, half_length, features = here.shape
    return jnp.stack([even, odd], axis=2).reshape(batch, 2 * half_length, features)


def _shifted(x: jax.Array, by: int) -> jax.Array:
    """Rows moved one on (by=1) or one back (by=-1), a row of zeros in their place."""
    return jnp.pad(x[:, :-1], ((0, 0), (1, 0), (0, 0))) if by == 1 else jnp.pad(x[:, 1:], ((0, 0), (0, 1), (0, 0)))


def _sum(weights: Sequence[float], terms: Sequence[jax.Array] | jax.Array) -> jax.Array:
    """Of the terms by their weights, without those of weight zero."""
    weighted = [weight * term for weight, term in zip(weights, terms, strict=True) if weight]
    return sum(weighted[1:], start=weighted[0])
