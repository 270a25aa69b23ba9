"""What a denoiser is trained on: its windows and their statistics."""

import jax
import numpy as np
import pytest

from pgd_jax.core.config import DataConfig, DenoiserConfig, TrainingConfig
from pgd_jax.data import normalizer as normalizers
from pgd_jax.data.base import RawDataset
from pgd_jax.runs import denoiser as denoisers
from pgd_jax.train import denoiser as training


def recording(lengths, seed=0):
    """Episodes of these lengths whose columns drift along the episode; each second one ends in a terminal."""
    generator, num_rows = np.random.default_rng(seed), sum(lengths)
    time = np.concatenate([np.arange(length) for length in lengths]).astype(np.float32)
    terminals, timeouts = np.zeros(num_rows, bool), np.zeros(num_rows, bool)
    stops = np.cumsum(lengths) - 1
    terminals[stops[::2]], timeouts[stops[1::2]] = True, True
    obs = np.stack([0.1 * time, generator.normal(size=num_rows)], axis=1).astype(np.float32)
    actions = np.tanh(generator.normal(size=(num_rows, 1))).astype(np.float32)
    return RawDataset("made", "", "", obs, actions, time**2, None, terminals, timeouts)


@pytest.mark.parametrize("lengths", [[50] * 12, [30, 11, 200, 9] * 4])
def test_training_windows_are_standardised(lengths):
    """sigma_data = 1 is said of them: not of all rows, of which some are held out and some in few windows."""
    settings = DataConfig(window_length=8, window_stride=4, validation_fraction=0.3)
    data = denoisers.prepare(DenoiserConfig(data=settings, training=TrainingConfig(batch_size=4)), recording(lengths))
    windows = training.gather(data.training, np.arange(len(data.training.starts)), 8)
    windows = normalizers.standardised(data.normalizer, windows)  # a terminal has two values, 0.4 apart
    columns = np.asarray(windows, np.float64).reshape(-1, windows.shape[-1])
    np.testing.assert_allclose(columns.mean(axis=0), 0.0, atol=1e-5)
    np.testing.assert_allclose(columns.std(axis=0), 1.0, atol=1e-5)
    assert jax.device_get(data.normalizer.mean).dtype == np.float32
