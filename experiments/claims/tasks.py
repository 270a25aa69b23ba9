"""The tasks of the claims, and the models that both studies share: a denoiser and a world model for each seed.

Datasets are found by D4RL's names, so the files lie in one folder, which $D4RL_DATASET_DIR names. Where D4RL's own are
not to be had, `pgd-collect` makes files of the same kind; halfcheetah's and walker2d's here are

    pgd-collect --dataset=halfcheetah-medium-replay-v2 --out=$D4RL_DATASET_DIR/halfcheetah_medium_replay-v2.hdf5
    pgd-collect --dataset=walker2d-medium-replay-v2 --out=$D4RL_DATASET_DIR/walker2d_medium_replay-v2.hdf5 \
                --max_steps=150000 --allow_partial
"""

import pathlib
from typing import NamedTuple

from pgd_jax.core.config import DataConfig, DenoiserConfig, TrainingConfig, UNetConfig, WorldModelConfig
from pgd_jax.runs import denoiser as denoisers, world_model as world_models

WINDOW_LENGTH = 16  # rows, as in the paper


class Task(NamedTuple):
    name: str  # of results and folders
    dataset: str
    environment: str
    on_host: bool  # whether Gymnasium judges the agents: on a CPU ten times faster than MuJoCo MJX


TASKS = (
    Task("hopper-medium-replay", "hopper-medium-replay-v2", "hopper", True),
    Task("maze2d-umaze", "maze2d-umaze-waypoint-v0", "maze2d-umaze", False),
    Task("halfcheetah-medium-replay", "halfcheetah-medium-replay-v2", "halfcheetah", True),
    Task("maze2d-medium", "maze2d-medium-waypoint-v0", "maze2d-medium", False),
    Task("walker2d-medium-replay", "walker2d-medium-replay-v2", "walker2d", True),
    Task("hopper-medium", "hopper-medium-v2", "hopper", True),
)


def data(task: Task) -> DataConfig:
    return DataConfig(dataset=task.dataset, window_length=WINDOW_LENGTH, window_stride=4)


def denoiser(task: Task, seed: int) -> DenoiserConfig:
    return DenoiserConfig(
        data=data(task),
        unet=UNetConfig(width=64, num_blocks=2),
        training=TrainingConfig(num_steps=30_000, noise_mean=-1.6, noise_std=2.0, seed=seed),
    )


def world_model(task: Task, seed: int) -> WorldModelConfig:
    return WorldModelConfig(data=data(task), seed=seed)


def denoiser_path(workdir: pathlib.Path, task: Task, seed: int) -> pathlib.Path:
    return workdir / task.name / f"denoiser_{seed}"


def world_model_path(workdir: pathlib.Path, task: Task, seed: int) -> pathlib.Path:
    return workdir / task.name / f"world_model_{seed}"


def train_denoiser(workdir: pathlib.Path, task: Task, seed: int) -> bool:
    """Trains what is missing of it, and returns whether it is finished."""
    return denoisers.fit(denoiser(task, seed), denoiser_path(workdir, task, seed))


def train_world_model(workdir: pathlib.Path, task: Task, seed: int) -> bool:
    """Trains what is missing of it, and returns whether it is finished."""
    return world_models.fit(world_model(task, seed), world_model_path(workdir, task, seed))
