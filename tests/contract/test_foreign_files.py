"""Files from somebody else: none runs code, reaches other files or the network, or says so first."""

import dataclasses
import json
import sys

import h5py
import numpy as np
import pytest

from pgd_jax.core import config as configs
from pgd_jax.core.errors import UserError
from pgd_jax.data import fetch, foreign, listing, loading, minari, minari_export
from pgd_jax.runs import agent as agent_runs, behaviour, denoiser, synthesis
from tests import worlds
from tests.d4rl_files import content, write


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.setenv("PGD_JAX_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "d4rl"))
    monkeypatch.delenv(foreign.ALLOW, raising=False)


@pytest.fixture
def evil(tmp_path, monkeypatch):
    """(what a Minari dataset's metadata may hold to have code of its own run, the file that this code writes)"""
    marker = tmp_path / "marker"
    (tmp_path / "evil_module.py").write_text(
        f"def make(**_):\n    open({str(marker)!r}, 'w').close()\n    raise OSError\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    spec = {"id": "Evil-v0", "entry_point": "evil_module:make", "kwargs": {}, "additional_wrappers": []}
    yield json.dumps(spec), marker
    sys.modules.pop("evil_module", None)


def minari_dataset(name, **changes):
    """One with rows, whose metadata are then changed; None removes a key."""
    pytest.importorskip("minari", reason="the extra minari is not installed")
    minari_export.write(name, worlds.rows(), {"env": "pendulum"})
    path = minari.root() / name / "data" / "metadata.json"
    metadata = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in metadata.items() if value is not None}))
    return f"minari:{name}"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"observation_space": None}, "has no observation_space"),
        ({"action_space": None}, "has no action_space"),
        ({"observation_space": "", "action_space": "{}"}, "has no observation_space"),
        ({"observation_space": "null"}, "observation_space is 'null'"),
        ({"observation_space": 5}, "observation_space cannot be read"),
        ({"data_format": "pickle"}, "data_format is 'pickle'"),
        ({"pgd_jax": {"env": {}}}, "pgd_jax is not an object of strings"),
        ({"pgd_jax": ["pendulum"]}, "pgd_jax is not an object of strings"),
    ],
)
def test_a_minari_dataset_never_runs_what_it_names(changes, message, evil):
    spec, marker = evil
    name = minari_dataset("toy/evil-v0", **{"env_spec": spec, "eval_env_spec": spec} | changes)
    with pytest.raises(UserError, match=message):
        loading.load(name)
    assert list(listing.known()) and not marker.exists() and "evil_module" not in sys.modules


def test_with_its_spaces_there_it_is_read_and_nothing_runs(evil):
    spec, marker = evil
    raw = loading.load(minari_dataset("toy/evil-v0", env_spec=spec, eval_env_spec=spec))
    np.testing.assert_array_equal(raw.rewards, worlds.rows().rewards.astype(np.float32))
    assert not marker.exists() and "evil_module" not in sys.modules


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("received")
    dataset = worlds.write_dataset(folder / "good.hdf5")
    assert denoiser.fit(worlds.denoiser_config(dataset, num_steps=10), folder / "denoiser")
    config = worlds.agent_config(denoiser=str(folder / "denoiser"), num_phases=1, num_seeds=1, hyper={})
    assert agent_runs.fit(config, folder / "agent")
    return folder


@pytest.fixture
def edited(trained):
    """Sets a field of a received run's config.json, for one test."""
    kept = {}

    def edit(run, **changes):
        path = trained / run / "config.json"
        kept.setdefault(path, path.read_text())
        record = json.loads(path.read_text())
        for name, value in changes.items():
            *parents, last = name.split("__")
            place = record["config"]
            for parent in parents:
                place = place[parent]
            place[last] = value
        path.write_text(json.dumps(record))
        return trained / run

    yield edit
    for path, text in kept.items():
        path.write_text(text)


READERS = {
    "agent": lambda path, out: agent_runs.fit(worlds.agent_config(denoiser=str(path)), out),
    "behaviour": lambda path, out: behaviour.fit(configs.BehaviourConfig(denoiser=str(path)), out),
    "sample": lambda path, out: synthesis.write(f"{out}.hdf5", synthesis.Unguided(str(path)), worlds.SAMPLING, 0),
}


