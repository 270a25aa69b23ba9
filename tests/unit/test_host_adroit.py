"""D4RL's adroit tasks on the host, against d4rl's own formulas and model files."""

import importlib.util
import pathlib
import shutil

import numpy as np
import pytest

from pgd_jax.core import config as configs
from pgd_jax.data.base import RawDataset
from pgd_jax.envs import base, host, robotics
from pgd_jax.runs import evaluators

mujoco = pytest.importorskip("mujoco")
pytest.importorskip("gymnasium_robotics")

D4RL = importlib.util.find_spec("d4rl")  # not imported: that needs MuJoCo 2.1
ADROIT = ("pen", "hammer", "door", "relocate")


def build(name):
    return base.HOST_ENVS.get(name)().make()


def hammer_reward(env):
    data, site, body = env.data, lambda name: env.data.site(name).xpos, lambda name: env.data.body(name).xpos
    palm, head, nail, goal = (site(name) for name in ("S_grasp", "tool", "S_target", "nail_goal"))
    reward = -0.1 * np.linalg.norm(palm - body("Object")) - np.linalg.norm(head - nail)
    reward -= 10.0 * np.linalg.norm(nail - goal) + 1e-2 * np.linalg.norm(data.qvel)
    return reward + (2.0 if body("Object")[2] > 0.04 and head[2] > 0.04 else 0.0)


def door_reward(env):
    data, hinge = env.data, env.data.joint("door_hinge").qpos[0]
    reach = np.linalg.norm(data.site("S_grasp").xpos - data.site("S_handle").xpos)
    return -0.1 * reach - 0.1 * (hinge - 1.57) ** 2 - 1e-5 * np.sum(data.qvel**2) + (2.0 if hinge > 0.2 else 0.0)


def relocate_reward(env):
    palm, target, ball = env.data.site("S_grasp").xpos, env.data.site("target").xpos, env.data.body("Object").xpos
    reward = -0.1 * np.linalg.norm(palm - ball)
    if ball[2] > 0.04:
        reward += 1.0 - 0.5 * np.linalg.norm(palm - target) - 0.5 * np.linalg.norm(ball - target)
    return reward + (10.0 if np.linalg.norm(ball - target) < 0.1 else 0.0)


def pen_reward(env):
    site, ball = (lambda name: env.data.site(name).xpos), env.data.body("Object").xpos
    orientation = (site("object_top") - site("object_bottom")) / env.pen_length
    wanted = (site("target_top") - site("target_bottom")) / env.tar_length
    distance, likeness = np.linalg.norm(ball - site("eps_ball")), np.dot(orientation, wanted)
    reward = likeness - distance - (5.0 if ball[2] < 0.075 else 0.0)
    if distance < 0.075:
        reward += (10.0 if likeness > 0.9 else 0.0) + (50.0 if likeness > 0.95 else 0.0)
    return reward


@pytest.mark.parametrize("task", ADROIT)
def test_the_hands_rewards_are_d4rls(task):
    """d4rl's hand_manipulation_suite/*_v0.py, written out (far from the goal, where the bonuses are none)."""
    env, generator, formula = build(task), np.random.default_rng(0), globals()[f"{task}_reward"]
    rewards = []
    for seed in range(3):
        env.reset(seed=seed)
        for _ in range(40):
            _, reward, terminated, _, _ = env.step(generator.uniform(-1.0, 1.0, env.action_space.shape))
            assert reward == pytest.approx(formula(env.unwrapped), rel=1e-5, abs=1e-5)
            rewards.append(reward)
            if terminated:
                break
    assert np.ptp(rewards) > 0.01


@pytest.mark.parametrize(("task", "wanted", "error"), [("hammer", -274.86, 6.0), ("door", -56.51, 1.0)])
def test_a_random_policy_scores_what_d4rl_says(task, wanted, error):
    """d4rl's REF_MIN_SCORE; of 100 episodes: -275.0 +- 0.6, -56.5 +- 0.1 (and relocate's -6.43: -6.0 +- 0.7)."""
    described, generator = base.HOST_ENVS.get(task)(), np.random.default_rng(0)

    def policy(obs):
        return generator.uniform(-1.0, 1.0, (*obs.shape[:-1], described.action_dim)).astype(np.float32)

    episodes = host.Evaluator(described, 1, 8).evaluate(policy, np.array([0]), 0, np.ones(1))
    assert episodes.returns.mean() == pytest.approx(wanted, abs=error)


@pytest.mark.parametrize(("name", "horizon"), [("pen-human-v1", 100), ("pen-human-longhorizon-v1", 200)])
def test_episodes_are_as_long_as_d4rls_of_the_dataset(name, horizon):
    rows = [np.zeros((4, 45), np.float32), np.zeros((4, 24), np.float32), np.zeros(4, np.float32), None]
    raw = RawDataset(name, "pen", name, *rows, terminals=np.zeros(4, bool), timeouts=np.zeros(4, bool))
    plan = evaluators.on_host("pen", raw, configs.AgentConfig(num_episodes=3), has_twin=False)
    assert plan.num_episodes == 3 and plan.env.horizon == horizon
    held = plan.env.make()
    held.reset(seed=0)
    assert held._max_episode_steps == horizon


def test_a_fallen_pen_ends_the_episode():
    env, generator = build("pen"), np.random.default_rng(0)
    lengths = []
    for seed in range(5):
        env.reset(seed=seed)
        for length in range(1, 101):
            obs, _, terminated, truncated, _ = env.step(generator.uniform(-1.0, 1.0, 24))
            assert terminated == (env.unwrapped.data.body("Object").xpos[2] < 0.075)
            if terminated or truncated:
                break
        lengths.append(length)
    assert min(lengths) < 100 and robotics.FALLEN == 0.075


@pytest.mark.skipif(D4RL is None, reason="d4rl is not installed")
@pytest.mark.parametrize("task", ADROIT)
def test_the_hands_models_are_d4rls(task, tmp_path):
    """Every number of the compiled model, before the actuators are changed as both do."""
    theirs = tmp_path / "adroit"
    suite = pathlib.Path(D4RL.origin).parent / "hand_manipulation_suite"
    shutil.copytree(suite / "assets", theirs / "assets")
    shutil.copytree(suite / "Adroit", theirs / "Adroit")
    for path in theirs.rglob("*.xml"):  # an attribute that MuJoCo 3 no longer knows: the rate of its network interface
        path.write_text(path.read_text().replace('apirate="200"', "").replace("apirate='200'", ""))
    robots = pathlib.Path(importlib.util.find_spec("gymnasium_robotics").origin).parent / "envs" / "assets"
    a = mujoco.MjModel.from_xml_path(str(theirs / "assets" / f"DAPG_{task}.xml"))
    b = mujoco.MjModel.from_xml_path(str(robots / "adroit_hand" / f"adroit_{task}.xml"))
    compared = 0
    for field in dir(a):
        value = getattr(a, field)
        if isinstance(value, np.ndarray) and value.dtype.kind == "f":
            np.testing.assert_array_equal(getattr(b, field), value, err_msg=field)
            compared += 1
    assert compared > 50 and a.opt.timestep == b.opt.timestep
