"""What the commands that train one model have alike: a run directory, settings, and a module of runs/ that fits it."""

import importlib
from collections.abc import Callable
from typing import Any

from pgd_jax.cli import entry, settings
from pgd_jax.core import config as configs


def prepare(
    cls: type[configs.Config], kind: str, validate: Callable[[Any], None], may_be_distributed: bool = False
) -> tuple[entry.Main, str]:
    """Defines the flags of the command that trains `kind`, also the name of its module in runs/ and part of presets."""
    workdir = entry.define_path("workdir", "run directory to create or resume")
    distributed = settings.distributed() if may_be_distributed else None
    only_check, sinks = settings.only_check(), settings.sinks()
    defined = settings.define(cls, kind, settings.arguments())

    def main() -> int:
        config = defined.config()
        validate(config)  # before what takes time to import: JAX, and the module that trains
        from pgd_jax.core import processes

        with processes.joined(processes.NONE if distributed is None else distributed.value):
            runs = importlib.import_module(f"pgd_jax.runs.{kind}")
            return entry.status(runs.fit(config, workdir.value, only_check=only_check.value, sinks=sinks.value))

    return main, defined.text
