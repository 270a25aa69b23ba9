"""How few denoiser calls are enough, and which rule of guidance gives the most on-policy data at the least error?

    python -m experiments.guidance_study.run --hopper=path/to/hopper_medium_replay-v2.hdf5 --workdir=runs/guidance_study

Trains a denoiser, a behaviour policy and target policies (TD3+BC and IQL, five seeds each) for maze2d-umaze and hopper,
measures every point of the grid for every target policy, and writes tables and figures to --out. Run it again to go on:
what is measured is kept in <workdir>/<task>/<agent>.jsonl. Needs the extra `mujoco`. About four hours on two CPU cores.
"""

import dataclasses
import json
import pathlib
from collections.abc import Callable
from typing import Any

from absl import flags

from experiments.guidance_study import grid, measure, prepare, setting
from experiments.guidance_study.cells import Cell
from pgd_jax.cli import entry
from pgd_jax.core import signals
from pgd_jax.runs import metrics


def run() -> None:
    entry.run(_prepare, __doc__)


def _prepare() -> Callable[[], int]:
    flags.DEFINE_string("hopper", "hopper-medium-replay-v2", "file or name of the hopper dataset")
    entry.define_path("workdir", "folder of models and measurements", "runs/guidance_study")
    flags.DEFINE_list("tasks", [], "names of tasks; none: all")
    flags.DEFINE_list("agents", list(setting.AGENTS), "kinds of target policy")
    flags.DEFINE_list("groups", [], "names of groups of the grid; none: all")
    flags.DEFINE_boolean("train", True, "train what is missing; off where another process does")
    return lambda: study(flags.FLAGS)


def study(options: flags.FlagValues) -> int:
    """Returns the exit status."""
    workdir = pathlib.Path(options.workdir)
    tasks = [task for task in setting.tasks(options.hopper) if not options.tasks or task.name in options.tasks]
    for task in tasks:
        if options.train and not prepare.prepare(workdir, task):
            return entry.STOPPED
        for agent in options.agents:
            measure_all(workdir, task, agent, options.groups)
    return 0


def measure_all(workdir: pathlib.Path, task: setting.Task, agent: str, wanted: list[str]) -> None:
    """Every point of the grid that is not measured yet, one line of JSON each."""
    path, sizes = workdir / task.name / f"{agent}.jsonl", setting.sizes(task)
    done = {point_id(row) for row in read(path)}
    models = measure.load(workdir, task, agent, sizes)
    for group in grid.groups():
        for cell in group.cells if not wanted or group.name in wanted else []:
            known = {"cell": dataclasses.asdict(cell), "noise": group.noise}
            missing = [c for c in group.coefficients if point_id(known | {"coefficient": c}) not in done]
            signals.check()
            for coefficient, measures, seconds in measure.points(cell, missing, group.noise, models, sizes):
                row = known | {"coefficient": coefficient, "calls": cell.calls, "seconds": seconds}
                row |= {"task": task.name, "agent": agent, "measures": {k: v.tolist() for k, v in measures.items()}}
                with path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
                done.add(point_id(row))
                print(line(row), flush=True)


def read(path: pathlib.Path) -> list[dict[str, Any]]:
    return metrics.read(path) if path.exists() else []


def point_id(row: dict[str, Any]) -> str:
    return repr((Cell(**row["cell"]), float(row["coefficient"]), row["noise"]))


def line(row: dict[str, Any]) -> str:
    """A point in a line: seeds' means."""
    default = dataclasses.asdict(Cell())
    cell = " ".join(
        f"{k}={v}" for k, v in row["cell"].items() if v != default[k] or k in ("rule", "sampler", "num_steps")
    )
    found = {k: sum(v) / len(v) for k, v in row["measures"].items() if not isinstance(v[0], list)}
    shown = (
        "log_likelihood",
        "dynamics_error",
        "dynamics_error_median",
        "reward_error",
        "wasserstein",
        "mmd",
        "diversity",
        "impossible_share",
    )
    place = f"{row['task']} {row['agent']} {cell} lambda={row['coefficient']:g} calls={row['calls']}"
    return f"{place} {row['seconds']:.1f}s: " + " ".join(f"{k}={found[k]:.4g}" for k in shown if k in found)


if __name__ == "__main__":
    run()
