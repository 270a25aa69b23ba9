"""What guidance does in each step follows from the lanes' floats, on the host, before the program is traced."""

import jax.numpy as jnp
import numpy as np

from pgd_jax import config as configs, loop, planning
from pgd_jax.diffusion import schedules
from pgd_jax.diffusion.guidance import EVALUATED, KEPT, UNGUIDED


def hypers(**columns):
    """Two lanes."""
    hyper = loop.ProgramHyper(None)
    base = {"sigma_min": 0.002, "sigma_max": 80.0, "rho": 7.0, "low": 0.0, "high": 1e6} | columns
    values = {name: jnp.broadcast_to(jnp.float32(value), (2,)) for name, value in base.items()}
    limits = hyper.guidance.replace(sigma_min=values.pop("low"), sigma_max=values.pop("high"))
    return hyper.replace(guidance=limits, **values)


SIGMAS = np.asarray(schedules.karras(16))[:-1]


def modes(policy_every=1, **columns):
    sampling, lanes = configs.SamplingConfig(noise_schedule="karras", policy_every=policy_every), hypers(**columns)
    return np.array(planning.guidance_modes(sampling, lanes, 16, lanes.sigma_max))


def test_every_step_where_nothing_is_limited():
    assert np.all(modes() == EVALUATED) and np.all(modes(low=100.0, high=200.0) == UNGUIDED)


def test_the_steps_within_the_interval():
    np.testing.assert_array_equal(modes(low=0.05, high=2.0) != UNGUIDED, (SIGMAS >= 0.05) & (SIGMAS <= 2.0))


def test_the_union_over_lanes():
    both = modes(low=jnp.array([0.05, 0.5]), high=jnp.array([2.0, 9.0]))
    np.testing.assert_array_equal(both != UNGUIDED, (SIGMAS >= 0.05) & (SIGMAS <= 9.0))


def test_lanes_with_other_noise_levels():
    """The second lane's levels are a tenth of the first's: so are those where it is guided."""
    found = modes(sigma_min=jnp.array([0.01, 0.001]), sigma_max=jnp.array([10.0, 1.0]), low=0.011, high=0.11)
    wide = np.asarray(schedules.karras(16, 0.01, 10.0))[:-1]
    np.testing.assert_array_equal(found != UNGUIDED, (wide >= 0.011) & (wide <= 1.1))


def test_the_policy_is_evaluated_every_other_step_to_the_last():
    found = modes(policy_every=2)
    assert list(found) == [EVALUATED, *[EVALUATED, KEPT] * 7, EVALUATED]
