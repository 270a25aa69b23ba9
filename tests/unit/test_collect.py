"""Built-in datasets, in small: what a row says must be what the environment does."""

import json
import os
import subprocess
import sys

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgd_jax.core.errors import UserError
from pgd_jax.data import catalogue, episodes, loading
from pgd_jax.data.mazes import collect, wander
from pgd_jax.envs import maze2d
from pgd_jax.envs.base import ENVS
from pgd_jax.measures.dynamics import dynamics_error

LENGTH = wander.STREAM_LENGTH
NUM_ROWS = 2 * LENGTH + 500  # two whole streams and the beginning of a third


@pytest.fixture(scope="module")
def maze():
    return collect.generate("maze2d-umaze-waypoint-v0", NUM_ROWS).flat


@pytest.fixture(scope="module")
def pendulum():
    return collect.generate("pendulum-mixed-v0", 200 * 200).flat


def successive(rows):
    """Whether row t + 1 goes on where row t ended."""
    return (rows.next_observations[:-1] == rows.observations[1:]).all(axis=1)


@pytest.mark.slow
def test_rows_are_the_environment_s_own_transitions(maze, pendulum):
    for name, rows in (("maze2d-umaze", maze), ("pendulum", pendulum)):
        assert rows.observations.dtype == rows.rewards.dtype == np.float32
        assert rows.terminals.dtype == rows.timeouts.dtype == np.bool_ and not rows.terminals.any()
        env = ENVS.get(name)()
        obs, action, next_obs = map(jnp.asarray, (rows.observations, rows.actions, rows.next_observations))
        error = jax.jit(dynamics_error, static_argnums=0)(env, obs, action, next_obs, jnp.ones(env.obs_dim))
        assert float(jnp.max(error)) < 1e-9
        assert np.abs(rows.actions).max() == 1.0


def test_maze2d_streams(maze):
    assert len(maze.rewards) == NUM_ROWS
    ends = np.zeros(NUM_ROWS - 1, bool)
    ends[LENGTH - 1 :: LENGTH] = True
    # The ball moves on through goals, without a repeated row, and starts elsewhere with each stream.
    np.testing.assert_array_equal(successive(maze), ~ends)
    assert maze.timeouts[:-1][ends].all() and maze.timeouts[-1]
    segments = np.diff(np.flatnonzero(np.concatenate([[True], maze.timeouts])))
    assert segments.max() <= 300


def test_maze2d_timeouts_mark_reached_goals(maze):
    reached = maze.timeouts.copy()
    reached[LENGTH - 1 :: LENGTH] = reached[-1] = False
    position = maze.observations[reached][:, :2]
    cell = np.round(position)
    assert len(position) > 20 and set(map(tuple, cell)) <= set(map(tuple, maze2d.free_cells("umaze")))
    assert np.linalg.norm(position - cell, axis=1).max() < 0.1
    stream = np.flatnonzero(reached) // LENGTH
    same_stream = stream[1:] == stream[:-1]
    assert (cell[1:] != cell[:-1]).any(axis=1)[same_stream].all()  # a new goal is another cell


def test_maze2d_rewards_are_of_the_new_observation(maze):
    def distance(obs):
        return np.linalg.norm(obs[:, :2] - [1.0, 1.0], axis=1)

    near, nearer = distance(maze.next_observations), distance(maze.observations)
    clear = np.abs(near - 0.5) > 1e-5
    np.testing.assert_array_equal(maze.rewards[clear], (near <= 0.5)[clear])
    assert ((nearer <= 0.5) != (near <= 0.5)).any()  # or the test could not tell the two apart
    # Unlike the sparse set's, the dense set's rewards are exp(-distance); the ball does the same under both.
    dense = collect.generate("maze2d-umaze-dense-waypoint-v0", 300).flat
    np.testing.assert_allclose(dense.rewards, np.exp(-distance(dense.next_observations)), rtol=1e-5)


def test_pendulum_episodes_are_of_mixed_quality(pendulum):
    starts = ~successive(pendulum)
    np.testing.assert_array_equal(np.flatnonzero(starts), np.arange(199, 200 * 200 - 1, 200))
    np.testing.assert_array_equal(np.flatnonzero(pendulum.timeouts), np.arange(199, 200 * 200, 200))
    returns = pendulum.rewards.reshape(200, 200).sum(axis=1)
    assert (returns < -700.0).mean() > 0.2 and (returns > -400.0).mean() > 0.4


def test_same_seed_same_bytes(maze):
    again = collect.generate("maze2d-umaze-waypoint-v0", NUM_ROWS).flat
    assert [array.tobytes() for array in again] == [array.tobytes() for array in maze]
    assert (collect.generate("maze2d-umaze-waypoint-v0", NUM_ROWS, seed=1).flat.actions != maze.actions).any()


