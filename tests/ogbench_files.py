"""Small files in OGBench's own format, recorded in the package's own environments; some states are at the goal."""

import pathlib
from collections.abc import Sequence

import numpy as np

STEPS = 6  # of a trajectory; its last state is a row too


def record(env, num_trajectories: int = 4, seed: int = 0) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """(arrays of a file by key, rewards of the environment's own steps): trajectories of `STEPS` + 1 rows.

    Every second trajectory begins with everything in its place. The environment does not end what goes on.
    """
    env.unwrapped._terminate_at_goal = False
    generator = np.random.default_rng(seed)
    rows, rewards = {"observations": [], "actions": [], "terminals": [], "qpos": [], "qvel": []}, []
    rows |= {"button_states": []} if hasattr(env.unwrapped, "_cur_button_states") else {}
    for trajectory in range(num_trajectories):
        obs, _ = env.reset(seed=trajectory)
        if trajectory % 2:
            obs = solve(env.unwrapped)
        for step in range(STEPS + 1):
            action = generator.uniform(-1.0, 1.0, env.action_space.shape)
            rows["observations"].append(obs)
            rows["actions"].append(action)
            rows["terminals"].append(step == STEPS)
            rows["qpos"].append(env.unwrapped.data.qpos.copy())
            rows["qvel"].append(env.unwrapped.data.qvel.copy())
            if "button_states" in rows:
                rows["button_states"].append(env.unwrapped._cur_button_states.copy())
            obs, reward, *_ = env.step(action)
            rewards.append(reward)
    whole = {"terminals": bool, "button_states": np.int64}
    return {key: np.array(values, whole.get(key, np.float32)) for key, values in rows.items()}, np.array(rewards)


def solve(env) -> np.ndarray:
    """Puts everything where the task wants it; the observation of that state."""
    if hasattr(env, "cur_goal_xy"):
        goal = np.asarray(env.cur_goal_xy)
        env.set_agent_ball_xy(goal - 2.0, goal) if hasattr(env, "set_agent_ball_xy") else env.set_xy(goal)
        return env.get_ob()
    qpos = env.data.qpos.copy()
    if hasattr(env, "_num_cubes"):
        for cube in range(env._num_cubes):
            qpos[14 + 7 * cube : 17 + 7 * cube] = env.data.mocap_pos[cube]
    if hasattr(env, "_target_drawer_pos"):
        qpos[env.model.joint("drawer_slide").qposadr] = env._target_drawer_pos
        qpos[env.model.joint("window_slide").qposadr] = env._target_window_pos
    buttons = [env._target_button_states] if hasattr(env, "_target_button_states") else []
    env.set_state(qpos, np.zeros(env.model.nv), *buttons)
    env.pre_step()
    env.post_step()
    return env.compute_observation()


def write(folder: pathlib.Path, name: str, arrays: dict[str, np.ndarray]) -> pathlib.Path:
    """The file and its validation twin, as OGBench's generators write them."""
    folder.mkdir(parents=True, exist_ok=True)
    for suffix in ("", "-val"):
        np.savez_compressed(folder / f"{name}{suffix}.npz", **arrays)
    return folder / f"{name}.npz"


def pointmaze_like(lengths: Sequence[int] = (4, 3), **changes) -> dict[str, np.ndarray]:
    """Arrays of trajectories that count upwards, with `qpos` as their observations; None removes a key."""
    num_rows = sum(lengths)
    obs = np.arange(2.0 * num_rows, dtype=np.float32).reshape(num_rows, 2)
    arrays = {
        "observations": obs,
        "actions": np.linspace(-1.0, 1.0, 2 * num_rows, dtype=np.float32).reshape(num_rows, 2),
        "terminals": np.isin(np.arange(num_rows), np.cumsum(lengths) - 1),
        "qpos": obs,
        "qvel": np.zeros_like(obs),
    }
    return {key: array for key, array in (arrays | changes).items() if array is not None}
