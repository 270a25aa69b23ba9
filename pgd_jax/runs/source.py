"""The trained model that an agent's config names: a denoiser, or a one-step world model."""

import pathlib
from collections.abc import Mapping

from pgd_jax.core import config as configs
from pgd_jax.core.errors import UserError
from pgd_jax.core.types import Layout
from pgd_jax.data import catalogue
from pgd_jax.generators.base import GENERATORS
from pgd_jax.runs import denoiser as denoisers, records, world_model as world_models

Trained = denoisers.Trained | world_models.Trained

WORDS = {"denoiser": "denoiser", "world_model": "world model"}  # by setting


def check(config: configs.AgentConfig) -> None:
    """Raises UserError where the generator lacks its model, or a model is named that nothing would ask."""
    if config.denoiser and config.world_model:
        raise UserError(
            "config.denoiser and config.world_model are both named; a run learns from one of them: leave one out"
        )
    if not config.synthetic_per_batch:
        return
    needs = GENERATORS.get(config.generator).needs
    if needs and not getattr(config, needs):
        raise UserError(
            f"config.{needs} is empty: name the run directory of train_{needs}, or set synthetic_per_batch=0 to train "
            "on real data alone"
        )
    if config.world_model and needs == "denoiser":
        raise UserError(f"config.world_model means nothing to generator={config.generator}; set generator=ensemble")
    if config.behaviour and needs == "world_model":
        raise UserError(f"config.behaviour means nothing to generator={config.generator}; leave it out")


def named(config: configs.AgentConfig) -> tuple[str, str]:
    """(setting, path) of the model; ("", "") where none is named."""
    return next(((what, path) for what in WORDS if (path := getattr(config, what))), ("", ""))


def dataset_of(named: Mapping[str, str]) -> str:
    """What presets call the dataset of settings that name it, or a model by its run: D4RL's name where it is D4RL's."""
    dataset = named.get("dataset", "")
    for kind in WORDS:
        if not dataset and named.get(kind):
            dataset = records.load_config(named[kind], kind)["data"]["dataset"]
    return catalogue.name_of_file(pathlib.PurePath(dataset).name) or dataset


def load(config: configs.AgentConfig) -> Trained | None:
    """The model of the finished run, or None where none is named. Raises UserError as the kinds' `load` do."""
    if config.world_model:
        return world_models.load(config.world_model)
    return denoisers.load(config.denoiser) if config.denoiser else None


def check_layout(config: configs.AgentConfig, trained: Trained | None, dataset: str, layout: Layout) -> None:
    """Raises UserError where the model is of other data than rows of this layout."""
    if trained is not None and trained.normalizer.layout != layout:
        what, path = named(config)
        own = trained.normalizer.layout
        raise UserError(
            f"{dataset} has observations of {layout.obs_dim} and actions of {layout.action_dim}, the "
            f"{WORDS.get(what, 'model')} in {path} was trained on {own.obs_dim} and {own.action_dim}"
            f"{_bounds(layout, own)}"
        )


def _bounds(ours: Layout, theirs: Layout) -> str:
    if ours.action_bounds == theirs.action_bounds:
        return ""
    found = [layout.action_bounds or "-1:1" for layout in (ours, theirs)]
    return f'; action_bounds are "{found[0]}" here and "{found[1]}" there'
