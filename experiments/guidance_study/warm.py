"""Warm starts against fresh generation: windows made for another policy, renewed for this one.

    python -m experiments.guidance_study.warm --workdir=runs/guidance_study --hopper=path/to/hopper.hdf5

The hard case: the windows of the phase before were guided by the target policy of another seed, not by one 10,000
updates older. Each renewal starts from the one before. Needs what `run` trains; writes <out>/warm.md.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from experiments.guidance_study import measure, setting, tables
from experiments.guidance_study.cells import Cell
from pgd_jax.cli import entry
from pgd_jax.generators import diffusion
from pgd_jax.report import stats

COEFFICIENT = 10.0
NUM_RENEWALS = 3
SIGMAS = (0.3, 1.0, 3.0)
STEPS = (4, 8)
SHOWN = {
    "log_likelihood": "log-likelihood",
    "dynamics_error": "dynamics error",
    "mmd": "MMD²",
    "diversity": "diversity",
}


def lines(models: measure.Models, sizes: setting.Sizes, name: str) -> Iterator[str]:
    """Rows of a table: fresh, before (for the other policy), and after each renewal."""
    plan, hyper = measure.plan_of(Cell(), models, sizes), jax.tree.map(jnp.float32, Cell().hyper)
    others = jax.tree.map(lambda leaf: jnp.roll(leaf, 1, axis=0), models.agents)

    def generate(plan: diffusion.Plan, seed: int, agents: Any, hyper: diffusion.Hyper, start: Any = None) -> jax.Array:
        keys, strength = jax.random.split(jax.random.key(seed), setting.NUM_SEEDS), jnp.float32(COEFFICIENT)
        return measure.generate(
            models.agent, plan, keys, agents, strength, hyper, models.model, models.normalizer, start
        )

    before = generate(plan, setting.NOISE, others, hyper)
    yield _line(models, name, "fresh", str(Cell().calls), generate(plan, setting.NOISE, models.agents, hyper))
    yield _line(models, name, "those of the other policy", "0", before)
    for num_steps in STEPS:
        warm = plan._replace(sampling=dataclasses.replace(plan.sampling, warm_steps=num_steps))
        for sigma in SIGMAS:
            windows, noisy = before, hyper.replace(warm_sigma=jnp.float32(sigma))
            for renewal in range(1, NUM_RENEWALS + 1):
                windows = generate(warm, 100 + renewal, models.agents, noisy, windows)
                if renewal in (1, NUM_RENEWALS):
                    label = f"renewed {renewal} x from sigma {sigma:g}"
                    yield _line(models, name, label, f"{renewal} x {num_steps}", windows)


def _line(models: measure.Models, name: str, label: str, calls: str, windows: jax.Array) -> str:
    found = jax.device_get(models.measure(windows, models.agents, models.normalizer, models.reference))
    cells = [name, label, calls, *(tables.interval(stats.mean(np.asarray(found[key]))) for key in SHOWN)]
    line = f"| {' | '.join(cells)} |"
    print(line, flush=True)
    return line


def _prepare() -> Callable[[], None]:
    flags.DEFINE_string("hopper", "hopper-medium-replay-v2", "file or name of the hopper dataset")
    entry.define_path("workdir", "folder of the study's models", "runs/guidance_study")
    entry.define_path("out", "folder of the table", "experiments/guidance_study/results")
    flags.DEFINE_list("tasks", [], "names of tasks; none: all")
    return lambda: _main(flags.FLAGS)


def _main(options: flags.FlagValues) -> None:
    page = ["# Warm starts", "", f"λ = {COEFFICIENT:g}, {setting.NUM_SEEDS} policies.", ""]
    page += [f"| policies | windows | calls | {' | '.join(SHOWN.values())} |", "|---|---|---|---|---|---|---|"]
    for task in setting.tasks(options.hopper):
        for agent in setting.AGENTS if not options.tasks or task.name in options.tasks else ():
            sizes = setting.sizes(task)
            page += lines(
                measure.load(pathlib.Path(options.workdir), task, agent, sizes), sizes, f"{task.name}, {agent}"
            )
    path = pathlib.Path(options.out) / "warm.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(page) + "\n", encoding="utf-8")
    print(path)


if __name__ == "__main__":
    entry.run(_prepare, __doc__, keeps_nothing=True)
