"""Tables and figures of the study from its measurements.

    python -m experiments.guidance_study.report --workdir=runs/guidance_study --out=experiments/guidance_study/results

Reads whatever `run` has measured so far.
"""

import json
import pathlib
from collections.abc import Callable, Iterable

from absl import flags

from experiments.guidance_study import figures, frontier, grid, setting, tables
from pgd_jax.cli import entry
from pgd_jax.core.errors import UserError
from pgd_jax.report import stats
from pgd_jax.runs import metrics


def load(workdir: pathlib.Path) -> dict[tuple[str, str], list[frontier.Point]]:
    """Points by (task, agent). Raises UserError where nothing is measured."""
    found: dict[tuple[str, str], list[frontier.Point]] = {}
    for task in setting.tasks(""):
        for agent in setting.AGENTS:
            path = workdir / task.name / f"{agent}.jsonl"
            if path.exists():
                found[task.name, agent] = [frontier.point(row) for row in metrics.read(path)]
    if not found:
        raise UserError(f"--workdir={workdir}: nothing is measured there; run experiments.guidance_study.run first")
    return found


def write(workdir: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
    """Writes <out>/results.md, a figure a task and points.jsonl; returns the first."""
    out.mkdir(parents=True, exist_ok=True)
    every = load(workdir)
    points, fresh = (of_noise(every, noise) for noise in (setting.NOISE, setting.FRESH_NOISE))
    for task in dict.fromkeys(task for task, _ in points):
        figures.draw(
            out / f"{task}.png", task, {agent: found for (name, agent), found in points.items() if name == task}
        )
    sections = [tables.matches(points, "The paper's rule against fewer calls")]
    sections += [tables.matches(fresh, "The same on noise that nothing was chosen on", [grid.CHOSEN])]
    sections += [tables.steps(points), tables.everything(points)]
    page = out / "results.md"
    page.write_text("\n".join(["# Measurements of the guidance study", *sections]), encoding="utf-8")
    (out / "points.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in _compact(every)), encoding="utf-8")
    return page


def of_noise(points: dict[tuple[str, str], list[frontier.Point]], noise: int) -> tables.Points:
    return {policies: [point for point in each if point.noise == noise] for policies, each in points.items()}


def _compact(points: dict[tuple[str, str], list[frontier.Point]]) -> Iterable[dict]:
    """Every point with its seeds' values of what the tables show."""
    for found in points.values():
        for point in found:
            values = {name: [float(f"{x:.5g}") for x in point.measures[name]] for name in tables.MEASURES}
            yield stats.as_json(
                {"task": point.task, "agent": point.agent, "noise": point.noise}
                | {"coefficient": point.coefficient, "calls": point.calls}
                | {"cell": frontier.changed(point.cell), "measures": values}
            )


def _prepare() -> Callable[[], None]:
    entry.define_path("workdir", "folder of models and measurements", "runs/guidance_study")
    entry.define_path("out", "folder of tables and figures", "experiments/guidance_study/results")
    return lambda: print(write(pathlib.Path(flags.FLAGS.workdir), pathlib.Path(flags.FLAGS.out)))


if __name__ == "__main__":
    entry.run(_prepare, __doc__, keeps_nothing=True)
