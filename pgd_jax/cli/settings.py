"""`--preset` and typed `--config.*` flags from a config dataclass, checked before absl sees them."""

import dataclasses
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, NamedTuple

from absl import flags
from ml_collections import config_dict, config_flags

from pgd_jax.core import config as configs, presets
from pgd_jax.core.errors import UserError
from pgd_jax.core.registry import nearest
from pgd_jax.runs.sinks.base import SINKS

NAMING_A_DATASET = ("dataset", "denoiser", "world_model")  # settings


class Settings(NamedTuple, Generic[configs.Config]):
    """The settings of a command: their parsed value, and what `--help` says of them."""

    config: Callable[[], configs.Config]
    text: str


def define(
    cls: type[configs.Config],
    part: str,
    argv: list[str],
    hyper_of: Callable[[configs.Config], Any] | None = None,
    dataset_of: Callable[[Mapping[str, str]], str] | None = None,
) -> Settings:
    """Defines the flags.

    `part` names the preset's part ("denoiser", "world_model", "agent"). `hyper_of` gives the floats of a config, whose
    choices in `argv` say which floats there are. `dataset_of` gives the name of the dataset, by which a preset may
    choose, from the settings in `argv` that name one or a model. Raises UserError for an unknown preset or setting.
    """
    flags.DEFINE_string("preset", "", f"named settings to start from: {', '.join(presets.names())}")
    name = _value_of(argv, "preset")
    dataset = ""
    if name and dataset_of is not None:
        dataset = dataset_of({each: _value_of(argv, f"config.{each}") for each in NAMING_A_DATASET})
    start: Any = presets.config(name, part, dataset) if name else cls()
    listed = list(_options(start))
    if hyper_of is not None:
        from pgd_jax.core import hyper as floats  # on use: it needs JAX, for which the other commands do not wait

        chosen = _choices(start, argv)
        hyper = hyper_of(chosen)
        own = floats.applicable(start.hyper, floats.names(hyper))
        start = dataclasses.replace(chosen, hyper=floats.nest(floats.values(hyper, own)))
        listed += [(f"hyper.{name}", default, text) for name, default, text in floats.described(hyper)]
    known = [path for path, _, _ in listed]
    for argument in argv:
        path = argument.lstrip("-").split("=")[0].removeprefix("no")
        if argument.startswith("-") and path.startswith("config.") and path.removeprefix("config.") not in known:
            raise UserError(f'unknown flag "--{path}"{_suggestion(path, known)}')
    holder = config_flags.DEFINE_config_dict("config", config_dict.ConfigDict(configs.to_dict(start)))
    return Settings(lambda: configs.from_dict(cls, holder.value.to_dict()), _describe(listed))


def _choices(start: Any, argv: list[str]) -> Any:
    """The config with those flags that say which floats there are."""
    chosen = {name: _value_of(argv, f"config.{name}") for name in ("agent", "generator", "synthetic_per_batch")}
    given: dict[str, Any] = {name: value for name, value in chosen.items() if value}
    if (number := given.pop("synthetic_per_batch", "")).isdecimal():
        given["synthetic_per_batch"] = int(number)
    return dataclasses.replace(start, **given)


def distributed() -> flags.FlagHolder:
    """Defines `--distributed`; its value is for `processes.joined`."""
    text = 'several processes: "auto" (as the cluster says), or address:port,number of processes,index of this one'
    return flags.DEFINE_string("distributed", "", text)


def sinks(what: str = "where the numbers go besides metrics.jsonl") -> flags.FlagHolder:
    """Defines `--sinks`."""
    return flags.DEFINE_list("sinks", [], f"{what}, by commas: {', '.join(SINKS)}")


def only_check() -> flags.FlagHolder:
    """Defines `--check`."""
    text = "read flags and data, say what would run and what memory and time it takes, and stop: nothing is written"
    return flags.DEFINE_boolean("check", False, text)


def _suggestion(path: str, known: list[str]) -> str:
    return nearest(path, [f"config.{name}" for name in known]).replace('"config.', '"--config.')


def _describe(listed: list[tuple[str, Any, str]]) -> str:
    """The settings as help text: flag, default, meaning."""
    numbers = [(path, f"{value:g}", text) for path, value, text in listed if path.startswith("hyper.")]
    others = [(path, repr(value), text) for path, value, text in listed if not path.startswith("hyper.")]
    lines = ["Settings (all optional):", *map(_line, others)]
    if numbers:
        lines += [
            "",
            "Floats of this agent and generator (several values, by commas, are lanes):",
            *map(_line, numbers),
        ]
    return "\n".join(lines)


def _line(item: tuple[str, str, str]) -> str:
    path, default, text = item
    return f"  --config.{path}={default}: {text}"


def _options(config: Any, prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from _options(value, f"{prefix}{field.name}.")
        elif field.name != "hyper":
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
