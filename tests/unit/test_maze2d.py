"""maze2d against C MuJoCo stepping D4RL's model."""

import functools

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from pgd_jax.core.errors import UserError
from pgd_jax.data.mazes import waypoint
from pgd_jax.envs import maze2d, point_mass

MUJOCO_2_1, AS_INSTALLED = "MuJoCo 2.1", "as installed"


@functools.cache
def model(layout, semantics=MUJOCO_2_1):
    """D4RL's point maze. Margins of 0.002 + 0 combine to 0.002, MuJoCo 2.1's value, by sum or by maximum."""
    boxes = "".join(
        f'<geom type="box" pos="{x + 1} {y + 1} 0" size="0.5 0.5 0.2"/>'
        for x, row in enumerate(maze2d.MAZES[layout].rows)
        for y, tile in enumerate(row)
        if tile == "#"
    )
    box_margin = 0.0 if semantics == MUJOCO_2_1 else 0.002
    built = mujoco.MjModel.from_xml_string(f"""
    <mujoco>
      <option timestep="0.01" gravity="0 0 0" iterations="20" integrator="Euler"/>
      <default>
        <joint damping="1" limited="false"/>
        <geom friction=".5 .1 .1" density="1000" margin="{box_margin}" condim="1" contype="2" conaffinity="1"/>
      </default>
      <worldbody>
        <body pos="1.2 1.2 0">
          <geom type="sphere" size="0.1" margin="0.002" contype="1"/>
          <joint name="x" type="slide" axis="1 0 0"/> <joint name="y" type="slide" axis="0 1 0"/>
        </body>
        {boxes}
      </worldbody>
      <actuator>
        <motor joint="x" ctrlrange="-1 1" ctrllimited="true" gear="100"/>
        <motor joint="y" ctrlrange="-1 1" ctrllimited="true" gear="100"/>
      </actuator>
    </mujoco>""")
    if semantics == MUJOCO_2_1:
        built.body_invweight0[1, 0] = 2.0 / 3.0 / built.body_mass[1]
    return built


def mujoco_step(built, data, obs, action):
    """D4RL's step from obs [4] -> (next obs [4], number of contacts)."""
    data.qpos[:], data.qvel[:], data.ctrl[:] = obs[:2], np.clip(obs[2:], -5.0, 5.0), action
    data.qacc_warmstart[:] = 0.0
    mujoco.mj_step(built, data)
    return np.concatenate([data.qpos, data.qvel]), data.ncon


def one_step(layout, obs, action, semantics=MUJOCO_2_1):
    """Next observations by MuJoCo and by the library, and the number of contacts, of N states."""
    built = model(layout, semantics)
    data = mujoco.MjData(built)
    theirs, num_contacts = zip(*[mujoco_step(built, data, o, a) for o, a in zip(obs, action)])
    contact = point_mass.Contact()
    if semantics == AS_INSTALLED:
        # Read from the installed version, which the library's defaults deliberately differ from.
        data.qpos[:] = [0.4, 1.0]
        mujoco.mj_forward(built, data)
        weight = built.body_invweight0[1, 0] * built.body_mass[1]
        contact = point_mass.Contact(data.contact[0].includemargin, weight)
    state = jax.vmap(maze2d.from_obs)(jnp.asarray(obs, jnp.float32))
    step = lambda state, action: maze2d.step(jax.random.key(0), state, action, layout=layout, contact=contact)[0]
    ours = jax.jit(jax.vmap(step))(state, jnp.asarray(action, jnp.float32))
    return np.array(theirs), np.asarray(ours), np.array(num_contacts)


def wandering(layout, num_steps, seed=0):
    """States and actions of a MuJoCo rollout that leans on walls and corners: random forces held for half a second."""
    generator = np.random.default_rng(seed)
    built = model(layout)
    data = mujoco.MjData(built)
    obs = np.concatenate([maze2d.target(layout), np.zeros(2)])
    observations, actions = [], []
    for index in range(num_steps):
        if index % 50 == 0:
            held = generator.uniform(-2.0, 2.0, 2).clip(-1.0, 1.0)
        observations.append(obs)
        actions.append(held)
        obs, _ = mujoco_step(built, data, obs, held)
    return np.array(observations).astype(np.float32), np.array(actions).astype(np.float32)


