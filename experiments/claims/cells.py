"""The cells of the learning study: a kind of training data, an agent and a task; eight seeds are lanes of one run."""

import dataclasses
import pathlib
from typing import Any, NamedTuple

from experiments.claims import tasks
from experiments.claims.tasks import Task
from pgd_jax.core import presets
from pgd_jax.core.config import AgentConfig, RolloutConfig, SamplingConfig

AGENTS = TD3_BC, IQL, REBRAC = ("td3_bc", "iql", "rebrac")
REAL, UNGUIDED, GUIDED, ENSEMBLE = ARMS = ("real", "unguided", "guided", "ensemble")
NUM_SEEDS, FIRST_SEED = 8, 200  # fixed before looking; nothing was chosen on these seeds
MODEL_SEED = 0  # of the denoiser and the world model, which all seeds of a task share

NUM_WINDOWS = 512  # of a phase
SYNTHETIC = 128  # rows of a batch of 256, where there are any
GUIDANCE = {"guidance_coefficient": 30.0}  # like SYNTHETIC chosen on seeds 100 to 107 (tried.md)
HORIZON = 5  # steps of a rollout


class Cell(NamedTuple):
    task: Task
    agent: str
    arm: str

    @property
    def method(self) -> str:
        return f"{self.agent} {self.arm}"


def ordered(names: list[str], agents: list[str], arms: list[str]) -> list[Cell]:
    """All cells of these (none: all), so that the answer of a task and an agent is whole as early as can be."""
    picked = [task for task in tasks.TASKS if not names or task.name in names]
    return [Cell(task, agent, arm) for agent in agents for task in picked for arm in arms]


def path(workdir: pathlib.Path, cell: Cell) -> pathlib.Path:
    return workdir / cell.task.name / f"{cell.agent}_{cell.arm}"


def config(workdir: pathlib.Path, cell: Cell, first_seed: int = FIRST_SEED) -> AgentConfig:
    """50,000 updates in 20 phases, judged after each 10,000 by 10 episodes a seed."""
    judged: dict[str, Any] = {"num_episodes": 10}
    if cell.task.on_host:
        judged = {"num_episodes": 0, "host_episodes": 10}
    base = AgentConfig(
        denoiser=str(tasks.denoiser_path(workdir, cell.task, MODEL_SEED)),
        environment=cell.task.environment,
        agent=cell.agent,
        hidden_dim=128,
        sampling=SamplingConfig(num_trajectories=NUM_WINDOWS, trajectories_per_batch=128),
        num_phases=20,
        phases_per_chunk=4,
        updates_per_phase=2_500,
        synthetic_per_batch=SYNTHETIC,
        dynamics_windows=0,  # fidelity measures them
        num_seeds=NUM_SEEDS,
        first_seed=first_seed,
        **judged,
    )
    of_arm = _of_arm(workdir, cell)
    hyper = of_arm.pop("hyper", {}) | _published(cell)
    return dataclasses.replace(base, hyper=hyper, **of_arm)


def _published(cell: Cell) -> dict[str, Any]:
    """Floats that the agent's paper chooses by dataset; its batches are not among them."""
    return presets.config("rebrac_d4rl", "agent", cell.task.dataset).hyper if cell.agent == REBRAC else {}


def _of_arm(workdir: pathlib.Path, cell: Cell) -> dict[str, Any]:
    if cell.arm == REAL:
        return {"synthetic_per_batch": 0, "denoiser": "", "dataset": cell.task.dataset}
    if cell.arm == ENSEMBLE:
        num_rollouts = NUM_WINDOWS * tasks.WINDOW_LENGTH // HORIZON // 128 * 128  # about as many rows as windows have
        return {
            "denoiser": "",
            "world_model": str(tasks.world_model_path(workdir, cell.task, MODEL_SEED)),
            "generator": "ensemble",
            "rollout": RolloutConfig(horizon=HORIZON, num_rollouts=num_rollouts, rollouts_per_batch=num_rollouts),
        }
    strength = {"guidance_coefficient": 0.0} if cell.arm == UNGUIDED else GUIDANCE
    return {"hyper": {"generator": strength}}
