"""MuJoCo's physics inside the program: Gymnasium's model files, stepped by MuJoCo MJX.

The files are read unchanged: those of Gymnasium's `-v4` tasks, which agree with those of D4RL's v2 datasets. MJX is
MuJoCo's own JAX version. Three changes make it agree with C MuJoCo, and make it cheap in a compiled batch:

- The solver runs `NUM_NEWTON` steps with `NUM_LINE_SEARCH` line-search steps each. The files allow 100 and 50; C MuJoCo
  stops early, but line search in MJX cannot. 4 of each gave the same errors as 20; 3 did not.
- Runge-Kutta stages are one loop over `mjx.forward`. `mjx.step` has four copies of it in the program; the loop takes a
  quarter of the compile time.
- For a capsule that stands steeply on a plane, MJX turns the friction directions to the world's axes; C MuJoCo keeps
  them along the capsule. With a friction pyramid the force differs, so `_along_capsule` turns them back.
"""

import contextlib
import functools
import importlib.util
import io
import pathlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from pgd_jax.core.errors import UserError

NUM_NEWTON, NUM_LINE_SEARCH = 8, 4
# Classical Runge-Kutta: each stage's step along the previous stage's derivative, and its weight in the sum.
STAGES, WEIGHTS = np.array([0.0, 0.5, 0.5, 1.0], np.float32), np.array([1.0, 2.0, 2.0, 1.0], np.float32) / 6.0


@struct.dataclass
class State:
    """A MuJoCo state, for models without actuator dynamics."""

    qpos: jax.Array  # f32[nq]
    qvel: jax.Array  # f32[nv]
    warmstart: jax.Array  # f32[nv] the solver's last acceleration: its first guess in the next step
    # f32[] x of the first body after the world, minus x in qpos. MuJoCo leaves bodies where the integrator's last stage
    # put them, which is not exactly where a step ends. The reward of Gymnasium's Ant uses the body's position.
    lag: jax.Array


class Model(NamedTuple):
    """A model file, ready to step. `step` holds ctrl f32[nu] for `frame_skip` time steps."""

    time_per_step: float  # s
    init_qpos: np.ndarray  # f32[nq]
    num_velocities: int
    num_controls: int
    place: Callable[[Any, jax.Array], State]  # (qpos f32[nq], qvel f32[nv]) -> State
    step: Callable[[State, jax.Array], State]  # (State, ctrl f32[nu]) -> State


@functools.cache
def load(file_name: str, frame_skip: int) -> Model:
    """The model in one of the files that Gymnasium ships. Raises UserError without the `mujoco` extra."""
    package = _check_packages()
    import mujoco  # imported where it is needed: an extra, and slow to import

    with contextlib.redirect_stdout(io.StringIO()):  # the import prints that Warp, another backend, is missing
        from mujoco import mjx

    spec = mujoco.MjSpec.from_file(str(package / "envs" / "mujoco" / "assets" / file_name))
    for unseen in (*spec.cameras, *spec.lights):  # every step would compute their positions
        spec.delete(unseen)
    # MuJoCo warns of this attribute (half_cheetah.xml has it) on stderr and in a log file. Its effect follows below.
    total_mass, spec.compiler.settotalmass = spec.compiler.settotalmass, -1.0
    compiled = spec.compile()
    if total_mass > 0.0:
        mujoco.mj_setTotalmass(compiled, total_mass)
        mujoco.mj_setConst(compiled, mujoco.MjData(compiled))
    compiled.opt.iterations, compiled.opt.ls_iterations = NUM_NEWTON, NUM_LINE_SEARCH
    with jax.ensure_compile_time_eval(), _as_mjx_expects():  # the first call may come from within a trace
        model, blank = mjx.put_model(compiled), mjx.make_data(compiled)
    advance = _runge_kutta if compiled.opt.integrator == mujoco.mjtIntegrator.mjINT_RK4 else _euler

    def place(qpos: jax.Array, qvel: jax.Array) -> State:
        return State(qpos, qvel, jnp.zeros(compiled.nv, jnp.float32), jnp.float32(0.0))

    def step(state: State, ctrl: jax.Array) -> State:
        with _as_mjx_expects():
            data = blank.replace(ctrl=ctrl)
            return jax.lax.fori_loop(0, frame_skip, lambda _, state: advance(model, data, state), state)

    return Model(
        time_per_step=float(compiled.opt.timestep) * frame_skip,
        init_qpos=compiled.qpos0.astype(np.float32),
        num_velocities=compiled.nv,
        num_controls=compiled.nu,
        place=place,
        step=step,
    )


def _check_packages() -> pathlib.Path:
    """Gymnasium's folder. Raises UserError if a package is missing."""
    found: Any = None
    for name in ("mujoco", "mujoco.mjx", "gymnasium"):
        try:
            found = importlib.util.find_spec(name)
        except ModuleNotFoundError:  # the parent package is missing
            found = None
        if found is None:
            raise UserError(
                f'this task needs the package "{name}", which is not here: pip install "pgd_jax[mujoco]", '
                "or set environment=none to train without evaluation"
            )
    return pathlib.Path(found.origin).parent


