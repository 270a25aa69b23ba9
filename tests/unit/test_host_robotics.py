"""D4RL's antmaze, kitchen and adroit on the host, against d4rl's own files and formulas."""

import ast
import importlib.util
import pathlib
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from pgd_jax.envs import base, robotics  # noqa: F401  registers

mujoco = pytest.importorskip("mujoco")
pytest.importorskip("imageio")

D4RL = importlib.util.find_spec("d4rl")  # not imported: that needs MuJoCo 2.1
needs_d4rl = pytest.mark.skipif(D4RL is None, reason="d4rl is not installed")
needs_robotics = pytest.mark.skipif(
    importlib.util.find_spec("gymnasium_robotics") is None, reason="gymnasium-robotics is not installed"
)
MAZES = {"umaze": "U_MAZE_TEST", "medium": "BIG_MAZE_TEST", "large": "HARDEST_MAZE_TEST"}
ADROIT = ("pen", "hammer", "door", "relocate")
ALL = [
    *(f"antmaze-{maze}" for maze in MAZES),
    *(pytest.param(task, marks=needs_robotics) for task in ADROIT),
    *(pytest.param(f"kitchen-{task}", marks=needs_robotics) for task in ("complete", "partial", "mixed")),
]


def d4rl_folder():
    return pathlib.Path(D4RL.origin).parent


def build(name):
    return base.HOST_ENVS.get(name)().make()


