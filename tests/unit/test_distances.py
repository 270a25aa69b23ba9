"""Distances between samples against SciPy, a double loop in float64, and worlds whose answers are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from pgd_jax.core.errors import UserError
from pgd_jax.measures import distances

of_windows = jax.jit(distances.of_windows)


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def test_wasserstein_is_scipy_s_for_samples_of_any_size():
    x, y = normal(0, 70, 3), 1.5 * normal(1, 41, 3) + 0.3
    x, y = x.at[:, 2].set(jnp.round(x[:, 2])), y.at[:, 2].set(jnp.round(y[:, 2]))  # a column full of ties
    found = jax.jit(distances.wasserstein)(x, y)
    expected = [stats.wasserstein_distance(np.asarray(x[:, i]), np.asarray(y[:, i])) for i in range(3)]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(distances.wasserstein(y, x), found, rtol=1e-5)


def test_wasserstein_of_shifted_gaussians_is_the_shift():
    x, shift = normal(0, 500, 2), jnp.array([0.25, -3.0])
    np.testing.assert_allclose(distances.wasserstein(x, x + shift[None]), [0.25, 3.0], rtol=1e-5)
    np.testing.assert_allclose(distances.wasserstein(x, x), 0.0, atol=1e-7)
    # Independent draws: their own distance from the law is 1 / sqrt(2000), at most.
    np.testing.assert_allclose(distances.wasserstein(normal(1, 2000, 1), normal(2, 3000, 1) + 0.5), 0.5, atol=0.1)


def mmd_by_loops(x, y):
    """Gretton et al. 2012, eq. 3, one pair after the other."""
    x, y = (np.asarray(each, np.float64).reshape(len(each), -1) for each in (x, y))
    pairs = [((y[i] - y[j]) ** 2).sum() for i in range(len(y)) for j in range(i)]
    variance = np.median(pairs)

    def kernel(a, b):
        return np.exp(-((a - b) ** 2).sum() / (2.0 * variance))

    def within(z):
        terms = [kernel(z[i], z[j]) for i in range(len(z)) for j in range(len(z)) if i != j]
        return sum(terms) / (len(z) * (len(z) - 1))

    across = sum(kernel(a, b) for a in x for b in y) / (len(x) * len(y))
    return within(x) + within(y) - 2.0 * across


@pytest.mark.parametrize("num_windows", [5, 12])
def test_mmd_against_a_double_loop(num_windows):
    """Seven reference windows have an odd number of pairs, eight an even one: both medians."""
    windows = 1.3 * normal(0, num_windows, 3, 2) + 0.4
    for num_reference in (7, 8):
        reference = normal(1, num_reference, 3, 2)
        expected = mmd_by_loops(windows, reference)
        assert expected > 0.005
        np.testing.assert_allclose(of_windows(windows, reference)["mmd"], expected, rtol=1e-4)


def test_a_set_against_itself():
    """Eq. 3 leaves a window's kernel with itself out within a set, but not across: -2/n (1 - mean kernel) remains."""
    windows = normal(0, 64, 4, 3)
    found = of_windows(windows, windows)
    squared = ((np.asarray(windows)[:, None] - np.asarray(windows)[None]) ** 2).sum(axis=(2, 3))
    off = ~np.eye(64, dtype=bool)
    kernel = np.exp(-squared[off] / (2.0 * np.median(squared[off])))
    np.testing.assert_allclose(found["mmd"], -2.0 / 64 * (1.0 - kernel.mean()), atol=1e-5)
    np.testing.assert_allclose([found["diversity"], found["nearest_distance"]], 1.0, rtol=1e-6)


def test_one_law_is_told_from_another():
    reference = normal(0, 200, 4, 3)
    same, other = of_windows(normal(1, 200, 4, 3), reference), of_windows(normal(2, 200, 4, 3) + 0.3, reference)
    assert abs(float(same["mmd"])) < 0.004 and float(other["mmd"]) > 0.02
    np.testing.assert_allclose([same["diversity"], same["nearest_distance"]], 1.0, atol=0.05)


def test_far_from_zero_nothing_changes():
    windows, reference = normal(0, 20, 4, 3), normal(1, 30, 4, 3)
    near, far = of_windows(windows, reference), of_windows(windows + 1e3, reference + 1e3)
    for name in near:
        np.testing.assert_allclose(far[name], near[name], rtol=1e-3, atol=1e-5)


def test_diversity_and_nearest_distance_by_hand():
    # Windows of one number: the reference at 0, 1, 3 has distances 1, 3, 2 and nearest ones 1, 1, 2.
    reference = jnp.array([0.0, 1.0, 3.0]).reshape(3, 1, 1)
    # Two copies at 0 and one at 6: distances 0, 6, 6; nearest ones 0, 0, 6.
    found = of_windows(jnp.array([0.0, 0.0, 6.0]).reshape(3, 1, 1), reference)
    np.testing.assert_allclose([found["diversity"], found["nearest_distance"]], [4.0 / 2.0, 2.0 / (4.0 / 3.0)])
    # Two windows 6 apart are held against the nearest ones of two reference windows, which are 1 apart.
    found = of_windows(jnp.array([0.0, 6.0]).reshape(2, 1, 1), reference)
    np.testing.assert_allclose([found["diversity"], found["nearest_distance"]], [6.0 / 2.0, 6.0])
    # Four copies against the three reference windows: collapse shows, and is finite.
    found = of_windows(jnp.ones((4, 1, 1)), reference)
    np.testing.assert_allclose([found["diversity"], found["nearest_distance"]], 0.0)


def test_a_reference_of_copies_is_finite():
    found = of_windows(normal(0, 3, 2, 2), jnp.ones((4, 2, 2)))
    assert all(np.isfinite(value) for value in found.values())


def test_no_more_windows_than_the_memory_allows(monkeypatch):
    windows, reference = normal(0, 9, 2, 2), normal(1, 7, 2, 2)
    expected = distances.of_windows(windows[:4], reference[:4])
    monkeypatch.setattr(distances, "MAX_WINDOWS", 4)
    found = distances.of_windows(windows, reference)
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-6)


def test_one_window_has_no_other():
    with pytest.raises(UserError, match="found 1 generated, 3 real"):
        distances.of_windows(jnp.zeros((1, 2, 2)), jnp.zeros((3, 2, 2)))
