"""EDM's preconditioning and loss (Karras et al. 2022, Table 1) by hand, and training on windows of a known Gaussian."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from pgd_jax.core.config import TrainingConfig
from pgd_jax.diffusion import edm
from pgd_jax.networks import base, unet
from pgd_jax.train import denoiser as denoiser_training


def test_preconditioning_by_hand():
    # s = 2, sigma_data = 1: s^2 + 1 = 5, c_skip = 1/5, c_out = 2/sqrt 5, c_in = 1/sqrt 5, c_noise = ln(2)/4 = 0.17329.
    seen = {}

    def network(x, c_noise):
        seen.update(x=x, c_noise=c_noise)
        return jnp.full_like(x, 3.0)

    x = jnp.array([[[1.0, -4.0]]])
    denoised = edm.precondition(network)(x, jnp.float32(2.0))
    np.testing.assert_allclose(seen["x"], x / np.sqrt(5.0), rtol=1e-6)
    np.testing.assert_allclose(seen["c_noise"], [0.173287], rtol=1e-5)
    np.testing.assert_allclose(denoised, 0.2 * x + 3.0 * 2.0 / np.sqrt(5.0), rtol=1e-6)


def test_preconditioning_with_another_sigma_data_and_a_level_a_window():
    # sigma_data = 0.5: s = 0.5 has c_skip = 1/2, c_out = 0.25/sqrt 0.5, c_in = 1/sqrt 0.5;
    # s = 1 has 1/5, 0.5/sqrt 1.25, 1/sqrt 1.25.
    denoise = edm.precondition(lambda x, c_noise: x, sigma_data=0.5)
    denoised = denoise(jnp.ones((2, 1, 1)), jnp.array([0.5, 1.0]))
    # c_skip + c_out c_in: 0.5 + 0.5 and 0.2 + 0.4.
    np.testing.assert_allclose(denoised[:, 0, 0], [1.0, 0.6], rtol=1e-6)


def test_at_no_noise_the_denoiser_is_the_identity_and_at_much_it_is_the_network():
    denoise = edm.precondition(lambda x, c_noise: jnp.full_like(x, 0.7))
    x = jnp.array([[[2.0, -1.0]]])
    np.testing.assert_allclose(denoise(x, jnp.float32(1e-4)), x, atol=1e-3)
    np.testing.assert_allclose(denoise(x, jnp.float32(1e4)), jnp.full_like(x, 0.7), atol=1e-3)


def test_a_perfect_denoiser_has_no_loss(key):
    x0 = jax.random.normal(key, (64, 4, 3))
    assert float(edm.loss(key, lambda x, sigma: x0, x0)) == 0.0
    assert float(edm.loss(key, lambda x, sigma: x0 + 0.1, x0)) > 0.0


@pytest.mark.parametrize(("sigma_data", "noise_mean"), [(1.0, -1.2), (0.5, 0.3)])
def test_a_network_of_zeros_has_a_loss_of_one_at_every_noise_level(key, sigma_data, noise_mean):
    """c_skip x is the best denoiser of N(0, sd^2): error variance s^2 sd^2 / (s^2 + sd^2), times the weight, is 1."""
    x0 = sigma_data * jax.random.normal(key, (20_000, 2, 2))
    denoise = edm.precondition(lambda x, c_noise: jnp.zeros_like(x), sigma_data)
    loss = edm.loss(jax.random.key(1), denoise, x0, noise_mean=noise_mean, sigma_data=sigma_data)
    # The mean of 80,000 squares of unit normals: standard error sqrt(2 / 80,000) = 0.005.
    assert float(loss) == pytest.approx(1.0, abs=0.02)


def test_training_noise_is_log_normal(key):
    levels = []

    def denoise(x, sigma):
        levels.append(np.log(sigma))
        return x

    edm.loss(key, denoise, jnp.zeros((20_000, 1, 1)), noise_mean=-0.5, noise_std=0.8)
    assert stats.kstest(levels[0], stats.norm(-0.5, 0.8).cdf).pvalue > 1e-3


def test_posterior_variance_by_hand():
    # s = 2, sigma_data = 3: 36 / 13. At no noise 0, at endless noise the data's 9.
    np.testing.assert_allclose(edm.posterior_variance(jnp.array([2.0, 0.0, 1e5]), 3.0), [36 / 13, 0.0, 9.0], rtol=1e-5)


VARIANCES = np.array([0.01, 0.1, 0.5])  # of the columns of the Gaussian to learn
LENGTH = 4


def expected_loss(at_level) -> float:
    """E over the training noise of `at_level(s^2, variances) [3]`, mean over the columns."""

    def integrand(z):
        return stats.norm.pdf(z) * np.mean(at_level(np.exp(2.0 * (edm.NOISE_MEAN + edm.NOISE_STD * z)), VARIANCES))

    return integrate.quad(integrand, -8.0, 8.0)[0]


def untrained_loss() -> float:
    """Of c_skip x: weight (s^2 + 1) / s^2 times c_skip^2 s^2 + (1 - c_skip)^2 l is (1 + s^2 l) / (1 + s^2)."""
    return expected_loss(lambda s2, l: (1.0 + s2 * l) / (1.0 + s2))


def irreducible_loss() -> float:
    """Weight (s^2 + 1) / s^2 times the posterior variance l s^2 / (l + s^2)."""
    return expected_loss(lambda s2, l: (s2 + 1.0) * l / (l + s2))


def gaussian_windows(key, num_rows=4_000):
    rows = jnp.sqrt(jnp.asarray(VARIANCES, jnp.float32))[None] * jax.random.normal(key, (num_rows, 3))
    starts = jnp.arange(num_rows - LENGTH, dtype=jnp.int32)
    return denoiser_training.TrainingWindows(rows, starts, starts + LENGTH - 1)


def small(key, config):
    network = unet.build(LENGTH, 3, width=16, num_blocks=2, compute_dtype="float32")
    return network, denoiser_training.init(key, network, config)


@pytest.mark.slow
def test_training_reaches_the_irreducible_loss_of_a_gaussian(key):
    config = TrainingConfig(num_steps=600, steps_per_chunk=200, batch_size=64, learning_rate=5e-3, ema_decay=0.9)
    network, state = small(key, config)
    windows, held_out = gaussian_windows(jax.random.key(1)), gaussian_windows(jax.random.key(2))

    def validation(params):
        return float(
            denoiser_training.validation_loss(
                jax.random.key(3), params, held_out, length=LENGTH, network=network, num_windows=8_192, batch_size=512
            )
        )

    losses = [validation(state.ema)]
    for _ in range(3):
        state, _ = denoiser_training.train_chunk(state, windows, length=LENGTH, network=network, config=config)
        losses.append(validation(state.ema))
    # 8,192 windows of 12 numbers: the standard error is below 0.005; a network can only be worse than the optimum.
    assert losses[0] == pytest.approx(untrained_loss(), abs=0.02)
    assert untrained_loss() - irreducible_loss() > 0.25
    assert losses[1] < losses[0] - 0.2
    assert irreducible_loss() - 0.015 < losses[-1] < irreducible_loss() + 0.03


@pytest.mark.slow
def test_the_average_moves_once_a_period(key):
    """ema <- decay ema + (1 - decay) params after each `ema_period` steps, not after each step."""
    config = TrainingConfig(num_steps=6, steps_per_chunk=3, batch_size=8, ema_decay=0.75, ema_period=3)
    network, state = small(key, config)
    first = jax.tree.map(jnp.copy, state.ema)
    windows = gaussian_windows(key, 64)
    chunk = functools.partial(denoiser_training.train_chunk, length=LENGTH, network=network, config=config)
    state, _ = chunk(state, windows)
    after_one = jax.tree.map(jnp.copy, state)
    state, _ = chunk(state, windows)
    assert int(state.step) == 6
    for start, one, ema_one, two, ema_two in zip(
        *map(jax.tree.leaves, (first, after_one.params, after_one.ema, state.params, state.ema)), strict=True
    ):
        np.testing.assert_allclose(ema_one, 0.75 * start + 0.25 * one, atol=1e-6)
        np.testing.assert_allclose(ema_two, 0.75 * ema_one + 0.25 * two, atol=1e-6)
    moved = [not np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (first, after_one.ema)), strict=True)]
    assert any(moved)


def test_learning_rate_warms_up_and_falls_to_zero():
    """Adam's first step is the rate times the sign: 10 % warm-up of 100 steps to 0.5, then a cosine to 0."""
    config = TrainingConfig(num_steps=100, learning_rate=0.5)
    optimiser, params = denoiser_training.optimiser(config), jnp.zeros(())
    state, rates = optimiser.init(params), []
    with jax.numpy_dtype_promotion("standard"):
        for _ in range(101):
            update, state = optimiser.update(jnp.ones(()), state, params)
            rates.append(-float(update))
    # A constant gradient of 1 keeps both moments' ratio at 1, so each update is the rate of its step.
    assert rates[0] == 0.0
    np.testing.assert_allclose([rates[5], rates[10], rates[55]], [0.25, 0.5, 0.25], rtol=1e-3)
    assert rates[100] == pytest.approx(0.0, abs=1e-6) and max(rates) == pytest.approx(0.5, rel=1e-3)


