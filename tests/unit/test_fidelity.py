"""The study of claims 2 and 3: its arithmetic, its sentences, how it goes on, and rollouts of a known model."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats as distributions

from experiments.claims import crossed, tasks
from experiments.claims.fidelity import (
    __main__ as command,
    conclusion,
    figures,
    matched,
    measure,
    models,
    page,
    points,
    setting as settings,
    study,
    tables,
)
from experiments.claims.fidelity.points import Point
from experiments.claims.fidelity.setting import DATA, DEFAULT, MEANS, PAPER, ROLLOUTS, Request
from experiments.guidance_study.cells import Cell
from pgd_jax.agents.base import AGENTS, AgentPlan
from pgd_jax.core import config as configs, presets
from pgd_jax.core.errors import UserError
from pgd_jax.core.types import Layout, Normalizer
from pgd_jax.data import normalizer as normalizers
from pgd_jax.envs.base import EvalEnv
from pgd_jax.generators import one_step, settings as sampling_settings
from pgd_jax.report import stats
from pgd_jax.runs import denoiser as denoisers

TASK, HORIZONS = tasks.TASKS[0].name, (1, 2, 4, 7)
NUM = 3  # models, and policies


def test_the_crossed_interval_by_hand():
    """Means of models 1, 4, 7 (variance 9), of policies 3, 4, 5 (variance 1): v = 9 / 3 + 1 / 3 = 10 / 3.

    d = v^2 / ((9 / 3)^2 / 2 + (1 / 3)^2 / 2) = (100 / 9) / (82 / 18) = 2.439.
    """
    found = crossed.mean([[0, 1, 2], [3, 4, 5], [6, 7, 8]])
    half = distributions.t.ppf(0.975, 200 / 82) * math.sqrt(10 / 3)
    np.testing.assert_allclose([found.mean, found.low, found.high], [4.0, 4.0 - half, 4.0 + half])


def test_where_one_factor_alone_differs_the_interval_is_student_s():
    x = np.array([[1.0], [2.0], [4.0]]) * np.ones((1, 5))
    for values in (x, x.T):
        np.testing.assert_allclose(crossed.mean(values)[:3], stats.mean([1.0, 2.0, 4.0])[:3])
    np.testing.assert_allclose(crossed.ratio(np.log(x))[:3], stats.ratio([1.0, 2.0, 4.0], [1.0] * 3)[:3])


def test_too_few_of_either_or_a_missing_value_give_no_interval():
    assert crossed.mean(np.ones((3, 3)))[:3] == (1.0, 1.0, 1.0)
    assert not crossed.mean(np.ones((2, 3))).has_interval and not crossed.mean(np.ones((3, 2))).has_interval
    missing = crossed.mean([[1.0, 2.0, np.nan], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0]])
    assert missing.mean == pytest.approx(15 / 8) and not missing.has_interval
    assert math.isnan(crossed.mean(np.full((3, 3), np.nan)).mean)


def test_log_errors_are_interpolated_between_likelihoods_and_never_beyond():
    likelihood = np.array([-1.0, -4.0, -2.0])  # in the order of strengths, not of likelihoods
    error = np.exp(2.0 * likelihood + 1.0)  # a line in logarithms: interpolation is exact
    wanted = np.array([-3.3, -1.5, -4.0005, -0.9995, -4.1, -0.9])
    found = matched.log_error_at(likelihood, error, wanted)
    np.testing.assert_allclose(found[:2], 2.0 * wanted[:2] + 1.0)
    np.testing.assert_allclose(found[2:4], [-7.0, -1.0])  # within the tolerance of an end: the end's
    assert np.isnan(found[4:]).all()


def test_the_least_error_of_all_that_is_at_least_as_likely():
    likelihood, error = np.array([-3.0, -2.0, -1.0]), np.exp([2.0, 0.0, 1.0])
    found = matched.least_log_error_at(likelihood, error, np.array([-3.0, -2.25, -1.5, -1.0, 0.0]))
    # At -2.25 the line is at 0.5 and -2 has 0; at -1.5 it is at 0.5, and -1 has 1.
    np.testing.assert_allclose(found, [0.0, 0.0, 0.5, 1.0, np.nan])


def test_growth_is_the_last_third_over_the_first():
    assert matched.growth(np.array([1.0, 3.0, 9.0, 9.0, 9.0, 4.0, 4.0])) == pytest.approx(2.0)
    assert matched.growth(np.array([2.0, 3.0])) == pytest.approx(1.5)


def point(generator, strength, likelihood, error, model=0, agent="td3_bc", growth=1.0):
    """`likelihood` and `error` of each policy, at every horizon."""
    likelihood, error = (np.array(x, float)[:, None] * np.ones(len(HORIZONS)) for x in (likelihood, error))
    by_position = error[:, :1] * growth ** np.linspace(0.0, 1.0, HORIZONS[-1])
    measures = {"dynamics_error_median": error, "reward_error": error, "defined_share": np.ones(len(error))}
    measures |= {"log_likelihood": likelihood, "dynamics_error": error, "dynamics_error_by_position": by_position}
    measures |= {"mmd": np.zeros(len(error)), "diversity": np.ones(len(error))}
    return Point(TASK, agent, generator, strength, model, 96, 1.0, HORIZONS, measures)


def world(ratio, num_models=NUM, spread=0.0, agent="td3_bc"):
    """Rollouts that err `ratio` times as much as windows of the same likelihood, in which models and policies differ.

    The windows' log error is their log-likelihood; `spread` is the standard deviation of the ratio's logarithm.
    """
    random, found = np.random.default_rng(0), []
    for model in range(num_models):
        offset = np.array([0.1, 0.2, 0.3]) + model
        own = math.log(ratio) + spread * random.normal(size=3)
        for generator, noises in ((ROLLOUTS, (0.0, 0.5, 1.0)), (MEANS, (0.0, 1.0))):
            for noise in noises:
                likelihood = offset - 2.0 * noise
                found.append(point(generator, noise, likelihood, np.exp(likelihood + own), model, agent, 4.0))
        for strength, at in ((0.0, -1.9), (1.0, -1.3), (3.0, -0.2), (9.0, 0.5)):  # the last one is beyond all rollouts
            found.append(point(DEFAULT, strength, offset + at, np.exp(offset + at), model, agent))
        found.append(point(DATA, 0.0, offset, np.full(3, 1e-9), model, agent))
    return found


def curves_of(found):
    curves = {name: matched.curve(found, name) for name in settings.GENERATORS}
    return {name: curve for name, curve in curves.items() if curve is not None}


def test_a_ratio_is_at_the_likelihood_of_each_model_and_policy():
    curves = curves_of(world(3.0))
    assert PAPER not in curves and curves[DEFAULT].models == (0, 1, 2)
    found = matched.compare(curves[DEFAULT], curves[ROLLOUTS])
    np.testing.assert_allclose(np.exp(found.logs[:3]), 3.0)
    assert np.isnan(found.logs[3]).all()  # nothing is extrapolated
    np.testing.assert_allclose(np.exp(found.guided), 3.0)
    estimate = conclusion.ratio(curves, DEFAULT)
    np.testing.assert_allclose(estimate[:3], 3.0)
    # The windows' error is least where they are least likely, so that unguided ones' counts for no strength above.
    assert conclusion.ratio(curves, DEFAULT, at_least=True).mean == pytest.approx(3.0)
    # Four times as much in the last row as in the first, and thirds have 2 of 7 rows.
    grown = (4.0 ** (5 / 6) + 4.0) / (1.0 + 4.0 ** (1 / 6))
    assert conclusion.ratio(curves, DEFAULT, matched.GROWTH).mean == pytest.approx(grown)


def test_rollouts_along_the_window_are_as_likely_as_the_windows():
    curves = curves_of(world(3.0))
    found = figures.as_likely(curves[DEFAULT], 2, curves[ROLLOUTS])
    assert found.shape == (NUM, 3, HORIZONS[-1])
    np.testing.assert_allclose(found[..., 0], 3.0 * curves[DEFAULT].of("dynamics_error")[2])
    np.testing.assert_allclose(found[..., -1], 4.0 * found[..., 0])


def test_models_that_are_not_measured_throughout_do_not_count():
    found = world(3.0)
    del found[-2]  # the last model's strongest windows
    curves = curves_of(found)
    assert curves[DEFAULT].models == (0, 1) and curves[ROLLOUTS].models == (0, 1, 2)
    ratios = matched.compare(curves[DEFAULT], curves[ROLLOUTS])
    assert ratios.logs.shape == (4, 2, 3) and not conclusion.ratio(curves, DEFAULT).has_interval


@pytest.mark.parametrize(
    "ratio, spread, said, columns",
    [
        (3.0, 0.01, "the ensemble errs 3.0", ("1", "0", "0")),
        (0.25, 0.01, "the ensemble errs 0.25", ("0", "1", "0")),
        (1.1, 0.5, "not settled", ("0", "0", "1")),
    ],
)
def test_the_conclusion_says_who_wins(ratio, spread, said, columns):
    text = conclusion.conclusion({(TASK, "td3_bc"): curves_of(world(ratio, spread=spread))})
    winner = dict(zip(columns, (conclusion.WINDOWS, conclusion.ROLLOUTS, conclusion.UNSETTLED), strict=True))["1"]
    sentence = next(line for line in text.splitlines() if line.startswith("- TD3+BC, our default"))
    assert said in sentence and f"times as much, {winner}" in sentence
    assert f"| our default | error of a whole window | {' | '.join(columns)} |" in text
    assert "the paper's rule" not in text  # of which nothing is measured
    assert f"**{TASK}**" in text and "more likely than unguided ones in 1 of 1 cases" in text


def test_the_conclusion_says_what_speaks_against_it():
    """Means and medians of opposite ends, and a likelihood that falls."""
    found = [
        p._replace(measures=p.measures | {"dynamics_error_median": p.measures["dynamics_error"] / 9.0})
        if p.generator == ROLLOUTS
        else p
        for p in world(3.0)
    ]
    text = conclusion.conclusion({(TASK, "td3_bc"): curves_of(found)})
    assert "By the median window: 0.333 [0.333, 0.333], the ensemble is truer." in text
    assert "without model noise" not in text  # which says the same as the first sentence
    falling = [p._replace(strength=-p.strength % 10.0) if p.generator == DEFAULT else p for p in found]
    assert "does not rise at λ = 7, 9" in conclusion.conclusion({(TASK, "td3_bc"): curves_of(falling)})


def test_too_few_models_are_said_to_be(tmp_path):
    text = conclusion.conclusion({(TASK, "td3_bc"): curves_of(world(3.0, num_models=1))})
    assert "too few models for an interval" in text and "(1 with too few models to tell)" in text


def test_the_page_is_of_the_points_that_are_there(tmp_path):
    with pytest.raises(UserError, match="nothing is measured"):
        page.write(tmp_path)
    for agent in settings.AGENTS:
        for each in world(3.0, agent=agent):
            points.append(points.path(tmp_path), each)
    text = page.write(tmp_path).read_text()
    assert f"| {TASK} | IQL | our default | 3 x 3 | 3 [3, 3] |" in text and (tmp_path / f"fidelity/{TASK}.png").exists()
    assert tables.over_strengths(page.read(tmp_path)).count("– (λ = 9)") == 2


def test_points_are_read_as_they_were_written_whatever_a_crash_left(tmp_path):
    first, second = point(DEFAULT, 0.0, [-1.23456789] * 3, [np.nan] * 3), point(DEFAULT, 1.0, [0.0] * 3, [1.0] * 3)
    points.append(tmp_path / "points.jsonl", first)
    with (tmp_path / "points.jsonl").open("a") as file:
        file.write('{"task": "hop')
    points.append(tmp_path / "points.jsonl", second)
    found = points.read(tmp_path / "points.jsonl")
    assert [p.name for p in found] == [first.name, second.name] and found[0].horizons == HORIZONS
    np.testing.assert_array_equal(found[0].measures["log_likelihood"], np.full((3, 4), -1.2346))
    assert np.isnan(found[0].measures["dynamics_error"]).all()
    assert "-1.235" in points.line(found[0])


def test_the_first_models_of_all_tasks_come_first_and_nothing_twice(tmp_path, monkeypatch):
    setting, asked = settings.Setting(), []
    chosen = command.choose(["hopper-medium", "maze2d-umaze"])
    there = point(DEFAULT, 10.0, [0.0] * 3, [1.0] * 3)._replace(task="hopper-medium")
    points.append(points.path(tmp_path), there)
    monkeypatch.setattr(page, "write", lambda out: asked.append("page"))
    monkeypatch.setattr(
        study, "measure_all", lambda setting, missing, task, model, *paths: asked.append((task.name, model, missing))
        or True,
    )  # fmt: skip
    assert study.run(setting, chosen, tmp_path, tmp_path, num_models=2)
    assert asked[1::2] == ["page"] * 4
    assert [each[:2] for each in asked[::2]] == [(task.name, model) for model in range(2) for task in chosen]
    num_all = len(settings.AGENTS) * len(list(setting.requests()))
    assert [len(each[2]) for each in asked[::2]] == [num_all - 1, num_all, num_all, num_all]
    assert ("td3_bc", Request(DEFAULT, 10.0)) not in asked[0][2]
    with pytest.raises(UserError, match='unknown task "hoper"; did you mean'):
        command.choose(["hoper"])


def test_the_paper_s_cell_is_the_paper_s_sampling_and_rules_are_measured_unguided_too():
    cell, paper = settings.Setting().cells[PAPER], presets.config("paper", "agent")
    hyper = cell.hyper.replace(guidance_coefficient=1.0)
    assert cell.sampling.guidance == "paper" and sampling_settings.unlike_published(cell.sampling, hyper) == ""
    assert cell.sampling.sampler == paper.sampling.sampler and cell.calls == 767
    assert settings.Setting().cells[DEFAULT] == Cell()
    assert all(strengths[0] == 0.0 for strengths in settings.Setting().strengths.values())


LAYOUT = Layout(2, 1)
NORMALIZER = Normalizer(jnp.array([1.0, -2.0, 0.0, 0.5, 0.0]), jnp.array([2.0, 0.5, 1.0, 3.0, 0.1]), LAYOUT)
WINDOW = 8


def line_env():
    """s' = s + a (2, -1): in network space it moves by a (1, -2)."""

    def step(key, state, action):
        obs = state + action[0] * jnp.array([2.0, -1.0])
        return obs, obs, jnp.float32(0.0), jnp.bool_(False)

    return EvalEnv("line", 2, 1, 100, reset=None, step=step, from_obs=lambda obs: obs)


