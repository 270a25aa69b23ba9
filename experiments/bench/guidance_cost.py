"""What guidance costs: guided against unguided sampling at the same number of steps, in turns, for several sizes.

    python -m experiments.bench.guidance_cost [--num_repeats=25]

Ratios are of neighbouring calls, so that a machine that slows down slows both. Eight minutes on two idle CPU cores.
"""

import dataclasses
import functools
import statistics
from collections.abc import Callable

from absl import flags

from pgd_jax.bench import parts, setting as settings, speed
from pgd_jax.cli import entry

BASE = settings.Setting(window_length=16)
# The benchmark's own sizes; the quickstart's; the guidance study's; a medium one.
SETTINGS = {
    "width 32, policy 256, T = 32": dataclasses.replace(BASE, width=32, window_length=32),
    "width 64, policy 128, T = 16 (quickstart)": dataclasses.replace(BASE, width=64, hidden_dim=128),
    "width 64, policy 256, T = 16 (guidance study)": dataclasses.replace(BASE, width=64),
    "width 128, policy 256, T = 32": dataclasses.replace(
        BASE, width=128, window_length=32, num_windows=128, windows_at_once=128
    ),
}


def ratio(setting: settings.Setting, num_repeats: int) -> tuple[float, float, float]:
    """(median, first and third quartile) of guided over unguided seconds, pair by pair."""
    plain, guided = speed.time_all([parts.sampling(setting, guided) for guided in (False, True)], num_repeats)
    ratios = [b / a for a, b in zip(plain.seconds, guided.seconds, strict=True)]
    first, median, third = statistics.quantiles(ratios, n=4)
    return median, first, third


def _prepare() -> Callable[[], None]:
    flags.DEFINE_integer("num_repeats", 25, "pairs of calls of each size", lower_bound=2)
    return functools.partial(_main, flags.FLAGS)


def _main(options: flags.FlagValues) -> None:
    print(", ".join(f"{name} {value}" for name, value in speed.machine().items()))
    print(f"{BASE.guidance}, {BASE.sampler}, {BASE.num_steps} steps")
    for name, setting in SETTINGS.items():
        median, first, third = ratio(setting, options.num_repeats)
        print(f"{name}: guided / unguided time {median:.3f}, quartiles [{first:.3f}, {third:.3f}]", flush=True)


if __name__ == "__main__":
    entry.run(_prepare, __doc__, keeps_nothing=True)
