"""Which network and which training give the truest windows for a fixed budget of training FLOPs?

    python -m experiments.denoiser_study --dataset=path/to/hopper_medium_replay-v2.hdf5

Trains every recipe (recipes.py) to the same number of FLOPs, samples unguided windows by the default sampler, and adds
their measures to <out>/points.jsonl; then writes <out>/results.md. Run it again to go on. The dataset's task must be in
the graph (hopper: extra `mujoco`). Four to ten minutes a recipe on one CPU core; --recipes picks some by their names.
"""

import json
import pathlib
from collections.abc import Callable
from typing import Any

from absl import flags

from pgd_jax.cli import entry


def run() -> None:
    entry.run(_prepare, __doc__)


def _prepare() -> Callable[[], int]:
    flags.DEFINE_string("dataset", "hopper-medium-replay-v2", "file or name of the dataset")
    flags.DEFINE_list("seeds", ["0"], "seeds of weights and batches")
    flags.DEFINE_multi_string("recipes", [], "names of recipes, one a flag; none: all")
    flags.DEFINE_boolean("report_only", False, "write the table of what is there, and train nothing")
    entry.define_path("out", "folder of the results", "experiments/denoiser_study/results")
    return lambda: study(flags.FLAGS)


def study(options: flags.FlagValues) -> int:
    """Returns the exit status."""
    from experiments.denoiser_study import measure, recipes, report  # after the flags: --help need not wait for JAX
    from pgd_jax.core import places, signals
    from pgd_jax.core.errors import UserError
    from pgd_jax.runs import metrics

    out = pathlib.Path(options.out)
    path = out / "points.jsonl"
    points: list[dict[str, Any]] = metrics.read(path) if path.exists() else []
    known = {recipe.name: recipe for recipe in recipes.RECIPES}
    if unknown := [name for name in options.recipes if name not in known]:
        raise UserError(f'unknown recipe "{unknown[0]}" (known: {"; ".join(known)})')
    for seed in [] if options.report_only else map(int, options.seeds):
        for name in options.recipes or known:
            if any((point["recipe"], point["seed"]) == (name, seed) for point in points):
                continue
            signals.check()
            points.append(measure.point(known[name], options.dataset, seed))
            out.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(points[-1]) + "\n")
            print(report.line(points[-1]), flush=True)
    if points:
        places.replace_text(out / "results.md", report.page(points))
    return 0


if __name__ == "__main__":
    run()
