"""Sweeps over static settings: each combination is a job with its own run directory, on this machine or a cluster."""

from pgd_jax.launch.front import cancel, collect, status, submit

__all__ = ["cancel", "collect", "status", "submit"]
