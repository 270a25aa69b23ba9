"""Presets: files in experiments/presets/, each a docstring and the settings of a named experiment.

A preset file defines `denoiser() -> DenoiserConfig`, `agent() -> AgentConfig`, or both. Files are loaded by path, so
that a folder called experiments/ in the user's own project is not in the way.
"""

import importlib.util
import pathlib
from types import ModuleType
from typing import Any

from pgd_jax.errors import UserError
from pgd_jax.registry import nearest

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "experiments" / "presets"


def names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")


def load(name: str) -> ModuleType:
    """The preset file called `name`; raises UserError with the nearest known name."""
    if name not in names():
        raise UserError(f'unknown preset "{name}"{nearest(name, names())} (known: {", ".join(names())})')
    spec = importlib.util.spec_from_file_location(f"pgd_jax_preset_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def config(name: str, part: str) -> Any:
    """The preset's settings for `part`, "denoiser" or "agent"."""
    module = load(name)
    if not hasattr(module, part):
        raise UserError(f'preset "{name}" has no {part} settings')
    return getattr(module, part)()
