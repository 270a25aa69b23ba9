"""What guidance costs: guided against unguided sampling at the same number of steps, in turns, for several sizes.

    python -m experiments.bench.guidance_cost [--num_repeats=25]

Ratios are of neighbouring calls, so that a machine that slows down slows both. Eight minutes on two idle CPU cores.
"""

import dataclasses
import functools
from collections.abc import Callable

from absl import flags

from experiments.bench import parts, setting as settings, speed
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


def ratios(setting: settings.Setting, num_repeats: int) -> list[float]:
    """Guided over unguided seconds, pair by pair."""
    plain, guided = speed.time_all([parts.sampling(setting, guided) for guided in (False, True)], num_repeats)
    return [b / a for a, b in zip(plain.seconds, guided.seconds, strict=True)]


def _prepare() -> Callable[[], None]:
    flags.DEFINE_integer("num_repeats", 25, "pairs of calls of each size", lower_bound=1)
    return functools.partial(_main, flags.FLAGS)


def _main(options: flags.FlagValues) -> None:
    print(speed.header())
    print(f"{BASE.guidance}, {BASE.sampler}, {BASE.num_steps} steps")
    for name, setting in SETTINGS.items():
        print(f"{name}: guided / unguided time {speed.spread(ratios(setting, options.num_repeats))}", flush=True)


if __name__ == "__main__":
    entry.run(_prepare, __doc__, keeps_nothing=True)
