"""`--preset` and typed `--config.*` flags from a config dataclass, checked before absl sees them."""

import dataclasses
import sys
from collections.abc import Callable, Iterator
from typing import Any

from absl import flags
from ml_collections import config_dict, config_flags

from pgd_jax import config as configs, presets
from pgd_jax.errors import UserError
from pgd_jax.registry import nearest


def define(cls: type[configs.Config], part: str, argv: list[str]) -> Callable[[], configs.Config]:
    """Defines the flags; the returned function gives the parsed config.

    `part` names the preset's half ("denoiser", "agent"). Raises UserError for an unknown preset or setting in `argv`.
    """
    flags.DEFINE_string("preset", "", f"named settings to start from: {', '.join(presets.names())}")
    name = _value_of(argv, "preset")
    start = presets.config(name, part) if name else cls()
    known = [path for path, _, _ in _options(start)]
    for argument in argv:
        path = argument.lstrip("-").split("=")[0].removeprefix("no")
        if argument.startswith("-") and path.startswith("config.") and path.removeprefix("config.") not in known:
            raise UserError(f'unknown flag "--{path}"{_suggestion(path, known)}')
    holder = config_flags.DEFINE_config_dict("config", config_dict.ConfigDict(configs.to_dict(start)))
    return lambda: configs.from_dict(cls, holder.value.to_dict())


def distributed() -> flags.FlagHolder:
    """Defines `--distributed`; its value is for `processes.start`."""
    text = 'several processes: "auto" (as the cluster says), or address:port,number of processes,index of this one'
    return flags.DEFINE_string("distributed", "", text)


def _suggestion(path: str, known: list[str]) -> str:
    return nearest(path, [f"config.{name}" for name in known]).replace('"config.', '"--config.')


def describe(cls: type) -> str:
    """The settings as help text: flag, default, meaning."""
    lines = [f"  --config.{path}={default!r}: {text}" for path, default, text in _options(cls())]
    return "\n".join(["Settings (all optional):", *lines])


def _options(config: Any, prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from _options(value, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, value, field.metadata["help"]


def _value_of(argv: list[str], flag: str) -> str:
    """The value of `--flag=value` or `--flag value` in argv; "" where it is absent."""
    for i, argument in enumerate(argv):
        name, equals, value = argument.lstrip("-").partition("=")
        if argument.startswith("-") and name == flag:
            return value if equals else (argv[i + 1] if i + 1 < len(argv) else "")
    return ""


def arguments() -> list[str]:
    return sys.argv[1:]
