"""Checks metadata.json of a Minari dataset before the minari library reads it, because anybody may have written it.

If a space is missing, the library builds the environment that the file names, which can run any code. So both spaces
must be there. Nothing here imports, builds or fetches what the file names.
"""

import json
import pathlib
from typing import Any

from pgd_jax.core.errors import UserError
from pgd_jax.data import catalogue

FILE = "metadata.json"
SPACES = ("observation_space", "action_space")
FORMATS = ("hdf5", "arrow", "parquet")

# Gymnasium's environment -> the same task here. Hopper-v5 has no healthy reward in the step that falls: an episode's
# return is 1 less. Tasks that differ are left out: Walker2d-v5 (friction of a foot), Ant-v5 (contact forces), PointMaze
# and AntMaze (moving goals, other coordinates), FrankaKitchen (velocities, no goal), AdroitHand (rewards, ends and
# limits, which envs/robotics.py changes to D4RL's).
ENVIRONMENTS = {
    "Hopper-v4": "hopper",
    "Hopper-v5": "hopper",
    "HalfCheetah-v4": "halfcheetah",
    "HalfCheetah-v5": "halfcheetah",
    "Walker2d-v4": "walker2d",
    "Ant-v4": "ant",
    "Pendulum-v1": "pendulum",
    "MountainCarContinuous-v0": "mountain-car-continuous",
}
HARMLESS_ARGUMENTS = {"render_mode", "width", "height", "camera_id", "camera_name"}


def read(folder: pathlib.Path) -> dict[str, Any]:
    """The metadata of the dataset in `folder`. Raises UserError if they are damaged or lack a space."""
    path = folder / "data" / FILE
    try:
        metadata = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read ({error}); fetch or write the dataset again") from error
    if not isinstance(metadata, dict):
        raise UserError(f"{path} holds a {type(metadata).__name__}; expected a JSON object; fetch or write it again")
    for key in SPACES:
        if "type" not in _inner(path, metadata, key):
            raise UserError(
                f"{path} has no {key}. Minari would build the environment that the file names to find it, which can "
                "run any code; write the dataset again with its spaces"
            )
    for key in ("env_spec", "eval_env_spec"):
        _inner(path, metadata, key)
    if metadata.get("data_format") not in FORMATS:
        raise UserError(f"{path}: data_format is {metadata.get('data_format')!r}; expected {' or '.join(FORMATS)}")
    kept = metadata.get("pgd_jax", {})
    if not isinstance(kept, dict) or not all(isinstance(text, str) for text in kept.values()):
        raise UserError(f"{path}: pgd_jax is not an object of strings, as this library writes it; remove it")
    return metadata


def task_of(metadata: dict[str, Any]) -> dict[str, str]:
    """ "env" and "reference": those that `minari_export.write` stored, else the environment that equals Gymnasium's."""
    kept = metadata.get("pgd_jax", {})
    return {"env": kept.get("env", _env_of(metadata)), "reference": kept.get("reference", "")}


def _inner(path: pathlib.Path, metadata: dict[str, Any], key: str) -> dict[str, Any]:
    """The JSON object stored as text under `key`; {} if there is none."""
    text = metadata.get(key) or "{}"
    try:
        found = json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: {key} cannot be read ({error}); fetch or write the dataset again") from error
    if not isinstance(found, dict):
        raise UserError(f"{path}: {key} is {text!r}; expected a JSON object, as text")
    return found


def _env_of(metadata: dict[str, Any]) -> str:
    """The environment of this library that equals the one in Minari's `metadata`, or ""."""
    spec = json.loads(metadata.get("env_spec") or "{}")
    env = ENVIRONMENTS.get(str(spec.get("id")), "")
    shapes = [tuple(json.loads(metadata[key]).get("shape") or ()) for key in SPACES]
    is_other = spec.get("additional_wrappers") or set(spec.get("kwargs") or ()) - HARMLESS_ARGUMENTS
    dims = catalogue.DIMS.get(env)
    is_same_size = dims is None or shapes == [(dim,) for dim in dims]
    return env if is_same_size and not is_other else ""
