"""Environments inside the compiled program and on the host. Importing the package registers them."""

from pgd_jax.envs import (
    classic as classic,
    gymnasium as gymnasium,
    locomotion as locomotion,
    maze2d as maze2d,
    ogbench as ogbench,
    pendulum as pendulum,
    robotics as robotics,
)
