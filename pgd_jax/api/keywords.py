"""Keyword arguments -> the frozen settings that the command lines have, of the right types."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pgd_jax import config as configs
from pgd_jax.errors import UserError

Float = float | Sequence[float]


def config(cls: type[configs.Config], nested: Mapping[str, Any]) -> configs.Config:
    """The config with these values, of which each must be of its default's type."""
    made = configs.from_dict(cls, dict(nested))
    _require_types(made)
    return made


def _require_types(config: Any, prefix: str = "") -> None:
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            _require_types(value, f"{prefix}{field.name}.")
            continue
        wanted = type(field.default)
        is_right = isinstance(value, (int, float)) if wanted is float else isinstance(value, wanted)
        if not is_right or (isinstance(value, bool) and wanted is not bool):
            raise UserError(f"{prefix}{field.name}={value!r} must be of type {wanted.__name__}")


def sweep(floats: Mapping[str, Float]) -> str:
    """Floats as `config.sweep` has them."""
    parts = []
    for name, values in floats.items():
        listed = np.atleast_1d(np.asarray(values, np.float64))
        parts.append(f"{name}={','.join(repr(float(value)) for value in listed)}")
    return "; ".join(parts)


def whole_chunks(config: configs.DenoiserConfig, settings: Mapping[str, Any]) -> configs.DenoiserConfig:
    """With a chunk that divides the number of steps, where the caller named only that."""
    training = config.training
    if "steps_per_chunk" in settings or training.num_steps < 1 or training.ema_period < 1:
        return config
    sizes = range(training.ema_period, min(training.steps_per_chunk, training.num_steps) + 1, training.ema_period)
    chunk = max((size for size in sizes if training.num_steps % size == 0), default=training.steps_per_chunk)
    return dataclasses.replace(config, training=dataclasses.replace(training, steps_per_chunk=chunk))
