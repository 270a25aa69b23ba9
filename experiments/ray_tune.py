"""Searches over static settings with Ray Tune. A trial is one run of pgd-train-agent; ASHA ends the worst trials early.

    python -m experiments.ray_tune --workdir=runs/tune --num_phases=100 --cpus=1 \\\\
        --grid="agent=td3_bc,iql; hidden_dim=64,256" \\\\
        -- --config.denoiser=runs/umaze --config.num_seeds=4 --config.hyper.generator.guidance_coefficient=0,3,10

Floats and seeds need no trials: they are lanes of a run, in one compiled program. The trials are the static settings.
After each phase a trial reports its score: the best group of lanes with the same floats, as a mean over seeds.

Run the same command again to resume. Tune continues the trials that are neither finished nor ended by ASHA, and each
run continues from its last checkpoint. The folder is also a sweep: `pgd-launch collect --workdir=runs/tune` writes the
report. Needs the extra `ray`. Uses the cluster of RAY_ADDRESS, whose nodes must see the workdir, or starts one here.
"""

import collections
import functools
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from absl import flags

from pgd_jax.cli import entry
from pgd_jax.core.errors import UserError
from pgd_jax.launch import attempts, job_list, local, ray_cluster, ray_tasks, sweep
from pgd_jax.runs import metrics

STORE = "tune"  # Tune's own folder in the workdir
POLL_S = 0.5


def run() -> None:
    entry.run(_prepare, __doc__, compiles=False)  # the trials do


def _prepare() -> Callable[[], int]:
    split = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    base = sys.argv[split + 1 :]
    del sys.argv[split:]
    entry.define_path("workdir", "folder of the runs, and of what Tune keeps")
    flags.DEFINE_string("grid", "", 'static settings, a trial a combination: "agent=td3_bc,iql; hidden_dim=64,256"')
    flags.DEFINE_integer("num_phases", 100, "phases of a trial that ASHA does not end", lower_bound=1)
    flags.DEFINE_integer("grace_phases", 10, "phases of every trial before ASHA may end it", lower_bound=1)
    flags.DEFINE_integer("reduction", 3, "one of so many trials continues at each of ASHA's rungs", lower_bound=2)
    flags.DEFINE_float("cpus", 1.0, "CPUs of a trial, as Ray counts them")
    flags.DEFINE_float("gpus", 0.0, "GPUs of a trial, as Ray counts them")
    return lambda: search(flags.FLAGS, base)


def search(options: flags.FlagValues, base: Sequence[str]) -> int:
    """Runs or continues all trials, and prints their scores. Returns the exit status."""
    ray, workdir = ray_cluster.library(), pathlib.Path(options.workdir).absolute()
    grid = sweep.parse_grid(options.grid)
    shared = [*base, f"--config.num_phases={options.num_phases}"]
    job_list.freeze(sweep.jobs("train_agent", shared, grid, workdir), workdir)
    given = {"CPU": options.cpus, "GPU": options.gpus}
    with ray_cluster.any_cluster(ray):
        signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))  # at which Tune saves, and ends
        results = _tuner(workdir, grid, functools.partial(trial, workdir, shared, given), given, options).fit()
    judged = [result for result in results if result.metrics and "score" in result.metrics]
    for result in sorted(judged, key=lambda result: result.metrics["score"], reverse=True):
        setting = ",".join(f"{name}={value}" for name, value in result.config.items())
        print(f"{setting}: score {result.metrics['score']:.4g} after {result.metrics['phase']} phases")
    if errors := results.errors:
        raise UserError(f"{len(errors)} trials failed, the first with: {ray_tasks.last_line(errors[0])}")
    return entry.status(len(judged) == len(results) and all(result.metrics["done"] for result in judged))


def _tuner(
    workdir: pathlib.Path, grid: sweep.Grid, trainable: Callable, given: dict[str, float], options: flags.FlagValues
) -> Any:
    """A new search, or the search that was interrupted."""
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler

    store = workdir / STORE
    trainable = tune.with_resources(trainable, given)
    space = {name: tune.grid_search(list(values)) for name, values in grid.items()}
    if tune.Tuner.can_restore(str(store)):
        return tune.Tuner.restore(
            str(store), trainable, param_space=space, resume_unfinished=True, restart_errored=True
        )
    scheduler = ASHAScheduler(
        time_attr="phase", max_t=options.num_phases, reduction_factor=options.reduction,
        grace_period=min(options.grace_phases, options.num_phases),
    )  # fmt: skip
    return tune.Tuner(
        trainable,
        param_space=space,
        tune_config=tune.TuneConfig(metric="score", mode="max", scheduler=scheduler),
        run_config=tune.RunConfig(name=STORE, storage_path=str(workdir)),
    )


def trial(workdir: pathlib.Path, shared: Sequence[str], given: dict[str, float], config: dict[str, str]) -> None:
    """One run, in a child process in which JAX starts. Reports each phase, also those of earlier attempts.

    When ASHA ends the trial, this process ends, and the kernel kills the run with it. Its checkpoints stay.
    """
    from ray import tune

    (job,) = sweep.jobs("train_agent", shared, {name: [value] for name, value in config.items()}, workdir)
    with open(job.log, "ab") as log:
        environment = {**os.environ, **ray_tasks.environment(given)}
        process = subprocess.Popen(
            [sys.executable, *ray_tasks.leashed(job).argv], stdout=log, stderr=subprocess.STDOUT, env=environment
        )
    attempt = attempts.begin(job.state, process.pid)
    try:
        for phase, score in phases(process, job.run_dir / "metrics.jsonl"):
            tune.report({"phase": phase, "score": score})
    finally:  # ASHA ends a trial by an exception in report
        status = entry.STOPPED if process.poll() is None else process.returncode
        said = local.last_line(job.log) if status else ""
        attempts.end(job.state, attempt, status, said)
    if status:
        raise RuntimeError(f"{job.name}: {said}")


def phases(process: subprocess.Popen, path: pathlib.Path) -> Iterator[tuple[int, float]]:
    """Yields (phases done, score) for each phase in the metrics file, until the process has ended."""
    told = 0
    while True:
        is_over = process.poll() is not None
        found = scores(metrics.read(path)) if path.exists() else []
        for phase, score in found if is_over else found[:-1]:  # the last phase may miss rows yet
            if phase > told:
                yield phase, score
                told = phase
        if is_over:
            return
        time.sleep(POLL_S)


def scores(rows: Sequence[metrics.Row]) -> list[tuple[int, float]]:
    """(phases done, mean over seeds of the best group) for each phase that has a score."""
    found: dict[int, dict[str, list[float]]] = collections.defaultdict(lambda: collections.defaultdict(list))
    key = next((name for name in metrics.SCORES if any(name in row for row in rows)), None)
    for row in rows:
        if key in row:
            found[row["phase"] + 1][row["group"]].append(row[key])
    return [(phase, max(map(statistics.fmean, groups.values()))) for phase, groups in sorted(found.items())]


if __name__ == "__main__":
    run()
