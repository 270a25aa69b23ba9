"""Figures and films of a trace made by hand: what they draw, and that nothing is written by itself."""

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot
from PIL import Image

import pgd_jax as pgd
from pgd_jax.data.trace import Rows
from pgd_jax.report import denoising

matplotlib.use("agg")
STRENGTH = np.array([0.0, 0.0, 3.0, 3.0], np.float32)  # guided in the last two of four steps


def rows(obs_dim, action_dim, offset=0.0):
    """Every number is another: 4 steps, 2 windows of 5 rows."""
    sizes = (4, 2, 5)
    obs, action = (
        np.arange(np.prod(sizes) * dim, dtype=np.float32).reshape(*sizes, dim) for dim in (obs_dim, action_dim)
    )
    return Rows(1.0 + obs / obs.size, action / action.size + offset, np.zeros(sizes), np.zeros(sizes))


def trace(env="", obs_dim=4, action_dim=2):
    noisy, denoised, unguided = (rows(obs_dim, action_dim, offset) for offset in (0.1, 0.3, 0.0))
    flags = np.zeros((2, 5), bool)
    windows = pgd.Windows(*(part[-1] for part in denoised[:3]), flags, ~flags, np.ones(obs_dim), env)
    sigma = np.array([20.0, 5.0, 1.0, 0.1], np.float32)
    return pgd.Trace(windows, sigma, STRENGTH, np.zeros((4, 2, 5)), noisy, denoised, unguided, unguided)


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield
    pyplot.close("all")


def test_what_a_trace_derives():
    made = trace()
    np.testing.assert_array_equal(made.is_guided, [False, False, True, True])
    np.testing.assert_allclose(made.action_shift, 0.3, rtol=1e-5)
    assert len(made) == 4 and repr(made).startswith("Trace(4 steps, 2 of them guided, of Windows(2 of 5 rows, obs 4")


def test_columns_over_time_where_there_is_no_map(tmp_path):
    made = trace()
    panels = pgd.plot.denoising(made, window=1, steps=[0, -1])
    assert panels.shape == (4, 2)  # two observations and two actions by two steps
    assert [axis.get_ylabel() for axis in panels[:, 0]] == ["observation 0", "observation 1", "action 0", "action 1"]
    assert [axis.get_title() for axis in panels[0]] == ["σ = 20 (step 1 of 4)", "σ = 0.1 (step 4 of 4), guided"]
    unguided_step, guided_step = ([line.get_ydata() for line in axis.lines] for axis in panels[3])
    assert len(unguided_step) == 2 and len(guided_step) == 3
    for found, of in zip(guided_step, (made.noisy, made.unguided, made.denoised), strict=True):
        np.testing.assert_array_equal(found, of.action[-1, 1, :, 1])
    assert pgd.plot.denoising(trace(obs_dim=1, action_dim=1)).shape == (2, 4)
    assert list(tmp_path.iterdir()) == []


def test_paths_on_the_map_of_a_maze():
    made = trace("maze2d-umaze")
    panels = pgd.plot.denoising(made)
    assert panels.shape == (4,) and panels[0].get_xlabel() == "x"
    path, *arrows = panels[2].collections
    np.testing.assert_allclose(np.array(path.get_segments())[:, 0], made.denoised.obs[2, 0, :-1, :2])
    np.testing.assert_allclose(np.stack([arrows[0].U, arrows[0].V], axis=1), made.action_shift[2, 0])
    assert len(panels[1].collections) == 1, "no arrows where guidance was off"


def test_a_film_has_a_frame_for_each_step_and_is_saved_only_when_asked(tmp_path):
    film = pgd.plot.animate(trace("maze2d-umaze"), window=1)
    assert list(tmp_path.iterdir()) == []
    film.save("film.gif", writer="pillow", dpi=20)
    with Image.open("film.gif") as found:
        assert found.n_frames == 4  # Pillow makes one long frame of the repeated last


def test_a_few_steps_are_spread_from_the_first_to_the_last():
    assert denoising.spread(32) == [0, 8, 16, 23, 31] and denoising.spread(3) == [0, 1, 2]


@pytest.mark.parametrize("choice", [{"window": 2}, {"window": -3}, {"steps": [4]}, {"steps": []}])
def test_what_the_trace_does_not_have_is_one_clear_error(choice):
    with pytest.raises(pgd.UserError, match="the trace has 2 windows and 4 steps, counted from 0"):
        pgd.plot.denoising(trace(), **choice)
