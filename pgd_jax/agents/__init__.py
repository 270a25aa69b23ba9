"""Offline RL algorithms; importing the package registers them."""

from pgd_jax.agents import iql as iql, td3_bc as td3_bc
