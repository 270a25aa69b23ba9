"""The diffusion model: training, schedules, samplers, guidance."""

from pgd_jax.diffusion import rules as rules, twisted as twisted  # register themselves