def line_model(slope, log_std):
    """Two members that say s' - s = slope a (1, -2), with a standard deviation of exp(log_std)."""
    kernel = np.zeros((2, 3, 7))
    kernel[:, 2, :2] = slope * np.array([1.0, -2.0])
    bias = np.zeros((2, 7))
    bias[:, 3:6] = 2.0 * log_std
    layers = ({"kernel": jnp.asarray(kernel, jnp.float32), "bias": jnp.asarray(bias, jnp.float32)},)
    bounds = {"max_log_var": jnp.full((2, 3), 40.0), "min_log_var": jnp.full((2, 3), -40.0)}
    scale = one_step.Scale(jnp.zeros(1), jnp.ones(1), jnp.zeros(3), jnp.ones(3))
    return one_step.Model({"layers": layers} | bounds, scale, jax.random.normal(jax.random.key(3), (50, 2)))


@pytest.fixture(scope="module")
def line():
    """Measures of rollouts by a request and a model of the line."""
    agent = AGENTS.get("td3_bc").build(2, 1, AgentPlan(8, 1))
    states = jax.vmap(lambda key: agent.init(key, None))(jax.random.split(jax.random.key(0), 3))
    config = configs.DenoiserConfig(data=configs.DataConfig(window_length=WINDOW))
    trained = denoisers.Trained(config, None, None, NORMALIZER)
    real = jax.random.normal(jax.random.key(1), (4, WINDOW, 5))
    setting, env = dataclasses.replace(settings.Setting(), num_windows=64), line_env()

    def run(request, model):
        found = models.Models(trained, model, NORMALIZER, real, real, env)
        policies = models.Policies(agent, states)
        drawn = measure.draw(setting, request, 0, found, policies)
        return drawn, measure.measures_of(drawn, found, policies)

    return run