def test_built_in_name_is_generated_once_and_read_back(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PGD_JAX_CACHE_DIR", str(tmp_path))
    raw = loading.load("pendulum-mixed-v0")
    assert (raw.name, raw.env, raw.reference) == ("pendulum-mixed-v0", "pendulum", "")
    assert raw.observations.shape == raw.next_observations.shape == (100_000, 3) and raw.timeouts.sum() == 500
    assert "generating pendulum-mixed-v0" in capsys.readouterr().err
    monkeypatch.setattr(collect, "generate", None)
    np.testing.assert_array_equal(loading.load("pendulum-mixed-v0").actions, raw.actions)


def test_written_file_says_what_judges_it(tmp_path):
    path = tmp_path / "some.hdf5"
    collect.write("maze2d-umaze-dense-waypoint-v0", path, num_rows=300)
    raw = loading.load(str(path))
    assert (raw.env, raw.reference, len(raw.rewards)) == ("maze2d-umaze-dense", "maze2d-umaze-dense-v1", 300)
    before = path.read_bytes()
    with pytest.raises(UserError, match="some.hdf5 exists already"):
        collect.write("maze2d-umaze-dense-waypoint-v0", path)
    assert path.read_bytes() == before


def test_every_maze2d_name_of_d4rl_has_a_recipe():
    names = {task.name for task in catalogue.TASKS.values() if task.family == "maze2d"}
    assert len(names) == 20 and names < set(collect.RECIPES) and not names & set(collect.DATASETS)
    for name in names:
        recipe, task = collect.RECIPES.get(name), catalogue.task(name)
        assert (recipe.env, recipe.reference, recipe.horizon) == (task.env, name, task.horizon)
        assert recipe.env in ENVS
    for layout in ("open", "umaze", "medium", "large"):
        for stem in (f"maze2d-{layout}", f"maze2d-{layout}-dense"):
            assert f"{stem}-waypoint-v0" in collect.DATASETS
            reference = collect.RECIPES.get(f"{stem}-waypoint-v0").reference
            assert reference in catalogue.TASKS and reference.startswith(f"{stem}-v")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["maze2d-large-v1", "maze2d-medium-dense-v0", "maze2d-open-v0"])
def test_a_maze2d_file_has_d4rl_s_layout(name, tmp_path):
    path, num_rows = tmp_path / "maze.hdf5", LENGTH + 1000
    collect.write(name, path, num_rows, command="pgd-collect --some=thing")
    with h5py.File(path, "r") as file:
        infos = {key: file["infos"][key][()] for key in file["infos"]}
        metadata = dict(file["metadata"].attrs)
        observations, timeouts = file["observations"][()], file["timeouts"][()]
    assert set(infos) == {"qpos", "qvel", "goal"}
    np.testing.assert_array_equal(np.concatenate([infos["qpos"], infos["qvel"]], axis=1), observations)
    task = catalogue.task(name)
    assert (metadata["env"], metadata["reference"], metadata["horizon"]) == (task.env, name, str(task.horizon))
    assert "not D4RL's own" in metadata["generator"] and metadata["command"] == "pgd-collect --some=thing"
    assert set(json.loads(metadata["versions"])) >= {"jax", "pgd_jax"} and metadata["seed"] == "0"
    # A goal is kept until it is reached or its time is up, and is then another cell.
    layout = task.env.removeprefix("maze2d-").removesuffix("-dense")
    assert set(map(tuple, infos["goal"])) <= set(map(tuple, maze2d.free_cells(layout)))
    changed = (infos["goal"][1:] != infos["goal"][:-1]).any(axis=1)
    inside = np.arange(num_rows - 1) != LENGTH - 1
    np.testing.assert_array_equal(changed[inside], timeouts[:-1][inside])
    length = np.diff(np.flatnonzero(timeouts) + 1, prepend=0)
    distance = np.linalg.norm(observations[:, :2] - infos["goal"], axis=1)
    assert length.max() <= task.horizon
    reached = np.cumsum(length)[length < task.horizon] - 1
    reached = reached[(reached != LENGTH - 1) & (reached != num_rows - 1)]
    assert len(reached) > 2 and distance[reached].max() < 0.1
    raw = loading.load(str(path))
    assert (raw.env, raw.reference) == (task.env, name)
    np.testing.assert_array_equal(episodes.segments(raw).stop, np.flatnonzero(timeouts) + 1)


def test_mistakes_are_named():
    with pytest.raises(UserError, match='did you mean "pendulum-mixed-v0"'):
        collect.generate("pendulum-mixd-v0")
    with pytest.raises(UserError, match="num_rows must be at least 1, found 0"):
        collect.generate("pendulum-mixed-v0", 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--dataset=pendulum-mixd-v0", "--out=x.hdf5"],
            'unknown dataset "pendulum-mixd-v0"; did you mean "pendulum-mixed-v0"?',
        ),
        (["--dataset=hoper-medium-v2", "--out=x.hdf5"], 'did you mean "hopper-medium-v2"?'),
        (["--dataset=hopper-medium-v2"], "--out is missing"),
        (["--dataset=maze2d-large-v1", "--out=.", "--num_rows=5"], "exists already"),
        (["here.hdf5"], 'unexpected argument "here.hdf5"'),
    ],
)
def test_command_line_mistakes_are_one_line(arguments, message, tmp_path):
    command = [sys.executable, "-m", "pgd_jax.cli.collect", *arguments]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1 and message in done.stderr
    assert list(tmp_path.iterdir()) == []
