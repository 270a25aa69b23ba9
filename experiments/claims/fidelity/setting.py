"""What is measured: rules and strengths of guidance, rollouts, target policies, sizes."""

import dataclasses
import pathlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from experiments.claims import tasks
from experiments.guidance_study import grid
from experiments.guidance_study.cells import Cell
from pgd_jax.core.config import AgentConfig

AGENTS = ("td3_bc", "iql")  # a deterministic target policy and a stochastic one
PAPER, DEFAULT, ROLLOUTS, MEANS, DATA = "paper", "default", "ensemble", "ensemble, no model noise", "data"
# Spread of a rollout's outcomes: MOPO and PETS sample the model's Gaussian, which is therefore the baseline.
MODEL_NOISE = {ROLLOUTS: 1.0, MEANS: 0.0}
GENERATORS = (DATA, DEFAULT, PAPER, ROLLOUTS, MEANS)


class Request(NamedTuple):
    """A point to be measured, of one task, kind of target policy and seed of the models."""

    generator: str
    strength: float  # lambda of a rule; standard deviation of the noise on a rollout's actions; 0 of the data


@dataclasses.dataclass(frozen=True)
class Setting:
    cells: Mapping[str, Cell] = dataclasses.field(
        default_factory=lambda: {DEFAULT: Cell(), PAPER: grid.cell(grid.PAPER)}
    )
    # 0 is unguided. Strengths of the two rules have other units, and cover about the same likelihoods.
    strengths: Mapping[str, tuple[float, ...]] = dataclasses.field(
        default_factory=lambda: {
            DEFAULT: (0.0, 1.0, 10.0, 30.0, 100.0, 1000.0),
            PAPER: (0.0, 0.03, 0.1, 0.3, 1.0, 3.0),
        }
    )
    # Up to where rollouts are less likely than unguided windows, so that each likelihood of a window is among theirs.
    action_noises: tuple[float, ...] = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1.2, 2.0)
    num_windows: int = 96  # of a policy; all are stepped by the simulator
    reference_windows: int = 1_024
    noise: int = 41  # the seed of sampling of the first models: each seed of the models has noise of its own
    num_policies: int = 3
    hidden_dim: int = 256
    batch_size: int = 256
    num_updates: int = 10_000  # of a target policy

    def requests(self) -> Iterator[Request]:
        """In order of cost."""
        yield Request(DATA, 0.0)
        for name in MODEL_NOISE:
            yield from (Request(name, noise) for noise in self.action_noises)
        for name, strengths in self.strengths.items():
            yield from (Request(name, strength) for strength in strengths)

    def policies(self, denoiser: pathlib.Path, agent: str) -> AgentConfig:
        """Target policies, a lane a seed: trained on the real data alone, and judged by nobody."""
        num_phases = 2 if self.num_updates % 4 == 0 else 1  # a checkpoint between
        return AgentConfig(
            denoiser=str(denoiser),  # whose dataset and normalizer they have
            environment="none",
            agent=agent,
            hidden_dim=self.hidden_dim,
            batch_size=self.batch_size,
            synthetic_per_batch=0,
            num_phases=num_phases,
            updates_per_phase=self.num_updates // num_phases,
            num_episodes=0,
            num_seeds=self.num_policies,
        )


def policies_path(workdir: pathlib.Path, task: tasks.Task, agent: str) -> pathlib.Path:
    return workdir / task.name / f"policies_{agent}"
