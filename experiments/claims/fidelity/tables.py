"""The tables, in Markdown. Square brackets are 95 % intervals over models and policies (`crossed`)."""

from collections.abc import Iterator

import numpy as np

from experiments.claims import crossed
from experiments.claims.fidelity import matched, setting as settings
from experiments.claims.fidelity.conclusion import POLICIES, RULES, Curves, Results, gain, ratio, winner
from experiments.claims.fidelity.matched import ERROR, GROWTH, LIKELIHOOD, MEDIAN, REWARD, Curve
from pgd_jax.report.stats import Estimate
from pgd_jax.report.tables import show, table

LAMBDA = "λ"
WHERE = ["task", "policies", "rule", "models x policies"]


def _cases(results: Results) -> Iterator[tuple[list[str], str, Curves]]:
    """(the first cells of a line, rule, curves) of every case that is measured."""
    for (task, agent), curves in results.items():
        for rule, name in RULES.items():
            if rule in curves:
                num_models, num_policies = curves[rule].of(LIKELIHOOD).shape[1:]
                yield [task, POLICIES[agent], name, f"{num_models} x {num_policies}"], rule, curves


def _show(found: Estimate | None) -> str:
    return "–" if found is None or np.isnan(found.mean) else show(found, ".3g")


def likelihoods(results: Results) -> str:
    """Log-likelihood an action over the strengths, which the two rules have in other units."""
    lines = []
    for where, rule, curves in _cases(results):
        curve = curves[rule]
        means = zip(curve.strengths, curve.of(LIKELIHOOD).mean(axis=(1, 2)), strict=True)
        over = ", ".join(f"{mean:.2f} ({LAMBDA} = {strength:g})" for strength, mean in means)
        lines.append([*where, over, _show(gain(curve))])
    return table([*WHERE, "log-likelihood an action", "strongest - unguided"], lines)


def over_horizons(results: Results) -> str:
    horizons = next((curve.horizons for curves in results.values() for curve in curves.values()), ())
    lines = []
    for where, rule, curves in _cases(results):
        found = [ratio(curves, rule, horizon=k) for k in horizons]
        last = found[-1]
        lines.append([*where, *map(_show, found), "–" if last is None else winner(last)])
    steps = ["1 step", *(f"{k} steps" for k in horizons[1:])]
    return table([*WHERE, *steps, "over the whole window"], lines)


def variants(results: Results) -> str:
    """Over the whole window, other ways to count."""
    lines = []
    for where, rule, curves in _cases(results):
        found = [
            ratio(curves, rule),
            ratio(curves, rule, MEDIAN),
            ratio(curves, rule, REWARD),
            ratio(curves, rule, rollouts=settings.MEANS),
            ratio(curves, rule, MEDIAN, rollouts=settings.MEANS),
            ratio(curves, rule, at_least=True),
        ]
        lines.append([*where, *map(_show, found)])
    heads = [
        "mean error",
        "median window",
        "reward",
        "without model noise",
        "median window without it",
        "at no less likelihood",
    ]
    return table([*WHERE, *heads], lines)


def over_strengths(results: Results) -> str:
    """ "–" where no rollout is as likely, or as unlikely."""
    lines = []
    for where, rule, curves in _cases(results):
        found = matched.compare(curves[rule], curves[settings.ROLLOUTS]) if settings.ROLLOUTS in curves else None
        if found is not None:
            each = zip(found.strengths, map(crossed.ratio, found.logs), strict=True)
            lines.append([*where, ", ".join(f"{_show(at)} ({LAMBDA} = {strength:g})" for strength, at in each)])
    return table([*WHERE, "ensemble / diffusion"], lines)


def growth(results: Results) -> str:
    lines = []
    for where, rule, curves in _cases(results):
        own = curves[rule].of(GROWTH)
        found = [crossed.ratio(np.log(own[1:]).mean(axis=0)), ratio(curves, rule, GROWTH)]
        lines.append([*where, *map(_show, found)])
    return table([*WHERE, "growth of the windows' error", "ensemble's / windows'"], lines)


def everything(results: Results) -> str:
    """Every point over the whole window, in means: geometric of errors, arithmetic of the rest."""
    columns = {
        LIKELIHOOD: "log-likelihood", ERROR: "dynamics error", MEDIAN: "median window's", REWARD: "reward error",
        GROWTH: "growth", "mmd": "MMD²", "diversity": "diversity", "defined_share": "defined",
    }  # fmt: skip
    lines = []
    for (task, agent), curves in results.items():
        for name, curve in curves.items():
            for k, strength in enumerate(curve.strengths):
                cells = [f"{mean_of(curve, measure, k):.3g}" for measure in columns]
                lines.append([task, POLICIES[agent], name, f"{strength:g}", *cells])
    return table(["task", "policies", "generator", f"{LAMBDA} or action noise", *columns.values()], lines)


def mean_of(curve: Curve, measure: str, strength: int) -> float:
    values = curve.of(measure)[strength]
    if measure in (ERROR, MEDIAN, REWARD, GROWTH):
        return float(np.exp(np.log(np.maximum(values, matched.SMALLEST)).mean()))
    return float(values.mean())
