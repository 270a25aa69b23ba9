"""Another library trains on what this one writes.

d3rlpy brings torch, gigabytes of it, so that it is not among the tests' requirements: install it to run this test. It
asks for an older gymnasium, and works with the one that is asked for here.
"""

import h5py
import jax
import numpy as np
import pytest

import pgd_jax as pgd

d3rlpy = pytest.importorskip("d3rlpy")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]


def test_d3rlpy_trains_on_saved_windows(tmp_path):
    data = pgd.load_dataset("pendulum-mixed-v0")
    denoiser = pgd.train_denoiser(data, num_steps=20, width=8, num_blocks=1, window_length=8)
    windows = denoiser.sample(jax.random.key(0), 128)
    windows.save(tmp_path / "windows.hdf5")
    with h5py.File(tmp_path / "windows.hdf5") as file:
        columns = {
            name: np.asarray(file[name]) for name in ("observations", "actions", "rewards", "terminals", "timeouts")
        }
    dataset = d3rlpy.dataset.MDPDataset(**columns)
    assert dataset.transition_count > 128 and dataset.dataset_info.action_size == data.actions.shape[1]

    agent = d3rlpy.algos.TD3PlusBCConfig(batch_size=32).create(device="cpu")
    agent.fit(
        dataset,
        n_steps=20,
        n_steps_per_epoch=20,
        show_progress=False,
        logger_adapter=d3rlpy.logging.NoopAdapterFactory(),
    )
    action = agent.predict(columns["observations"][:5])
    assert action.shape == columns["actions"][:5].shape and np.isfinite(action).all()
