"""Synthetic rows -> Minari datasets, for `minari.load_dataset` and every library that uses it."""

import pathlib
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np

from pgd_jax.core import action_bounds, places
from pgd_jax.core.errors import UserError
from pgd_jax.data import catalogue, d4rl, episodes, export, minari, minari_metadata
from pgd_jax.data.base import RawDataset


def check_new(dataset_id: str) -> None:
    """Raises UserError if `write` could not write a dataset with this name."""
    if not minari.ID.fullmatch(dataset_id):
        raise UserError(f'"{dataset_id}" is no name of a Minari dataset; expected one such as pgd/hopper-guided-v0')
    minari.library()
    places.check_free(minari.root() / dataset_id)


def write(dataset_id: str, flat: export.Flat, metadata: dict[str, str]) -> pathlib.Path:
    """Writes rows as a Minari dataset, with an episode for each uninterrupted piece. Returns its folder.

    The dataset keeps `metadata` under "pgd_jax"; `minari.load` reads "env" and "reference" back. It also has what
    Minari's `recover_environment` and `get_normalized_score` need: Gymnasium's specification of the environment and
    D4RL's reference scores, if there are any. Raises UserError and writes nothing if the name is taken or the rows
    would not load back.
    """
    check_new(dataset_id)
    metadata = export.readable(metadata)
    folder = minari.root() / dataset_id
    arrays = d4rl.check(f"what was to be written to {folder}", flat._asdict())
    columns_: dict[str, Any] = arrays
    env, reference, bounds = (metadata.get(key, "") for key in ("env", "reference", "action_bounds"))
    raw = RawDataset(dataset_id, env, reference, **columns_, action_bounds=bounds)
    unbounded = np.full(raw.observations.shape[1], np.inf, np.float32)
    ones = np.ones((1, raw.actions.shape[1]), np.float32)
    low, high = (action_bounds.from_unit(dataset_id, bound, raw.action_bounds)[0] for bound in (-ones, ones))
    with minari.staged(), minari.quiet():
        dataset = minari.library().create_dataset_from_buffers(
            dataset_id,
            list(_buffers(raw)),
            observation_space=gymnasium.spaces.Box(-unbounded, unbounded),
            action_space=gymnasium.spaces.Box(low, high),
            algorithm_name="Policy-Guided Diffusion",
            author="pgd_jax",
            description=f"Synthetic trajectories. {'; '.join(f'{k}: {text}' for k, text in metadata.items())}",
            data_format="hdf5",
        )
        dataset.storage.update_metadata({"pgd_jax": metadata} | _specification(raw) | _scores(raw))
    return folder


def _buffers(raw: RawDataset) -> Iterator[Any]:
    """A minari.EpisodeBuffer for each segment: its rows, and the observation after its last row."""
    from minari.data_collector import EpisodeBuffer

    assert raw.next_observations is not None  # `write` gives them
    pieces = episodes.segments(raw)
    for start, stop, is_terminal in zip(pieces.start, pieces.stop, pieces.ends_in_terminal, strict=True):
        is_last = np.arange(start, stop) == stop - 1
        yield EpisodeBuffer(
            observations=np.concatenate([raw.observations[start:stop], raw.next_observations[stop - 1 : stop]]),
            actions=action_bounds.from_unit(raw.name, raw.actions[start:stop], raw.action_bounds),
            rewards=raw.rewards[start:stop],
            terminations=is_last & is_terminal,
            truncations=is_last & ~is_terminal,
        )


def _specification(raw: RawDataset) -> dict[str, str]:
    """Gymnasium's description of the environment, if its actions are the same (Pendulum's are in [-2, 2])."""
    dims = (raw.observations.shape[1], raw.actions.shape[1])
    ids = [name for name, env in minari_metadata.ENVIRONMENTS.items() if env == raw.env and env != "pendulum"]
    try:
        return (
            {"env_spec": gymnasium.spec(ids[0]).to_json()} if ids and catalogue.DIMS.get(raw.env, dims) == dims else {}
        )
    except gymnasium.error.Error:  # registered by a package that is not installed
        return {}


def _scores(raw: RawDataset) -> dict[str, float]:
    """D4RL's scores under Minari's names. `create_dataset_from_buffers` drops them if it has no environment."""
    scores = catalogue.reference_scores(raw.reference)
    return dict(zip(("ref_min_score", "ref_max_score"), scores, strict=True)) if scores else {}