@pytest.mark.parametrize("name", ALL)
def test_an_episode_of_random_actions(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    described = base.HOST_ENVS.get(name)()
    env, generator = described.make(), np.random.default_rng(0)
    first, _ = env.reset(seed=5)
    length, is_over = 0, False
    while not is_over:
        obs, reward, terminated, truncated, info = env.step(generator.uniform(-1.0, 1.0, described.action_dim))
        assert described.has_success and info["success"] in (True, False)
        length, is_over = length + 1, terminated or truncated
        assert obs.shape == first.shape == (described.obs_dim,) and obs.dtype == np.float32
        assert np.isfinite(obs).all() and np.isfinite(reward)
    assert truncated == (length == described.horizon)
    np.testing.assert_array_equal(env.reset(seed=5)[0], first)  # nothing of the episode is left
    assert not np.array_equal(env.reset(seed=6)[0], first)
    assert list(tmp_path.iterdir()) == []  # MuJoCo's log


# Antmaze


def d4rl_maze(maze):
    """The rows of d4rl's map, read from its source."""
    tree = ast.parse((d4rl_folder() / "locomotion" / "maze_env.py").read_text())
    node = next(n for n in tree.body if isinstance(n, ast.Assign) and n.targets[0].id == MAZES[maze])
    cells = {"R": "r", "G": "g"}
    return [
        [cells[cell.id] if isinstance(cell, ast.Name) else cell.value for cell in row.elts] for row in node.value.elts
    ]


def d4rl_model(maze):
    """The model as MazeEnv.__init__ writes it: boxes of 4 x 4 x 2 round a robot at the origin."""
    rows = d4rl_maze(maze)
    start = next((j * 4.0, i * 4.0) for i, row in enumerate(rows) for j, cell in enumerate(row) if cell == "r")
    tree = ElementTree.parse(d4rl_folder() / "locomotion" / "assets" / "ant.xml")
    for i, row in enumerate(rows):
        for j, cell in enumerate(row):
            if cell == 1:
                box = {"pos": f"{j * 4.0 - start[0]} {i * 4.0 - start[1]} 1.0", "size": "2 2 1", "type": "box"}
                box |= {"contype": "1", "conaffinity": "1"}
                ElementTree.SubElement(tree.find(".//worldbody"), "geom", box)
    return mujoco.MjModel.from_xml_string(ElementTree.tostring(tree.getroot(), encoding="unicode"))


@needs_d4rl
@pytest.mark.parametrize("maze", MAZES)
def test_the_ant_and_its_maze_are_d4rls(maze):
    from pgd_jax.envs import antmaze

    ours, theirs = antmaze.model(maze), d4rl_model(maze)
    assert ours.opt.timestep == theirs.opt.timestep == 0.02 and ours.opt.integrator == theirs.opt.integrator
    for name in ("body", "geom", "jnt", "dof"):
        fields = [field for field in dir(theirs) if field.startswith(f"{name}_")]
        for field in set(fields) - {"geom_matid", "geom_rgba"}:
            np.testing.assert_allclose(getattr(ours, field), getattr(theirs, field), atol=1e-12, err_msg=field)
    # D4RL scales actions to motors of 30, these have a gear of 30.
    a, b = mujoco.MjData(ours), mujoco.MjData(theirs)
    for action in np.random.default_rng(0).uniform(-1.0, 1.0, (20, 8)):
        a.ctrl[:], b.ctrl[:] = action, 30.0 * action
        mujoco.mj_step(ours, a, 5)
        mujoco.mj_step(theirs, b, 5)
    np.testing.assert_allclose(a.qpos, b.qpos, atol=1e-9)
    assert not np.allclose(a.qpos, ours.qpos0, atol=0.1)


@pytest.mark.parametrize(("maze", "goal"), [("umaze", (0.0, 8.0)), ("medium", (20.0, 20.0)), ("large", (32.0, 24.0))])
def test_start_and_goal_are_where_d4rl_has_them(maze, goal):
    env = build(f"antmaze-{maze}")
    starts = np.array([env.reset(seed=seed)[0] for seed in range(50)])
    assert np.abs(starts[:, :2]).max() <= 0.1 and np.abs(starts[:, :2]).max() > 0.08
    goals = []
    for seed in range(200):
        env.reset(seed=seed)
        goals.append(env.unwrapped._goal)
    offsets = np.array(goals) - goal
    # The sum of uniform offsets up to 1 and up to 0.5: mean 0.75, at most 1.5.
    assert offsets.min() >= 0.0 and offsets.max() <= 1.5 and offsets.max() > 1.2
    np.testing.assert_allclose(offsets.mean(axis=0), 0.75, atol=0.1)


def test_the_goal_pays_once_and_ends_the_episode():
    env = build("antmaze-umaze")
    for distance, wanted in ((0.3, True), (0.8, False)):
        env.reset(seed=0)
        ant = env.unwrapped
        qpos = ant.init_qpos.copy()
        qpos[:2] = ant._goal + [distance, 0.0]
        ant.set_state(qpos, ant.init_qvel)
        obs, reward, terminated, _, info = env.step(np.zeros(8))
        np.testing.assert_allclose(obs[:2], qpos[:2], atol=0.1)
        assert (reward, terminated, info["success"]) == (float(wanted), wanted, wanted)


# Kitchen


@needs_robotics
@pytest.mark.parametrize("task", ["complete", "partial", "mixed"])
def test_the_kitchens_goal(task):
    """d4rl's OBS_ELEMENT_GOALS at OBS_ELEMENT_INDICES, zeros elsewhere."""
    wanted = np.zeros(30)
    wanted[22], wanted[23:30] = -0.75, [-0.23, 0.75, 1.62, 0.99, 0.0, 0.0, -0.06]
    wanted[17:19] = -0.69, -0.05
    if task == "mixed":
        wanted[11:13] = -0.88, -0.01
    else:
        wanted[19] = 0.37
    obs, _ = build(f"kitchen-{task}").reset(seed=0)
    np.testing.assert_array_equal(obs[30:], wanted.astype(np.float32))


@needs_robotics
def test_the_kitchen_pays_each_part_once_and_ends_with_the_last():
    env = build("kitchen-complete")
    kitchen = env.unwrapped

    def step_with(**joints):
        qpos = kitchen.data.qpos.copy()
        for name, value in joints.items():
            qpos[kitchen.model.joint(name).qposadr[0] + np.arange(np.size(value))] = value
        kitchen.set_state(qpos, np.zeros(kitchen.model.nv))
        _, reward, terminated, _, info = env.step(np.zeros(9))
        assert info["success"] == terminated
        return reward, terminated

    env.reset(seed=0)
    assert step_with() == (0.0, False)
    assert step_with(microwave=-0.7) == (1.0, False)
    assert step_with() == (0.0, False)
    assert step_with(slide_cabinet=0.37, light_switch=-0.69, light_joint=-0.05) == (2.0, False)
    assert step_with(kettle=[-0.23, 0.75, 1.62, 0.99, 0.0, 0.0, -0.06]) == (1.0, True)
    env.reset(seed=0)
    assert step_with(microwave=-0.7) == (1.0, False)


@needs_robotics
def test_the_kitchens_noise():
    """0.1 times the amplitude of d4rl's robot_config, uniform: the arm's is 0.01."""
    env = build("kitchen-mixed")
    seen = np.array([env.reset(seed=seed)[0][:30] for seed in range(100)])
    kitchen = env.unwrapped
    spread = np.abs(seen - kitchen.init_qpos).max(axis=0)
    from pgd_jax.envs import kitchen as kitchens

    np.testing.assert_allclose(spread, kitchens.NOISE, rtol=0.15)
    np.testing.assert_allclose(
        kitchens.NOISE[[0, 9, 11, 17, 20, 23, 26, 29]] * 10, [0.1, 0.005, 0.0005, 0.005] + [0.1, 0.005] * 2
    )
    if D4RL is not None:
        config = ElementTree.parse(d4rl_folder() / "kitchen" / "adept_envs" / "franka" / "robot" / "franka_config.xml")
        amplitudes = [float(config.getroot().find(f"qpos{i}").get("pos_noise_amp")) for i in range(30)]
        np.testing.assert_allclose(kitchens.NOISE, 0.1 * np.array(amplitudes))
