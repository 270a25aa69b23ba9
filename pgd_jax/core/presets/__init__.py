"""Presets: modules of this package, each a docstring and the settings of a named experiment.

A preset defines some of `denoiser() -> DenoiserConfig`, `world_model() -> WorldModelConfig`, `agent() -> AgentConfig`.
"""

import importlib
import pkgutil
from types import ModuleType
from typing import Any

from pgd_jax.core.errors import UserError
from pgd_jax.core.registry import nearest


def names() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load(name: str) -> ModuleType:
    """The preset called `name`; raises UserError with the nearest known name."""
    if name not in names():
        raise UserError(f'unknown preset "{name}"{nearest(name, names())} (known: {", ".join(names())})')
    return importlib.import_module(f"{__name__}.{name}")


def config(name: str, part: str) -> Any:
    """The preset's settings for `part`: "denoiser", "world_model" or "agent"."""
    module = load(name)
    if not hasattr(module, part):
        raise UserError(f'preset "{name}" has no {part} settings')
    return getattr(module, part)()
