"""Keyword arguments -> the frozen settings that the command lines have, of the right types."""

import dataclasses
from collections.abc import Mapping
from typing import Any

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


def agent_config(
    base: AgentConfig, nested: Mapping[str, Any], hyper: Mapping[str, Any], settings: Mapping[str, Any]
) -> AgentConfig:
    """`base` with `nested`, and with `settings` put where they belong: of the run, of its sampling, or a float."""
    sampling = [field.name for field in dataclasses.fields(configs.SamplingConfig)]
    own = [field.name for field in dataclasses.fields(AgentConfig) if field.name not in ("sampling", "hyper")]
    made = configs.to_dict(base) | dict(nested)
    for name in ("agent", "generator", "synthetic_per_batch"):  # which floats there are depends on these
        if name in settings and name not in nested:
            made[name] = settings[name]
    known = floats.names(experiment.hyper_of(config(AgentConfig, made | {"hyper": {}})))
    own_floats = floats.applicable(base.hyper, known)
    given = {floats.full(name, known): value for name, value in own_floats.items()}
    given |= {floats.full(name, known): value for name, value in floats.flatten(hyper).items()}
    for name, value in settings.items():
        if name in sampling:
            made["sampling"][name] = value
        elif name in own and name not in nested and name not in ("denoiser", "download"):
            made[name] = value
        elif name not in own:
            if not floats.meant(name, known) and floats.meant(name, experiment.generator_floats(made["generator"])):
                raise UserError(f"{name} is about synthetic data: give train_agent a denoiser")
            given[_float_name(name, known, sampling + own)] = value
        else:
            raise UserError(f"train_agent sets {name} itself")
    return config(AgentConfig, made | {"hyper": floats.nest(given)})


def _float_name(name: str, known: list[str], others: list[str]) -> str:
    shorts = [floats.short(each, known) for each in known]
    if not floats.meant(name, known):
        raise UserError(f'train_agent has no setting "{name}"{nearest(name, [*others, *shorts])}')
    return floats.full(name, known)


def whole_chunks(config: configs.DenoiserConfig, settings: Mapping[str, Any]) -> configs.DenoiserConfig:
    """With a chunk that divides the number of steps, where the caller named only that."""
    training = config.training
    if "steps_per_chunk" in settings or training.num_steps < 1 or training.ema_period < 1:
        return config
    sizes = range(training.ema_period, min(training.steps_per_chunk, training.num_steps) + 1, training.ema_period)
    chunk = max((size for size in sizes if training.num_steps % size == 0), default=training.steps_per_chunk)
    return dataclasses.replace(config, training=dataclasses.replace(training, steps_per_chunk=chunk))
