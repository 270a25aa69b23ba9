"""The study's tables, in Markdown. An interval is of the mean over target policies (seeds), 95 %, Student's t."""

from collections.abc import Iterable, Mapping, Sequence

from experiments.guidance_study import frontier, grid
from experiments.guidance_study.frontier import ERROR, LIKELIHOOD, Match, Point
from pgd_jax.report import stats

Points = Mapping[tuple[str, str], Sequence[Point]]
MEASURES = {
    LIKELIHOOD: "log-likelihood",
    ERROR: "dynamics error",
    "dynamics_error_median": "median window's",
    "reward_error": "reward error",
    "wasserstein": "W1",
    "mmd": "MMD²",
    "diversity": "diversity",
    "nearest_distance": "nearest",
    "impossible_share": "impossible",
}
LEAST_STEPS = 16  # fewer are not meant to be as strong
MATCH_HEAD = ["task", "policy", "paper λ", "log-likelihood", "error", "λ", "log-likelihood", "error"]
MATCH_HEAD += ["likelihood gain", "error ratio", "reached"]


def matches(points: Points, title: str, candidates: Iterable[str] = grid.CANDIDATES) -> str:
    """For each strength of the paper's rule, the best of each candidate's lambdas."""
    lines = [f"## {title}", ""]
    for name in candidates:
        found = [match for each in points.values() for match in candidate_matches(each, grid.CANDIDATES[name])]
        if not found:
            continue
        num_reached, num_clear = sum(m.is_reached for m in found), sum(m.is_clear for m in found)
        calls = found[0].found.calls
        lines += [
            f"### {name}: {calls} calls, {found[0].reference.calls / calls:.0f} times fewer", "",
            f"Reached (means) in {num_reached} of {len(found)} cases, beyond both intervals in {num_clear}.", "",
            _line(MATCH_HEAD), _line(["---"] * len(MATCH_HEAD)),
            *map(_match_line, found), "",
        ]  # fmt: skip
    return "\n".join(lines)


def candidate_matches(points: Sequence[Point], fields: Mapping[str, object]) -> list[Match]:
    """A match for each strength of the paper's rule that is measured, where the candidate is measured too."""
    candidates = [p for p in frontier.select(points, **fields) if p.coefficient > 0.0]
    references = [p for p in frontier.select(points, **grid.PAPER) if p.coefficient > 0.0]
    return [frontier.best(reference, candidates) for reference in references if candidates]


def _match_line(match: Match) -> str:
    a, b = match.reference, match.found
    cells = [a.task, a.agent, f"{a.coefficient:g}", _text(a, LIKELIHOOD), _text(a, ERROR), f"{b.coefficient:g}"]
    cells += [_text(b, LIKELIHOOD), _text(b, ERROR), interval(match.likelihood_gain), interval(match.error_ratio)]
    return _line([*cells, "yes" if match.is_reached else "no"])


def steps(points: Points) -> str:
    """Log-likelihood at one lambda over the number of steps."""
    lines = ["## Does the strength depend on the number of steps?", ""]
    lines += [f"Mean log-likelihood per action; the range is that from {LEAST_STEPS} steps on.", ""]
    for name, (fields, coefficient) in grid.OVER_STEPS.items():
        found = {
            policies: {p.cell.num_steps: p.estimate(LIKELIHOOD).mean for p in each
                       if frontier.is_like(p, fields) and p.coefficient == coefficient}
            for policies, each in points.items()
        }  # fmt: skip
        counts = sorted({num_steps for means in found.values() for num_steps in means})
        lines.append(_line([f"{name}, λ = {coefficient:g}", *(f"N = {n}" for n in counts), "range"]))
        lines.append(_line(["---"] * (len(counts) + 2)))
        for policies, means in found.items():
            if means:
                shown = [f"{means[n]:.2f}" if n in means else "" for n in counts]
                enough = [mean for num_steps, mean in means.items() if num_steps >= LEAST_STEPS]
                lines.append(_line([", ".join(policies), *shown, f"{max(enough) - min(enough):.2f}"]))
        lines.append("")
    return "\n".join(lines)


def everything(points: Points) -> str:
    """Every point, in means over seeds."""
    lines = ["## Every point", "", "Means over seeds; intervals of the first two.", ""]
    for (task, agent), each in points.items():
        lines += [f"### {task}, {agent}", "", _line(["setting", "λ", "calls", *MEASURES.values()])]
        lines.append(_line(["---"] * (3 + len(MEASURES))))
        for p in each:
            cells = [_setting(p), f"{p.coefficient:g}", str(p.calls), _text(p, LIKELIHOOD), _text(p, ERROR)]
            lines.append(_line([*cells, *(f"{p.estimate(name).mean:.3g}" for name in list(MEASURES)[2:])]))
        lines.append("")
    return "\n".join(lines)


def _setting(point: Point) -> str:
    return ", ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in frontier.changed(point.cell).items()
    )


def _text(point: Point, name: str) -> str:
    return interval(point.estimate(name))


def interval(estimate: stats.Estimate) -> str:
    if not estimate.has_interval:
        return f"{estimate.mean:.3g}"
    return f"{estimate.mean:.3g} [{estimate.low:.3g}, {estimate.high:.3g}]"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
