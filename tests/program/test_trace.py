"""`Denoiser.trace`: the windows of `sample`, and their way in environment units."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pgd_jax as pgd
from pgd_jax.data import normalizer as normalizers
from pgd_jax.diffusion import edm

KEY = jax.random.key(3)


@pytest.fixture(scope="module")
def denoiser(trained):
    return pgd.load_denoiser(trained)


def toward_half(obs, action):
    return jnp.sum(-0.5 * ((action - 0.5) / 0.3) ** 2, axis=-1)


def test_it_is_the_way_of_the_windows_of_sample(denoiser):
    settings = dict(log_prob=toward_half, guidance=3.0, num_steps=4, hyper={"guidance.sigma_max": 2.0})
    trace, plain = denoiser.trace(KEY, 6, **settings), denoiser.sample(KEY, 6, **settings)
    for name in ("obs", "action", "reward", "terminal"):
        np.testing.assert_allclose(getattr(trace.windows, name), getattr(plain, name), atol=1e-5)
        last = getattr(trace.denoised, name)[-1]
        last = last > 0.5 if name == "terminal" else last
        np.testing.assert_allclose(last, getattr(plain, name), atol=1e-5)
    assert trace.noisy.obs.shape == (4, 6, 8, 3) and trace.evaluated.action.shape == (4, 6, 8, 1)
    assert len(trace) == 4 and trace.log_prob.shape == (4, 6, 8)
    assert (np.diff(trace.sigma) < 0.0).all() and trace.sigma[0] == pytest.approx(20.0)
    np.testing.assert_array_equal(trace.is_guided, trace.sigma <= 2.0)
    assert 0 < trace.is_guided.sum() < 4
    shift = np.abs(trace.action_shift).max(axis=(1, 2, 3))
    assert (shift[~trace.is_guided] == 0.0).all() and shift[trace.is_guided].max() > 0.05
    # Guidance goes toward 0.5, from where log_prob is asked.
    rows = trace.evaluated
    np.testing.assert_allclose(trace.log_prob, toward_half(rows.obs, rows.action), rtol=1e-4, atol=1e-5)
    distance = [np.abs(each.action[trace.is_guided] - 0.5).mean() for each in (trace.denoised, trace.unguided)]
    assert distance[0] < distance[1]


def test_the_answers_are_the_network_s(denoiser):
    """Noisy windows, encoded and denoised again, are the denoised ones: units, columns and levels agree."""
    trace, trained = denoiser.trace(KEY, 3, num_steps=4, hyper={"sigma_max": 1.0}), denoiser.trained
    assert not trace.is_guided.any() and (trace.log_prob == 0.0).all()
    denoise = jax.jit(edm.denoiser(trained.network, trained.params))

    def encoded(rows, step):
        columns = (rows.obs, rows.action, rows.reward[..., None], rows.terminal[..., None])
        return normalizers.encode(trained.normalizer, jnp.concatenate([each[step] for each in columns], axis=-1))

    for step in (2, 3):  # where no action is so noisy that tanh has lost it
        found = denoise(encoded(trace.noisy, step), jnp.float32(trace.sigma[step]))
        np.testing.assert_allclose(found, encoded(trace.denoised, step), atol=2e-3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(num_windows=0), "num_windows=0 must be at least 1"),
        (dict(num_windows=4, trajectories_per_batch=2), "trajectories_per_batch: a trace is of one batch"),
        (dict(num_windows=4, sampler="hoin"), 'did you mean "heun"'),
        (dict(num_windows=4, log_prob=3.0), "log_prob must be a function of"),
    ],
)
def test_mistakes_are_one_clear_error(settings, message, denoiser):
    with pytest.raises(pgd.UserError, match=message):
        denoiser.trace(KEY, **settings)
