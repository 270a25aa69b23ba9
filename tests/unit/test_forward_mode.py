"""Derivatives forwards through every network, on CPU with its kernels and without them, are those backwards."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec
from jax.test_util import check_grads

from pgd_jax.networks import cpu, mlp, unet
from pgd_jax.networks.product import product
from tests import quickly

SIZES, LIMITS = dict(hidden_dim=8, num_hidden=1), dict(log_std_min=-5.0, log_std_max=2.0)
BATCH, LENGTH, OBS, ACTION = 2, 4, 3, 2


def of_unet(width=8, num_blocks=2, dtype="float32"):
    network = unet.build(LENGTH, OBS, width, num_blocks, dtype)
    return network, ((BATCH, LENGTH, OBS), (BATCH,))


OBS_SHAPE, ACTION_SHAPE = (BATCH, OBS), (BATCH, ACTION)
NETWORKS = {
    "U-Net": of_unet,
    "U-Net by tiles": lambda: of_unet(width=32, num_blocks=1),
    "U-Net in bfloat16": lambda: of_unet(dtype="bfloat16"),
    "mlp": lambda: (mlp.mlp(OBS, 4, **SIZES), (OBS_SHAPE,)),
    "scalar": lambda: (mlp.scalar(OBS + ACTION, **SIZES), (OBS_SHAPE, ACTION_SHAPE)),
    "ensemble": lambda: (mlp.ensemble(mlp.scalar(OBS + ACTION, **SIZES), 2), (OBS_SHAPE, ACTION_SHAPE)),
    "tanh policy": lambda: (mlp.tanh_policy(OBS, ACTION, **SIZES), (OBS_SHAPE,)),
    "Gaussian policy": lambda: (mlp.gaussian_policy(OBS, ACTION, **SIZES), (OBS_SHAPE,)),
    "spread by state": lambda: (mlp.conditional_gaussian_policy(OBS, ACTION, **SIZES, **LIMITS), (OBS_SHAPE,)),
}  # fmt: skip


def normal(seed, tree):
    """A tree of numbers for a tree of arrays or shapes."""
    leaves, structure = jax.tree.flatten(tree)
    generator = np.random.default_rng(seed)
    return structure.unflatten([jnp.asarray(generator.standard_normal(leaf.shape), leaf.dtype) for leaf in leaves])


def case(name):
    """(function of parameters and inputs, both) away from the U-Net's start, where it is zero."""
    network, shapes = NETWORKS[name]()
    params = jax.tree.map(lambda leaf: 0.3 * leaf, normal(0, jax.eval_shape(network.init, jax.random.key(0))))
    return network.apply, (params, *normal(1, [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]))


def dot(left, right):
    return sum(jnp.vdot(a, b) for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True))


@pytest.mark.parametrize(("name", "is_on"), [*((name, True) for name in NETWORKS), ("ensemble", False)])
def test_forwards_is_backwards(name, is_on, monkeypatch):
    """w . (J v) == (J^T w) . v along parameters and inputs together, alone and in a vmap of lanes."""
    monkeypatch.setattr(cpu, "IS_ON", is_on)
    apply, args = case(name)
    direction = normal(2, args)
    out, tangent = quickly.jit(lambda args, direction: jax.jvp(apply, args, direction))(args, direction)
    weights = normal(3, out)
    pulled = quickly.jit(lambda args, weights: jax.vjp(apply, *args)[1](weights))(args, weights)
    tolerance = dict(rtol=0.05, atol=0.5) if "bfloat16" in name else dict(rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(dot(weights, tangent), dot(pulled, direction), **tolerance)
    for one, lane in zip(jax.tree.leaves(tangent), jax.tree.leaves(_of_lanes(apply, args, direction)), strict=True):
        np.testing.assert_allclose(lane[1], one, **tolerance)


def _of_lanes(apply, args, direction):
    lanes = jax.tree.map(lambda leaf: jnp.stack([2.0 * leaf, leaf]), args)
    along = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), direction)
    return quickly.jit(jax.vmap(lambda args, direction: jax.jvp(apply, args, direction)[1]))(lanes, along)


@pytest.mark.parametrize("name", NETWORKS)
def test_jacobians_forwards_and_backwards_are_the_same(name):
    """With respect to the first input; the Jacobian of a batch is one of a window at a time."""
    apply, (params, x, *rest) = case(name)
    forwards, backwards = (
        quickly.jit(jacobian(lambda x: apply(params, x, *rest))) for jacobian in (jax.jacfwd, jax.jacrev)
    )
    tolerance = dict(rtol=0.05, atol=0.1) if "bfloat16" in name else dict(rtol=1e-3, atol=1e-4)
    for ours, theirs in zip(*map(jax.tree.leaves, (forwards(x), backwards(x))), strict=True):
        np.testing.assert_allclose(ours, theirs, **tolerance)


