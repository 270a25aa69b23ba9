"""Tables, figure and conclusion of the learning study, from its results.csv alone."""

import itertools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import axes, figure

from experiments.claims import cells
from pgd_jax.core import places
from pgd_jax.report import stats, task_plots, tasks
from pgd_jax.report.tables import show, show_interval, table

PAGE, FIGURE = "learning.md", "learning.png"
LABEL = "normalised score"
# Okabe and Ito's colours, told apart under every common colour blindness.
COLOURS = dict(zip(cells.ARMS, ("#000000", "#E69F00", "#0072B2", "#CC79A7"), strict=True))
DPI = 110

Row = Mapping[str, Any]


def write(out: pathlib.Path, rows: Sequence[Row]) -> None:
    """Writes learning.md and learning.png into `out`; with no rows at all, nothing."""
    if not rows:
        return
    by_arm = [
        row | {"dataset": f"{row['dataset']}, {_agent(row)}", "method": _arm(row), "setting": ""}
        for row in map(dict, rows)
    ]
    found = tasks.summarise(by_arm)
    _draw(out / FIGURE, found, by_arm)
    places.replace_text(out / PAGE, _render(found, by_arm))


def _agent(row: Row) -> str:
    return str(row["method"]).rsplit(" ", 1)[0]


def _arm(row: Row) -> str:
    return str(row["method"]).rsplit(" ", 1)[1]


def _render(found: tasks.Summary, rows: Sequence[Row]) -> str:
    updates, episodes = (sorted({row[name] for row in rows})[-1] for name in ("update", "episodes"))
    parts = [
        "# Claim 1: what agents learn from each kind of data",
        f"Normalised scores after {updates:,} updates, {episodes} episodes a seed, last checkpoint. The command, the "
        "order of its cells and every setting: `experiments/claims/learning.py` and `cells.py` beside it.",
        conclusion(found, rows),
        f"![Every seed's score, its mean and 95 % interval, and the performance profiles]({FIGURE})",
        tasks.markdown(found),
        _differences(found),
    ]
    return "\n\n".join(parts) + "\n"


def conclusion(found: tasks.Summary, rows: Sequence[Row]) -> str:
    """What the intervals say of guided data against each other kind, over the tasks and agents that have both."""
    lines = []
    for other in (cells.UNGUIDED, cells.REAL, cells.ENSEMBLE):
        both = [dataset for dataset, cell in found.last.items() if {cells.GUIDED, other} <= cell.keys()]
        if not both:
            continue
        a, b = (
            [np.array(list(found.last[dataset][arm].seeds.values())) for dataset in both]
            for arm in (cells.GUIDED, other)
        )
        probability = stats.stratified_bootstrap(stats.probability_of_improvement, a, b)
        lines.append(f"- {verdict(other, probability, len(both))}")
    return "\n".join(lines)


def verdict(other: str, probability: stats.Interval, num_pairs: int) -> str:
    """One sentence about the probability that a seed trained on guided data scores more than one on `other` data."""
    settled = "not settled"
    if probability.has_interval and probability.low > 0.5:
        settled = "guided is better"
    elif probability.has_interval and probability.high < 0.5:
        settled = f"{other} is better"
    over = f"over {num_pairs} pairs of task and agent" if num_pairs > 1 else "on one task"
    return f"guided against {other}: probability of improvement {show_interval(probability, '.2f')} {over}: {settled}."


def _differences(found: tasks.Summary) -> str:
    """Differences of guided data's mean scores, paired by seed."""
    header, lines = ["dataset, agent", *(f"guided - {arm}" for arm in cells.ARMS if arm != cells.GUIDED)], []
    for dataset, of_arm in found.last.items():
        if cells.GUIDED not in of_arm:
            continue
        texts = []
        for arm in cells.ARMS:
            if arm != cells.GUIDED:
                texts.append(show(_paired(of_arm[cells.GUIDED], of_arm[arm]), "+.1f") if arm in of_arm else "–")
        lines.append([dataset, *texts])
    return "Differences, paired by seed:\n\n" + table(header, lines)


def _paired(a: tasks.Cell, b: tasks.Cell) -> stats.Estimate:
    return stats.mean([a.seeds[seed] - b.seeds[seed] for seed in sorted(a.seeds.keys() & b.seeds.keys())])


def _draw(path: pathlib.Path, found: tasks.Summary, rows: Sequence[Row]) -> None:
    """A panel for each task and agent, and the profiles over all of them."""
    num_columns = 4
    num_rows = -(-(len(found.last) + 1) // num_columns)
    fig = figure.Figure(figsize=(3.6 * num_columns, 3.0 * num_rows), layout="constrained")
    panels = fig.subplots(num_rows, num_columns, squeeze=False).ravel()
    for axis, (dataset, of_arm) in zip(panels, found.last.items(), strict=False):
        _strip(axis, dataset, of_arm)
    whole = tasks.complete(rows)
    thresholds, profiles = tasks.profiles(whole)
    task_plots.profiles(panels[len(found.last)], thresholds, profiles, COLOURS, LABEL)
    panels[len(found.last)].set_title("all of them", fontsize=9)
    for axis in itertools.islice(panels, len(found.last) + 1, None):
        axis.set_visible(False)
    fig.savefig(path, dpi=DPI)


def _strip(axis: axes.Axes, dataset: str, of_arm: Mapping[str, tasks.Cell]) -> None:
    """Every seed's score as a dot, beside its kind's mean and interval."""
    for place, arm in enumerate(cells.ARMS):
        if arm not in of_arm:
            continue
        cell = of_arm[arm]
        scores = list(cell.seeds.values())
        axis.plot(
            place + np.linspace(-0.25, 0.05, len(scores)), scores, "o", color=COLOURS[arm], markersize=4, alpha=0.6
        )
        low, high = cell.mean.low, cell.mean.high
        if cell.mean.has_interval:
            axis.vlines(place + 0.22, low, high, color=COLOURS[arm], linewidth=2.0)
        axis.plot([place + 0.22], [cell.mean.mean], "D", color=COLOURS[arm], markersize=5)
    axis.set_xticks(range(len(cells.ARMS)), cells.ARMS, fontsize=8)
    axis.set_title(dataset, fontsize=9)
    axis.set_ylabel(LABEL, fontsize=8)
    axis.grid(axis="y", alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
