"""results.csv and policy pools: what is written is read, here and by Unifloral's loader."""

import datetime
import math
import re

import numpy as np
import pytest

from pgd_jax.core.errors import UserError
from pgd_jax.report import exchange

ROW = {
    "dataset": "hopper-medium-v2", "method": "td3_bc guided", "setting": "guidance_coefficient=30.0", "seed": 3,
    "update": 10, "measure": "normalised_score", "score": 0.1 + 0.2, "episodes": 16, "commit": "abc",
}  # fmt: skip
BEGUN = datetime.datetime(2026, 2, 28, 23, 59, 59)


def test_results_come_back_as_they_were(tmp_path):
    rows = [ROW, ROW | {"score": -1e-17, "setting": 'a,"b"\nλ', "commit": ""}, ROW | {"score": math.inf, "seed": 0}]
    exchange.write_results(tmp_path / "results.csv", rows)
    assert exchange.read_results(tmp_path / "results.csv") == rows
    header = (tmp_path / "results.csv").read_text().splitlines()[0]
    assert header == "dataset,method,setting,seed,update,measure,score,episodes,commit"
    exchange.write_results(tmp_path / "results.csv", [ROW | {"score": math.nan}])
    assert math.isnan(exchange.read_results(tmp_path / "results.csv")[0]["score"])


@pytest.mark.parametrize(
    "text, wanted",
    [
        ("dataset,score\nx,1\n", "no column method"),
        (",".join(exchange.COLUMNS) + "\nd,m,s,1,2,r,much,3,c\n", 'line 2: score is "much"'),
        (",".join(exchange.COLUMNS) + "\nd,m,s,1\n", "line 2: it has more or fewer cells"),
        (",".join(exchange.COLUMNS) + "\nd,m,s,1,2,r,1,3,c,more\n", "line 2: it has more or fewer cells"),
        ('"' + ",".join(exchange.COLUMNS), "cannot be read"),
    ],
)
def test_what_are_no_results_is_refused(tmp_path, text, wanted):
    (tmp_path / "results.csv").write_text(text)
    with pytest.raises(UserError, match=wanted):
        exchange.read_results(tmp_path / "results.csv")


def test_rows_without_a_column_are_not_written(tmp_path):
    with pytest.raises(UserError, match="check commit"):
        exchange.write_results(tmp_path / "results.csv", [{key: ROW[key] for key in ROW if key != "commit"}])
    with pytest.raises(UserError, match="cannot be read"):
        exchange.read_results(tmp_path / "results.csv")


def policies(num, scores=True, **args):
    returns = [np.arange(5.0) + i for i in range(num)]
    return [exchange.Policy("td3_bc guided", "hopper-medium-v2", r, r / 2 if scores else None, args) for r in returns]


def test_a_pool_has_unifloral_s_names_and_keys(tmp_path):
    paths = exchange.write_pool(tmp_path / "final_returns", policies(2, seed=4), BEGUN)
    # A second apart, over the end of the month.
    assert [path.name for path in paths] == [
        "td3_bc-guided_hopper-medium-v2_2026-02-28_23-59-59.npz",
        "td3_bc-guided_hopper-medium-v2_2026-03-01_00-00-00.npz",
    ]
    with np.load(paths[1], allow_pickle=False) as file:
        found = dict(file)
    assert found["final_returns"].tolist() == [1.0, 2.0, 3.0, 4.0, 5.0] and found["final_returns_mean"] == 3.0
    assert found["final_scores"].tolist() == [0.5, 1.0, 1.5, 2.0, 2.5]
    assert found["final_scores_std"] == pytest.approx(math.sqrt(0.5))  # (4 + 1 + 0 + 1 + 4) / 4 / 5


def test_unifloral_s_loader_takes_the_settings(tmp_path):
    args = {
        "seed": 4,
        "agent.alpha": 2.5,
        "is_real": True,
        "denoiser": "runs/λ",
        "nothing": None,
        "hyper": (1, 2),
        "long": 2**80,
    }
    (path,) = exchange.write_pool(tmp_path, policies(1, **args), BEGUN)
    # What its evaluation.py does with a file.
    named = re.match(r"([^_]+(?:_[^_]+)?)_(.+)_(\d{4}-\d{2}-\d{2}_\d{2}-\d{2}-\d{2})", path.name)
    data = dict(np.load(path, allow_pickle=True).items())
    data.update(data.pop("args", np.array({})).item())
    assert named.groups()[:2] == ("td3_bc-guided", "hopper-medium-v2")
    wanted = args | {"nothing": "None", "hyper": "(1, 2)", "long": str(2**80)}
    wanted |= {"algorithm": "td3_bc guided", "dataset": "hopper-medium-v2"}
    assert {key: data[key] for key in wanted} == wanted


@pytest.mark.parametrize("scores", [True, False])
def test_a_pool_comes_back(tmp_path, scores):
    made = policies(3, scores, seed=7)
    exchange.write_pool(tmp_path, made, BEGUN)
    exchange.write_pool(tmp_path, made[:1], BEGUN)  # beside the others, never in their place
    found = exchange.read_pool(tmp_path)
    assert len(found) == 4 and found[0].args == {"seed": 7}
    for policy, wanted in zip(found, [*made, made[0]], strict=True):
        assert policy[:2] == wanted[:2]
        np.testing.assert_array_equal(policy.returns, wanted.returns)
        np.testing.assert_array_equal(policy.values, wanted.scores if scores else wanted.returns)


@pytest.mark.parametrize(
    "algorithm, dataset, wanted",
    [
        ("iql", "runs/my data_set.hdf5", "iql_my-data-set"),
        ("td3_bc guided more_words", "D4RL/hopper-v2", "td3_bc-guided-more-words_hopper-v2"),
        ("", "λ", "unnamed_unnamed"),
    ],
)
def test_names_of_files_are_plain(tmp_path, algorithm, dataset, wanted):
    (path,) = exchange.write_pool(tmp_path, [exchange.Policy(algorithm, dataset, np.ones(2))], BEGUN)
    assert path.name == f"{wanted}_2026-02-28_23-59-59.npz"
    assert exchange.read_pool(tmp_path)[0][:2] == (algorithm, dataset)  # the whole names are inside


def test_what_unifloral_pickles_is_not_opened(tmp_path):
    path = tmp_path / "sac_n_walker2d-medium-v2_2025-01-02_03-04-05.npz"
    np.savez(path, final_returns=np.ones((2, 4)), final_scores=np.zeros((2, 4)), args={"seed": 1})
    (found,) = exchange.read_pool(tmp_path)
    assert found[:2] == ("sac_n", "walker2d-medium-v2") and found.returns.shape == (8,) and found.args == {}


def test_what_is_no_pool_is_refused(tmp_path):
    with pytest.raises(UserError, match="no policy pool"):
        exchange.read_pool(tmp_path)
    good = "a_b_2025-01-02_03-04-05.npz"
    for name, content, wanted in (
        ("x.npz", b"", "the name is not"),
        (good, b"junk", "not a policy"),
        (good, b"", "not"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=wanted):
            exchange.read_pool(tmp_path)
        (tmp_path / name).unlink()
    np.savez(tmp_path / good, other=np.ones(3))
    with pytest.raises(UserError, match="final_returns"):
        exchange.read_pool(tmp_path)
