"""Numbers with known answers, computed on this device by the library's own parts: the end of `pgd doctor`.

Every check measures an error, and knows what rounding, or the number of samples, explains of it. All but one ask for
float32 products, whatever the device's default is; that one says what the default is.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pgd_jax import agents  # noqa: F401 (registers the agents)
from pgd_jax.agents.base import AGENTS, AgentPlan
from pgd_jax.core import config as configs, devices
from pgd_jax.core.errors import first_line
from pgd_jax.core.types import Layout, Normalizer, Transition
from pgd_jax.diffusion import guidance, rules, samplers, schedules  # noqa: F401 (rules registers those of guidance)
from pgd_jax.networks import convolution, product

# The largest root mean square error of a product, in units of its result's spread, by what its factors are rounded to.
# Rounding alone makes 3e-7, 3e-4 and 2e-3.
PRECISIONS = {"float32": 1e-5, "TensorFloat-32": 1e-3, "bfloat16": 1e-2}
ROUNDING = 1e-5  # of a few float32 operations, on numbers of size 1
NUM_WINDOWS = 4096
SAMPLING = 0.1  # of so many windows' covariance: a variance is off by 0.022 in one standard deviation


class Finding(NamedTuple):
    """What one check found; its numbers are NaN where it raised an error."""

    name: str
    error: float
    limit: float
    note: str = ""

    @property
    def is_ok(self) -> bool:
        return self.error <= self.limit

    def __str__(self) -> str:
        numbers = "" if np.isnan(self.limit) else f"error {self.error:.0e}, expected at most {self.limit:.0e}; "
        return f"{'ok    ' if self.is_ok else 'FAILED'} {self.name}: {numbers}{self.note}".removesuffix("; ")


def run() -> Iterator[Finding]:
    """Every check, one after the other. An error that one raises is its finding."""
    for name, check in CHECKS.items():
        is_default = check is default_product
        try:
            with contextlib.nullcontext() if is_default else jax.default_matmul_precision("highest"):
                found = check()
        except Exception as error:  # whatever a broken device or library does
            found = np.nan, np.nan, first_line(error)
        yield Finding(name, *found)


def _distance(left: Any, right: Any) -> float:
    """The largest between two trees, of numbers of either precision."""
    of_each = jax.tree.map(lambda a, b: np.abs(np.asarray(a, np.float64) - np.asarray(b)).max(), left, right)
    return float(np.max(jax.tree.leaves(of_each)))  # unlike max, NaN where any is


# ---- products ----


def float32_product() -> tuple[float, float]:
    return _product_error(), PRECISIONS["float32"]


def default_product() -> tuple[float, float, str]:
    """At the precision that runs have, which on accelerators is often less than float32."""
    error = _product_error()
    kind = next((name for name, limit in PRECISIONS.items() if error <= limit), "less than bfloat16")
    advice = "" if kind == "float32" else " (JAX_DEFAULT_MATMUL_PRECISION=highest makes it float32, and slower)"
    return error, max(PRECISIONS.values()), f"{kind}{advice}"


def _product_error() -> float:
    x, kernel = np.random.default_rng(0).standard_normal((2, 256, 256), np.float32)
    return _rms(jax.jit(product.product)(x, kernel), x.astype(np.float64) @ kernel) / 16.0


def convolution_over_time() -> tuple[float, float]:
    """Wide enough for a CPU to take tiles."""
    draw = np.random.default_rng(0)
    x, kernel = draw.standard_normal((4, 16, 64), np.float32), draw.standard_normal((3, 64, 64), np.float32)
    padded = np.pad(x.astype(np.float64), ((0, 0), (1, 1), (0, 0)))
    exact = sum(padded[:, shift : shift + 16] @ kernel[shift] for shift in range(3))
    return _rms(jax.jit(convolution.convolve)(x, kernel), exact) / np.sqrt(3.0 * 64.0), PRECISIONS["float32"]


def _rms(found: jax.Array, exact: Any) -> float:
    return float(np.sqrt(np.mean(np.square(np.asarray(found, np.float64) - exact))))


# ---- sampling and guidance ----


def gaussian_windows() -> tuple[float, float, str]:
    """Unguided windows of the default sampler, with the exact denoiser of correlated Gaussian data.

    The denoiser is m + S (S + s^2)^-1 (x - m) for data N(m, S). In the coordinates of S's eigenvectors, each divided by
    its standard deviation, samples must have mean 0 and covariance I.
    """
    root = np.random.default_rng(0).standard_normal((8, 8))
    covariance = root @ root.T + np.eye(8)
    spread = np.sqrt(np.diag(covariance))
    values, vectors = np.linalg.eigh(covariance / np.outer(spread, spread))  # of data of unit variance
    mean = np.linspace(-1.0, 1.0, 8)
    m, l, v = jnp.float32(mean)[None], jnp.float32(values)[None], jnp.float32(vectors)

    def denoise(x: jax.Array, sigma: jax.Array) -> jax.Array:
        coordinates = (x.reshape(NUM_WINDOWS, 8) - m) @ v
        return (m + (coordinates * l / (l + sigma**2)) @ v.T).reshape(x.shape)

    setting = configs.SamplingConfig()
    sample = samplers.SAMPLERS.get(setting.sampler).sample
    levels = schedules.SIGMA_MIN, schedules.SIGMA_MAX, schedules.RHO
    sigmas = schedules.SCHEDULES.get(setting.noise_schedule)(setting.num_steps, *levels)
    x = jax.jit(lambda key: sample(key, denoise, sigmas, (NUM_WINDOWS, 2, 4)))(jax.random.key(0))
    white = (np.asarray(x, np.float64).reshape(NUM_WINDOWS, 8) - mean) @ vectors / np.sqrt(values)
    error = np.max([np.abs(white.mean(axis=0)).max(), np.abs(np.cov(white.T) - np.eye(8)).max()])
    return float(error), SAMPLING, f"mean and covariance of {NUM_WINDOWS} by {setting.sampler}"


def proximal_guidance() -> tuple[float, float]:
    """With the exact denoiser x / (1 + s^2) of unit data and a policy N(c, p^2), D_a is the mean of N(D, v) pi^lambda.

    That is (D_a / v + lambda c / p^2) / (1 / v + lambda / p^2).
    """
    centre, std, strength = 0.7, 0.3, 10.0
    normalizer = Normalizer(jnp.zeros(6), jnp.ones(6), Layout(obs_dim=2, action_dim=2), squash=False)
    everywhere = guidance.Interval(sigma_max=guidance.EVERY_SIGMA)

    def log_prob(obs: jax.Array, action: jax.Array) -> jax.Array:
        return -0.5 * jnp.sum(jnp.square((action - centre) / std), axis=-1)

    def denoise(x: jax.Array, sigma: jax.Array) -> jax.Array:
        return x / (1.0 + sigma**2)

    guided = guidance.guide(denoise, log_prob, normalizer, jnp.float32(strength), num_steps=1, interval=everywhere)
    denoised = jax.jit(guided.denoised)
    x, errors = np.random.default_rng(0).standard_normal((8, 4, 6), np.float32), []
    for sigma in (0.1, 1.0, 10.0):
        exact = x.astype(np.float64) / (1.0 + sigma**2)
        variance, precision = sigma**2 / (1.0 + sigma**2), strength / std**2
        exact[..., 2:4] = (exact[..., 2:4] / variance + precision * centre) / (1.0 / variance + precision)
        errors.append(_distance(denoised(x, np.float32(sigma)), exact))
    return float(np.max(errors)), ROUNDING


# ---- learning, lanes, devices ----


class _Case(NamedTuple):
    """Behaviour cloning, small, whose rate and epsilon make every parameter move by about its gradient."""

    update: Callable[[jax.Array, Any, Any, Transition], Any]  # (key, state, hyper, batches) -> state
    states: Any  # of L lanes, numpy
    hypers: Any  # likewise
    batches: Any  # [K, B, ...], numpy


def _case(num_lanes: int) -> _Case:
    family = AGENTS.get("bc")
    agent, hyper = family.build(3, 2, AgentPlan(hidden_dim=16)), family.hyper().replace(actor_lr=0.1, adam_eps=0.1)
    draw = np.random.default_rng(0)
    # By numpy: to compile what draws a start would take most of the time of a check.
    shapes = jax.eval_shape(agent.init, jax.random.key(0), hyper)
    states = jax.tree_util.tree_map_with_path(functools.partial(_start, draw, num_lanes), shapes)
    hypers = jax.tree.map(lambda value: np.linspace(value, 2.0 * value, num_lanes, dtype=np.float32), hyper)
    columns: dict[str, Any] = {name: draw.standard_normal((1, 32, 3), np.float32) for name in ("obs", "next_obs")}
    columns |= {name: np.zeros((1, 32), np.float32) for name in ("reward", "terminal")}
    columns["action"] = np.tanh(draw.standard_normal((1, 32, 2), np.float32))

    def update(key: jax.Array, state: Any, hyper: Any, batches: Transition) -> Any:
        return agent.update(key, state, batches, hyper)[0]

    return _Case(update, states, hypers, Transition(**columns))


def _start(draw: np.random.Generator, num_lanes: int, path: Any, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
    """Parameters that are not small, and Adam's moments of the first update, with an axis of lanes in front."""
    shape, is_moment = (num_lanes, *leaf.shape), "moments" in jax.tree_util.keystr(path)
    return np.zeros(shape, leaf.dtype) if is_moment else 0.3 * draw.standard_normal(shape, np.float32)