@pytest.mark.parametrize("reader", [pytest.param("agent", marks=pytest.mark.slow), "behaviour", "sample"])
def test_a_received_denoiser_runs_nothing_and_fetches_nothing(reader, edited, evil, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(fetch, "download", lambda *_: pytest.fail("went to the network"))
    path = edited("denoiser", data__dataset="hopper-medium-v2", data__download=True)
    with pytest.raises(UserError, match='"hopper-medium-v2" is not here'):
        READERS[reader](path, tmp_path / "out")
    assert f"{path}: its config.json names the dataset hopper-medium-v2" in capfd.readouterr().err
    name = minari_dataset("toy/evil-v0", env_spec=evil[0], observation_space=None)
    with pytest.raises(UserError, match="has no observation_space"):
        READERS[reader](edited("denoiser", data__dataset=name), tmp_path / "out")
    assert not evil[1].exists() and not (tmp_path / "out").exists()


def test_a_received_agent_run_fetches_nothing_and_says_what_it_reads(edited, trained, monkeypatch, capfd):
    monkeypatch.setattr(fetch, "download", lambda *_: pytest.fail("went to the network"))
    path = edited("agent", dataset="hopper-medium-v2", download=True)
    with pytest.raises(UserError, match='"hopper-medium-v2" is not here'):
        agent_runs.load(path)
    said = capfd.readouterr().err
    assert f"{path}: its config.json names the denoiser {trained / 'denoiser'}, which is read" in said
    assert f"{path}: its config.json names the dataset hopper-medium-v2, which is read" in said


def external_link(folder, arrays):
    with h5py.File(folder / "x.hdf5", "a") as file:
        file["observations"] = h5py.ExternalLink("other.hdf5", "/observations")


def link_over_a_group(folder, arrays):
    with h5py.File(folder / "x.hdf5", "a") as file:
        file["group"] = h5py.ExternalLink("other.hdf5", "/")
        file["observations"] = h5py.SoftLink("/group/observations")


def raw_storage(folder, arrays):
    values = arrays["observations"].astype(np.float32)
    (folder / "raw.bin").write_bytes(values.tobytes())
    with h5py.File(folder / "x.hdf5", "a") as file:
        file.create_dataset(
            "observations", values.shape, values.dtype, external=[(str(folder / "raw.bin"), 0, h5py.h5f.UNLIMITED)]
        )


def virtual(folder, arrays):
    shape = arrays["observations"].shape
    layout = h5py.VirtualLayout(shape, "float32")
    layout[:] = h5py.VirtualSource(str(folder / "other.hdf5"), "observations", shape)
    with h5py.File(folder / "x.hdf5", "a") as file:
        file.create_virtual_dataset("observations", layout)


@pytest.mark.parametrize("lead", [external_link, link_over_a_group, raw_storage, virtual])
def test_a_file_that_leads_to_others_is_refused_unless_that_is_asked_for(lead, tmp_path, monkeypatch):
    arrays = content(6)
    write(tmp_path / "other.hdf5", arrays)
    write(tmp_path / "x.hdf5", {key: array for key, array in arrays.items() if key != "observations"})
    lead(tmp_path, arrays)
    other = "raw.bin" if lead is raw_storage else "other.hdf5"
    with pytest.raises(UserError, match=rf"x.hdf5: .*{other}; a file may not lead to others.*{foreign.ALLOW}=1"):
        loading.load(str(tmp_path / "x.hdf5"))
    monkeypatch.setenv(foreign.ALLOW, "1")
    np.testing.assert_array_equal(loading.load(str(tmp_path / "x.hdf5")).observations, arrays["observations"])


def test_nothing_is_opened_to_find_out(tmp_path):
    """The other file is not even there; neither is what links that nobody reads lead to."""
    write(tmp_path / "x.hdf5", content(6))
    with h5py.File(tmp_path / "x.hdf5", "a") as file:
        file["infos/goal"] = h5py.ExternalLink("/nowhere/at/all.hdf5", "/goal")
    with pytest.raises(UserError, match="infos/goal is a link into /nowhere/at/all.hdf5"):
        loading.load(str(tmp_path / "x.hdf5"))


def test_links_and_virtual_datasets_within_a_file_are_its_own(tmp_path):
    arrays = content(6)
    write(tmp_path / "x.hdf5", {key: array for key, array in arrays.items() if key not in ("observations", "rewards")})
    layout = h5py.VirtualLayout(arrays["observations"].shape, "float64")
    with h5py.File(tmp_path / "x.hdf5", "a") as file:
        file["kept/observations"], file["kept/rewards"] = arrays["observations"], arrays["rewards"]
        layout[:] = h5py.VirtualSource(".", "kept/observations", arrays["observations"].shape)
        file.create_virtual_dataset("observations", layout)
        file["rewards"] = h5py.SoftLink("/kept/rewards")
        file["again"] = file["rewards"]
    raw = loading.load(str(tmp_path / "x.hdf5"))
    np.testing.assert_array_equal(raw.observations, arrays["observations"].astype(np.float32))
    np.testing.assert_array_equal(raw.rewards, arrays["rewards"].astype(np.float32))


def test_a_minari_dataset_may_not_lead_to_others_either():
    name = minari_dataset("toy/led-v0")
    with h5py.File(minari.root() / "toy/led-v0" / "data" / "main_data.hdf5", "a") as file:
        del file["episode_3/rewards"]
        file["episode_3/rewards"] = h5py.ExternalLink("/etc/other.hdf5", "/rewards")
    with pytest.raises(UserError, match=r"main_data.hdf5: episode_3/rewards is a link into /etc/other.hdf5"):
        loading.load(name)


def test_the_list_of_datasets_follows_no_link(tmp_path):
    folder = tmp_path / "d4rl"
    folder.mkdir()
    with h5py.File(tmp_path / "other.hdf5", "w") as file:
        file["env"] = "hopper"
    with h5py.File(folder / "mine.hdf5", "w") as file:
        file["metadata"] = h5py.ExternalLink(str(tmp_path / "other.hdf5"), "/")
    assert {dataset.env for dataset in listing.known() if dataset.path.name == "mine.hdf5"} == {""}


def test_a_denoiser_of_one_s_own_downloads_where_its_flag_says_so(edited, tmp_path, monkeypatch):
    fetched = []
    monkeypatch.setattr(fetch, "download", lambda *_: fetched.append(1) or (_ for _ in ()).throw(UserError("no net")))
    config = configs.BehaviourConfig(denoiser=str(edited("denoiser", data__dataset="hopper-medium-v2")), download=True)
    with pytest.raises(UserError, match="no net"):
        behaviour.fit(config, tmp_path / "out")
    assert fetched == [1] and dataclasses.asdict(config)["download"]
