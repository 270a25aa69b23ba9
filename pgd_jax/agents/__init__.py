"""Offline RL algorithms; importing the package registers them."""

from pgd_jax.agents import (
    awac as awac,
    bc as bc,
    iql as iql,
    rebrac as rebrac,
    td3_awr as td3_awr,
    td3_bc as td3_bc,
)  # fmt: skip
