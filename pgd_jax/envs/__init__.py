"""Environments inside the program and beside it; importing the package registers them."""

from pgd_jax.envs import classic as classic
from pgd_jax.envs import gymnasium as gymnasium
from pgd_jax.envs import locomotion as locomotion
from pgd_jax.envs import maze2d as maze2d
from pgd_jax.envs import robotics as robotics