def near_walls(layout, num_states, seed=0):
    """States within reach of a wall's contact, some of them in corners, at speeds up to and beyond the limit."""
    generator = np.random.default_rng(seed)
    centres = jnp.asarray(np.argwhere(maze2d.is_wall(layout)) - maze2d.WALL_OFFSET, jnp.float32)
    size = np.array(maze2d.is_wall(layout).shape) - 1.0
    position = generator.uniform(0.0, size, (40 * num_states, 2)).astype(np.float32)
    distance = jax.vmap(lambda xy: jnp.min(point_mass.distances(xy, centres)[0]))(position)
    position = position[(distance > -0.03) & (distance < 0.006)][:num_states]
    velocity = generator.normal(0.0, 3.0, position.shape)
    obs = np.concatenate([position, velocity], axis=-1).astype(np.float32)
    return obs, generator.uniform(-1.0, 1.0, position.shape).astype(np.float32)


@pytest.mark.parametrize("semantics", [MUJOCO_2_1, AS_INSTALLED])
@pytest.mark.parametrize(("layout", "states"), [("umaze", wandering), ("umaze", near_walls), ("large", wandering)])
def test_one_step_equals_mujoco(layout, states, semantics):
    theirs, ours, num_contacts = one_step(layout, *states(layout, 1500), semantics)
    # Free flight, one box, and the corners and seams where two boxes push at once: each must be there to be tested.
    assert all((num_contacts == n).sum() >= 20 for n in (0, 1, 2)), np.bincount(num_contacts)
    np.testing.assert_allclose(ours[:, :2], theirs[:, :2], atol=2e-6)
    np.testing.assert_allclose(ours[:, 2:], theirs[:, 2:], atol=2e-4)
    np.testing.assert_allclose(ours[num_contacts == 0], theirs[num_contacts == 0], atol=2e-6)


