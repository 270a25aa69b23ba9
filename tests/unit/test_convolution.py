import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgd_jax.networks import convolution, cpu

FEATURES = 5


def of_lax(x, kernel):
    return jax.lax.conv_general_dilated(x, kernel, (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC"))


def case(length, channels=4):
    generator = np.random.default_rng(length)
    x, kernel = generator.standard_normal((2, length, channels)), generator.standard_normal((3, channels, FEATURES))
    return jnp.asarray(x, jnp.float32), jnp.asarray(kernel, jnp.float32)


@pytest.mark.parametrize("function", [convolution.direct, cpu.convolve_by_tiles])
@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 8, 11])
def test_the_convolution_is_the_one_of_lax(function, length):
    x, kernel = case(length)
    np.testing.assert_allclose(function(x, kernel), of_lax(x, kernel), atol=2e-5)


@pytest.mark.parametrize("function", [convolution.direct, cpu.convolve_by_tiles])
def test_its_derivatives_are_those_of_lax(function):
    args, weights = case(9), jax.random.normal(jax.random.key(0), (2, 9, FEATURES))
    ours = jax.grad(lambda *args: jnp.sum(weights * function(*args)), argnums=(0, 1))(*args)
    theirs = jax.grad(lambda *args: jnp.sum(weights * of_lax(*args)), argnums=(0, 1))(*args)
    for mine, exact in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, exact, atol=5e-5)


def test_tiles_round_like_the_direct_sum():
    """Against float64, at the channels of a real network: tiles lose less than a digit, and stay below 1e-5."""
    x, kernel = case(32, channels=256)
    kernel = kernel / np.sqrt(3 * 256)
    padded, exact_kernel = np.pad(np.float64(x), ((0, 0), (1, 1), (0, 0))), np.float64(kernel)
    exact = sum(padded[:, i : i + 32] @ exact_kernel[i] for i in range(3))
    error = {f: np.sqrt(np.mean((f(x, kernel) - exact) ** 2)) for f in (cpu.convolve_by_tiles, convolution.direct)}
    assert error[cpu.convolve_by_tiles] < min(1e-5, 10 * error[convolution.direct])


def test_the_matrices_are_of_the_points_they_name():
    """At a point p the kernel's row is that of (1, p, p^2), scaled, the outputs' column that of (1, p, p^2, p^3)."""
    for of_kernel, of_output, point in zip(cpu.OF_KERNEL, zip(*cpu.OF_OUTPUT), (0, 1, -1, 2, -2)):
        np.testing.assert_allclose(np.divide(of_kernel, of_kernel[0]), [1, point, point**2], atol=1e-12)
        np.testing.assert_array_equal(of_output, [1, point, point**2, point**3])


@pytest.mark.parametrize("half_length", [1, 2, 5])
def test_repeated_rows_cost_half_and_give_the_same(half_length):
    below, kernel = case(half_length)
    exact = of_lax(jnp.repeat(below, 2, axis=1), kernel)
    np.testing.assert_allclose(convolution.convolve_repeated(below, kernel), exact, atol=2e-5)


def test_products_are_as_few_as_promised():
    """XLA's count of one call: 12 products a row and channel of four direct, 6 by tiles, beside a few sums."""
    x, kernel = jnp.ones((8, 32, 64)), jnp.ones((3, 64, 64))
    flops = {f: jax.jit(f).lower(x, kernel).compile().cost_analysis()["flops"] for f in FUNCTIONS}
    rows = 8 * 32
    assert flops[convolution.direct] == pytest.approx(2 * rows * 3 * 64 * 64, rel=0.01)
    assert flops[cpu.convolve_by_tiles] == pytest.approx(2 * rows * 1.5 * 64 * 64, rel=0.2)
    assert flops[convolution.convolve_repeated] == pytest.approx(2 * 2 * rows * 1.5 * 64 * 64, rel=0.05)


FUNCTIONS = (convolution.direct, cpu.convolve_by_tiles, convolution.convolve_repeated)


@pytest.mark.parametrize(
    ("channels", "dtype", "is_tiled"), [(32, "float32", True), (31, "float32", False), (32, "bfloat16", False)]
)
def test_only_wide_kernels_in_whole_precision_go_by_tiles(channels, dtype, is_tiled):
    x, kernel = jnp.ones((2, 8, channels), dtype), jnp.ones((3, channels, 32), dtype)
    function = cpu.convolve_by_tiles if is_tiled else convolution.direct
    text = [jax.jit(lambda *args: f(*args)).lower(x, kernel).as_text() for f in (convolution.convolve, function)]
    assert text[0].count("dot_general") == text[1].count("dot_general") == (6 if is_tiled else 1)
