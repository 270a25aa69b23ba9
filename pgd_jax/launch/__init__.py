"""Sweeps over static settings: every combination a job with a run directory of its own."""
