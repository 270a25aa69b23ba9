"""A temporal U-Net applied to batches of windows, the shape of network that PGD (arXiv 2404.06356, appendix) uses."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from pgd_jax.errors import UserError
from pgd_jax.networks import base

NUM_GROUPS = 8  # of every GroupNorm, as in the reference


def neighbours(x: jax.Array) -> jax.Array:
    """[B, T, C] -> [B, T, 3C]: the row before, the row itself and the row after, zeros beyond the ends."""
    before = jnp.pad(x[:, :-1], ((0, 0), (1, 0), (0, 0)))
    after = jnp.pad(x[:, 1:], ((0, 0), (0, 1), (0, 0)))
    return jnp.concatenate([before, x, after], axis=-1)


@jax.custom_jvp
def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """A 'same' kernel-3 convolution over time of x [B, T, C] with kernel [3C, F], whose rows are those of `neighbours`.

    On CPU forward passes take XLA's convolution, which makes no copies of x. Derivatives, and other devices, take the
    same numbers as one matrix product: XLA's CPU gradient of a convolution inside `lax.scan` falls back to a naive
    kernel (19x slower measured).
    """
    return jax.lax.platform_dependent(x, kernel, cpu=_convolution, default=lambda x, kernel: neighbours(x) @ kernel)


@jax.custom_batching.sequential_vmap
def _convolution(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """By lanes one after the other: over all at once its rounding depends on where in the batch a window stands."""
    kernel = kernel.reshape(3, x.shape[-1], kernel.shape[-1])
    return jax.lax.conv_general_dilated(x, kernel, (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC"))


@convolve.defjvp
def _convolve_jvp(
    primals: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    (x, kernel), (x_dot, kernel_dot) = primals, tangents
    around = neighbours(x)
    return around @ kernel, neighbours(x_dot) @ kernel + around @ kernel_dot


class Kernel3(nn.Module):
    """Parameters of a convolution, as nn.Dense would have them for `neighbours`."""

    features: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", nn.linear.default_kernel_init, (3 * x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return convolve(x, kernel.astype(self.dtype)) + bias.astype(self.dtype)[None, None, :]


class Conv3(nn.Module):
    """A 'same' kernel-3 convolution over time."""

    features: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return Kernel3(self.features, self.dtype, name="Dense_0")(x)  # the name that older checkpoints have


class Block(nn.Module):
    """Two convolutions with GroupNorm and ReLU; the noise embedding is added between them; residual."""

    features: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, embedding: jax.Array) -> jax.Array:
        h = nn.relu(nn.GroupNorm(NUM_GROUPS, dtype=self.dtype)(Conv3(self.features, self.dtype)(x)))
        h = h + nn.Dense(self.features, dtype=self.dtype)(embedding)[:, None, :]
        h = nn.relu(nn.GroupNorm(NUM_GROUPS, dtype=self.dtype)(Conv3(self.features, self.dtype)(h)))
        return h + nn.Dense(self.features, dtype=self.dtype)(x)


class UNet(nn.Module):
    """(x [B, T, D], c_noise [B]) -> [B, T, D]. Level i has width * 2^i channels and T / 2^i time steps."""

    out_dim: int
    width: int
    num_blocks: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, c_noise: jax.Array) -> jax.Array:
        embedding = nn.relu(nn.Dense(4 * self.width, dtype=self.dtype)(fourier(c_noise, self.width).astype(self.dtype)))
        h = Conv3(self.width, self.dtype)(x.astype(self.dtype))
        skips = []
        for level in range(self.num_blocks):
            h = Block(self.width << level, self.dtype)(max_pool(h) if level else h, embedding)
            skips.append(h)
        for level in reversed(range(self.num_blocks - 1)):
            h = jnp.concatenate([jnp.repeat(h, 2, axis=1), skips[level]], axis=-1)
            h = Block(self.width << level, self.dtype)(h, embedding)
        # Zero at the start: D(x; s) begins as c_skip x, so the first losses are of order one.
        return nn.Dense(self.out_dim, kernel_init=nn.initializers.zeros)(h.astype(jnp.float32))


def max_pool(x: jax.Array) -> jax.Array:
    """[B, T, C] -> [B, T/2, C], the larger of each pair of neighbours."""
    return jnp.max(x.reshape(x.shape[0], x.shape[1] // 2, 2, x.shape[2]), axis=2)


def fourier(c_noise: jax.Array, dim: int) -> jax.Array:
    """[B] -> [B, dim] sines and cosines of geometric frequencies; c_noise = ln(s)/4 spans about [-1.6, 1.1]."""
    frequencies = jnp.exp(jnp.linspace(0.0, math.log(64.0), dim // 2, dtype=jnp.float32))
    angles = c_noise[:, None] * frequencies[None, :]
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


def build(window_length: int, dim: int, width: int, num_blocks: int, compute_dtype: str) -> base.Network:
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
    module = UNet(out_dim=dim, width=width, num_blocks=num_blocks, dtype=jnp.dtype(compute_dtype))
    return base.from_linen(module, jnp.zeros((1, window_length, dim)), jnp.zeros((1,)))
