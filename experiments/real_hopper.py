"""TD3+BC and IQL on real hopper data alone, against the policy that recorded them.

    python -m experiments.real_hopper --dataset=path/to/hopper_medium_replay-v2.hdf5 --workdir=runs/real_hopper

Trains both by the preset `real_hopper`, 100,000 updates a seed, judged in the graph and by Gymnasium; writes a report
of each, and prints the last returns beside the mean return of the dataset's episodes. Run it again to resume. Needs the
extra `mujoco`.
"""

import dataclasses
import pathlib

import numpy as np
from absl import flags

from pgd_jax.cli import entry
from pgd_jax.core import presets

AGENTS = ("td3_bc", "iql")


def run() -> None:
    entry.run(_prepare, __doc__)


def _prepare():
    dataset = flags.DEFINE_string("dataset", "hopper-medium-replay-v2", "file or name of the real data")
    workdir = entry.define_path("workdir", "folder of the runs and reports", "runs/real_hopper")
    return lambda: compare(dataset.value, pathlib.Path(workdir.value))


def compare(dataset: str, workdir: pathlib.Path) -> int:
    """Both agents in order; stops where one is interrupted. Returns the exit status."""
    from pgd_jax.report import writer  # after the flags: --help and mistakes need not wait for JAX
    from pgd_jax.runs import agent as agent_runs, metrics

    behaviour = behaviour_return(dataset)
    for agent in AGENTS:
        config = dataclasses.replace(presets.config("real_hopper", "agent"), dataset=dataset, agent=agent)
        if not agent_runs.fit(config, workdir / agent):
            return entry.STOPPED
    for agent in AGENTS:
        page = writer.write(workdir / f"report_{agent}", [workdir / agent])
        rows = metrics.read(workdir / agent / "metrics.jsonl")[-config.num_seeds :]
        returns = "; ".join(
            f"{where} {np.mean([row[key] for row in rows]):.0f} {[round(row[key]) for row in rows]}"
            for where, key in (("in-graph", "return_mean"), ("host", "host_return_mean"))
        )
        print(f"{agent}: {returns}; behaviour {behaviour:.0f}; {page}")
    return 0


def behaviour_return(dataset: str) -> float:
    """Mean undiscounted return of the recorded episodes."""
    from pgd_jax.data import episodes, loading

    raw = loading.load(dataset)
    return float(np.add.reduceat(raw.rewards.astype(np.float64), episodes.segments(raw).start).mean())


if __name__ == "__main__":
    run()
