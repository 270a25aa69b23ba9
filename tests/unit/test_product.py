import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgd_jax.networks.product import Dense, product

WIDTHS = [(6, 1), (40, 3), (3, 40)]  # (channels, features)


def case(channels, features, shape=(4, 5)):
    generator = np.random.default_rng(channels + features)
    arrays = (generator.standard_normal(s) for s in ((*shape, channels), (channels, features), (*shape, features)))
    return [jnp.asarray(array, jnp.float32) for array in arrays]


def objective(multiply, weights):
    """Not linear, so that its second derivatives are not zero."""
    return lambda x, kernel: jnp.sum(weights * jnp.sin(multiply(x, kernel)))


@pytest.mark.parametrize("channels, features", WIDTHS)
@pytest.mark.parametrize("shape", [(7,), (4, 5)])
def test_value_and_gradients_are_those_of_the_plain_product(channels, features, shape):
    x, kernel, weights = case(channels, features, shape)
    np.testing.assert_allclose(product(x, kernel), x @ kernel, atol=1e-5)
    ours = jax.grad(objective(product, weights), argnums=(0, 1))(x, kernel)
    plain = jax.grad(objective(jnp.matmul, weights), argnums=(0, 1))(x, kernel)
    for mine, exact in zip(ours, plain, strict=True):
        np.testing.assert_allclose(mine, exact, atol=2e-5)


@pytest.mark.parametrize("channels, features", WIDTHS)
def test_a_hessian_by_a_vector_is_that_of_the_plain_product(channels, features):
    """Forward-mode over a gradient is what the guidance of a policy by its curvature takes."""
    x, kernel, weights = case(channels, features)

    def times_vector(multiply):
        return jax.jvp(jax.grad(lambda x: objective(multiply, weights)(x, kernel)), (x,), (jnp.cos(x),))[1]

    np.testing.assert_allclose(times_vector(product), times_vector(jnp.matmul), atol=1e-4)


@pytest.mark.parametrize("channels, features", WIDTHS)
def test_members_of_an_ensemble_have_their_own_gradients(channels, features):
    x, kernel, weights = case(channels, features)
    kernels = jnp.stack([kernel, -2.0 * kernel])
    gradient = jax.grad(lambda kernel: objective(product, weights)(x, kernel))
    for together, alone in zip(jax.vmap(gradient)(kernels), kernels, strict=True):
        np.testing.assert_allclose(together, gradient(alone), atol=2e-5)


def gradient_text(multiply, platform):
    """Of the kernel's gradient, as it is given to XLA."""
    x, kernel, weights = case(40, 40, (64,))
    gradient = jax.jit(jax.grad(lambda kernel: jnp.sum(weights * multiply(x, kernel))))
    return gradient.trace(kernel).lower(lowering_platforms=(platform,)).as_text()


def test_a_gradient_of_a_kernel_is_read_in_order():
    """What the product is for: no transposed array between the product and its reader."""
    assert "transpose" not in gradient_text(product, "cpu") and "transpose" in gradient_text(jnp.matmul, "cpu")


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_on_accelerators_it_is_the_plain_product(platform):
    def operations(text):
        return [name for name in text.split() if name in ("stablehlo.dot_general", "stablehlo.transpose")]

    assert operations(gradient_text(product, platform)) == operations(gradient_text(jnp.matmul, platform))


def test_a_layer_is_that_of_flax():
    x, _, _ = case(6, 3)
    params = Dense(3).init(jax.random.key(0), x)
    flax_layer = Dense(3, dot_general=None)
    np.testing.assert_array_equal(Dense(3).apply(params, x), flax_layer.apply(params, x))
    assert jax.tree.structure(params) == jax.tree.structure(flax_layer.init(jax.random.key(0), x))


def test_a_layer_refuses_a_precision_that_it_would_drop():
    with pytest.raises(NotImplementedError, match="precision"):
        Dense(3, precision="highest").init(jax.random.key(0), jnp.zeros((1, 6)))
