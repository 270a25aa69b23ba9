"""Keyword arguments -> the frozen settings that the command lines have, of the right types."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from pgd_jax.core import config as configs, hyper as floats, validation
from pgd_jax.core.config import AgentConfig
from pgd_jax.core.errors import UserError
from pgd_jax.core.registry import nearest
from pgd_jax.runs import experiment


def config(cls: type[configs.Config], nested: Mapping[str, Any]) -> configs.Config:
    """The config with these values, of which each must be of its default's type."""
    made = configs.from_dict(cls, dict(nested))
    validation.check_types(made)
    return made


def placed(function: str, base: dict[str, Any], given: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Puts `settings` where they belong in the nested `base`, by their last names; `given` are set already.

    Raises UserError, for `function`, for a setting that is none of its own.
    """
    homes = {name: base for name, value in base.items() if not isinstance(value, dict)}
    homes |= {name: part for part in base.values() if isinstance(part, dict) for name in part}
    for name, value in settings.items():
        if name not in homes or name in given:
            raise UserError(f'{function} has no setting "{name}"{nearest(name, list(homes))}')
        homes[name][name] = value


def agent_config(
    base: AgentConfig, nested: Mapping[str, Any], hyper: Mapping[str, Any], settings: Mapping[str, Any]
) -> AgentConfig:
    """`base` with `nested`, and with `settings` put where they belong: of the run, sampling or rollouts, or a float."""
    parts = {"sampling": configs.SamplingConfig, "rollout": configs.RolloutConfig}
    inner = {field.name: part for part, cls in parts.items() for field in dataclasses.fields(cls)}
    own = [field.name for field in dataclasses.fields(AgentConfig) if field.name not in (*parts, "hyper")]
    made = configs.to_dict(base) | dict(nested)
    for name in ("agent", "generator", "synthetic_per_batch"):  # which floats there are depends on these
        if name in settings and name not in nested:
            made[name] = settings[name]
    known = floats.names(experiment.hyper_of(config(AgentConfig, made | {"hyper": {}})))
    own_floats = floats.applicable(base.hyper, known)
    given = {floats.full(name, known): value for name, value in own_floats.items()}
    given |= {floats.full(name, known): value for name, value in floats.flatten(hyper).items()}
    for name, value in settings.items():
        if name in inner:
            made[inner[name]][name] = value
        elif name in own and name not in nested and name not in ("denoiser", "world_model", "download"):
            made[name] = value
        elif name not in own:
            if not floats.meant(name, known) and floats.meant(name, experiment.generator_floats(made["generator"])):
                raise UserError(f"{name} is about synthetic data: give train_agent a denoiser")
            given[_float_name(name, known, [*inner, *own])] = value
        else:
            raise UserError(f"train_agent sets {name} itself")
    return config(AgentConfig, made | {"hyper": floats.nest(given)})


def _float_name(name: str, known: list[str], others: list[str]) -> str:
    shorts = [floats.short(each, known) for each in known]
    if not floats.meant(name, known):
        raise UserError(f'train_agent has no setting "{name}"{nearest(name, [*others, *shorts])}')
    return floats.full(name, known)


def whole_chunk(num_steps: int, steps_per_chunk: int, unit: int = 1) -> int:
    """The largest number of steps up to a chunk's that is whole `unit`s and divides the number of steps."""
    sizes = range(unit, min(steps_per_chunk, num_steps) + 1, unit)
    return max((size for size in sizes if num_steps % size == 0), default=steps_per_chunk)


def whole_chunks(config: configs.DenoiserConfig, settings: Mapping[str, Any]) -> configs.DenoiserConfig:
    """With a chunk that divides the number of steps, where the caller named only that."""
    training = config.training
    if "steps_per_chunk" in settings or training.num_steps < 1 or training.ema_period < 1:
        return config
    chunk = whole_chunk(training.num_steps, training.steps_per_chunk, training.ema_period)
    return dataclasses.replace(config, training=dataclasses.replace(training, steps_per_chunk=chunk))


def one_value(hyper: Any, given: Mapping[str, float]) -> Any:
    """The floats of one sampling, f32[] each; raises UserError for an unknown one, or several values of one."""
    found = floats.values(hyper, given)
    for name, each in found.items():
        if len(each) > 1:
            raise UserError(f"hyper: {name}={list(each)}: a sampling takes one value of each float")
    return floats.filled(hyper, {name: jnp.float32(each[0]) for name, each in found.items()})
