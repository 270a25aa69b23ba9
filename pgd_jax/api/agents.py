"""Trained agents of the front door: scores, curves, policies."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pgd_jax.agents.base import greedy, log_prob_of
from pgd_jax.core.errors import UserError
from pgd_jax.core.types import LogProb, Squashed
from pgd_jax.data import normalizer as normalizers
from pgd_jax.runs import experiment as experiments, metrics


@dataclasses.dataclass(frozen=True)
class AgentResult:
    """Trained agents, a lane for each combination of floats and seed."""

    experiment: experiments.Experiment
    states: Any  # of the lanes, after the last phase
    rows: list[dict[str, Any]]  # a row for each lane and phase, as in metrics.jsonl

    @property
    def lanes(self) -> list[dict[str, Any]]:
        """What each lane is: {"group": ..., "seed": ..., and the floats that differ}."""
        last = self.rows[-1]["phase"]
        of_last = sorted((row for row in self.rows if row["phase"] == last), key=lambda row: row["lane"])
        return [{"group": row["group"], "seed": row["seed"], **row["setting"]} for row in of_last]

    @property
    def scores(self) -> dict[str, np.ndarray]:
        """By group, a number for each seed after the last phase: D4RL's score, or else success, or else the return."""
        return {name: curve[-1] for name, curve in self.curves.items()}

    @property
    def curves(self) -> dict[str, np.ndarray]:
        """By group, f64[P, seeds]: the score after each phase. Empty where nothing judges the agent."""
        key = next((key for key in metrics.SCORES if key in self.rows[-1]), None)
        if key is None:
            return {}
        groups = dict.fromkeys(row["group"] for row in self.rows)
        phases = sorted({row["phase"] for row in self.rows if key in row})

        def column(group: str, phase: int) -> list[float]:
            return [row[key] for row in self.rows if row["group"] == group and row["phase"] == phase]

        return {group: np.array([column(group, phase) for phase in phases], np.float64) for group in groups}

    def policy(self, lane: int = 0) -> "AgentPolicy":
        """The greedy policy of a lane, environment space; its `log_prob` guides `Denoiser.sample`."""
        if not 0 <= lane < len(self.experiment.lanes.settings):
            raise UserError(f"lane={lane}: there are lanes 0 to {len(self.experiment.lanes.settings) - 1}")
        state = jax.tree.map(lambda leaf: leaf[lane], self.states.agent)
        return AgentPolicy(self.experiment.program.agent, state, self.experiment.shared.normalizer)


@dataclasses.dataclass(frozen=True)
class AgentPolicy:
    """A trained policy: `policy(obs [..., O]) -> action [..., A]`, environment space."""

    agent: Any
    state: Any
    normalizer: Any

    def __call__(self, obs: Any) -> jax.Array:
        return greedy(self.agent, self.state, self.normalizer)(jnp.asarray(obs, jnp.float32))

    @property
    def log_prob(self) -> LogProb:
        """(obs [..., O], action [..., A]) -> log pi(a | s) [...], environment space; a deterministic policy has a
        Gaussian of unit variance around its action."""
        inner = log_prob_of(self.agent, self.state)

        def outer(log_prob: LogProb) -> LogProb:
            return lambda obs, action: log_prob(
                normalizers.encode_obs(self.normalizer, jnp.asarray(obs, jnp.float32)), jnp.asarray(action, jnp.float32)
            )

        return Squashed(outer(inner), outer(inner.preimage)) if isinstance(inner, Squashed) else outer(inner)
