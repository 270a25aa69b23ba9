"""A temporal U-Net on batches of windows: the kind of network that PGD uses (arXiv 2404.06356, appendix).

Its blocks have one of two norms. "group" is that of the reference: GroupNorm over time and channels; the noise
embedding is added to its output. "layer" normalises each row by itself, and the embedding scales and shifts the row
(adaptive LayerNorm; Peebles & Xie 2023, arXiv 2212.09748). It has half of the dynamics error at the same cost
(experiments/denoiser_study).
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from pgd_jax.core.errors import UserError
from pgd_jax.networks import base, cpu
from pgd_jax.networks.convolution import convolve, convolve_repeated
from pgd_jax.networks.product import Dense, product

NUM_GROUPS = 8  # groups of every GroupNorm, as in the reference
NORMS = LAYER, GROUP = ("layer", "group")


class Kernel(nn.Module):
    """A linear map of a row and its two neighbours (kernel_size 3, zeros beyond the ends), or of a row alone (1).

    Rows are x [B, T, C]. `below` [B, T/2, C'] is concatenated with x; each of its rows then appears twice.
    Parameters are those of nn.Dense on the rows before, itself and after, in this order.
    """

    features: int
    kernel_size: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, below: jax.Array | None = None) -> jax.Array:
        num_below = 0 if below is None else below.shape[-1]
        channels = num_below + x.shape[-1]
        shape = (self.kernel_size * channels, self.features)
        kernel = self.param("kernel", nn.linear.default_kernel_init, shape).astype(self.dtype)
        kernel = kernel.reshape(self.kernel_size, channels, self.features)
        out = self.param("bias", nn.initializers.zeros, (self.features,)).astype(self.dtype)[None, None, :]
        of_x, of_repeated = (convolve, convolve_repeated) if self.kernel_size == 3 else (_map, _map_repeated)
        out = out + of_x(x, kernel[:, num_below:])
        return out if below is None else out + of_repeated(below, kernel[:, :num_below])


def _map(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return product(x, kernel[0])


def _map_repeated(below: jax.Array, kernel: jax.Array) -> jax.Array:
    return jnp.repeat(product(below, kernel[0]), 2, axis=1)


class Conv3(nn.Module):
    """A 'same' kernel-3 convolution over time."""

    features: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, below: jax.Array | None = None) -> jax.Array:
        return Kernel(self.features, 3, self.dtype, name="Dense_0")(x, below)  # checkpoints have this name


class GroupNorm(nn.Module):
    """GroupNorm (Wu & He 2018) over time and the channels of a group, in float32, as a scale and a shift per channel.

    Parameters are those of nn.GroupNorm. With nn.GroupNorm itself the network takes 8 % longer on CPU.
    """

    dtype: jnp.dtype
    epsilon: float = 1e-6

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        batch, length, channels = x.shape
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        x = x.astype(jnp.float32)

        def mean(rows: jax.Array) -> jax.Array:
            per_channel = jnp.mean(rows, axis=1).reshape(batch, NUM_GROUPS, channels // NUM_GROUPS)
            return jnp.mean(per_channel, axis=-1)

        centre = mean(x)
        precision = jax.lax.rsqrt(jnp.maximum(mean(x * x) - centre**2, 0.0) + self.epsilon)
        factor, offset = (jnp.repeat(part, channels // NUM_GROUPS, axis=-1) for part in (precision, centre * precision))
        factor, offset = scale[None] * factor, bias[None] - scale[None] * offset
        return (x * factor[:, None] + offset[:, None]).astype(self.dtype)


def layer_norm(x: jax.Array, epsilon: float = 1e-6) -> jax.Array:
    """Normalises each row of x [B, T, C] to mean 0 and variance 1. The moments are float32."""
    wide = x.astype(jnp.float32)
    centre = jnp.mean(wide, axis=-1, keepdims=True)
    variance = jnp.maximum(jnp.mean(wide * wide, axis=-1, keepdims=True) - centre**2, 0.0)
    return ((wide - centre) * jax.lax.rsqrt(variance + epsilon)).astype(x.dtype)


class Block(nn.Module):
    """A residual block: two normalised convolutions with ReLU; the noise embedding enters between them.

    For `below` see Kernel.
    """

    features: int
    norm: str
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, embedding: jax.Array, below: jax.Array | None = None) -> jax.Array:
        h = nn.relu(self._normalised(Conv3(self.features, self.dtype)(x, below)))
        if self.norm == GROUP:
            h = h + Dense(self.features, dtype=self.dtype)(embedding)[:, None, :]
        else:
            modulation = Dense(2 * self.features, kernel_init=nn.initializers.zeros, dtype=self.dtype)(embedding)
            scale, shift = jnp.split(modulation[:, None, :], 2, axis=-1)
            h = h * (1.0 + scale) + shift
        h = nn.relu(self._normalised(Conv3(self.features, self.dtype)(h)))
        return h + Kernel(self.features, 1, self.dtype, name="Dense_1")(x, below)

    def _normalised(self, x: jax.Array) -> jax.Array:
        return GroupNorm(self.dtype)(x) if self.norm == GROUP else layer_norm(x)


class UNet(nn.Module):
    """(x [B, T, D], c_noise [B], or [1] for all) -> [B, T, D]. Level i has width * 2^i channels and T / 2^i rows."""

    out_dim: int
    width: int
    num_blocks: int
    norm: str
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, c_noise: jax.Array) -> jax.Array:
        embedding = nn.relu(Dense(4 * self.width, dtype=self.dtype)(fourier(c_noise, self.width).astype(self.dtype)))
        h = Conv3(self.width, self.dtype)(x.astype(self.dtype))
        skips = []
        for level in range(self.num_blocks):
            h = Block(self.width << level, self.norm, self.dtype)(max_pool(h) if level else h, embedding)
            skips.append(h)
        for level in reversed(range(self.num_blocks - 1)):
            h = Block(self.width << level, self.norm, self.dtype)(skips[level], embedding, below=h)
        # Zero at the start: D(x; s) begins as c_skip x, so the first losses are of order one.
        return Dense(self.out_dim, kernel_init=nn.initializers.zeros)(h.astype(jnp.float32))


def max_pool(x: jax.Array) -> jax.Array:
    """[B, T, C] -> [B, T/2, C], the maximum of each pair of neighbouring rows.

    It selects with a comparison instead of jnp.max. The derivative of jnp.max divides by the number of rows that equal
    the maximum. XLA may compute a row twice with different rounding; then no row is equal, and the derivative is NaN.
    """
    pairs = x.reshape(x.shape[0], x.shape[1] // 2, 2, x.shape[2])
    first, second = pairs[:, :, 0], pairs[:, :, 1]
    return jnp.where(first > second, first, second)


def fourier(c_noise: jax.Array, dim: int) -> jax.Array:
    """[B] -> [B, dim] sines and cosines of geometric frequencies; c_noise = ln(s)/4 spans about [-1.6, 1.1]."""
    frequencies = jnp.exp(jnp.linspace(0.0, math.log(64.0), dim // 2, dtype=jnp.float32))
    angles = c_noise[:, None] * frequencies[None, :]
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


def build(
    window_length: int, dim: int, width: int, num_blocks: int, compute_dtype: str, norm: str = LAYER
) -> base.Network:
    """A U-Net for windows [T, dim]. Raises UserError where the window cannot be halved num_blocks - 1 times."""
    factor = 1 << (num_blocks - 1)
    if window_length % factor:
        longer = (window_length // factor + 1) * factor
        raise UserError(
            f"data.window_length={window_length} cannot be halved {num_blocks - 1} times "
            f"(unet.num_blocks={num_blocks}): use a multiple of {factor}, such as {longer}, or fewer blocks"
        )
    if width % NUM_GROUPS or width <= 0:
        raise UserError(f"unet.width={width} must be a positive multiple of {NUM_GROUPS} (GroupNorm's groups)")
    if compute_dtype not in ("float32", "bfloat16"):
        raise UserError(f'unet.compute_dtype="{compute_dtype}" must be float32 or bfloat16')
    if norm not in NORMS:
        raise UserError(f'unet.norm="{norm}" is unknown; choose {" or ".join(NORMS)}')
    module = UNet(out_dim=dim, width=width, num_blocks=num_blocks, norm=norm, dtype=jnp.dtype(compute_dtype))
    network = base.from_linen(module, jnp.zeros((1, window_length, dim)), jnp.zeros((1,)))
    return network._replace(apply=cpu.by_lanes(network.apply))
