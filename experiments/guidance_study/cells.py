"""What is varied: a rule, a sampler, its noise levels."""

import dataclasses

from pgd_jax.core.config import SamplingConfig
from pgd_jax.diffusion import guidance, samplers
from pgd_jax.generators import diffusion
from pgd_jax.networks.base import Network


@dataclasses.dataclass(frozen=True)
class Cell:
    """A point of the study but for lambda; defaults are the chosen setting."""

    rule: str = "proximal"
    sampler: str = "dpmpp_2m_sde"
    num_steps: int = 32
    noise_schedule: str = "karras"  # or "fitted": fitted.py
    guidance_schedule: str = "constant"
    sigma_max: float = 20.0  # where sampling starts
    sigma_min: float = 0.01  # the last noise level before 0
    rho: float = 7.0
    eta: float = 1.0  # noise of the SDE
    guided_from: float = 2.0  # guidance acts below this noise level ...
    guided_to: float = 0.0  # ... and above this one
    behaviour: float = 0.0  # kappa
    num_particles: int = 1

    @property
    def calls(self) -> int:
        """Denoiser calls of a window."""
        return guidance.GUIDANCE.get(self.rule).calls(samplers.SAMPLERS.get(self.sampler), self.num_steps)

    @property
    def sampling(self) -> SamplingConfig:
        return SamplingConfig(
            sampler=self.sampler, num_steps=self.num_steps, noise_schedule=self.noise_schedule, guidance=self.rule,
            guidance_schedule=self.guidance_schedule, num_particles=self.num_particles,
        )  # fmt: skip

    @property
    def hyper(self) -> diffusion.Hyper:
        interval = guidance.Interval(self.guided_to, self.guided_from, self.behaviour)
        return diffusion.Hyper(
            sigma_min=self.sigma_min, sigma_max=self.sigma_max, rho=self.rho, guidance=interval,
            noise=samplers.Noise(eta=self.eta),
        )  # fmt: skip

    def plan(
        self, num_windows: int, window_length: int, network: Network, behaviour: Network | None = None
    ) -> diffusion.Plan:
        """Of sampling `num_windows` at once; the behaviour policy is left out where the cell does not subtract it."""
        sampling = dataclasses.replace(self.sampling, num_trajectories=num_windows, trajectories_per_batch=num_windows)
        return diffusion.Plan(sampling, window_length, network, behaviour if self.behaviour else None)
