"""In which steps guidance acts follows from the lanes' floats, on the host, before the program is traced."""

import jax.numpy as jnp
import numpy as np

from pgd_jax.core import config as configs
from pgd_jax.diffusion import schedules
from pgd_jax.generators import diffusion

EDM = {"sigma_min": 0.002, "sigma_max": 80.0}


def hypers(**columns):
    """Two lanes."""
    hyper = diffusion.Hyper()
    base = EDM | {"rho": 7.0, "low": 0.0, "high": 1e6} | columns
    values = {name: jnp.broadcast_to(jnp.float32(value), (2,)) for name, value in base.items()}
    limits = hyper.guidance.replace(sigma_min=values.pop("low"), sigma_max=values.pop("high"))
    return hyper.replace(guidance=limits, **values)


SIGMAS = np.asarray(schedules.karras(16, **EDM))[:-1]


def guided(**columns):
    sampling, lanes = configs.SamplingConfig(noise_schedule="karras"), hypers(**columns)
    return np.array(diffusion.guided_steps(sampling, lanes, 16, lanes.sigma_max))


def test_every_step_where_nothing_is_limited():
    assert guided().all() and not guided(low=100.0, high=200.0).any()


def test_the_steps_within_the_interval():
    np.testing.assert_array_equal(guided(low=0.05, high=2.0), (SIGMAS >= 0.05) & (SIGMAS <= 2.0))


def test_the_union_over_lanes():
    both = guided(low=jnp.array([0.05, 0.5]), high=jnp.array([2.0, 9.0]))
    np.testing.assert_array_equal(both, (SIGMAS >= 0.05) & (SIGMAS <= 9.0))


def test_lanes_with_other_noise_levels():
    """The second lane's levels are a tenth of the first's: so are those where it is guided."""
    found = guided(sigma_min=jnp.array([0.01, 0.001]), sigma_max=jnp.array([10.0, 1.0]), low=0.011, high=0.11)
    wide = np.asarray(schedules.karras(16, 0.01, 10.0))[:-1]
    np.testing.assert_array_equal(found, (wide >= 0.011) & (wide <= 1.1))
