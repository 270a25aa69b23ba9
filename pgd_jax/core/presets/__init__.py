"""Presets: modules of this package, each a docstring and the settings of a named experiment.

A preset defines some of `denoiser() -> DenoiserConfig`, `world_model() -> WorldModelConfig`, `agent() -> AgentConfig`.
One whose values differ by dataset also defines `agent_of(dataset) -> AgentConfig`.
"""

import importlib
import pkgutil
import re
from collections.abc import Mapping
from types import ModuleType
from typing import Any, TypeVar

from pgd_jax.core.errors import UserError
from pgd_jax.core.registry import nearest

T = TypeVar("T")


def names() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load(name: str) -> ModuleType:
    """The preset called `name`; raises UserError with the nearest known name."""
    if name not in names():
        raise UserError(f'unknown preset "{name}"{nearest(name, names())} (known: {", ".join(names())})')
    return importlib.import_module(f"{__name__}.{name}")


def config(name: str, part: str, dataset: str = "") -> Any:
    """The preset's settings for `part`: "denoiser", "world_model" or "agent"; of `dataset`, where they hang on it."""
    module = load(name)
    if not hasattr(module, part):
        raise UserError(f'preset "{name}" has no {part} settings')
    if dataset and hasattr(module, f"{part}_of"):
        return getattr(module, f"{part}_of")(dataset)
    return getattr(module, part)()


def by_dataset(preset: str, values: Mapping[str, T], dataset: str) -> T:
    """What stands for a dataset ("hopper-medium-v2") by its name without version, or else by its first word alone.

    Raises UserError for a dataset that nothing stands for.
    """
    for name in (re.sub(r"-v\d+$", "", dataset), dataset.split("-")[0]):
        if name in values:
            return values[name]
    raise UserError(
        f'preset "{preset}" has no values for dataset "{dataset}"; it knows {", ".join(values)}: leave the preset out, '
        "and give floats of your own"
    )