def _filled(data: Any, qpos: jax.Array, qvel: jax.Array, warmstart: jax.Array) -> Any:
    return data.replace(qpos=qpos, qvel=qvel, qacc_warmstart=warmstart)


def _euler(model: Any, data: Any, state: State) -> State:
    """One time step of MuJoCo's semi-implicit Euler integrator."""
    from mujoco import mjx

    data = mjx.step(model, _filled(data, state.qpos, state.qvel, state.warmstart))
    return State(data.qpos, data.qvel, data.qacc_warmstart, data.xpos[1, 0] - data.qpos[0])


def _runge_kutta(model: Any, data: Any, state: State) -> State:
    """One time step of MuJoCo's RK4 integrator (MuJoCo documentation, Computation: numerical integration)."""
    from mujoco import mjx

    time_step = model.opt.timestep
    still = jnp.zeros_like(state.qvel)

    def stage(carry: tuple[jax.Array, ...], x: Any) -> tuple[tuple[jax.Array, ...], None]:
        qvel, qacc, warmstart, mean_qvel, mean_qacc, _ = carry
        share, weight = x
        qpos = integrate(state.qpos, qvel, share * time_step)
        qvel = state.qvel + share * time_step * qacc
        forward = mjx.forward(model, _filled(data, qpos, qvel, warmstart))
        qacc = forward.qacc
        return (qvel, qacc, qacc, mean_qvel + weight * qvel, mean_qacc + weight * qacc, forward.xpos[1, 0]), None

    carry: tuple[jax.Array, ...] = (state.qvel, still, state.warmstart, still, still, state.lag)
    (_, _, warmstart, mean_qvel, mean_qacc, body_x), _ = jax.lax.scan(stage, carry, (STAGES, WEIGHTS))
    qpos = integrate(state.qpos, mean_qvel, time_step)
    return State(qpos, state.qvel + time_step * mean_qacc, warmstart, body_x - qpos[0])


def integrate(qpos: jax.Array, qvel: jax.Array, seconds: jax.Array) -> jax.Array:
    """qpos f32[nq] after moving at qvel f32[nv]. A free joint, if there is one, is the model's first joint.

    Its orientation, a unit quaternion (w, x, y, z), turns by an angular velocity given in its own frame.
    """
    if qpos.size == qvel.size:
        return qpos + seconds * qvel
    angle = seconds * jnp.linalg.norm(qvel[3:6])
    # sin(angle / 2) / |angular velocity|, finite at rest too.
    turn = 0.5 * seconds * jnp.sinc(0.5 * angle / jnp.pi) * qvel[3:6]
    w, v, c = qpos[3], qpos[4:7], jnp.cos(0.5 * angle)
    quaternion = jnp.concatenate([(w * c - jnp.dot(v, turn))[None], w * turn + c * v + jnp.cross(v, turn)])
    quaternion = quaternion / jnp.linalg.norm(quaternion)
    return jnp.concatenate([qpos[:3] + seconds * qvel[:3], quaternion, qpos[7:] + seconds * qvel[6:]])


@contextlib.contextmanager
def _as_mjx_expects() -> Iterator[None]:
    """JAX's standard promotion of types and ranks, and capsules on planes as in C MuJoCo, while MJX is traced."""
    from mujoco.mjx._src import collision_driver

    key = collision_driver.GeomType.PLANE, collision_driver.GeomType.CAPSULE
    collide = collision_driver._COLLISION_FUNC[key]
    collision_driver._COLLISION_FUNC[key] = _along_capsule(collide)
    try:
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            yield
    finally:
        collision_driver._COLLISION_FUNC[key] = collide


def _along_capsule(collide: Any) -> Callable[..., Any]:
    """MJX's plane-capsule collision, with the frames' second axis along the capsule (engine_collision_primitive.c)."""

    def aligned(model: Any, data: Any, key: Any, geom: jax.Array) -> Any:
        distance, position, frame = collide(model, data, key, geom)
        plane, capsule = geom.T
        normal, axis = data.geom_xmat[plane][:, :, 2], data.geom_xmat[capsule][:, :, 2]
        along = axis - normal * jnp.sum(normal * axis, axis=-1, keepdims=True)
        length = jnp.linalg.norm(along, axis=-1, keepdims=True)
        along = along / jnp.maximum(length, 1e-6)
        exact = jnp.stack([normal, along, jnp.cross(normal, along)], axis=1)
        # Each capsule has two contacts in a row. A capsule that is upright (within rounding) has no direction there.
        exact, upright = jnp.repeat(exact, 2, axis=0), jnp.repeat(length < 1e-6, 2, axis=0)
        return distance, position, jnp.where(upright[:, :, None], frame, exact)

    setattr(aligned, "ncon", collide.ncon)
    return aligned
