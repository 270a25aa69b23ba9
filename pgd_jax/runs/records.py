"""What a run is, as config.json says, and where that is lost, its checkpoints."""

import json
import os
import pathlib
from typing import Any

from pgd_jax.core import config as configs, logging, validation
from pgd_jax.core.errors import UserError
from pgd_jax.runs import checkpoint, rests

PLACES = ("dataset", "download", "denoiser", "world_model", "behaviour")  # settings that say where something is
# By kind: settings that may grow.
LENGTHS = {"agent": ("num_phases",), "behaviour": ("num_steps",), "world_model": ("num_steps",)}
# By kind: what runs had that are older than the setting, where that is not the setting's default.
BEFORE: dict[str, dict[str, Any]] = {
    "denoiser": {"data": {"past_end": False, "flag_gap": 0.0}, "unet": {"norm": "group"}},
    "world_model": {"data": {"past_end": False, "flag_gap": 0.0}, "beta": 0.0},
    "agent": {"critic_norm": "none", "num_critics": 2, "hyper": {"return_range": [0.0], "best_share": [1.0]}},
}
CONFIG = "config.json"
CLASSES: dict[str, type] = {
    "denoiser": configs.DenoiserConfig,
    "behaviour": configs.BehaviourConfig,
    "world_model": configs.WorldModelConfig,
    "agent": configs.AgentConfig,
}


def load_record(path: str | os.PathLike, kind: str) -> dict[str, Any]:
    """All of config.json: kind, config, rests_on, versions, git_commit, git_modified, device, num_devices, created.

    Where the file is gone, it is what the newest checkpoint keeps of it. Raises UserError where `path` is no run, or
    one of another kind.
    """
    record = _any_record(path, kind)
    if record["kind"] != kind:
        raise UserError(f'{path} holds a run of kind "{record["kind"]}", not "{kind}"; use another directory')
    return record


def load_kind(path: str | os.PathLike) -> str:
    """Of the run in `path`, whatever it is; errors as `load_record`."""
    return _any_record(path, "")["kind"]


def _any_record(path: str | os.PathLike, kind: str) -> dict[str, Any]:
    """config.json of the run in `path`, of which `kind` ("": any) is wanted."""
    file = directory(path) / CONFIG
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        record = kept(directory(path))
        if record is None:
            wanted = f'a run of kind "{kind}"' if kind else "a run"
            message = f"{path} is not a run directory (it has no {CONFIG}); {wanted} is needed"
            raise UserError(message) from None
        logging.warning(f"{path}: its {CONFIG} is gone; the settings are those that its checkpoints keep")
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{file} cannot be read ({error}); restore it, or use another directory") from None
    if not isinstance(record, dict) or not {"kind", "config", "versions"} <= record.keys():
        raise UserError(f"{file} was not written by this library; use another directory")
    return record


def kept(path: pathlib.Path) -> dict[str, Any] | None:
    """config.json as the newest whole checkpoint of the run in `path` keeps it; None where none does."""
    try:
        return checkpoint.load_metadata(path / "checkpoints").get("run")
    except UserError:  # none is whole
        return None


def load_config(path: str | os.PathLike, kind: str) -> dict[str, Any]:
    """The config of a run, with defaults for settings that are newer than it; errors as `load_record`."""
    return completed(load_record(path, kind)["config"], kind)


def completed(config: Any, kind: str) -> Any:
    """With defaults for settings that it lacks; the configs of kinds without a class, as they are."""
    if kind not in CLASSES:
        return config
    return _filled(_filled(configs.to_dict(CLASSES[kind]()), BEFORE.get(kind, {})), config)


def _filled(defaults: Any, held: Any) -> Any:
    if not (isinstance(defaults, dict) and isinstance(held, dict)):
        return held
    return defaults | {name: _filled(defaults.get(name), value) for name, value in held.items()}


def load_rests(path: str | os.PathLike, kind: str) -> rests.Record:
    """What the run in `path` rests on; nothing for one of another version."""
    return load_record(path, kind).get("rests_on", {})


def check_rests(path: str | os.PathLike, kind: str, found: dict[str, rests.Rest]) -> None:
    """Raises UserError where a run is in `path` already, and rests on other things than `found`."""
    if (directory(path) / CONFIG).exists():
        rests.check(path, load_rests(path, kind), found)


def read_config(cls: type[configs.Config], path: str | os.PathLike, kind: str) -> configs.Config:
    """Likewise, as the dataclass; raises UserError for a run of another version, whose settings are others."""
    held = load_config(path, kind)
    written = completed((kept(directory(path)) or {}).get("config", held), kind)
    # Where things are may be corrected by hand, in a run that came from elsewhere; a run may have been made longer.
    free = PLACES + LENGTHS.get(kind, ())
    changed = [line for line in differences(held, written) if line.split(":")[0].split(".")[-1] not in free]
    if changed:
        listed = "\n".join(f"  {line}" for line in changed).replace("run has", CONFIG + " has")
        raise UserError(
            f"{directory(path) / CONFIG} was changed since the run wrote its checkpoints:\n"
            + listed.replace("command has", "checkpoints have")
            + "\nPut the old settings back, or remove the file: it is made anew of what the checkpoints keep"
        )
    try:
        made = configs.from_dict(cls, held)
        validation.check_types(made)
    except (UserError, TypeError, AttributeError) as error:
        raise UserError(f"{pathlib.Path(path) / CONFIG}: {error}; was it made by another version of pgd_jax?") from None
    return made


def say_what_it_names(path: str | os.PathLike, what: str, name: str) -> None:
    """Says that something outside run `path` is read because its config.json says so: a run may come from anybody."""
    logging.info(f"{path}: its {CONFIG} names the {what} {name}, which is read")


def directory(path: str | os.PathLike) -> pathlib.Path:
    """A run's directory, `~` expanded. Raises UserError for an empty name."""
    if not os.fspath(path).strip():
        raise UserError("the run directory has no name, and would be the current folder; name one")
    return pathlib.Path(path).expanduser()


def _flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, str]:
    flat = {}
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            flat.update(_flatten(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = json.dumps(value, sort_keys=True)
    return flat


def differences(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """A line for each setting that is not the same in a run and a command."""
    run, command = _flatten(ours), _flatten(theirs)
    return [
        f"{name}: run has {run.get(name, 'nothing')}, command has {command.get(name, 'nothing')}"
        for name in sorted(run.keys() | command.keys())
        if run.get(name) != command.get(name)
    ]
