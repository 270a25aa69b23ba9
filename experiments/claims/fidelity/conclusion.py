"""What the numbers say, in sentences."""

import collections
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from experiments.claims import crossed
from experiments.claims.fidelity import matched, setting as settings
from experiments.claims.fidelity.matched import ERROR, GROWTH, LIKELIHOOD, MEDIAN, Curve
from pgd_jax.report.stats import Estimate
from pgd_jax.report.tables import bullets, show, table

Curves = Mapping[str, Curve]  # by generator, of one task and kind of policy
Results = Mapping[tuple[str, str], Curves]  # by (task, kind of policy)
RULES = {settings.PAPER: "the paper's rule", settings.DEFAULT: "our default"}
POLICIES = {"td3_bc": "TD3+BC", "iql": "IQL"}
WINDOWS, ROLLOUTS, UNSETTLED = "the windows are truer", "the ensemble is truer", "not settled"
COUNTED = (
    ("error of one step", ERROR, 1),
    ("error of a whole window", ERROR, None),
    ("growth of the error along the window", GROWTH, None),
)
# What is said besides where it says otherwise: (words, measure, rollouts).
OTHERWISE = (
    ("By the median window", MEDIAN, settings.ROLLOUTS),
    ("Against rollouts without model noise", ERROR, settings.MEANS),
    ("By the median window against rollouts without model noise", MEDIAN, settings.MEANS),
)


def ratio(
    curves: Curves,
    rule: str,
    measure: str = ERROR,
    horizon: int | None = None,
    rollouts: str = settings.ROLLOUTS,
    at_least: bool = False,
) -> Estimate | None:
    """Ensemble / diffusion at equal likelihood, a geometric mean over the rule's strengths; None before it is there."""
    if rule not in curves or rollouts not in curves:
        return None
    found = matched.compare(curves[rule], curves[rollouts], measure, horizon, at_least)
    return None if found is None else crossed.ratio(found.guided)


def winner(found: Estimate) -> str:
    """By a ratio of errors, ensemble / diffusion."""
    if not found.has_interval or found.low <= 1.0 <= found.high:
        return UNSETTLED
    return WINDOWS if found.low > 1.0 else ROLLOUTS


def verdict(found: Estimate) -> str:
    if math.isnan(found.mean):
        return "no rollout has the windows' likelihood"
    why = "" if found.has_interval else ": too few models for an interval"
    return f"the ensemble errs {show(found, '.3g')} times as much, {winner(found)}{why}"


def gain(curve: Curve) -> Estimate:
    """Log-likelihood an action at the greatest strength minus that of unguided windows, in pairs."""
    likelihood = curve.of(LIKELIHOOD)
    return crossed.mean(likelihood[-1] - likelihood[0])


def falls(curve: Curve) -> list[float]:
    """Strengths at which windows are no more likely than at the next lower one, in means."""
    steps = np.diff(curve.of(LIKELIHOOD).mean(axis=(1, 2)))
    return [strength for strength, step in zip(curve.strengths[1:], steps, strict=True) if step <= 0.0]


def conclusion(results: Results) -> str:
    """Markdown: the counts over all tasks, then a list for each task."""
    lines = [bullets(_claim_2(results)), "", "Claim 3, in how many cases (a task and a kind of policy):", ""]
    lines.append(table(["rule", "at equal likelihood", "windows less", "ensemble less", UNSETTLED], _claim_3(results)))
    for task in dict.fromkeys(task for task, _ in results):
        lines += ["", f"**{task}**", "", bullets(_of_task(task, results))]
    return "\n".join(lines)


def _measured(results: Results) -> list[tuple[str, str]]:
    return [(rule, name) for rule, name in RULES.items() if any(rule in curves for curves in results.values())]


def _claim_2(results: Results) -> Iterator[str]:
    for rule, name in _measured(results):
        gains = [gain(curves[rule]) for curves in results.values() if rule in curves]
        clear = sum(found.has_interval and found.low > 0.0 for found in gains)
        yield f"Claim 2, {name}: guided windows are more likely than unguided ones in {_share(clear, gains)}."


def _claim_3(results: Results) -> list[list[str]]:
    lines = []
    for rule, name in _measured(results):
        for words, measure, horizon in COUNTED:
            found = [ratio(curves, rule, measure, horizon) for curves in results.values()]
            counts = collections.Counter(winner(each) for each in found if each is not None)
            lines.append([name, words, *(str(counts[each]) for each in (WINDOWS, ROLLOUTS, UNSETTLED))])
    return lines


def _share(count: int, estimates: Sequence[Estimate]) -> str:
    unknown = sum(not found.has_interval for found in estimates)
    rest = f" ({unknown} with too few models to tell)" if unknown else ""
    return f"{count} of {len(estimates)} cases{rest}"


def _of_task(task: str, results: Results) -> Iterator[str]:
    for (name, agent), curves in results.items():
        for rule in RULES:
            if name == task and rule in curves:
                yield f"{POLICIES[agent]}, {RULES[rule]}: {' '.join(_of_rule(curves, rule))}"


def _of_rule(curves: Curves, rule: str) -> Iterator[str]:
    curve = curves[rule]
    likelihood, without = curve.of(LIKELIHOOD).mean(axis=(1, 2)), falls(curve)
    but = f", but does not rise at λ = {', '.join(f'{strength:g}' for strength in without)}" if without else ""
    yield (
        f"log-likelihood an action goes from {likelihood[0]:.2f} (unguided) to {likelihood[-1]:.2f} "
        f"(λ = {curve.strengths[-1]:g}), {show(gain(curve), '+.2f')}{but}."
    )
    step, window = ratio(curves, rule, horizon=1), ratio(curves, rule)
    if step is None or window is None:
        return
    yield f"At equal likelihood {verdict(window)} (over {curve.last} steps; one step: {_brief(step)})."
    for words, measure, rollouts in OTHERWISE:
        other = ratio(curves, rule, measure, rollouts=rollouts)
        if other is not None and winner(other) != winner(window):
            yield f"{words}: {_brief(other)}."
    grows = ratio(curves, rule, GROWTH)
    if grows is not None and not math.isnan(grows.mean):
        own = crossed.ratio(np.log(curve.of(GROWTH)[1:]).mean(axis=0))
        yield (
            f"From the first third of a window to the last its error changes by a factor of {show(own, '.3g')}, the "
            f"ensemble's by {show(grows, '.3g')} times that factor."
        )


def _brief(found: Estimate) -> str:
    return f"{show(found, '.3g')}, {winner(found)}"
