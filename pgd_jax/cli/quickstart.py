"""The whole method in one command: data, a denoiser, agents on real, unguided and guided data, a report.

    pgd-quickstart --workdir=runs/quickstart                            what `make run` does

Generates Pendulum data, trains a denoiser on it, trains TD3+BC on real, unguided and guided data (the
last two as lanes of one compiled program) and writes a report. Run it again to resume; finished parts are not done
again.
"""

import dataclasses
import pathlib
import time

from pgd_jax.cli import entry
from pgd_jax.core import logging, presets


def run() -> None:
    entry.run(_prepare, __doc__)


def _prepare():
    workdir = entry.define_path("workdir", "folder of the quickstart's runs and report", "runs/quickstart")
    return lambda: quickstart(pathlib.Path(workdir.value))


def quickstart(workdir: pathlib.Path) -> int:
    """Every part in order; stops (and says how to go on) where one is interrupted. Returns the exit status."""
    from pgd_jax.report import writer  # after the flags: --help and mistakes need not wait for JAX
    from pgd_jax.runs import agent as agent_runs, denoiser

    began = time.perf_counter()
    synthetic = dataclasses.replace(presets.config("quickstart", "agent"), denoiser=str(workdir / "denoiser"))
    real = dataclasses.replace(synthetic, synthetic_per_batch=0, hyper={})
    parts = {
        "denoiser": lambda: denoiser.fit(presets.config("quickstart", "denoiser"), workdir / "denoiser"),
        "real": lambda: agent_runs.fit(real, workdir / "real"),
        "synthetic": lambda: agent_runs.fit(synthetic, workdir / "synthetic"),
    }
    for number, (name, part) in enumerate(parts.items(), start=1):
        logging.info(f"[{number}/4] {name}")
        if not part():
            return entry.STOPPED
    logging.info("[4/4] report")
    page = writer.write(workdir / "report", [workdir / "real", workdir / "synthetic"])
    print(page.with_suffix(".html"))
    print(f"{page} ({time.perf_counter() - began:.0f} s in all)")
    return 0


if __name__ == "__main__":
    run()