def _lane(tree: Any, index: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[index], tree)


def agent_update() -> tuple[float, float]:
    """An update against the same in float64, which a CPU makes wherever JAX has one."""
    case = _case(1)
    arguments = *_lane((case.states, case.hypers), 0), case.batches
    found = jax.jit(case.update)(jax.random.key(0), *arguments)
    with jax.enable_x64(True), jax.default_device(_reference_device()):
        double = jax.tree.map(lambda leaf: leaf.astype(np.float64) if leaf.dtype == np.float32 else leaf, arguments)
        exact = jax.jit(case.update)(jax.random.key(0), *double)
    return _distance(found, exact), ROUNDING


def _reference_device() -> jax.Device:
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:  # JAX_PLATFORMS leaves it out
        return jax.local_devices()[0]


def lanes() -> tuple[float, float, str]:
    """Lanes of other weights and floats, over all devices as in a run, against each lane alone."""
    num_lanes = 2 * jax.device_count()
    case = _case(num_lanes)
    of_lanes = jax.random.split(jax.random.key(0), num_lanes), case.states, case.hypers
    mesh = devices.mesh_of(devices.AUTO, num_lanes, 0)
    together = devices.by_lane(jax.vmap(case.update, in_axes=(0, 0, 0, None)), mesh, num_by_lane=3, num_copied=1)
    placed = devices.place(of_lanes, mesh, devices.LANES), devices.place(case.batches, mesh)
    found, alone = jax.jit(together)(*placed[0], placed[1]), jax.jit(case.update)
    each = [_distance(_lane(found, i), alone(*_lane(of_lanes, i), case.batches)) for i in range(num_lanes)]
    return float(np.max(each)), ROUNDING, f"{num_lanes} on {devices.size(mesh, devices.LANES)} devices"


def gather() -> tuple[float, float, str]:
    """What each device makes of its windows, brought to all devices."""
    num_devices = jax.device_count()
    mesh = devices.mesh_of(f"{devices.WINDOWS}={num_devices}", 1, num_devices)
    windows = np.arange(8.0 * num_devices, dtype=np.float32).reshape(num_devices, 8)
    everywhere = devices.on_each(lambda x: devices.map_windows(jnp.sqrt, x, mesh), mesh)
    found = jax.jit(everywhere)(devices.place(windows, mesh))
    errors = [_distance(copy.data, np.sqrt(windows)) for copy in found.addressable_shards]
    return float(np.max(errors)), ROUNDING, f"from each of {num_devices} to all"


CHECKS: dict[str, Callable[[], tuple]] = {
    "matrix product in float32": float32_product,
    "matrix product as runs have it": default_product,
    "convolution over time": convolution_over_time,
    "unguided windows of Gaussian data": gaussian_windows,
    "guidance by a Gaussian policy": proximal_guidance,
    "update of an agent against float64": agent_update,
    "lanes together against each alone": lanes,
    "windows gathered over devices": gather,
}
