"""Which noise steps are guided follows from the lanes' floats, on the host, before the program is traced."""

import jax.numpy as jnp
import numpy as np

from pgd_jax import config as configs, experiment, loop
from pgd_jax.diffusion import schedules


def hypers(**columns):
    """Two lanes."""
    hyper = loop.ProgramHyper(None)
    base = {"sigma_min": 0.002, "sigma_max": 80.0, "rho": 7.0, "low": 0.0, "high": 1e6} | columns
    values = {name: jnp.broadcast_to(jnp.float32(value), (2,)) for name, value in base.items()}
    limits = hyper.guidance.replace(sigma_min=values.pop("low"), sigma_max=values.pop("high"))
    return hyper.replace(guidance=limits, **values)


SAMPLING = configs.SamplingConfig(num_steps=16, noise_schedule="karras")
SIGMAS = np.asarray(schedules.karras(16))


def test_every_step_where_nothing_is_limited():
    assert experiment.guided_steps(SAMPLING, hypers()) == (0, 16)


def test_the_steps_within_the_interval():
    first, end = experiment.guided_steps(SAMPLING, hypers(low=0.05, high=2.0))
    assert np.all(SIGMAS[:first] > 2.0) and np.all(SIGMAS[first:end] <= 2.0)
    assert np.all(SIGMAS[first:end] >= 0.05) and np.all(SIGMAS[end:] < 0.05)


def test_the_union_over_lanes():
    alone = experiment.guided_steps(SAMPLING, hypers(low=0.05, high=2.0))
    both = experiment.guided_steps(SAMPLING, hypers(low=jnp.array([0.05, 0.5]), high=jnp.array([2.0, 9.0])))
    assert both == (int(np.sum(SIGMAS > 9.0)), alone[1])
    assert experiment.guided_steps(SAMPLING, hypers(low=100.0, high=200.0)) == (0, 0)
