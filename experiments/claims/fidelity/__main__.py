"""Claims 2 and 3: are guided windows more on-policy, and truer than a world model's rollouts that are as likely?

    python -m experiments.claims.fidelity --workdir=runs/claims --out=experiments/claims/results

For each task (experiments/claims/tasks.py) it trains what is missing: denoisers and world models, one of each a seed,
and three target policies each of TD3+BC and IQL. It measures windows at every strength of the paper's rule and of our
default, and rollouts of the world model at every noise of actions, and writes <out>/fidelity.md with a figure a task.

The first seed of the models goes over all tasks, then the second, and so on: a study that is cut off has an answer.
Each point is a line of <out>/fidelity/points.jsonl as it comes, and the same command goes on. --report_only writes the
page of what is there.

Datasets are found in $D4RL_DATASET_DIR; MuJoCo's tasks need the extra `mujoco`. A task takes about an hour of one core,
half of it for the 767 denoiser calls of the paper's windows, and six tasks six hours; not counted are the denoisers and
world models, which the other study of the claims shares. Two processes with other --tasks share two cores.
"""

import pathlib
from collections.abc import Callable, Sequence

from absl import flags

from experiments.claims import tasks
from pgd_jax.cli import entry
from pgd_jax.core.errors import UserError
from pgd_jax.core.registry import nearest


def run() -> None:
    entry.run(_prepare, __doc__)


def _prepare() -> Callable[[], int]:
    entry.define_path("workdir", "folder of the models of both studies of the claims", "runs/claims")
    entry.define_path("out", "folder of points, page and figures", "experiments/claims/results")
    flags.DEFINE_list("tasks", [], "names of tasks; none: all")
    flags.DEFINE_integer("num_models", 3, "seeds of the denoiser and the world model", lower_bound=1)
    flags.DEFINE_boolean("report_only", False, "write the page of what is measured, and measure nothing")
    return lambda: main(flags.FLAGS)


def main(options: flags.FlagValues) -> int:
    """Returns the exit status."""
    from experiments.claims.fidelity import page, study  # after the flags: --help and mistakes need not wait for JAX
    from experiments.claims.fidelity.setting import Setting

    chosen, workdir, out = choose(options.tasks), pathlib.Path(options.workdir), pathlib.Path(options.out)
    if not options.report_only and not study.run(Setting(), chosen, workdir, out, options.num_models):
        return entry.STOPPED
    print(page.write(out))
    return 0


def choose(names: Sequence[str]) -> list[tasks.Task]:
    """Raises UserError for a name that no task has."""
    known = {task.name: task for task in tasks.TASKS}
    for name in names:
        if name not in known:
            raise UserError(f'--tasks: unknown task "{name}"{nearest(name, known)} (known: {", ".join(known)})')
    return [known[name] for name in names] or list(tasks.TASKS)


if __name__ == "__main__":
    run()
