"""Policy-Guided Diffusion (arXiv 2404.06356) as one compiled JAX program.

    import jax, pgd_jax as pgd

`pgd_jax.api` has the functions, loaded when the first is used: importing the package does not wait for JAX.
"""

import importlib
from typing import Any

from pgd_jax.core import signals

signals.begin_if_started(
    "pgd_jax",
    scripts="pgd(-(datasets|collect|train-(denoiser|behaviour|world-model|agent)|sample|report|launch|quickstart|"
    "doctor))?",
)

from pgd_jax.core import compilation
from pgd_jax.core.errors import Diverged, UserError

__version__ = "0.1.0"

FUNCTIONS = (
    "load_dataset", "train_denoiser", "load_denoiser", "train_world_model", "load_world_model", "train_agent",
    "load_agents", "evaluate",
)  # fmt: skip
CLASSES = ("Dataset", "Denoiser", "WorldModel", "Windows", "Trace", "AgentResult", "AgentPolicy", "Squashed")
MODULES = {
    "measures": "pgd_jax.measures", "plot": "pgd_jax.api.plot", "stats": "pgd_jax.report.stats",
    "tasks": "pgd_jax.report.tasks", "exchange": "pgd_jax.report.exchange", "bandit": "pgd_jax.report.bandit",
    "launch": "pgd_jax.launch",
}  # fmt: skip
__all__ = ["Diverged", "UserError", *FUNCTIONS, *CLASSES, *MODULES]

compilation.use_eigen()


def __getattr__(name: str) -> Any:
    if name in MODULES:
        return importlib.import_module(MODULES[name])
    if name in FUNCTIONS + CLASSES:
        return getattr(importlib.import_module("pgd_jax.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
