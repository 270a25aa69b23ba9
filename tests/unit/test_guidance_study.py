"""The study's arithmetic: which point matches which, and the fitted noise schedule."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.guidance_study import fitted, frontier, grid, setting, tables
from experiments.guidance_study.cells import Cell
from experiments.guidance_study.frontier import ERROR, LIKELIHOOD
from pgd_jax.core import config as configs
from pgd_jax.generators import diffusion


def point(likelihood, error, coefficient=1.0, cell=None):
    measures = {LIKELIHOOD: np.array(likelihood, float), ERROR: np.array(error, float)}
    cell = cell or Cell()
    return frontier.Point("task", "agent", cell, coefficient, cell.calls, 1.0, setting.NOISE, measures)


REFERENCE = point([-2.0, -2.2, -2.1], [0.2, 0.3, 0.4])


def test_a_match_is_paired_by_seed():
    match = frontier.compare(REFERENCE, point([-1.9, -2.1, -2.0], [0.1, 0.15, 0.2]))
    assert match.likelihood_gain.mean == pytest.approx(0.1) and match.error_ratio.mean == pytest.approx(0.5)
    # The same gain and ratio for every seed: intervals of no length, although seeds differ by more than the gain.
    assert match.is_reached and match.is_clear


def test_more_error_or_less_likelihood_is_no_match():
    assert not frontier.compare(REFERENCE, point([-1.9, -2.1, -2.0], [0.3, 0.3, 0.4])).is_reached
    assert not frontier.compare(REFERENCE, point([-2.1, -2.3, -2.1], [0.1, 0.1, 0.1])).is_reached


def test_the_best_is_the_least_error_among_those_as_likely():
    likely = [point([-2.0, -2.0, -2.0], [error] * 3, error) for error in (0.3, 0.1, 0.2)]
    unlikely = point([-3.0, -3.0, -3.0], [0.01] * 3, 9.0)
    assert frontier.best(REFERENCE, [*likely, unlikely]).found.coefficient == 0.1
    assert frontier.best(REFERENCE, [unlikely]).found.coefficient == 9.0


def test_cells_are_told_apart_by_what_differs_from_the_chosen_one():
    paper = point([0.0] * 3, [1.0] * 3, 0.3, grid.cell(grid.PAPER))
    shorter = point([0.0] * 3, [1.0] * 3, 0.3, grid.cell(grid.PAPER, num_steps=16))
    points = [paper, shorter, point([0.0] * 3, [1.0] * 3)]
    assert frontier.select(points, **grid.PAPER) == [paper]
    assert [frontier.is_like(p, grid.PAPER) for p in points] == [True, True, False]
    assert frontier.changed(Cell()) == {} and frontier.changed(paper.cell)["rule"] == "paper"
    assert grid.cell(grid.PAPER).calls == 767


def test_every_cell_of_the_grid_is_measured_once():
    seen = [
        (dataclasses.astuple(cell), c) for group in grid.groups() for cell in group.cells for c in group.coefficients
    ]
    assert all(cell.calls <= 767 for group in grid.groups() for cell in group.cells)
    chosen = [entry for entry in seen if entry[0] == dataclasses.astuple(Cell())]
    assert {c for _, c in chosen} >= set(grid.STRENGTHS)
    assert Cell() in [grid.cell(fields) for fields in grid.CANDIDATES.values()]


def test_the_chosen_setting_is_the_default_of_the_library():
    chosen = grid.cell(grid.CANDIDATES[grid.CHOSEN])
    config = configs.SamplingConfig()
    names = ("sampler", "num_steps", "noise_schedule", "guidance_schedule")
    assert {n: getattr(chosen, n) for n in names} == {n: getattr(config, n) for n in names}
    assert chosen.rule == config.guidance and chosen.hyper == diffusion.Hyper()


def test_tables_of_points_that_are_there():
    strong = [point([-1.5] * 3, [0.1, 0.2, 0.3], c) for c in (1.0, 10.0)]
    paper = point([-2.0, -2.2, -2.1], [0.2, 0.3, 0.4], 0.3, grid.cell(grid.PAPER))
    page = tables.matches({("task", "agent"): [*strong, paper]}, "title")
    assert "Reached (means) in 1 of 1 cases" in page and "24 times fewer" in page


def test_the_fitted_schedule_spends_its_steps_where_the_denoiser_moves():
    # All of the error is made between 0.1 and 1: so are all of the levels, but for the ends.
    mse = np.clip(np.log(fitted.LEVELS / 0.1) / np.log(10.0), 0.0, 1.0)
    sigmas = np.asarray(fitted.schedule(mse)(16, jnp.float32(0.002), jnp.float32(80.0), 7.0))
    np.testing.assert_allclose(sigmas[[0, -2]], [80.0, 0.002], rtol=1e-3)
    assert sigmas[-1] == 0.0 and np.all(np.diff(sigmas) < 0.0)
    assert np.sum((sigmas > 0.08) & (sigmas < 1.3)) >= 12
    inner = np.log(sigmas[3:-4])
    np.testing.assert_allclose(np.diff(inner), np.diff(inner).mean(), rtol=0.1)