def test_windows_are_gathered_by_their_start_and_repeat_their_last_row():
    rows = jnp.arange(20.0).reshape(10, 2)
    windows = denoiser_training.TrainingWindows(rows, jnp.array([0, 3, 7]), jnp.array([2, 5, 8]))
    np.testing.assert_array_equal(
        denoiser_training.gather(windows, jnp.array([2, 1]), 3)[..., 0], [[14, 16, 16], [6, 8, 10]]
    )


def test_batches_come_from_the_windows_and_from_all_of_them(key):
    """A network that is right only for one column value shows which rows were drawn."""
    drawn = []
    network = base.Network(lambda key: {"w": jnp.zeros(())}, lambda params, x, c_noise: params["w"] * x)
    rows = jnp.repeat(jnp.arange(6.0)[:, None], 2, axis=1)
    windows = denoiser_training.TrainingWindows(rows, jnp.array([1, 4]), jnp.array([2, 5]))
    original = denoiser_training.gather

    def spy(windows, index, length):
        found = original(windows, index, length)
        drawn.append(np.asarray(found[:, 0, 0]))
        return found

    config = TrainingConfig(num_steps=10, steps_per_chunk=10, batch_size=32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(denoiser_training, "gather", spy)
        state = denoiser_training.init(key, network, config)
        denoiser_training.train_step(state, key, windows, 2, network, config)
    assert set(drawn[0].tolist()) == {1.0, 4.0}
