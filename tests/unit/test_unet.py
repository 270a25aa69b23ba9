import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgd_jax.core.errors import UserError
from pgd_jax.networks import unet

LENGTH, DIM = 8, 3


def build(dtype="float32", norm=unet.LAYER):
    return unet.build(LENGTH, DIM, width=8, num_blocks=2, compute_dtype=dtype, norm=norm)


@pytest.fixture(scope="module", params=unet.NORMS)
def norm(request):
    return request.param


@pytest.fixture(scope="module")
def initial(norm):
    return jax.jit(build(norm=norm).init)(jax.random.key(0))


@pytest.fixture(scope="module")
def params(initial):
    """Parameters away from the start, where the output layer is zero."""
    leaves, structure = jax.tree.flatten(initial)
    generator = np.random.default_rng(0)
    return structure.unflatten([x + 0.2 * generator.standard_normal(x.shape, np.float32) for x in leaves])


@pytest.fixture(scope="module")
def apply(norm):
    return jax.jit(build(norm=norm).apply)


def test_the_output_starts_at_zero(initial, apply, key):
    x = jax.random.normal(key, (4, LENGTH, DIM))
    np.testing.assert_array_equal(apply(initial, x, jnp.linspace(-1.0, 1.0, 4)), jnp.zeros_like(x))


@pytest.mark.parametrize(("length", "num_blocks"), [(8, 4), (12, 3), (5, 1)])
def test_shapes(length, num_blocks, key):
    network = unet.build(length, 7, width=8, num_blocks=num_blocks, compute_dtype="float32")
    params = jax.eval_shape(network.init, key)
    out = jax.eval_shape(network.apply, params, jnp.ones((3, length, 7)), jnp.zeros(3))
    assert out.shape == (3, length, 7) and out.dtype == jnp.float32


def test_number_of_parameters_by_hand(norm, key):
    """3 columns, width 8, levels of 8 and 16 channels, embedding of 32. Dense i -> o has o (i + 1), GroupNorm 2 c."""

    def block(i, o):
        conv = o * (3 * i + 1) + o * (3 * o + 1)
        of_norms = 2 * 2 * o + o * (32 + 1) if norm == unet.GROUP else 2 * o * (32 + 1)  # with the embedding's
        return conv + of_norms + o * (i + 1)

    embedding, first, last = 32 * (8 + 1), 8 * (3 * 3 + 1), 3 * (8 + 1)
    expected = embedding + first + block(8, 8) + block(8, 16) + block(16 + 8, 8) + last
    shapes = jax.eval_shape(build(norm=norm).init, key)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == expected


def test_the_parameters_are_those_of_a_dense_layer_on_the_rows_around(key):
    """A kernel [3 C, F], rows ordered before, here, after: older checkpoints have it so."""
    module = unet.Conv3(features=5, dtype=jnp.float32)
    x = jax.random.normal(key, (2, 9, 4))
    params = module.init(jax.random.key(1), x)["params"]["Dense_0"]
    bias = jnp.arange(5.0)
    ours = module.apply({"params": {"Dense_0": {"kernel": params["kernel"], "bias": bias}}}, x)
    padded = np.pad(x, ((0, 0), (1, 1), (0, 0)))
    around = np.concatenate([padded[:, :-2], padded[:, 1:-1], padded[:, 2:]], axis=-1)
    np.testing.assert_allclose(ours, around @ np.asarray(params["kernel"]) + np.arange(5.0), atol=1e-5)


@pytest.mark.parametrize("kernel_size", [1, 3])
def test_rows_from_below_are_repeated_beside_the_others(kernel_size, key):
    module = unet.Kernel(5, kernel_size, jnp.float32)
    x, below = jax.random.normal(key, (2, 8, 4)), jax.random.normal(jax.random.key(1), (2, 4, 6))
    params = module.init(jax.random.key(2), x, below)
    beside = jnp.concatenate([jnp.repeat(below, 2, axis=1), x], axis=-1)
    np.testing.assert_allclose(module.apply(params, x, below), module.apply(params, beside), atol=1e-5)


def test_normalisation_is_flax_s(key):
    x = 3.0 + 2.0 * jax.random.normal(key, (3, 5, 16))
    scale, bias = jax.random.normal(jax.random.key(1), (2, 16))
    params = {"params": {"scale": scale, "bias": bias}}
    ours = unet.GroupNorm(jnp.float32).apply(params, x)
    np.testing.assert_allclose(ours, nn.GroupNorm(unet.NUM_GROUPS).apply(params, x), atol=1e-5)


