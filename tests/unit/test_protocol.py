"""Datasets by D4RL's protocol, in small on the pendulum: what a row says, where it comes from, and what is refused.

Goals are such that the first chunk's policy is the medium one, and none is ever the expert.
"""

import dataclasses
import json

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from pgd_jax.core.errors import UserError
from pgd_jax.data import catalogue, episodes, loading
from pgd_jax.envs.base import ENVS
from pgd_jax.measures.dynamics import dynamics_error
from pgd_jax.runs.collect import online, online_run, parts, protocol

# One episode of 200 steps a stream and chunk; the replay buffer wraps after two chunks.
PLAN = online.OnlinePlan(
    num_envs=2, steps_per_chunk=400, num_exploring_steps=400, batch_size=16, hidden_dim=8, num_hidden=1,
    replay_capacity=800, num_episodes=2,
)  # fmt: skip
SETTINGS = protocol.Settings(max_steps=1200, random_return=-3000.0, expert_return=0.0)
NAMES = {kind: f"pendulum-{kind}-v0" for kind in protocol.KINDS}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("collected")


def collect(folder, kind, num_rows=None, out="", workdir="", settings=SETTINGS, plan=PLAN):
    path = folder / f"{out or kind}.hdf5"
    request = protocol.requests()[NAMES[kind]]
    if not path.exists():
        assert protocol.write(request, plan, settings, num_rows, folder / (workdir or "work"), path, "pgd-collect --x")
    return path


def content(path):
    """(arrays, metadata) of a file."""
    with h5py.File(path, "r") as file:
        metadata = dict(file["metadata"].attrs)
        arrays = {key: file[key][()] for key in file if isinstance(file[key], h5py.Dataset)}
        return arrays | {f"infos/{key}": file["infos"][key][()] for key in file["infos"]}, metadata


def refuses_to_cross(path, length=200):
    """Every segment that the loader finds is one episode, and follows its environment."""
    raw = loading.load(str(path))
    pieces = episodes.segments(raw)
    assert (pieces.length == length).all() and pieces.ends_in_timeout.all()
    env = ENVS.get("pendulum")()
    arrays = map(jnp.asarray, (raw.observations, raw.actions, raw.next_observations))
    assert float(jnp.max(dynamics_error(env, *arrays, jnp.ones(3)))) < 1e-8
    return raw


@pytest.mark.slow
def test_medium_replay_is_what_training_did(folder):
    path = collect(folder, "medium-replay")
    raw = refuses_to_cross(path)
    arrays, metadata = content(path)
    assert raw.env == "pendulum" and raw.reference == "" and len(raw.rewards) == 400
    taken = parts.read(folder / "work" / "training", 0)
    np.testing.assert_array_equal(raw.actions, np.concatenate([taken.actions[:, 0], taken.actions[:, 1]]))
    # All of it explored: uniform actions of density 1 / 2.
    np.testing.assert_allclose(arrays["infos/action_log_probs"], -np.log(2.0), rtol=1e-6)
    assert scipy.stats.kstest(raw.actions[:, 0], "uniform", (-1.0, 2.0)).pvalue > 1e-3
    (policy,) = json.loads(metadata["policies"])
    assert (policy["training_steps"], policy["reached_goal"]) == (400, True) and policy["greedy_return"] > -2000.0
    assert json.loads(metadata["goals"]) == {"medium": -2000.0, "expert": 0.0}


def test_metadata_says_how_it_was_made(folder):
    metadata = content(collect(folder, "medium-replay"))[1]
    assert metadata["dataset"] == "pendulum-medium-replay-v0" and "SAC" in metadata["algorithm"]
    assert metadata["env"] == "pendulum" and metadata["horizon"] == "200" and metadata["seed"] == "0"
    assert json.loads(metadata["plan"]) == dataclasses.asdict(PLAN) and metadata["command"] == "pgd-collect --x"
    assert (
        set(json.loads(metadata["versions"])) >= {"jax", "pgd_jax", "gymnax"} and "not D4RL's" in metadata["generator"]
    )
    assert metadata["num_episodes"] == "2" and -2000.0 < float(metadata["return_mean"]) < -500.0


def gaussian(actor, obs):
    """Mean and standard deviation f64[N] before tanh, of a network of one hidden layer."""
    first, second = ({name: np.asarray(x, np.float64) for name, x in actor[f"Dense_{i}"].items()} for i in range(2))
    hidden = np.maximum(obs.astype(np.float64) @ first["kernel"] + first["bias"], 0.0)
    mean, log_std = (hidden @ second["kernel"] + second["bias"]).T
    return mean, np.exp(log_std)