@pytest.mark.parametrize("name", ["U-Net by tiles", "ensemble"])
def test_second_derivatives_do_not_depend_on_the_order(name):
    """Forwards over backwards is backwards over forwards, and both are what differences of gradients say."""
    apply, (params, *inputs) = case(name)
    direction = normal(2, inputs)

    def value(*inputs):
        return jnp.sum(jnp.sin(apply(params, *inputs)))

    @quickly.jit
    def of_gradient(inputs):
        return jax.jvp(jax.grad(value, argnums=tuple(range(len(inputs)))), inputs, direction)[1]

    @quickly.jit
    def of_slope(inputs):
        return jax.grad(lambda *inputs: jax.jvp(value, inputs, direction)[1], tuple(range(len(inputs))))(*inputs)

    inputs, direction = tuple(inputs), tuple(direction)
    for ours, theirs in zip(of_gradient(inputs), of_slope(inputs), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3)


def along(function, args, direction):
    return jax.jvp(function, args, direction)[1]


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0), (1, 2)])
def test_a_product_of_lanes_of_members(axes):
    """Two nested vmaps, of x, of the kernel or of both: values, tangents and gradients of the plain product."""
    x, kernel = normal(0, [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((2, 4, 5), (3, 2, 7))])
    x = jnp.stack([x, x + 1.0], axis=axes[0]) if axes[0] is not None else x
    kernel = jnp.stack([kernel, -kernel], axis=axes[1]) if axes[1] is not None else kernel
    x = x[..., :3]
    direction = normal(1, (x, kernel))

    def both(multiply):
        members = jax.vmap(multiply, (None, 2))  # of kernels [C, F, N]
        lanes = jax.vmap(members, axes)
        loss = lambda x, kernel: jnp.sum(jnp.sin(lanes(x, kernel)))
        args = x, kernel
        hessian = along(jax.grad(loss, (0, 1)), args, direction)
        return lanes(*args), along(lanes, args, direction), jax.grad(loss, (0, 1))(*args), hessian

    found = (jax.tree.leaves(quickly.jit(lambda: both(multiply))()) for multiply in (product, jnp.matmul))
    for ours, plain in zip(*found, strict=True):
        np.testing.assert_allclose(ours, plain, rtol=1e-4, atol=1e-4)


def test_derivatives_are_exact_in_float64():
    """Against central differences, which lose half of float64's digits."""
    with jax.enable_x64(True):
        x, kernel = (jnp.asarray(np.random.default_rng(s).standard_normal(n)) for s, n in enumerate([(2, 5), (5, 4)]))
        function = lambda x, kernel: jnp.sin(product(x, kernel))
        check_grads(function, (x, kernel), order=2, modes=("fwd", "rev"))


@pytest.mark.parametrize("is_checked", [True, False])
def test_on_several_devices(is_checked):
    """Lanes divided over a mesh, weights on each device; with JAX's check of what varies, and without it."""
    mesh = jax.make_mesh((2,), ("lanes",), (jax.sharding.AxisType.Auto,))
    apply, (params, x) = case("mlp")
    x, direction = jnp.stack([x, 2.0 * x]), normal(2, jnp.stack([x, x]))
    run = lambda x, direction: jax.vmap(functools.partial(along, functools.partial(apply, params)))((x,), (direction,))
    specs = dict(in_specs=(PartitionSpec("lanes"),) * 2, out_specs=PartitionSpec("lanes"))
    divided = jax.jit(jax.shard_map(run, mesh=mesh, **specs, check_vma=is_checked))
    np.testing.assert_allclose(divided(x, direction), run(x, direction), atol=1e-6)


def test_a_scan_of_steps_goes_forwards():
    """As a sampler's derivative with respect to its noise."""
    apply, (params, x, c_noise) = case("U-Net")

    def steps(x):
        return jax.lax.scan(lambda x, _: (x + 0.1 * apply(params, x, c_noise), None), x, length=3)[0]

    direction, weights = normal(2, x), normal(3, x)
    tangent = quickly.jit(lambda x: along(steps, (x,), (direction,)))(x)
    pulled = quickly.jit(lambda x: jax.vjp(steps, x)[1](weights)[0])(x)
    np.testing.assert_allclose(dot(weights, tangent), dot(pulled, direction), rtol=1e-3)


def test_a_tangent_of_the_inputs_alone_asks_nothing_of_the_weights():
    """As many products as the value and one tangent have: a zero tangent of the weights is no product."""
    apply, (params, x, c_noise) = case("U-Net")
    count = lambda function: jax.jit(function).lower(x).compile().cost_analysis()["flops"]
    one = count(lambda x: apply(params, x, c_noise))
    assert count(lambda x: along(lambda x: apply(params, x, c_noise), (x,), (jnp.cos(x),))) < 2.3 * one


def test_the_switch_turns_every_kernel_off(monkeypatch):
    def text():
        network, (x, c_noise) = of_unet(width=32, num_blocks=1)
        params = jax.eval_shape(network.init, jax.random.key(0))
        shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in (x, c_noise)]
        lanes = [jax.ShapeDtypeStruct((2, *shape.shape), shape.dtype) for shape in shapes]
        function = jax.vmap(lambda *args: network.apply(*args), (None, 0, 0))
        return jax.jit(function).lower(params, *lanes).as_text()

    assert "while" in text(), "lanes one after another"
    monkeypatch.setattr(cpu, "IS_ON", False)
    jax.clear_caches()
    found = text()
    jax.clear_caches()
    assert "while" not in found and found.count("dot_general") < 12, "neither lanes in turn nor tiles"
