"""Which noise steps are guided follows from the lanes' floats, on the host, before the program is traced."""

import jax.numpy as jnp
import numpy as np

from pgd_jax import config as configs, experiment, loop
from pgd_jax.diffusion import schedules


def hypers(**columns):
    """Two lanes."""
    hyper = loop.ProgramHyper(None)
    base = {"sigma_min": 0.002, "sigma_max": 80.0, "rho": 7.0, "low": 0.0, "high": 1e6, "hold": 0.0} | columns
    values = {name: jnp.broadcast_to(jnp.float32(value), (2,)) for name, value in base.items()}
    limits = hyper.guidance.replace(
        sigma_min=values.pop("low"), sigma_max=values.pop("high"), sigma_hold=values.pop("hold")
    )
    return hyper.replace(guidance=limits, **values)


SAMPLING = configs.SamplingConfig(num_steps=16, noise_schedule="karras")
SIGMAS = np.asarray(schedules.karras(16))


def test_every_step_where_nothing_is_limited():
    assert experiment.guided_steps(SAMPLING, hypers()) == (0, 16, 16)


def test_the_steps_within_the_interval():
    first, held, end = experiment.guided_steps(SAMPLING, hypers(low=0.05, high=2.0))
    assert np.all(SIGMAS[:first] > 2.0) and np.all(SIGMAS[first:end] <= 2.0)
    assert np.all(SIGMAS[first:end] >= 0.05) and np.all(SIGMAS[end:] < 0.05)
    assert held == end


def test_the_union_over_lanes():
    alone = experiment.guided_steps(SAMPLING, hypers(low=0.05, high=2.0))
    both = experiment.guided_steps(SAMPLING, hypers(low=jnp.array([0.05, 0.5]), high=jnp.array([2.0, 9.0])))
    assert both == (int(np.sum(SIGMAS > 9.0)), alone.held, alone.end)
    assert experiment.guided_steps(SAMPLING, hypers(low=100.0, high=200.0)) == (0, 0, 0)


def test_the_policy_is_not_evaluated_once_every_lane_holds_it():
    first, held, end = experiment.guided_steps(SAMPLING, hypers(high=2.0, hold=jnp.array([0.5, 0.1])))
    assert np.all(SIGMAS[first:held] > 0.1) and np.all(SIGMAS[held:end] <= 0.1) and first < held < end == 16


def test_the_first_guided_step_evaluates_the_policy_whatever_is_held():
    assert experiment.guided_steps(SAMPLING, hypers(hold=1e6)) == (0, 1, 16)
    # The lane that begins later has to evaluate at its own first step.
    first, held, end = experiment.guided_steps(SAMPLING, hypers(high=jnp.array([9.0, 0.5]), hold=5.0))
    assert SIGMAS[held - 1] <= 0.5 < SIGMAS[held - 2] and SIGMAS[first] <= 9.0 < SIGMAS[first - 1] and end == 16
