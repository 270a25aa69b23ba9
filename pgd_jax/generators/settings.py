"""The floats of guided sampling, and checks of settings that do not fit together."""

from typing import Any

import numpy as np
from flax import struct

from pgd_jax.core import hyper as floats, presets, ranges
from pgd_jax.core.config import SamplingConfig
from pgd_jax.core.errors import UserError
from pgd_jax.core.hyper import Float, group, setting
from pgd_jax.diffusion import guidance, samplers, schedules
from pgd_jax.diffusion.guidance import COEFFICIENT, Interval
from pgd_jax.diffusion.samplers import Noise

PUBLISHED = ("sampler", "num_steps", "noise_schedule", "guidance_schedule")  # these and three floats: PGD's sampling


@struct.dataclass
class Hyper:
    """Every float of guided sampling."""

    guidance_coefficient: Float = setting(
        COEFFICIENT, "lambda, the strength of guidance; 0: no guidance", ranges.NOT_NEGATIVE
    )
    guided_share: Float = setting(
        1.0, "share of a phase's windows that are guided; whole batches are guided or not", ranges.SHARE
    )
    guidance: Interval = group(Interval)
    sigma_min: Float = setting(
        schedules.SIGMA_MIN, "last noise level of sampling before 0 (EDM: 0.002)", ranges.POSITIVE
    )
    sigma_max: Float = setting(schedules.SIGMA_MAX, "first noise level of sampling (EDM: 80)", ranges.POSITIVE)
    rho: Float = setting(schedules.RHO, "rho, the spacing of the karras schedule", ranges.POSITIVE)
    noise: Noise = group(Noise)
    warm_sigma: Float = setting(
        1.0, "noise level at which a warm start begins (see sampling.warm_steps)", ranges.POSITIVE
    )


def check(sampling: SamplingConfig) -> None:
    """Raises UserError for a name that is not registered, and for a sampler that cannot use the guidance rule."""
    schedules.SCHEDULES.get(sampling.noise_schedule)
    guidance.SCHEDULES.get(sampling.guidance_schedule)
    rule = guidance.GUIDANCE.get(sampling.guidance)
    if samplers.SAMPLERS.get(sampling.sampler).is_twisted and not rule.is_twisting:
        able = [name for name in guidance.GUIDANCE if guidance.GUIDANCE.get(name).is_twisting]
        raise UserError(
            f'sampling.sampler="{sampling.sampler}" can correct sampling.guidance={" or ".join(able)}, not '
            f'"{sampling.guidance}", which has no twisting function'
        )


def check_hypers(sampling: SamplingConfig, hypers: Hyper) -> None:
    """Raises UserError where the floats of a lane contradict each other. Leaves are f32[L] or single numbers."""
    inside, noise = hypers.guidance, hypers.noise
    pairs: list[tuple[str, Float, str, Float]] = [
        ("sigma_min", hypers.sigma_min, "sigma_max", hypers.sigma_max),
        ("guidance.sigma_min", inside.sigma_min, "guidance.sigma_max", inside.sigma_max),
        ("noise.churn_min", noise.churn_min, "noise.churn_max", noise.churn_max),
    ]
    if sampling.warm_steps:
        pairs.append(("sigma_min", hypers.sigma_min, "warm_sigma", hypers.warm_sigma))
    if np.any(np.asarray(hypers.guidance_coefficient) > 0.0):  # else no step would be guided
        pairs.append(("sigma_min", hypers.sigma_min, "guidance.sigma_max", inside.sigma_max))
        pairs.append(("guidance.sigma_min", inside.sigma_min, "sigma_max", hypers.sigma_max))
    for low_name, low, high_name, high in pairs:
        for first, second in np.broadcast(np.asarray(low), np.asarray(high)):
            if first >= second:
                found = f"{low_name}={first:g} and {high_name}={second:g}"
                raise UserError(f"hyper.generator: {found}: the first must be below the second")


def unlike_published(sampling: SamplingConfig, hypers: Hyper) -> str:
    """The settings in which a sampling with guidance=paper differs from preset "paper", as one message.

    "" if there are none, or for another guidance rule.
    """
    if sampling.guidance != "paper":
        return ""
    paper = presets.config("paper", "agent")
    wanted: dict[str, Any] = {name: getattr(paper.sampling, name) for name in PUBLISHED}
    found = {name: getattr(sampling, name) for name in PUBLISHED}
    own = floats.flatten(paper.hyper["generator"])
    for name in ("sigma_min", "sigma_max", "guidance.sigma_max"):
        group, last = (hypers.guidance, "sigma_max") if "." in name else (hypers, name)
        wanted[name], found[name] = own[name], float(np.max(np.asarray(getattr(group, last))))
    differences = [
        f"{name} {found[name]} ({wanted[name]})" for name in wanted if not _is_same(found[name], wanted[name])
    ]
    return f"guidance=paper, but not as published: {', '.join(differences)}; preset paper has those" * bool(differences)


def _is_same(found: Any, wanted: Any) -> bool:
    return bool(np.isclose(found, wanted)) if isinstance(wanted, float) else found == wanted
