"""The trained diffusion model of the front door, and how it is sampled."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pgd_jax import config as configs, denoiser as denoisers, footprint, lanes, loop, planning, windows
from pgd_jax.api import keywords, log_prob as log_probs
from pgd_jax.diffusion import guidance as guiding
from pgd_jax.errors import UserError
from pgd_jax.program import GUIDANCE_COEFFICIENT
from pgd_jax.types import LogProb
from pgd_jax.windows import Windows

IN_MEMORY = "in memory"  # stands for a denoiser's run directory


@dataclasses.dataclass(frozen=True)
class Denoiser:
    """A trained diffusion model of trajectory windows. Made by `train_denoiser` or `load_denoiser`."""

    trained: denoisers.Trained
    path: str = ""  # its run directory; "" in memory
    env: str = ""
    reference: str = ""

    def __repr__(self) -> str:
        layout, data = self.trained.codec.layout, self.trained.config.data
        sizes = f"obs {layout.obs_dim}, action {layout.action_dim}, windows of {data.window_length} rows"
        return f"Denoiser({data.dataset or 'arrays'!r}, {sizes})"

    def sample(
        self,
        key: jax.Array,
        num_windows: int,
        log_prob: LogProb | None = None,
        guidance: float = GUIDANCE_COEFFICIENT,
        *,
        rule: str = configs.SamplingConfig.guidance,
        windows_per_batch: int = configs.SamplingConfig.trajectories_per_batch,
        hyper: Mapping[str, float] | None = None,
        **sampling: Any,
    ) -> Windows:
        """`num_windows` windows, steered toward actions that `log_prob` makes likely.

        Args:
          key: typed JAX key; the same key gives the same windows.
          log_prob: (obs [..., O], action [..., A]) -> [...], log density of the policy, environment space. Any function
            that JAX can trace, also one that closes over a network of your own. None: unguided.
          guidance: lambda, the strength; 0 is unguided.
          rule: of guidance: "proximal", "score", "pigdm", "jacobian", "paper", ...
          windows_per_batch: sampled at once; sets memory.
          hyper: floats by name, such as {"sigma_max": 80.0, "guidance.sigma_max": 80.0, "noise.eta": 0.5}.
          sampling: the other settings of `SamplingConfig`: sampler, num_steps, noise_schedule, guidance_schedule, ...

        Raises UserError for settings that cannot work and for a `log_prob` that is not such a function.
        """
        batch = min(windows_per_batch, num_windows)
        if num_windows < 1 or batch < 1:
            raise UserError(f"num_windows={num_windows} and windows_per_batch={windows_per_batch} must be at least 1")
        own = {"sampling": {"guidance": rule, "num_trajectories": -(-num_windows // batch) * batch} | sampling}
        own["sampling"]["trajectories_per_batch"] = batch
        config = keywords.config(
            configs.AgentConfig, {"denoiser": IN_MEMORY, "sweep": keywords.sweep(hyper or {})} | own
        )
        planning.refuse_unknown_choices(config.sampling)
        configs.validate_sampling(config.sampling)
        found = lanes.build(loop.ProgramHyper(None), config.sweep, 1, 0)
        if len(found.settings) > 1:
            raise UserError("hyper: a sampling takes one value of each float")
        codec, length = self.trained.codec, self.trained.config.data.window_length
        program = loop.Program(planning.plan_of(config, length, found), None, self.trained.network, None)
        shared = loop.Shared(self.trained.params, codec, None)
        one = jax.tree.map(lambda leaf: leaf[0], found.hypers)
        coefficient = jnp.float32(guidance if log_prob is not None else 0.0)
        steer = guiding.uniform if log_prob is None else log_probs.in_network_space(log_prob, codec)

        @jax.jit
        def generate(key: jax.Array, shared: loop.Shared) -> jax.Array:  # weights are an argument, never a constant
            return loop.generate(key, steer, coefficient, one, shared, program)

        footprint.announce_quietly(footprint.of_sampling(program.plan, codec.layout, generate.trace(key, shared)))
        made = windows.generated(codec, generate(key, shared)[:num_windows], self.env, self.reference)
        if not np.isfinite(made.obs).all():
            raise UserError(f"guidance={guidance} made windows that are not finite; use less, or a smoother log_prob")
        return made
