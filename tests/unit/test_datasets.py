"""The list of datasets: every name, where its task is judged, and what is on the machine."""

import json
import re

import pytest

from pgd_jax.core.errors import UserError
from pgd_jax.data import catalogue, listing
from pgd_jax.data.base import DATASETS
from tests.d4rl_files import content, write


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "d4rl"))
    monkeypatch.setenv("PGD_JAX_CACHE_DIR", str(tmp_path / "own"))
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return tmp_path


def cells(line):
    return re.split(r"  +", line)


def listed(**options):
    header, *lines = listing.table(**options)
    assert cells(header) == ["dataset", "environment", "judged", "steps", "random", "expert", "file"]
    names = [cells(line)[0] for line in lines]
    assert len(set(names)) == len(names), "a name is listed twice"
    return {cells(line)[0]: cells(line)[1:] for line in lines}


def test_every_name_is_listed_with_its_task():
    lines = listed()
    assert set(lines) == {*catalogue.TASKS, *DATASETS}
    assert lines["maze2d-umaze-v0"] == ["maze2d-umaze", "in-graph", "150", "0.94", "62.6", "-"]
    assert lines["antmaze-large-play-v2"] == ["antmaze-large", "host", "1000", "0", "1", "-"]
    assert lines["antmaze-eval-umaze-v0"] == ["-", "-", "700", "0", "1", "-"]
    assert lines["hopper-medium-v2"] == ["hopper", "in-graph+host", "1000", "-20.272", "3234.3", "-"]
    assert lines["pendulum-mixed-v0"] == ["pendulum", "in-graph+host", "200", "-", "-", "-"]


def test_a_dataset_of_the_users_own_is_listed_though_nothing_is_known_of_it(monkeypatch):
    monkeypatch.setattr(DATASETS, "_entries", DATASETS._entries | {"mine-v0": lambda: 1 / 0})
    assert listed(match="mine")["mine-v0"] == ["-", "-", "-", "-", "-", "-"]
    assert listed(match="mine", cached=True) == {}


def test_columns_are_aligned():
    header, *lines = listing.table(match="maze2d-")
    for name in ("environment", "judged", "file"):
        start = header.index(name)
        assert all(line[start - 2 : start] == "  " and line[start] != " " for line in lines)


def test_what_is_on_the_machine(places):
    file = write(places / "d4rl" / "hopper_medium-v2.hdf5", content())
    other = write(places / "d4rl" / "mine.hdf5", content() | {"metadata/env": "Ant-v4"})
    broken = places / "own" / "broken.hdf5"
    built_in = write(places / "own" / "pendulum-mixed-v0.hdf5", content(obs_dim=3))
    broken.write_text("no HDF5")
    minari = places / "minari" / "toy" / "task-v0"
    (minari / "data").mkdir(parents=True)
    (minari / "data" / "metadata.json").write_text("{}" * 150_000)
    lines = listed(cached=True)
    assert set(lines) == {"hopper-medium-v2", "pendulum-mixed-v0", other, str(broken), "minari:toy/task-v0"}
    assert lines["hopper-medium-v2"][-2:] == ["0.0 MB", file]
    assert lines["pendulum-mixed-v0"][-1] == built_in
    assert lines[other] == ["ant", "in-graph+host", "-", "-", "-", "0.0 MB", other]
    assert lines[str(broken)] == ["-", "-", "-", "-", "-", "0.0 MB", str(broken)]
    assert lines["minari:toy/task-v0"][-2:] == ["0.3 MB", str(minari)]
    assert set(listed(cached=True, match="hopper")) == {"hopper-medium-v2"}


BOX_11, BOX_3 = json.dumps({"type": "Box", "shape": [11]}), json.dumps({"type": "Box", "shape": [3]})
HOPPER = {"id": "Hopper-v5", "kwargs": {}, "additional_wrappers": []}
WHOLE = {"data_format": "hdf5", "observation_space": BOX_11, "action_space": BOX_3}
MINARI = {
    "hopper-v0": (WHOLE | {"env_spec": json.dumps(HOPPER)}, "hopper"),
    "no-space-v0": ({"data_format": "hdf5", "env_spec": json.dumps(HOPPER)}, "-"),  # it is not read
    "small-v0": (WHOLE | {"env_spec": json.dumps(HOPPER), "observation_space": BOX_3}, "-"),
    "wrapped-v0": (WHOLE | {"env_spec": json.dumps(HOPPER | {"additional_wrappers": [{"name": "Cut"}]})}, "-"),
    "pen-v0": (WHOLE | {"env_spec": json.dumps(HOPPER | {"id": "AdroitHandPen-v1"})}, "-"),
    "made-v0": (WHOLE | {"pgd_jax": {"env": "maze2d-umaze", "reference": "maze2d-umaze-v1"}}, "maze2d-umaze"),
    "nothing-v0": (WHOLE, "-"),
    "list-v0": ([], "-"),
}


def test_minaris_metadata_say_where_a_task_is_judged(places):
    for name, (metadata, _) in MINARI.items():
        folder = places / "minari" / name / "data"
        folder.mkdir(parents=True)
        (folder / "metadata.json").write_text(json.dumps(metadata))
    lines = listed(match="minari:")
    judged = {"hopper": "in-graph+host", "-": "-", "maze2d-umaze": lines["minari:made-v0"][1]}
    for name, (_, env) in MINARI.items():
        scores = ["23.85", "161.86"] if name == "made-v0" else ["-", "-"]
        assert lines[f"minari:{name}"][:5] == [env, judged[env], "-", *scores], name
    assert judged["maze2d-umaze"].startswith("in-graph")


def test_a_part_of_a_name_chooses():
    names = set(listed(match="walker2d-medium"))
    assert names == {f"walker2d-medium{kind}-v{v}" for kind in ("", "-replay", "-expert") for v in range(3)}
    with pytest.raises(UserError, match='no dataset name contains "hoper-medium-v2"; did you mean "hopper-medium-v2"?'):
        listing.table(match="hoper-medium-v2")
