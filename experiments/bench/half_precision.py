"""What a network in bfloat16 does to what is sampled, the sampler's own arithmetic staying in float32.

    python -m experiments.bench.half_precision --workdir=runs/guidance_study --hopper=path/to/hopper_medium_replay.hdf5

Reads the models that `experiments.guidance_study.run` leaves in --workdir, and samples the library's default from the
same noise with the network in float32 and in bfloat16: dynamics error, log-likelihood and diversity for every target
policy, and how far the windows are apart. CPU cores emulate bfloat16: slowly.
"""

import functools
import pathlib
from collections.abc import Callable

import jax
import numpy as np
from absl import flags

from experiments.guidance_study import measure, setting
from experiments.guidance_study.cells import Cell
from pgd_jax.cli import entry
from pgd_jax.core.config import UNetConfig
from pgd_jax.networks import unet
from pgd_jax.report import stats

NOISES = (setting.NOISE, setting.FRESH_NOISE, 23)  # seeds of sampling, so many windows of each for every policy
COEFFICIENT = 10.0  # the default strength of guidance
SHOWN = ("dynamics_error", "dynamics_error_median", "log_likelihood", "diversity")


def in_half_precision(models: measure.Models, net: UNetConfig) -> measure.Models:
    """The same weights, the network's own arithmetic in bfloat16."""
    dim = models.normalizer.layout.dim
    return models._replace(
        network=unet.build(models.window_length, dim, net.width, net.num_blocks, "bfloat16", net.norm)
    )


def sample(models: measure.Models, noise: int, sizes: setting.Sizes) -> tuple[jax.Array, dict[str, np.ndarray]]:
    """Windows f32[S, M, T, D] of the default setting, and their measures [S, ...]."""
    windows = measure.sample(Cell(), COEFFICIENT, noise, models, sizes)
    return windows, measure.measures_of(windows, models)


def compare(workdir: pathlib.Path, task: setting.Task, agent: str) -> list[str]:
    """A line for each measure: both means over policies and noises, and the paired ratio or difference."""
    sizes = setting.sizes(task)
    whole = measure.load(workdir, task, agent, sizes)
    half = in_half_precision(whole, setting.denoiser(task).unet)
    pairs = [(sample(whole, noise, sizes), sample(half, noise, sizes)) for noise in NOISES]
    apart = np.sqrt(np.mean([np.mean(np.square(a[0] - b[0])) for a, b in pairs]))
    lines = [f"{task.name}, {agent}: windows are {apart:.3g} standard deviations apart (root mean square)"]
    for name in SHOWN:
        a, b = (np.mean([pair[side][1][name] for pair in pairs], axis=0) for side in (0, 1))  # [S], over noises
        change = stats.mean(b - a)
        interval = f"{change.mean:.3g} [{change.low:.3g}, {change.high:.3g}]"
        lines.append(f"  {name}: float32 {a.mean():.5g}, bfloat16 {b.mean():.5g}; difference {interval}")
    return lines


def _prepare() -> Callable[[], None]:
    flags.DEFINE_string("hopper", "hopper-medium-replay-v2", "file or name of the hopper dataset")
    entry.define_path("workdir", "folder of the guidance study's models", "runs/guidance_study")
    return functools.partial(_main, flags.FLAGS)


def _main(options: flags.FlagValues) -> None:
    for task in setting.tasks(options.hopper):
        for agent in setting.AGENTS:
            print("\n".join(compare(pathlib.Path(options.workdir), task, agent)), flush=True)


if __name__ == "__main__":
    entry.run(_prepare, __doc__, keeps_nothing=True)
