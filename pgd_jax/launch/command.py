"""Runs a sweep's jobs on this machine or on a cluster. Run the same command again to continue unfinished jobs.

    pgd-launch --command=train_agent --workdir=runs/study --num_parallel=1 \\\\
        --grid="agent=td3_bc,iql; sampling.num_steps=8,16" -- --config.denoiser=runs/umaze --config.num_seeds=8
    pgd-launch --backend=slurm --gpus=1 --time=4:00:00 --workdir=runs/study ... -- ...

    pgd-launch status  --workdir=runs/study     a line for each job: state, phases, last score, log
    pgd-launch cancel  --workdir=runs/study     every job stops after the chunk in progress
    pgd-launch collect --workdir=runs/study     results.csv and a report over all jobs, in runs/study/report

All flags after -- go to every job. A job's run directory is <workdir>/<job>, its output is in <workdir>/<job>.log. The
list of jobs is <workdir>/jobs.jsonl. A folder holds one sweep; another sweep in it is refused.

On this machine (--backend=local, or ray if no cluster runs) the command runs until all jobs have ended. A job that
fails does not stop the others; the exit status is then 1. It is 75 if a signal stopped the sweep or a job. On a cluster
it is 0 once jobs are queued.
"""

import dataclasses
import functools
import pathlib
import sys
from collections.abc import Callable, Sequence

from absl import flags

from pgd_jax.cli import entry
from pgd_jax.core.errors import UserError
from pgd_jax.core.registry import nearest
from pgd_jax.launch import backend as backends, front, job_list, progress, sweep
from pgd_jax.launch.options import Options, Resources

ACTIONS = SUBMIT, STATUS, CANCEL, COLLECT = ("submit", "status", "cancel", "collect")
OF_SUBMIT = ("command", "grid", "backend")
DEFINE: dict[type, Callable] = {
    float: flags.DEFINE_float,
    int: flags.DEFINE_integer,
    bool: flags.DEFINE_boolean,
    str: flags.DEFINE_string,
}


def run() -> None:
    entry.run(_prepare, __doc__, compiles=False)  # the jobs do


def _prepare() -> Callable[[], int]:
    split = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    base = sys.argv[split + 1 :]
    del sys.argv[split:]  # absl would take them for arguments of this command
    action = _take_action(sys.argv)
    flags.DEFINE_string("command", "train_agent", f"what a job runs: {', '.join(sweep.COMMANDS)}")
    entry.define_path("workdir", "folder for the run directories and logs")
    entry.define_optional_path("out", "folder of the report that collect writes; default: report in the workdir")
    flags.DEFINE_string("grid", "", 'static settings, a job a combination: "agent=td3_bc,iql; hidden_dim=64,256"')
    flags.DEFINE_string("backend", "local", f"where the jobs run: {', '.join(backends.MODULES)}")
    for field in _fields():
        DEFINE[type(field.default)](field.name, field.default, field.metadata["help"])
    return functools.partial(_main, action, flags.FLAGS, base)


def _take_action(argv: list[str]) -> str:
    """Takes the first word out of argv if it is an action. absl refuses words that are not."""
    word = argv[1] if len(argv) > 1 else ""
    if word in ACTIONS:
        return argv.pop(1)
    if not word.startswith("-") and (near := nearest(word, ACTIONS)):
        raise UserError(f'unknown action "{word}"{near} (known: {", ".join(ACTIONS)})')
    return SUBMIT


def _fields() -> list[dataclasses.Field]:
    return [*dataclasses.fields(Resources), *dataclasses.fields(Options)]


def _main(action: str, options: flags.FlagValues, base: Sequence[str]) -> int:
    own = [field.name for field in _fields()]
    if action != SUBMIT:
        entry.check_not_given([*OF_SUBMIT, *own], f"with {action}, which reads the sweep's folder")
        if base:
            raise UserError(f"{base[0]} after the -- means nothing with {action}, which reads the sweep's folder")
    if action != COLLECT:
        entry.check_not_given(["out"], f"with {action}")
    if action == STATUS:
        print(progress.table(front.status(options.workdir)))
    elif action == CANCEL:
        print(front.cancel(options.workdir))
    elif action == COLLECT:
        page = front.collect(options.workdir, options.out)
        print(page, page.with_suffix(".html"), sep="\n")
    else:
        return _submit(options, base, {name: options[name].value for name in own if options[name].present})
    return 0


def _submit(options: flags.FlagValues, base: Sequence[str], given: dict) -> int:
    say = functools.partial(print, flush=True)
    what = {"command": options.command, "grid": options.grid, "flags": base, "backend": options.backend}
    unfinished = front.submit(options.workdir, **what, say=say, **given)
    if unfinished is None or options.dry_run:
        return 0
    failed, stopped = unfinished
    num_jobs = len(job_list.load(pathlib.Path(options.workdir)))
    counts = {"finished": num_jobs - len(failed) - len(stopped), "failed": len(failed), "stopped": len(stopped)}
    rest = ", ".join(f"{number} {name}" for name, number in list(counts.items())[1:] if number)
    again = "; the same command goes on" if stopped else ""
    say(f"{counts['finished']} of {num_jobs} jobs finished{f', {rest}' if rest else ''}{again}")
    if failed:
        return 1
    return entry.STOPPED if stopped else 0


if __name__ == "__main__":
    run()