@pytest.mark.parametrize("kind", ["random", "medium"])
def test_rollouts_are_of_the_stated_policy(kind, folder):
    """Actions are spread as the policy's density says, and infos/action_log_probs is that density."""
    path, program = collect(folder, kind, 1000), online.build(PLAN, "pendulum")
    actor = online.init(program).sac.actor.params
    if kind == "medium":
        actor = online_run.load_policy(program, folder / "work" / "training", "medium").actor
    arrays, metadata = content(path)
    mean, std = gaussian(actor, arrays["observations"])
    action = np.clip(arrays["actions"][:, 0].astype(np.float64), -1.0 + 1e-8, 1.0 - 1e-8)
    z = (np.arctanh(action) - mean) / std
    density = scipy.stats.norm.logpdf(z) - np.log(std) - np.log1p(-(action**2))
    safe = np.abs(action) < 0.99  # where arctanh undoes float32's tanh
    assert safe.mean() > 0.5
    np.testing.assert_allclose(arrays["infos/action_log_probs"][safe], density[safe], atol=1e-2)
    assert scipy.stats.kstest(z, "norm").pvalue > 1e-3
    assert json.loads(metadata["policies"])[0]["name"] == kind


def test_rows_are_cut_where_asked_and_a_cut_is_a_timeout(folder):
    rows = content(collect(folder, "random", 1000))[0]
    assert [len(array) for array in rows.values()] == [1000] * len(rows)
    # Two streams of 500 steps: episodes of 200, 200 and 100.
    np.testing.assert_array_equal(np.flatnonzero(rows["timeouts"]), [199, 399, 499, 699, 899, 999])
    assert not rows["terminals"].any() and "infos/qpos" not in rows  # pendulum has no simulator
    assert content(folder / "random.hdf5")[1]["num_episodes"] == "4"
    goes_on = (rows["next_observations"][:-1] == rows["observations"][1:]).all(axis=1)
    np.testing.assert_array_equal(goes_on, ~rows["timeouts"][:-1])


def test_more_rows_later_begin_with_the_same_ones(folder):
    few, many = (content(collect(folder, "random", n, out=f"random{n}"))[0] for n in (400, 800))
    for stream in range(2):
        np.testing.assert_array_equal(
            many["actions"][400 * stream : 400 * stream + 200], few["actions"][200 * stream : 200 * stream + 200]
        )


def test_datasets_share_one_training_run(folder):
    collect(folder, "medium-replay")
    training = folder / "work" / "training"
    before = (training / "metrics.jsonl").read_text()
    collect(folder, "medium", 1000)
    assert (training / "metrics.jsonl").read_text() == before
    assert "reward_mean" in (folder / "work" / "rollouts_medium" / "metrics.jsonl").read_text()


def test_the_expert_is_the_policy_at_the_limit_where_the_goal_is_never_reached(folder, capfd):
    path = collect(folder, "full-replay", 1000)
    assert "1200 steps, expert is 0.0; taken as the expert policy" in capfd.readouterr().err
    rows, metadata = content(path)
    (policy,) = json.loads(metadata["policies"])
    assert (policy["name"], policy["training_steps"], policy["reached_goal"]) == ("limit_1200", 1200, False)
    # The newest 500 steps of each stream of 600: all but the first 100.
    taken = [parts.read(folder / "work" / "training", chunk) for chunk in range(3)]
    for stream in range(2):
        expected = np.concatenate([part.rewards[:, stream] for part in taken])[100:]
        np.testing.assert_array_equal(rows["rewards"][500 * stream : 500 * (stream + 1)], expected)
    assert len(content(collect(folder, "full-replay", None, out="all"))[0]["rewards"]) == 1200


def test_medium_expert_is_half_and_half(folder):
    rows, metadata = content(collect(folder, "medium-expert", 800))
    assert [policy["name"] for policy in json.loads(metadata["policies"])] == ["medium", "limit_1200"]
    medium = content(collect(folder, "medium", 400, out="medium400"))[0]
    expert = content(collect(folder, "expert", 400))[0]
    for key, array in rows.items():
        np.testing.assert_array_equal(array, np.concatenate([medium[key], expert[key]]), err_msg=key)


def test_the_buffer_is_filled_again_as_it_was(tmp_path):
    """After one, two and three chunks; the third is written over the first."""
    program = online.build(PLAN, "pendulum")
    state, replay = online.init(program), jax.device_put(online.empty_replay(program))
    for chunk in range(3):
        state, replay, rows, _ = online.run_chunk(program, state, replay)
        parts.write(tmp_path, chunk, jax.device_get(rows))
        jax.tree.map(np.testing.assert_array_equal, online_run.refill(program, tmp_path, chunk + 1), replay)
        assert (np.asarray(replay.reward)[400 * min(chunk + 1, 2) :] == 0.0).all()


