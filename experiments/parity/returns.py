"""Returns of one fixed policy: the environment in the graph against its twin on the host, as two samples.

    python -m experiments.parity.returns [--tasks=hopper,pendulum] [--num_episodes=64]

Printed for each task: mean and standard deviation of both samples of returns, and the probability that samples of one
distribution differ by as much, by three tests: Kolmogorov-Smirnov (any difference), Mann-Whitney (location) and a
permutation test of the difference of means (what a score is made of). "alike": none is below `LEVEL`. Then the seconds
that each took, compilation included.
"""

import functools
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from scipy import stats

from pgd_jax.cli import entry
from pgd_jax.envs import base, evaluate, host

LEVEL = 0.01
NUM_PERMUTATIONS = 9_999
# One leap and a fall, with returns of 181 +- 2 on Hopper-v4: motors 5 % weaker, or gravity 10 % up, show at once.
LEAP = np.array([
    [0.03, -0.01, 0.03, -0.02, -0.04, 0, -0.03, 0, -0.02, -0.05, 0.01],
    [-0.07, 0.06, -0.03, 0.06, 0.03, 0, 0.02, -0.08, -0.02, -0.09, -0.01],
    [0.07, -0.05, -0.04, 0.03, -0.04, 0.07, 0.05, -0.03, -0.05, -0.05, 0],
])  # fmt: skip


class Policy(NamedTuple):
    """A fixed policy."""

    apply: Callable[[jax.Array, jax.Array], jax.Array]  # (weights, obs f32[..., O]) -> action f32[..., A] in [-1, 1]
    weights: np.ndarray


def swing_up(gains: jax.Array, obs: jax.Array) -> jax.Array:
    """Pendulum: pumps while it hangs, holds it near the top; how long the pumping takes depends on the start."""
    cos, sin, speed = obs[..., :1], obs[..., 1:2], obs[..., 2:]
    hold = -(gains[0] * jnp.arctan2(sin, cos) + gains[1] * speed)
    return jnp.clip(jnp.where(cos > 0.8, hold, jnp.tanh(gains[0] * speed)), -1.0, 1.0)


def linear(weights: jax.Array, obs: jax.Array) -> jax.Array:
    """clip(W obs), weights f32[A, O]."""
    return jnp.clip(jnp.einsum("ao,...o->...a", weights, obs, precision="highest"), -1.0, 1.0)


def policies(name: str, env: base.EvalEnv | base.HostEnv) -> dict[str, Policy]:
    """Fixed policies of a task by name; "follow": each motor follows one coordinate."""
    shape = env.action_dim, env.obs_dim
    if name == "pendulum":
        return {"swing up": Policy(swing_up, np.array([5.0, 1.0], np.float32))}
    if name == "halfcheetah":
        weights = 0.3 * np.random.default_rng(0).normal(size=shape)
        return {"random": Policy(linear, weights.astype(np.float32))}
    found = {"follow": Policy(linear, np.eye(*shape, dtype=np.float32))}
    return found | ({"leap": Policy(linear, LEAP.astype(np.float32))} if name == "hopper" else {})


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _in_graph(
    env: base.EvalEnv, apply: Callable[..., jax.Array], num_episodes: int, weights: jax.Array, key: jax.Array
) -> jax.Array:
    return evaluate.evaluate(key, functools.partial(apply, weights), env, num_episodes).returns


def in_graph(env: base.EvalEnv, policy: Policy, num_episodes: int, seed: int) -> np.ndarray:
    """f32[E] returns; policies of one kind share a compilation."""
    return np.asarray(_in_graph(env, policy.apply, num_episodes, policy.weights, jax.random.key(seed)))


def on_host(env: base.HostEnv, policy: Policy, num_episodes: int, seed: int) -> np.ndarray:
    """f64[E] returns."""
    act = functools.partial(jax.jit(policy.apply), policy.weights)
    return host.Evaluator(env, 1, num_episodes).evaluate(act, np.array([seed]), 0, np.ones(1)).returns[0]


class Probabilities(NamedTuple):
    """Of samples of one distribution differing by at least as much."""

    kolmogorov_smirnov: float
    mann_whitney: float
    mean: float

    @property
    def alike(self) -> bool:
        return min(self) >= LEVEL


def compare(a: np.ndarray, b: np.ndarray) -> Probabilities:
    """Two samples of returns [E]."""
    means = stats.permutation_test(
        (a, b), _difference_of_means, vectorized=True, n_resamples=NUM_PERMUTATIONS, rng=np.random.default_rng(0)
    )
    return Probabilities(
        float(stats.ks_2samp(a, b).pvalue), float(stats.mannwhitneyu(a, b).pvalue), float(means.pvalue)
    )


def _difference_of_means(a: np.ndarray, b: np.ndarray, axis: int) -> np.ndarray:
    return np.mean(a, axis=axis) - np.mean(b, axis=axis)


def _row(name: str, label: str, policy: Policy) -> str:
    env, twin = base.ENVS.get(name)(), base.HOST_ENVS.get(name)()
    count, seed, began = flags.FLAGS.num_episodes, flags.FLAGS.seed, time.perf_counter()
    a, middle = in_graph(env, policy, count, seed), time.perf_counter()
    b, ended = on_host(twin, policy, count, seed), time.perf_counter()
    samples = [f"{x.mean():.1f} ± {x.std(ddof=1):.1f}" for x in (a, b)]
    found = compare(a, b)
    seconds = f"{middle - began:.0f} + {ended - middle:.0f}"
    cells = [name, label, *samples, *(f"{value:.2f}" for value in found), "yes" if found.alike else "no", seconds]
    return f"| {' | '.join(cells)} |"


def _prepare() -> Callable[[], None]:
    flags.DEFINE_list("tasks", ["pendulum", "hopper", "halfcheetah", "walker2d", "ant"], "which tasks")
    flags.DEFINE_integer("num_episodes", 64, "episodes of each sample")
    flags.DEFINE_integer("seed", 0, "of both samples")
    return _main


def _main() -> None:
    print("| task | policy | in graph | host | Kolmogorov-Smirnov | Mann-Whitney | mean | alike | seconds |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in flags.FLAGS.tasks:
        for label, policy in policies(name, base.HOST_ENVS.get(name)()).items():
            print(_row(name, label, policy), flush=True)


if __name__ == "__main__":
    entry.run(_prepare, __doc__, keeps_nothing=True)
