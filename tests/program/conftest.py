"""One tiny dataset and one trained denoiser for the session."""

import pytest

from pgd_jax import denoiser
from tests import worlds


@pytest.fixture(scope="session")
def dataset(tmp_path_factory):
    return worlds.write_dataset(tmp_path_factory.mktemp("data") / "tiny.hdf5")


@pytest.fixture(scope="session")
def trained(dataset, tmp_path_factory):
    """The run directory of a finished denoiser."""
    path = tmp_path_factory.mktemp("runs") / "denoiser"
    assert denoiser.fit(worlds.denoiser_config(dataset), path)
    return path


@pytest.fixture(scope="session")
def world():
    """Two seeds by two guidance coefficients, 0 and 1, with TD3+BC."""
    return worlds.build()