def test_a_medium_policy_that_is_not_reached_is_an_error_or_said_so(folder, capfd):
    hopeless = dataclasses.replace(SETTINGS, fraction=1.0, max_steps=400)
    with pytest.raises(UserError, match="after 400 steps, medium is 0.0; go on with a larger max_steps, write what"):
        collect(folder, "medium-replay", out="never", workdir="hopeless", settings=hopeless)
    partial = dataclasses.replace(hopeless, allow_partial=True)
    path = collect(folder, "medium-replay", out="partial", workdir="hopeless", settings=partial)
    assert json.loads(content(path)[1]["policies"])[0]["name"] == "limit_400"
    assert "taken as the medium policy" in capfd.readouterr().err
    # The run goes on from there; and one that has gone on is not taken back.
    further = dataclasses.replace(hopeless, max_steps=800)
    with pytest.raises(UserError, match="after 800 steps"):
        collect(folder, "medium-replay", out="never", workdir="hopeless", settings=further)
    with pytest.raises(UserError, match="after 400 steps, medium is 0.0"):
        collect(folder, "medium-replay", out="never", workdir="hopeless", settings=hopeless)
    assert not (folder / "never.hdf5").exists()


def test_names():
    found = protocol.requests()
    d4rl = {name for name, task in catalogue.TASKS.items() if task.family == "gym-mujoco" and name.endswith("-v2")}
    assert d4rl <= set(found) and len(d4rl) == 24
    for name in d4rl:
        assert found[name].reference == name and found[name].env == catalogue.task(name).env
    assert found["pendulum-full-replay-v0"] == ("pendulum-full-replay-v0", "pendulum", "full-replay", "")
    assert not any(name.startswith("maze2d") for name in found)


def test_medium_is_a_third_of_the_way_to_the_expert():
    goals = protocol.goals(protocol.requests()["hopper-medium-v2"], protocol.Settings())
    np.testing.assert_allclose([goals.medium, goals.expert], [(3234.3 - 2 * 20.272305) / 3, 3234.3])


MISTAKES = [
    ({"random_return": None}, {}, {}, "D4RL has no reference scores of pendulum; give the returns"),
    ({"random_return": 1.0}, {}, {}, "random_return=1.0 must be less than expert_return=0.0"),
    ({"fraction": 0.0}, {}, {}, "fraction=0.0 must be above 0"),
    ({"max_steps": 0}, {}, {}, "max_steps 1, found"),
    ({}, {"num_envs": 3}, {}, "steps_per_chunk=400, and that of num_envs=3"),
    ({}, {"replay_capacity": 1000}, {}, "replay_capacity=1000 must be a multiple of steps_per_chunk=400"),
    ({}, {"num_exploring_steps": 401}, {}, "num_exploring_steps=401 must be a positive multiple of num_envs=2"),
    ({}, {"batch_size": 0}, {}, "batch_size=0 must be at least 1"),
    ({}, {}, {"num_rows": 1}, "num_rows must be at least 2"),
    ({}, {}, {"workdir": "file"}, "is a file; a directory is needed"),
    ({}, {}, {"workdir": "photos"}, r"holds other things \(cat.png\)"),
]


@pytest.mark.parametrize(("settings", "plan", "arguments", "message"), MISTAKES)
def test_mistakes_are_named_and_nothing_is_written(settings, plan, arguments, message, tmp_path):
    (tmp_path / "file").write_text("file")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").write_text("cat")
    before = sorted(tmp_path.rglob("*"))
    changed = dataclasses.replace(SETTINGS, **settings), dataclasses.replace(PLAN, **plan)
    with pytest.raises(UserError, match=message):
        collect(tmp_path, "medium", settings=changed[0], plan=changed[1], **arguments)
    assert sorted(tmp_path.rglob("*")) == before


def test_nothing_is_overwritten(folder):
    path = collect(folder, "medium-replay")
    before = path.read_bytes()
    with pytest.raises(UserError, match="medium-replay.hdf5 exists already"):
        protocol.write(protocol.requests()[NAMES["medium-replay"]], PLAN, SETTINGS, None, folder / "work", path)
    assert path.read_bytes() == before


def test_another_plan_in_the_same_directory_is_refused(folder):
    collect(folder, "medium-replay")
    other = dataclasses.replace(PLAN, batch_size=8)
    with pytest.raises(UserError, match="batch_size: run has 16, command has 8"):
        collect(folder, "medium-replay", out="other", plan=other)
