"""A force-actuated ball among boxes, with MuJoCo's soft contacts, in plain JAX: the physics of D4RL's maze2d.

The ball is a sphere on two damped slides with motors, stepped by MuJoCo's Euler integrator. The contact model is that
of MuJoCo's documentation (Computation chapter: constraint model, solver parameters). It is written out here because MJX
ignores the margin of box contacts.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

HALF_SIZE = 0.5  # of a box
RADIUS = 0.1  # of the ball
MASS = float(1000.0 * 4.0 / 3.0 * np.pi * RADIUS**3)  # kg
DAMPING = 1.0
GEAR = 100.0
TIME_STEP = 0.01  # s
TIME_CONST, DAMP_RATIO = 0.02, 1.0  # solref
IMPEDANCE_MIN, IMPEDANCE_MAX, IMPEDANCE_WIDTH = 0.9, 0.95, 0.001  # solimp; its midpoint is 0.5, its power 2
STIFFNESS = 1.0 / (IMPEDANCE_MAX * TIME_CONST * DAMP_RATIO) ** 2
CONTACT_DAMPING = 2.0 / (IMPEDANCE_MAX * TIME_CONST)
NUM_NEWTON = 3  # 1 is wrong if the ball touches two boxes; 2 were enough in every state tried


class Contact(NamedTuple):
    """Two details that changed between MuJoCo's versions. The defaults are those of 2.1, as in D4RL's data.

    | | 2.1 | 3.17 |
    |---|---|---|
    | margin: of two geoms with 0.002 each | the larger, 0.002 | the sum, 0.004 |
    | inverse_weight: of the ball, times its mass | mean over three axes, one of them fixed: 2/3 | 1 |
    """

    margin: float | jax.Array = 0.002
    inverse_weight: float | jax.Array = 2.0 / 3.0


def distances(position: jax.Array, centres: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(distances f32[C], normals f32[C, 2]) of a ball at position f32[2] from boxes at centres f32[C, 2].

    A distance is negative if the ball is in the box. A normal points from the box to the ball. If the ball's centre is
    inside a box, which no rollout reaches, the ball is pushed out through the nearest side.
    """
    offset = position[None, :] - centres
    gap = offset - jnp.clip(offset, -HALF_SIZE, HALF_SIZE)
    squared = jnp.sum(gap**2, axis=-1)
    outside = squared > 0.0
    length = jnp.sqrt(jnp.where(outside, squared, 1.0))
    depth = HALF_SIZE - jnp.abs(offset)
    nearest_side = jnp.argmin(depth, axis=-1)[:, None] == jnp.arange(2)[None, :]
    outward = jnp.where(nearest_side, jnp.where(offset < 0.0, -1.0, 1.0), 0.0)
    normals = jnp.where(outside[:, None], gap / length[:, None], outward)
    return jnp.where(outside, length, -jnp.min(depth, axis=-1)) - RADIUS, normals


def constrained_acceleration(
    smooth: jax.Array, normals: jax.Array, reference: jax.Array, weight: jax.Array
) -> jax.Array:
    """argmin_a |a - smooth|^2 / 2 + sum_i weight_i min(0, n_i . a - reference_i)^2 / 2: MuJoCo's primal problem / mass.

    Newton's method on a piecewise quadratic: solve with the active set, then update the set. Products are summed
    elementwise, because an accelerator may round a matrix product to fewer bits.

    Args: smooth f32[2], normals f32[C, 2], reference f32[C], weight f32[C] (zero for no contact). Returns f32[2].
    """
    acceleration = smooth
    for _ in range(NUM_NEWTON):
        along = jnp.sum(normals * acceleration[None, :], axis=-1)
        active = jnp.where(along < reference, weight, 0.0)
        h_xx = 1.0 + jnp.sum(active * normals[:, 0] ** 2)
        h_yy = 1.0 + jnp.sum(active * normals[:, 1] ** 2)
        h_xy = jnp.sum(active * normals[:, 0] * normals[:, 1])
        right = smooth + jnp.sum((active * reference)[:, None] * normals, axis=0)
        adjugate = jnp.stack([h_yy * right[0] - h_xy * right[1], h_xx * right[1] - h_xy * right[0]])
        acceleration = adjugate / (h_xx * h_yy - h_xy**2)
    return acceleration


def step(
    position: jax.Array, velocity: jax.Array, action: jax.Array, centres: jax.Array, solid: jax.Array, contact: Contact
) -> tuple[jax.Array, jax.Array]:
    """One MuJoCo step of 0.01 s -> (position f32[2], velocity f32[2]).

    Args: position, velocity f32[2]; action f32[2] in [-1, 1]; centres f32[C, 2] of boxes; solid bool[C], whether a box
    exists.
    """
    smooth = (GEAR * action - DAMPING * velocity) / MASS
    distance, normals = distances(position, centres)
    touching = solid & (distance < contact.margin)
    violation = jnp.where(touching, distance - contact.margin, 0.0)
    x = jnp.minimum(jnp.abs(violation) / IMPEDANCE_WIDTH, 1.0)
    sigmoid = jnp.where(x < 0.5, 2.0 * x**2, 1.0 - 2.0 * (1.0 - x) ** 2)
    impedance = IMPEDANCE_MIN + (IMPEDANCE_MAX - IMPEDANCE_MIN) * sigmoid
    approach = jnp.sum(normals * velocity[None, :], axis=-1)
    reference = -CONTACT_DAMPING * approach - STIFFNESS * impedance * violation
    weight = jnp.where(touching, impedance / (1.0 - impedance) / contact.inverse_weight, 0.0)
    acceleration = constrained_acceleration(smooth, normals, reference, weight)
    # Damping is implicit: (M + dt b) dv = dt M a.
    velocity = velocity + TIME_STEP * acceleration * (MASS / (MASS + TIME_STEP * DAMPING))
    return position + TIME_STEP * velocity, velocity
