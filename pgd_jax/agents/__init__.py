"""Offline RL algorithms; importing the package registers them."""

from pgd_jax.agents import (
    awac as awac,
    bc as bc,
    cql as cql,
    edac as edac,
    iql as iql,
    rebrac as rebrac,
    sac_n as sac_n,
    td3_awr as td3_awr,
    td3_bc as td3_bc,
)  # fmt: skip
