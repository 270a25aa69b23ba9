"""How long a start takes: the import, `--help`, and the quickstart's program cold and with its compilation kept.

    python -m experiments.bench.start_up

Each in a process of its own, beside Python's own start, which is not taken off. Compiled programs go to a temporary
folder: nothing that was kept before helps.
"""

import functools
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import NamedTuple

from absl import flags

from experiments.bench import apart
from pgd_jax.cli import entry

TASK, NUM_ROWS = "pendulum", 100_000  # what the quickstart's agents learn in, and from
COMMANDS = {
    "Python alone": ["-c", "pass"],
    "import jax alone": ["-c", "import jax"],
    "import pgd_jax": ["-c", "import pgd_jax"],
    "all that training imports": ["-c", "import pgd_jax.runs.agent"],
    "all that a report imports": ["-c", "import pgd_jax.report.writer"],
    "pgd-train-agent --help": ["-m", "pgd_jax.cli.train_agent", "--help"],
}


class Seconds(NamedTuple):
    trace: float  # and lower
    compile: float


def compile_quickstart(cache: pathlib.Path) -> Seconds:
    """The agents' program of `make run`: eight lanes. In a process that has compiled nothing yet."""
    import jax  # after the flags: --help need not wait for JAX

    from experiments.bench import shapes
    from pgd_jax.core import compilation, presets
    from pgd_jax.core.types import Layout
    from pgd_jax.envs.base import ENVS
    from pgd_jax.runs import denoiser
    from pgd_jax.train import loop

    compilation.keep(str(cache))
    config, layout = presets.config("quickstart", "denoiser"), Layout(obs_dim=3, action_dim=1)
    network = denoiser.network_of(config, layout)
    params = jax.eval_shape(network.init, jax.random.key(0))
    trained = denoiser.Trained(config, network, params, shapes.normalizer(layout))
    arguments = shapes.agent(presets.config("quickstart", "agent"), trained, NUM_ROWS, ENVS.get(TASK)())
    began = time.perf_counter()
    lowered = loop.run_chunk.lower(*arguments)
    traced = time.perf_counter()
    lowered.compile()
    return Seconds(traced - began, time.perf_counter() - traced)


def _prepare() -> Callable[[], None]:
    flags.DEFINE_integer("num_repeats", 3, "starts of each command, of which the median counts", lower_bound=1)
    return functools.partial(_main, flags.FLAGS)


def _main(options: flags.FlagValues) -> None:
    for name, arguments in COMMANDS.items():
        times = sorted(_start(arguments) for _ in range(options.num_repeats))
        print(f"{name}: {times[len(times) // 2]:.2f} s [{times[0]:.2f}, {times[-1]:.2f}]", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for name in ("cold", "warm"):
            seconds = apart.call(functools.partial(compile_quickstart, pathlib.Path(folder)))
            print(f"the quickstart's program, {name}: {seconds.trace:.1f} s to trace, {seconds.compile:.1f} to compile")


def _start(arguments: list[str]) -> float:
    began = time.perf_counter()
    done = subprocess.run([sys.executable, *arguments], check=False, capture_output=True, text=True)
    seconds = time.perf_counter() - began
    if "Traceback" in done.stderr:  # absl's --help ends with status 1 too
        raise RuntimeError(done.stderr)
    return seconds


if __name__ == "__main__":
    entry.run(_prepare, __doc__, keeps_nothing=True)
