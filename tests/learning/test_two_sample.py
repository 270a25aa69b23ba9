"""Returns of a fixed policy over 64 episodes: in the graph and on the host, one distribution.

Kolmogorov-Smirnov, Mann-Whitney and a permutation test of the means (experiments/parity/returns.py), all at 1 %; the
same tests must see a world that is a little different.
"""

import functools

import gymnasium
import numpy as np
import pytest

from experiments.parity import returns
from pgd_jax.envs import base

pytestmark = pytest.mark.slow

pytest.importorskip("mujoco")

STEPS = 200  # pendulum's horizon; hopper's episodes under these policies are over by then
PROBES = [("pendulum", "swing up"), ("hopper", "follow"), ("hopper", "leap")]
# Each takes most of a minute to compile in-graph: by `make test` one policy of hopper.
SLOW_IN_GRAPH = {("hopper", "follow")}


def sample_in_graph(name, label):
    env = base.ENVS.get(name)()._replace(horizon=STEPS)
    return returns.in_graph(env, returns.policies(name, env)[label], 64, 0)


@functools.cache
def sample_on_host(name, label, change=None, seed=0):
    twin = base.HOST_ENVS.get(name)()
    make = twin.make if change is None else (lambda: change(twin.make()))
    return returns.on_host(twin._replace(horizon=STEPS, make=make), returns.policies(name, twin)[label], 64, seed)


def heavier(env):
    """Gravity 10 % up."""
    if env.unwrapped.spec.id == "Pendulum-v1":
        env.unwrapped.g *= 1.1
    else:
        env.unwrapped.model.opt.gravity[2] *= 1.1
    return env


def weaker(env):
    """Motors 5 % down."""
    env.unwrapped.model.actuator_gear[:] *= 0.95
    return env


def noisier(env):
    """Starts spread ten times as far."""
    env.unwrapped._reset_noise_scale *= 10.0
    return env


def badly_paid(env):
    return gymnasium.wrappers.TransformReward(env, lambda reward: 0.8 * reward)


@pytest.mark.parametrize(
    ("name", "label"),
    [pytest.param(*probe, marks=pytest.mark.slow if probe in SLOW_IN_GRAPH else ()) for probe in PROBES],
)
def test_in_graph_and_host_returns_are_alike(name, label):
    a, b = sample_in_graph(name, label), sample_on_host(name, label)
    assert a.shape == b.shape == (64,) and min(np.unique(a).size, np.unique(b).size) > 60
    found = returns.compare(a, b)
    assert found.alike, found


@pytest.mark.parametrize(("name", "label"), PROBES)
def test_two_samples_of_the_host_are_alike(name, label):
    """What makes the tests below mean something."""
    assert returns.compare(sample_on_host(name, label), sample_on_host(name, label, seed=1)).alike


@pytest.mark.parametrize(
    ("name", "label", "change"),
    [("pendulum", "swing up", change) for change in (heavier, badly_paid)]
    + [("hopper", "leap", change) for change in (heavier, weaker, noisier, badly_paid)],
)
def test_another_world_is_told_apart(name, label, change):
    found = returns.compare(sample_on_host(name, label), sample_on_host(name, label, change, seed=1))
    assert not found.alike, found


def test_each_test_sees_what_it_is_for():
    generator = np.random.default_rng(0)
    a = generator.normal(size=64)
    shifted, wider = generator.normal(size=64) + 0.8, 3.0 * generator.normal(size=64)
    assert max(returns.compare(a, shifted)) < 0.01
    assert returns.compare(a, wider).kolmogorov_smirnov < 0.01 < returns.compare(a, wider).mean
    assert returns.compare(a, generator.normal(size=64)).alike
