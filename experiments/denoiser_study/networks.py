"""Networks that the study compares the U-Net with: (x [B, T, D], c_noise [B] or [1]) -> [B, T, D], all residual.

The noise embedding scales and shifts what each block normalises, as in DiT (Peebles & Xie 2023, arXiv 2212.09748).
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from pgd_jax.networks import base, unet
from pgd_jax.networks.product import Dense

NUM_FREQUENCIES = 64
EMBEDDING_DIM = 128


class Modulated(nn.Module):
    """x [B, T, C] normalised by row, then scaled and shifted by the embedding [B, E]."""

    @nn.compact
    def __call__(self, x: jax.Array, embedding: jax.Array) -> jax.Array:
        modulation = Dense(2 * x.shape[-1], kernel_init=nn.initializers.zeros)(embedding)[:, None, :]
        scale, shift = jnp.split(modulation, 2, axis=-1)
        return unet.layer_norm(x) * (1.0 + scale) + shift


class Attention(nn.Module):
    """Self-attention over the rows, with a learned bias for each pair of places."""

    num_heads: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        batch, length, width = x.shape
        shape = (batch, length, self.num_heads, width // self.num_heads)
        query, key, value = (part.reshape(shape) for part in jnp.split(Dense(3 * width)(x), 3, axis=-1))
        bias = self.param("bias", nn.initializers.zeros, (self.num_heads, length, length))
        out = jax.nn.dot_product_attention(query, key, value, bias=bias[None])
        return Dense(width)(out.reshape(x.shape))


class Blocks(nn.Module):
    """Rows and their places embedded, `num_blocks` blocks, a linear map to the rows that starts at zero."""

    out_dim: int
    width: int
    num_blocks: int
    block: Callable[[jax.Array, jax.Array], jax.Array]  # (h, embedding) -> h

    @nn.compact
    def __call__(self, x: jax.Array, c_noise: jax.Array) -> jax.Array:
        embedding = nn.silu(Dense(EMBEDDING_DIM)(unet.fourier(c_noise, NUM_FREQUENCIES)))
        embedding = nn.silu(Dense(EMBEDDING_DIM)(embedding))
        place = self.param("place", nn.initializers.normal(0.02), (x.shape[1], self.width))
        h = Dense(self.width)(x) + place[None]
        for _ in range(self.num_blocks):
            h = self.block(h, embedding)
        return Dense(self.out_dim, kernel_init=nn.initializers.zeros)(Modulated()(h, embedding))


def attend(h: jax.Array, embedding: jax.Array) -> jax.Array:
    """A transformer's block: attention over time, then a layer four times as wide on each row."""
    h = h + Attention(num_heads=4)(Modulated()(h, embedding))
    return h + Dense(h.shape[-1])(nn.gelu(Dense(4 * h.shape[-1])(Modulated()(h, embedding))))


def convolve(h: jax.Array, embedding: jax.Array) -> jax.Array:
    """A convolution over three rows to twice the width, and back: the window keeps its length in all blocks."""
    wide = unet.Conv3(2 * h.shape[-1], h.dtype)(Modulated()(h, embedding))
    return h + Dense(h.shape[-1])(nn.gelu(wide))


BLOCKS = {"transformer": attend, "convolutions": convolve}


def build(kind: str, window_length: int, dim: int, width: int, num_blocks: int) -> base.Network:
    module = Blocks(dim, width, num_blocks, BLOCKS[kind])
    return base.from_linen(module, jnp.zeros((1, window_length, dim)), jnp.zeros((1,)))
