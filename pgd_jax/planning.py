"""The static half of an experiment's settings: what is compiled for, as against the floats that lanes vary."""

import functools

import jax
import numpy as np

from pgd_jax import config as configs, generation, lanes
from pgd_jax.diffusion import guidance, samplers, schedules
from pgd_jax.errors import UserError
from pgd_jax.program import Plan, ProgramHyper


def refuse_unknown_choices(sampling: configs.SamplingConfig) -> None:
    """Raises UserError for names that are not registered, and for those that do not go together."""
    schedules.SCHEDULES.get(sampling.noise_schedule)
    guidance.SCHEDULES.get(sampling.guidance_schedule)
    rule = guidance.GUIDANCE.get(sampling.guidance)
    if samplers.SAMPLERS.get(sampling.sampler).is_twisted and not rule.is_twisting:
        able = [name for name in guidance.GUIDANCE if guidance.GUIDANCE.get(name).is_twisting]
        raise UserError(
            f'sampling.sampler="{sampling.sampler}" can correct sampling.guidance={" or ".join(able)}, not '
            f'"{sampling.guidance}", which has no twisting function'
        )


def guidance_modes(
    sampling: configs.SamplingConfig, hypers: ProgramHyper, num_steps: int, sigma_max: jax.Array
) -> tuple[int, ...]:
    """What guidance does in each of `num_steps` from `sigma_max` f32[L], by the floats of all lanes (leaves f32[L])."""
    schedule = functools.partial(schedules.SCHEDULES.get(sampling.noise_schedule), num_steps)
    sigmas = np.asarray(jax.vmap(schedule)(hypers.sigma_min, sigma_max, hypers.rho))[:, :-1]
    low, high = (np.asarray(bound)[:, None] for bound in (hypers.guidance.sigma_min, hypers.guidance.sigma_max))
    return guidance.modes_of((low <= sigmas) & (sigmas <= high), sampling.policy_every)


def _guided_batches(sampling: configs.SamplingConfig, shares: np.ndarray) -> tuple[bool, ...] | None:
    """Which batches of a phase's windows are guided in any lane, by their shares f32[L]; None: all of them."""
    if not ((0.0 <= shares) & (shares <= 1.0)).all():
        raise UserError(f"guided_share={shares[(shares < 0.0) | (shares > 1.0)][0]:g} must be a share, from 0 to 1")
    index = np.arange(sampling.num_trajectories // sampling.trajectories_per_batch, dtype=np.float32)
    found = generation.is_guided(index, shares[:, None]).any(axis=0)
    return None if found.all() else tuple(found.tolist())


def plan_of(config: configs.AgentConfig, window_length: int, lanes_: lanes.Lanes | None = None) -> Plan:
    """The static half of `config`; the window length comes from the denoiser, the steps to guide from the lanes.

    Without lanes every step may be guided.
    """
    sampling, hypers = config.sampling, lanes_ and lanes_.hypers
    modes = hypers and guidance_modes(sampling, hypers, sampling.num_steps, hypers.sigma_max)
    warm = sampling.warm_steps and hypers and guidance_modes(sampling, hypers, sampling.warm_steps, hypers.warm_sigma)
    return Plan(
        sampler=sampling.sampler,
        noise_schedule=sampling.noise_schedule,
        num_steps=sampling.num_steps,
        guidance=sampling.guidance,
        guidance_schedule=sampling.guidance_schedule,
        policy_every=sampling.policy_every,
        modes=modes,
        warm_modes=warm or None,
        guided_batches=hypers and _guided_batches(sampling, np.asarray(hypers.guided_share)),
        num_particles=sampling.num_particles,
        warm_steps=sampling.warm_steps,
        window_length=window_length,
        num_trajectories=sampling.num_trajectories,
        trajectories_per_batch=sampling.trajectories_per_batch,
        updates_per_phase=config.updates_per_phase,
        batch_size=config.batch_size,
        synthetic_per_batch=config.synthetic_per_batch,
        num_episodes=config.num_episodes,
        dynamics_windows=min(config.dynamics_windows, sampling.num_trajectories),
    )
