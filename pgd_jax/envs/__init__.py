"""Environments inside the program and beside it; importing the package registers them."""

from pgd_jax.envs import (
    classic as classic,
    gymnasium as gymnasium,
    locomotion as locomotion,
    maze2d as maze2d,
    ogbench as ogbench,
    pendulum as pendulum,
    robotics as robotics,
)
