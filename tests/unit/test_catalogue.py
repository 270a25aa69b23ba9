"""The catalogue against the d4rl package's own tables and registrations, which are read, never imported."""

import ast
import builtins
import importlib.util
import pathlib

import numpy as np
import pytest

from pgd_jax.core.errors import UserError
from pgd_jax.data import catalogue
from pgd_jax.data.base import RawDataset
from pgd_jax.envs.base import ENVS
from pgd_jax.runs import evaluators

LEFT_OUT = ("bullet-", "minigrid-", "flow-", "carla-")
FAMILIES = {
    "gym-mujoco": "gym_mujoco",
    "maze2d": "pointmaze",
    "antmaze": "locomotion",
    "kitchen": "kitchen",
    "adroit": "hand_manipulation_suite",
}


@pytest.fixture(scope="module")
def package():
    spec = importlib.util.find_spec("d4rl")  # finds a top-level package without executing it
    if spec is None:
        pytest.skip("the d4rl package, which the catalogue is compared with, is not installed")
    return pathlib.Path(spec.origin).parent


@pytest.fixture(scope="module")
def infos(package):
    spec = importlib.util.spec_from_file_location("d4rl_infos", package / "infos.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class _Names(dict):
    """What a module knows; a name that only an import would have defined stands for itself."""

    def __missing__(self, name):
        if hasattr(builtins, name):
            raise KeyError(name)
        return _Name(name)


class _Name(str):
    def __getattr__(self, attribute):
        return _Name(attribute)


@pytest.fixture(scope="module")
def registrations(package, infos):
    """name -> the arguments of D4RL's `register` call, from the source without its imports."""
    found = {}

    def register(id, **arguments):  # gym's own name for it
        found[id] = arguments

    for folder in FAMILIES.values():
        module = ast.parse((package / folder / "__init__.py").read_text())
        module.body = [node for node in module.body if not isinstance(node, ast.Import | ast.ImportFrom)]
        exec(compile(module, folder, "exec"), {}, _Names(register=register, infos=infos))
    # Environments alone, such as "pen-v0", have no dataset.
    return {name: arguments for name, arguments in found.items() if "dataset_url" in arguments.get("kwargs", {})}


def test_every_address_is_that_of_the_tables_and_none_is_missing(infos):
    urls = {name: url for name, url in infos.DATASET_URLS.items() if not name.startswith(LEFT_OUT)}
    assert len(urls) == 122
    assert {name: catalogue.TASKS[name].url for name in urls if name in catalogue.TASKS} == urls


def test_every_score_is_that_of_the_tables(infos):
    assert infos.REF_MIN_SCORE.keys() == infos.REF_MAX_SCORE.keys()
    names = [name for name in infos.REF_MIN_SCORE if not name.startswith(LEFT_OUT)]
    assert len(names) == 115
    for name in names:
        expected = (infos.REF_MIN_SCORE[name], infos.REF_MAX_SCORE[name])
        assert catalogue.reference_scores(name) == expected, name


def test_the_registrations_have_the_same_names_and_say_the_same_of_each(registrations):
    assert catalogue.TASKS.keys() == registrations.keys()
    for name, task in catalogue.TASKS.items():
        kwargs = registrations[name]["kwargs"]
        assert task.horizon == registrations[name]["max_episode_steps"], name
        assert task.url == kwargs["dataset_url"], name
        assert task.reference_scores == (kwargs["ref_min_score"], kwargs["ref_max_score"]), name


MAZES = {"OPEN": "open", "U_MAZE": "umaze", "MEDIUM_MAZE": "medium", "LARGE_MAZE": "large"}
ANT_MAZES = {"U_MAZE_TEST": "umaze", "BIG_MAZE_TEST": "medium", "HARDEST_MAZE_TEST": "large"}
MAKERS = {"hopper": "hopper", "cheetah": "halfcheetah", "walker": "walker2d", "ant": "ant"}


def test_the_environment_is_the_one_that_d4rl_makes(registrations):
    for name, task in catalogue.TASKS.items():
        maker, kwargs = registrations[name]["entry_point"].split(":")[1], registrations[name]["kwargs"]
        if task.family == "gym-mujoco":
            expected = MAKERS[maker.removeprefix("get_").removesuffix("_env")]
        elif task.family == "maze2d":
            maze = MAZES[kwargs["maze_spec"].removesuffix("_EVAL")]
            is_eval = "eval-" * kwargs["maze_spec"].endswith("_EVAL")
            expected = f"maze2d-{is_eval}{maze}" + "-dense" * (kwargs["reward_type"] == "dense")
        elif task.family == "antmaze":
            expected = f"antmaze-{ANT_MAZES[kwargs['maze_map']]}" if "EVAL" not in kwargs["maze_map"] else ""
        elif task.family == "kitchen":
            expected = name.removesuffix("-v0")
            assert maker.endswith("BottomBurnerLightV0" if expected == "kitchen-mixed" else "LightSliderV0")
        else:
            expected = maker.removesuffix("EnvV0").lower()
        assert task.env == expected, name


def test_dimensions_and_limits_of_the_mazes_are_those_of_the_environments():
    mazes = [task for task in catalogue.TASKS.values() if task.family == "maze2d"]
    assert {task.env for task in mazes} == {name for name in ENVS if name.startswith("maze2d-")}
    for task in mazes:
        env = ENVS.get(task.env)()
        assert catalogue.dims(task.env) == (env.obs_dim, env.action_dim)
        if task.name.endswith("-v1") or "open" in task.name:
            assert task.horizon == env.horizon, task.name


def test_only_tasks_of_one_file_share_a_file_name():
    by_file = {}
    for task in catalogue.TASKS.values():
        by_file.setdefault(task.file_name, set()).add(task.url)
    assert all(len(urls) == 1 for urls in by_file.values())


def test_a_file_is_known_by_its_name():
    for file_name, name in {
        "hopper_medium_replay-v2.hdf5": "hopper-medium-replay-v2",
        "hopper-medium-replay-v2.hdf5": "hopper-medium-replay-v2",
        "walker_mixed.hdf5": "walker2d-medium-replay-v0",
        "maze2d-umaze-sparse-v1.hdf5": "maze2d-umaze-v1",
        "maze2d-umaze-dense.hdf5": "maze2d-umaze-dense-v0",
        "pen-v0_demos_clipped.hdf5": "pen-human-v0",
        "mini_kitchen_microwave_kettle_light_slider-v0.hdf5": "kitchen-complete-v0",
        "hopper_trot.hdf5": "",
    }.items():
        assert catalogue.name_of_file(file_name) == name


def test_scores_by_hand():
    # (1000 + 20.272305) / (3234.3 + 20.272305) = 1020.272305 / 3254.572305 = 0.313489
    assert catalogue.normalised_score("hopper-medium-replay-v2", 1000.0) == pytest.approx(31.3489, abs=1e-4)
    ends = catalogue.normalised_score("hopper-medium-replay-v2", np.array([-20.272305, 3234.3]))
    np.testing.assert_allclose(ends, [0.0, 100.0], atol=1e-12)
    # The same return is worth less in v1's 300 steps than in v0's 150: (62.6 - 23.85) / (161.86 - 23.85) = 0.280777
    assert catalogue.normalised_score("maze2d-umaze-v0", 62.6) == pytest.approx(100.0)
    assert catalogue.normalised_score("maze2d-umaze-v1", 62.6) == pytest.approx(28.0777, abs=1e-4)


def test_unknown_names():
    assert catalogue.reference_scores("hopper-trot-v2") is None and catalogue.dims("pendulum") is None
    with pytest.raises(UserError, match='no reference scores for "hopper-medum-v2"; did you mean "hopper-medium-v2"?'):
        catalogue.normalised_score("hopper-medum-v2", 1.0)
    with pytest.raises(UserError, match='unknown D4RL dataset "ant-meduim-v2"; did you mean "ant-medium-v2"?'):
        catalogue.task("ant-meduim-v2")


def test_an_agent_is_judged_over_episodes_of_its_datasets_length():
    columns = np.zeros((2, 4), np.float32), np.zeros((2, 2), np.float32), np.zeros(2), None, np.zeros(2), np.zeros(2)
    for reference, horizon in (
        ("maze2d-umaze-v0", 150),
        ("maze2d-umaze-v1", 300),
        ("", 300),
        ("hopper-medium-v2", 300),
    ):
        env = evaluators.in_graph("maze2d-umaze", RawDataset("x", "maze2d-umaze", reference, *columns))
        assert env.horizon == horizon