def test_rollouts_of_an_exact_model_have_no_error(line):
    drawn, found = line(Request(MEANS, 0.0), line_model(1.0, 0.0))
    assert found["dynamics_error"].shape == (3, len(measure.horizons_of(WINDOW)))
    assert found["dynamics_error"].max() < 1e-10 and found["defined_share"].tolist() == [1.0] * 3
    # Greedy actions have the largest density of a unit Gaussian, in every state.
    np.testing.assert_allclose(found["log_likelihood"], -0.5 * math.log(2.0 * math.pi), rtol=1e-5)
    # As windows they are the same rows, but for actions beyond what windows can hold.
    rows, _ = normalizers.to_transitions(NORMALIZER, drawn.windows)
    limit = normalizers.ACTION_LIMIT
    np.testing.assert_allclose(rows.action, np.clip(drawn.rows.action, -limit, limit), atol=1e-4)
    np.testing.assert_allclose(rows.obs, drawn.rows.obs, atol=1e-4)
    np.testing.assert_allclose(rows.reward, drawn.rows.reward, atol=1e-4)
    np.testing.assert_allclose(rows.next_obs[:, :, :-1], drawn.rows.next_obs[:, :, :-1], atol=1e-4)


def test_errors_are_in_standard_deviations_of_the_data(line):
    """Half of the move is missing: (a / 2)^2 and a^2 in network space, in the mean 0.625 a^2."""
    drawn, found = line(Request(MEANS, 0.0), line_model(0.5, 0.0))
    squared = np.asarray(drawn.rows.action[..., :-1, 0], np.float64) ** 2
    steps = measure.horizons_of(WINDOW)
    expected = [[0.625 * of[:, :k].mean() for k in steps] for of in squared]
    np.testing.assert_allclose(found["dynamics_error"], expected, rtol=1e-4)
    np.testing.assert_allclose(found["dynamics_error_by_position"], 0.625 * squared.mean(axis=1), rtol=1e-4)
    medians = [[0.625 * np.median(of[:, :k].mean(axis=1)) for k in steps] for of in squared]
    np.testing.assert_allclose(found["dynamics_error_median"], medians, rtol=1e-4)


def test_the_baseline_samples_the_model_and_noise_lowers_the_likelihood(line):
    sampled = line(Request(ROLLOUTS, 0.0), line_model(1.0, math.log(0.3)))[1]
    np.testing.assert_allclose(sampled["dynamics_error"][:, -1], 0.09, rtol=0.15)
    noisy = line(Request(ROLLOUTS, 0.4), line_model(1.0, math.log(0.3)))[1]
    # The mean of (a - pi)^2 / 2: 0.08, less what is clipped at actions of 1.
    lost = sampled["log_likelihood"] - noisy["log_likelihood"]
    assert lost.min() > 0.04 and lost.max() < 0.1


def test_other_normalizers_are_refused():
    models.check_same(denoiser=NORMALIZER, world_model=NORMALIZER.replace(mean=NORMALIZER.mean + 0.0))
    with pytest.raises(UserError, match="denoiser and world model have other normalizers"):
        models.check_same(denoiser=NORMALIZER, world_model=NORMALIZER.replace(mean=NORMALIZER.mean + 1.0))
