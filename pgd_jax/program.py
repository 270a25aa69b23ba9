"""What the program is made of: its static plan, its traced floats, its state and its data."""

import functools
from typing import NamedTuple

import jax
from flax import struct
from jax.sharding import Mesh

from pgd_jax.agents.base import Agent, Hyper as AgentHyper, State as AgentState
from pgd_jax.diffusion import samplers, schedules
from pgd_jax.diffusion.guidance import Hyper as GuidanceHyper
from pgd_jax.envs.base import EvalEnv
from pgd_jax.networks.base import Network
from pgd_jax.types import Codec, Params, Transition

# Chosen by experiments/guidance_study. EDM samples from 80 to 0.002 and PGD guides all the way: of few steps, too many
# then lie where nothing is decided.
SIGMA_MIN, SIGMA_MAX = 0.01, 20.0
GUIDED_BELOW = 2.0  # guidance acts below this noise level
GUIDANCE_COEFFICIENT = 10.0  # the most at which dynamics error stays below 1.5 times that of unguided data


class Plan(NamedTuple):
    """Everything static about the program: shapes, loop lengths, choices. One trace per value."""

    sampler: str
    noise_schedule: str
    num_steps: int
    guidance: str
    guidance_schedule: str
    policy_every: int
    modes: tuple[int, ...] | None  # of guidance in each of the N steps, by the floats of all lanes; None: any may guide
    warm_modes: tuple[int, ...] | None  # likewise of a phase that starts warm
    guided_batches: tuple[bool, ...] | None  # which batches of a phase's windows any lane guides; None: all
    num_particles: int
    warm_steps: int  # of a phase that starts from the windows of the one before; 0: every phase starts afresh
    window_length: int
    num_trajectories: int
    trajectories_per_batch: int
    updates_per_phase: int
    batch_size: int
    synthetic_per_batch: int
    num_episodes: int
    dynamics_windows: int  # of a phase, whose transitions are compared with the environment's own; 0 for none

    @property
    def num_batches(self) -> int:
        """Of windows, in a phase."""
        return self.num_trajectories // self.trajectories_per_batch


class Program(NamedTuple):
    """The static argument of `loop.run_chunk`. Build it once and reuse it: its functions are compared by identity."""

    plan: Plan
    agent: Agent
    network: Network | None  # the denoiser's; None where nothing is generated
    env: EvalEnv | None  # None: trained without evaluation
    behaviour: Network | None = None  # of the behaviour policy; None: guidance does not know it
    mesh: Mesh | None = None  # devices of `loop.run_chunk` and `loop.init`; None: one


@struct.dataclass
class ProgramHyper:
    """Every float of an experiment; traced, so that each is free to differ between lanes."""

    agent: AgentHyper
    guidance_coefficient: jax.Array | float = GUIDANCE_COEFFICIENT  # lambda
    guided_share: jax.Array | float = 1.0  # of a phase's windows, in whole batches; the others are unguided
    guidance: GuidanceHyper = struct.field(default_factory=functools.partial(GuidanceHyper, sigma_max=GUIDED_BELOW))
    reward_scale: jax.Array | float = 1.0  # the agent learns from scale * reward + shift
    reward_shift: jax.Array | float = 0.0
    sigma_min: jax.Array | float = SIGMA_MIN
    sigma_max: jax.Array | float = SIGMA_MAX
    rho: jax.Array | float = schedules.RHO
    noise: samplers.Noise = struct.field(default_factory=samplers.Noise)
    warm_sigma: jax.Array | float = 1.0  # where a warm start begins


@struct.dataclass
class LaneState:
    key: jax.Array
    phase: jax.Array  # i32[] phases finished
    agent: AgentState
    windows: jax.Array | None = None  # f32[M, T, D] network space, the newest; kept for warm starts only


@struct.dataclass
class Shared:
    """What all lanes read: an argument of the program, never a constant in it."""

    denoiser: Params | None  # averaged weights
    codec: Codec
    real: Transition  # [N, ...]
    behaviour: Params | None = None
