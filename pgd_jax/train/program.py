"""The parts of the compiled program: its static plan, its traced floats, its state and its data."""

from typing import Any, NamedTuple

import jax
from flax import struct
from jax.sharding import Mesh

from pgd_jax.agents.base import Agent, Hyper as AgentHyper, State as AgentState
from pgd_jax.core import ranges
from pgd_jax.core.config import AgentConfig
from pgd_jax.core.hyper import Float, setting
from pgd_jax.core.types import Normalizer, Transition
from pgd_jax.envs.base import EvalEnv
from pgd_jax.generators.base import Generator, Model, State as GeneratorState


class PhasePlan(NamedTuple):
    """Loop lengths and sizes of a phase, named as in `AgentConfig`. Agent and generator have plans of their own."""

    updates_per_phase: int
    batch_size: int
    synthetic_per_batch: int
    num_episodes: int  # episodes of an evaluation; 0: no evaluation
    dynamics_windows: int  # windows of a phase whose transitions are compared with the environment's; 0: none


def plan_of(config: AgentConfig) -> PhasePlan:
    return PhasePlan(*(getattr(config, name) for name in PhasePlan._fields))


class Program(NamedTuple):
    """The static argument of `loop.run_chunk`. Build it once and reuse it: its functions are compared by identity."""

    plan: PhasePlan
    agent: Agent
    generator: Generator | None  # None: the agent learns from real data only
    env: EvalEnv | None  # evaluates the agent and the dynamics of synthetic data; None: neither is evaluated
    mesh: Mesh | None = None  # devices of `loop.run_chunk` and `loop.init`; None: one device

    @property
    def is_judged(self) -> bool:
        """Whether each phase ends with evaluation episodes."""
        return self.env is not None and self.plan.num_episodes > 0


@struct.dataclass
class ProgramHyper:
    """Every float of an experiment. They are traced, so that each may differ between lanes."""

    agent: AgentHyper
    generator: Any = None  # None: nothing is generated
    reward_scale: Float = setting(1.0, "the agent learns from reward_scale * reward + reward_shift", ranges.POSITIVE)
    reward_shift: Float = setting(0.0, "constant that is added to scaled rewards (see reward_scale)")
    return_range: Float = setting(
        0.0,
        "if above 0: reward_scale is multiplied by a factor, so that the highest and lowest return of the data's "
        "episodes are this far apart (IQL's locomotion: 1000)",
        ranges.NOT_NEGATIVE,
    )
    best_share: Float = setting(
        1.0,
        "share of the real rows to learn from: those of the episodes with the highest returns",
        ranges.SHARE_ABOVE_0,
    )


@struct.dataclass
class LaneState:
    key: jax.Array
    phase: jax.Array  # i32[] phases finished
    agent: AgentState
    generator: GeneratorState = None


@struct.dataclass
class Shared:
    """The data that all lanes read. They are an argument of the program, never a constant in it."""

    model: Model  # the generator's model; None: nothing is generated
    normalizer: Normalizer
    real: Transition  # [N, ...]
