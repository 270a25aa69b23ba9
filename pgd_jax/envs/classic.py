"""gymnax's tasks by name. gymnax is imported when a task is made: it imports plotting libraries, which takes long."""

import functools

from pgd_jax.envs import base

NAMES = ("mountain-car-continuous", "reacher-misc", "swimmer-misc", "point-robot-misc")


def make(name: str) -> base.EvalEnv:
    """The task called `name`, one of NAMES, adapted by gymnax.py. Raises UserError without the `gymnax` extra."""
    from pgd_jax.envs import gymnasium

    gymnasium.require(name, "gymnax", extra="gymnax")
    from pgd_jax.envs import gymnax

    return gymnax.make(name)


for _name in NAMES:
    base.ENVS.add(_name, functools.partial(make, _name))
