"""What is compared: networks and trainings, each with as many steps as one budget of FLOPs pays for."""

from typing import Any, NamedTuple

from experiments.denoiser_study import networks
from pgd_jax.core.config import DataConfig, DenoiserConfig, TrainingConfig
from pgd_jax.networks import base, unet

BUDGET = 2e12  # FLOPs of the forward passes of a training; with the backward ones three times as many
UNETS = {"unet": unet.LAYER, "unet of the reference": unet.GROUP}


class Recipe(NamedTuple):
    network: str = "unet"  # of UNETS or networks.BLOCKS
    width: int = 64
    num_blocks: int = 2
    window_length: int = 16
    budgets: float = 1.0  # how many BUDGETs it is trained for
    training: dict[str, Any] = {}  # fields of TrainingConfig

    @property
    def name(self) -> str:
        changed = [f"T={self.window_length}"] if self.window_length != 16 else []
        changed += [f"{self.budgets:g} budgets"] if self.budgets != 1.0 else []
        changed += [f"{name}={value:g}" for name, value in self.training.items()]
        return ", ".join([f"{self.network} {self.width} x {self.num_blocks}", *changed])


REFERENCE = Recipe("unet of the reference", 64, 3)
BASE = Recipe()
RECIPES = (
    REFERENCE,
    Recipe("unet", 64, 3),
    Recipe("unet of the reference", 64, 2),
    BASE,
    Recipe("unet", 96, 2),
    Recipe("unet", 48, 2),
    Recipe("transformer", 64, 4),
    Recipe("convolutions", 96, 4),
    *(
        BASE._replace(training=training)
        for training in (
            {"noise_mean": -2.0, "noise_std": 1.6},
            {"noise_mean": -1.6},
            {"noise_std": 1.2},
            {"learning_rate": 1e-3},
            {"learning_rate": 4e-3},
            {"batch_size": 32},
            {"batch_size": 128},
            {"ema_decay": 0.98},
        )
    ),
    BASE._replace(window_length=8),
    BASE._replace(window_length=32),
    BASE._replace(budgets=2.0),
    BASE._replace(budgets=4.0),
)


def build(recipe: Recipe, dim: int) -> base.Network:
    """For windows of `dim` columns."""
    shape = (recipe.window_length, dim, recipe.width, recipe.num_blocks)
    if recipe.network in UNETS:
        return unet.build(*shape, compute_dtype="float32", norm=UNETS[recipe.network])
    return networks.build(recipe.network, *shape)


def config(recipe: Recipe, dataset: str, seed: int, flops: float) -> DenoiserConfig:
    """For a network of `flops` a window: as many steps, in thousands, as the budget pays for; equal rows a batch."""
    training: dict[str, Any] = {"noise_std": 2.0, "batch_size": 64 * 16 // recipe.window_length} | recipe.training
    num_steps = 1_000 * max(round(recipe.budgets * BUDGET / (training["batch_size"] * flops) / 1_000), 1)
    data = DataConfig(dataset=dataset, window_length=recipe.window_length, window_stride=recipe.window_length // 4)
    return DenoiserConfig(data=data, training=TrainingConfig(num_steps=num_steps, seed=seed, **training))
