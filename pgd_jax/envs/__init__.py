"""Environments that run inside the program; importing the package registers them."""

from pgd_jax.envs import gymnax as gymnax
from pgd_jax.envs import maze2d as maze2d
