"""Sweeps over static settings: every combination a job with a run directory of its own, here or on a cluster."""

from pgd_jax.launch.front import cancel, collect, status, submit

__all__ = ["cancel", "collect", "status", "submit"]
