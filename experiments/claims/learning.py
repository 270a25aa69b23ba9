"""Claim 1: do agents learn more from guided data than from unguided data, real data, and rollouts of a world model?

    D4RL_DATASET_DIR=path/to/files python -m experiments.claims.learning --workdir=runs/claims

Every cell (task, agent, kind of data) is one run with eight seeds as lanes, judged by its last checkpoint. Cells are
done in an order that gives a whole answer early; each adds its scores to <out>/learning.csv, and the tables and figures
of <out>/learning.md are written anew. Run it again to go on: cells in learning.csv are done, a run that was stopped
resumes. `experiments/claims/tasks.py` says where the data come from. Needs the extra `mujoco`.
"""

import pathlib
from collections.abc import Callable
from typing import Any

from absl import flags

from pgd_jax.cli import entry


def run() -> None:
    entry.run(_prepare, __doc__)


def _prepare() -> Callable[[], int]:
    from experiments.claims import cells

    entry.define_path("workdir", "folder of models and runs", "runs/claims")
    entry.define_path("out", "folder of the results", "experiments/claims/results")
    flags.DEFINE_list("tasks", [], "names of tasks; none: all")
    flags.DEFINE_list("agents", list(cells.AGENTS), "agents")
    flags.DEFINE_list("arms", list(cells.ARMS), "kinds of training data")
    flags.DEFINE_boolean("report_only", False, "write tables and figures of what is there, and train nothing")
    return lambda: study(flags.FLAGS)


def study(options: flags.FlagValues) -> int:
    """Returns the exit status."""
    from experiments.claims import cells, learning_report  # after the flags: --help need not wait for JAX
    from pgd_jax.core import signals
    from pgd_jax.report import exchange

    workdir, out = pathlib.Path(options.workdir), pathlib.Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    path = out / "learning.csv"
    rows = exchange.read_results(path) if path.exists() else []
    for cell in [] if options.report_only else cells.ordered(options.tasks, options.agents, options.arms):
        if any(row["dataset"] == cell.task.name and row["method"] == cell.method for row in rows):
            continue
        signals.check()
        found = train(workdir, cell)
        if not found:
            return entry.STOPPED
        rows += found
        exchange.write_results(path, rows)
        learning_report.write(out, rows)
    learning_report.write(out, rows)
    return 0


def train(workdir: pathlib.Path, cell: Any) -> list[dict[str, Any]]:
    """Trains the cell and the model that it needs; returns its rows of results.csv, [] where a signal stopped it."""
    from experiments.claims import cells
    from pgd_jax.report import results, summary
    from pgd_jax.runs import agent as agent_runs

    path = cells.path(workdir, cell)
    if not _has_model(workdir, cell) or not agent_runs.fit(cells.config(workdir, cell), path):
        return []
    read = results.read(path)
    groups = results.groups([read])
    key = summary.score_key(groups)
    assert key is not None
    of_cell = {"method": cell.method, "measure": key.removeprefix("host_")}
    return [row | of_cell for row in results.tidy([read], groups, cell.task.name, key)]


def _has_model(workdir: pathlib.Path, cell: Any) -> bool:
    """Trains what is missing of the model that the cell needs; False where a signal stopped it."""
    from experiments.claims import cells, tasks

    if cell.arm == cells.REAL:
        return True
    train_model = tasks.train_world_model if cell.arm == cells.ENSEMBLE else tasks.train_denoiser
    return train_model(workdir, cell.task, cells.MODEL_SEED)


if __name__ == "__main__":
    run()