def test_layer_norm_is_flax_s(key):
    x = 3.0 + 2.0 * jax.random.normal(key, (3, 5, 16))
    module = nn.LayerNorm(use_scale=False, use_bias=False)
    np.testing.assert_allclose(unet.layer_norm(x), module.apply({}, x), atol=1e-5)


def test_pooling_by_hand():
    x = jnp.array([[[1.0, 9.0], [4.0, 2.0], [-1.0, -5.0], [-3.0, -2.0]]])
    np.testing.assert_array_equal(unet.max_pool(x), [[[4.0, 9.0], [-1.0, -2.0]]])


def test_fourier_by_hand():
    # Two frequencies, 1 and 64: sines, then cosines.
    c = np.float32(0.3)
    expected = [np.sin(c), np.sin(64 * c), np.cos(c), np.cos(64 * c)]
    np.testing.assert_allclose(unet.fourier(jnp.array([c]), 4)[0], expected, atol=1e-4)


def test_windows_of_a_batch_do_not_mix(params, apply, key):
    x, c_noise = jax.random.normal(key, (4, 8, 3)), jnp.linspace(-1.0, 1.0, 4)
    together = apply(params, x, c_noise)
    for i in range(4):
        np.testing.assert_allclose(apply(params, x[i : i + 1], c_noise[i : i + 1])[0], together[i], atol=1e-5)


def test_noise_level_and_every_row_reach_the_output(params, apply, key):
    """The pooled level sees both ends of a window of 8: changing the last row changes the first output."""
    x, c_noise = jax.random.normal(key, (1, 8, 3)), jnp.zeros(1)
    out = apply(params, x, c_noise)
    assert np.abs(apply(params, x, c_noise + 0.5) - out).max() > 1e-3
    other = apply(params, x.at[0, 7].add(1.0), c_noise)
    assert np.abs(other - out)[0, 0].max() > 1e-6 and np.abs(other - out)[0, 7].max() > 1e-3


@pytest.mark.parametrize("batch", [3, 16])
def test_equal_lanes_are_equal_to_the_bit(batch, key):
    """And to a run of that lane alone, whatever the other lanes are; convolutions by tiles too."""
    network = unet.build(LENGTH, DIM, width=32, num_blocks=1, compute_dtype="float32")
    params = jax.tree.map(lambda x: x + 0.1, jax.jit(network.init)(key))
    x, c_noise = jax.random.normal(key, (batch, LENGTH, DIM)), jnp.array([0.3])
    lanes = jnp.stack([x, 2.0 * x, x, x])
    together = jax.jit(jax.vmap(network.apply, in_axes=(None, 0, None)))(params, lanes, c_noise)
    alone = jax.jit(network.apply)(params, x, c_noise)
    for lane in (0, 2, 3):
        np.testing.assert_array_equal(together[lane], alone)


def test_lanes_have_the_derivatives_of_a_single_one(params, norm, key):
    def loss(x):
        return jnp.sum(build(norm=norm).apply(params, x, jnp.array([0.3])) ** 2)

    lanes = jax.random.normal(key, (2, 3, LENGTH, DIM))
    together, alone = jax.jit(jax.vmap(jax.grad(loss)))(lanes), jax.jit(jax.grad(loss))(lanes[1])
    np.testing.assert_allclose(together[1], alone, rtol=1e-3, atol=1e-4)


def test_half_precision_is_close_and_weights_stay_whole(params, norm, apply, key):
    x, c_noise, half = jax.random.normal(key, (2, LENGTH, DIM)), jnp.zeros(2), build("bfloat16", norm)
    assert {leaf.dtype for leaf in jax.tree.leaves(jax.eval_shape(half.init, key))} == {jnp.dtype("float32")}
    rough = jax.jit(half.apply)(params, x, c_noise)
    exact = apply(params, x, c_noise)
    assert rough.dtype == jnp.float32
    assert 0.0 < np.abs(rough - exact).max() < 0.05 * np.abs(exact).max()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(window_length=10, num_blocks=3), "window_length=10 cannot be halved 2 times .* multiple of 4, .* 12"),
        (dict(window_length=2, num_blocks=3), "use a multiple of 4, such as 4"),
        (dict(width=12), "unet.width=12 must be a positive multiple of 8"),
        (dict(width=0), "unet.width=0 must be a positive multiple of 8"),
        (dict(norm="batch"), 'unet.norm="batch" is unknown; choose layer or group'),
        (dict(compute_dtype="float16"), 'unet.compute_dtype="float16" must be float32 or bfloat16'),
    ],
)  # fmt: skip
def test_impossible_settings_are_refused(settings, message):
    usable = dict(window_length=8, dim=3, width=8, num_blocks=2, compute_dtype="float32")
    with pytest.raises(UserError, match=message):
        unet.build(**usable | settings)
