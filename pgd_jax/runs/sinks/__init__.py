"""Where a run's numbers go besides metrics.jsonl: a file for each kind of sink, and base.py, which looks after them."""

from pgd_jax.runs.sinks import csv, tensorboard, wandb  # noqa: F401  register