def test_defaults_are_not_the_installed_contacts():
    """The two sets of parameters in point_mass.Contact's table differ by far more than the tolerance above."""
    obs, action = wandering("umaze", 300)
    assert np.abs(one_step("umaze", obs, action)[1] - one_step("umaze", obs, action, AS_INSTALLED)[1]).max() > 1e-2


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["umaze", "large"])
def test_no_rollout_enters_a_wall(layout):
    env = maze2d.make(layout)
    boxes = jnp.asarray(maze2d.walls(layout))

    def rollout(key):
        key_reset, key_force, key_step = jax.random.split(key, 3)
        held = jnp.sign(jax.random.normal(key_force, (10, 2)))  # full force towards corners, 50 steps at a time

        def step(carry, index):
            obs, state, _, _ = env.step(key_step, carry, held[index // 50])
            return state, obs

        return jax.lax.scan(step, env.reset(key_reset)[1], jnp.arange(500))[1]

    obs = jax.jit(jax.vmap(rollout))(jax.random.split(jax.random.key(0), 64)).reshape(-1, 4)
    assert not np.asarray(maze2d.in_wall(layout, obs[:, :2])).any()
    gap = jnp.maximum(boxes[None, :, :2] - obs[:, None, :2], obs[:, None, :2] - boxes[None, :, 2:])
    distance = jnp.min(jnp.linalg.norm(jnp.maximum(gap, 0.0), axis=-1), axis=1)
    # Contacts are soft: one step at 5 units/s per axis sinks the ball of radius 0.1 by 0.05, 0.07 at a corner.
    assert 0.1 - 0.0708 < float(jnp.min(distance)) < 0.1


@pytest.mark.slow
def test_waypoint_controller_reaches_the_same_goals_in_mujoco():
    layout, num_starts = "umaze", 6
    env, built = maze2d.make(layout), model("umaze")
    key_reset, key_start, key_act = jax.random.split(jax.random.key(1), 3)
    obs, state = jax.vmap(env.reset)(jax.random.split(key_reset, num_starts))
    goal = jnp.asarray(maze2d.target(layout).astype(np.int32))
    controller = jax.vmap(lambda key, o: waypoint.start(key, layout, o[:2], goal))(
        jax.random.split(key_start, num_starts), obs
    )
    act = jax.jit(jax.vmap(lambda key, c, o: waypoint.act(key, layout, c, o)))
    step = jax.jit(jax.vmap(env.step))

    def run(obs, advance):
        current, reached_at, path = controller, np.full(num_starts, 999), []
        for index in range(env.horizon):
            keys = jax.random.split(jax.random.fold_in(key_act, index), num_starts)
            action, reached, current = act(keys, current, obs)
            reached_at = np.where(reached, np.minimum(reached_at, index), reached_at)
            obs = advance(keys, action)
            path.append(np.asarray(obs))
        return np.array(path), reached_at

    def ours(keys, action):
        nonlocal state
        obs, state, _, _ = step(keys, state, action)
        return obs

    simulations, theirs_now = [mujoco.MjData(built) for _ in range(num_starts)], np.asarray(obs, np.float64)

    def theirs(keys, action):
        for index, data in enumerate(simulations):
            theirs_now[index] = mujoco_step(built, data, theirs_now[index], np.asarray(action)[index])[0]
        return jnp.asarray(theirs_now, jnp.float32)

    our_path, our_steps = run(obs, ours)
    their_path, their_steps = run(obs, theirs)
    assert (their_steps < env.horizon).all()
    assert np.abs(our_steps - their_steps).max() <= 1
    np.testing.assert_allclose(our_path[..., :2], their_path[..., :2], atol=1e-2)


def test_reward_is_that_of_the_new_observation():
    # From y = 1.5005 at -5 per second the ball is 0.5005 from the target (1, 1) before the step and 0.45 after it.
    obs = jnp.array([1.0, 1.5005, 0.0, -5.0])
    for reward, expected in (("sparse", 1.0), ("dense", np.exp(-0.4506))):
        env = maze2d.make("umaze", reward)
        new, _, found, terminal = jax.jit(env.step)(jax.random.key(0), env.from_obs(obs), jnp.zeros(2))
        # m v' + dt b v' = m v without a force: y falls by 0.05 / (1 + 0.01 / 4.18879) = 0.04988.
        np.testing.assert_allclose(new[1], 1.5005 - 0.04988, atol=1e-5)
        np.testing.assert_allclose(found, expected, atol=1e-4)
        assert not terminal
    # Standing still at 0.51 from the target is too far.
    assert maze2d.reward_of(jnp.array([1.0, 1.51, 0.0, 0.0]), layout="umaze") == 0.0


def test_reset_is_uniform_over_free_cells():
    obs = np.asarray(jax.jit(jax.vmap(maze2d.make("umaze").reset))(jax.random.split(jax.random.key(0), 7000))[0])
    cells, counts = np.unique(np.round(obs[:, :2]), axis=0, return_counts=True)
    np.testing.assert_array_equal(cells, [[1, 1], [1, 2], [1, 3], [2, 3], [3, 1], [3, 2], [3, 3]])
    assert np.abs(counts - 1000).max() < 150  # five standard deviations of a binomial count
    offset = obs[:, :2] - np.round(obs[:, :2])
    # uniform(-0.1, 0.1) has standard deviation 0.2 / sqrt(12) = 0.0577
    assert np.abs(offset).max() <= 0.1 + 1e-6
    np.testing.assert_allclose(offset.std(axis=0), 0.0577, atol=0.002)
    np.testing.assert_allclose(obs[:, 2:].std(axis=0), 0.1, atol=0.005)


def test_walls_are_where_in_wall_says():
    boxes = maze2d.walls("umaze")
    assert boxes.shape == (5 * 5 - 7, 4)
    np.testing.assert_allclose(boxes[0], [-0.7, -0.7, 0.3, 0.3])  # cell (0, 0), centred on (-0.2, -0.2)
    points = jnp.asarray(np.random.default_rng(0).uniform(-0.7, 4.3, (2000, 2)), jnp.float32)
    within = (points[:, None] > boxes[None, :, :2]) & (points[:, None] < boxes[None, :, 2:])
    np.testing.assert_array_equal(maze2d.in_wall("umaze", points), within.all(axis=-1).any(axis=-1))
    assert bool(maze2d.in_wall("umaze", jnp.array([9.0, 1.0])))  # outside the maze


def test_unknown_names_are_refused():
    with pytest.raises(UserError, match='did you mean "umaze"'):
        maze2d.make("umze")
    with pytest.raises(UserError, match='did you mean "sparse"'):
        maze2d.make("umaze", "spare")


def test_what_is_reachable():
    # umaze's left wall ends at x = 0.3: a ball of radius 0.1 touches it at 0.4 and sinks at most 0.03 deeper.
    obs = jnp.array([[0.41, 3.0, 0, 0], [0.375, 3.0, 0, 0], [0.365, 3.0, 0, 0], [0.1, 3.0, 0, 0]])
    reachable = [bool(maze2d.is_reachable("umaze", row)) for row in obs]
    assert reachable == [True, True, False, False]


def test_a_full_speed_hit_stays_reachable():
    env = maze2d.make("umaze")
    state, seen = env.from_obs(jnp.array([1.0, 1.5, -5.0, 0.0])), []
    for _ in range(40):
        obs, state, _, _ = env.step(jax.random.key(0), state, jnp.array([-1.0, 0.0]))
        seen.append(obs)
    assert min(float(obs[0]) for obs in seen) < 0.4, "it must have hit the wall"
    assert all(bool(env.is_reachable(obs)) for obs in seen)
