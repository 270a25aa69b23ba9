"""Kills runs and fills their disks, so many times as asked for.

    python -m tests.stress --kills=50 --full_disks=20 --seed=0

The numbers are divided over the kinds of command; disks are filled under single runs only. Filling takes root.
"""

import pathlib
import random
import tempfile
import time

from absl import app, flags, logging

from tests.stress import full_disks, kills, prepared

KILLS = flags.DEFINE_integer("kills", 50, "SIGKILLs in all", lower_bound=0)
FULL_DISKS = flags.DEFINE_integer("full_disks", 20, "places of a run where the disk is full, in all", lower_bound=0)
SEED = flags.DEFINE_integer("seed", 0, "of the moments and places")
WORKDIR = flags.DEFINE_string("workdir", "", "a new folder, which is kept; empty: a temporary one")


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def share(number: int, part: int, num_parts: int) -> int:
    """Of `number` divided as evenly as can be."""
    return number // num_parts + (part < number % num_parts)


def main(_: list[str]) -> None:
    logging.set_verbosity(logging.WARNING)  # orbax tells of every file at INFO
    if WORKDIR.value:
        folder = pathlib.Path(WORKDIR.value).absolute()
        folder.mkdir(parents=True)
        disturb(folder)
    else:
        with tempfile.TemporaryDirectory(prefix="pgd_jax_stress_") as temporary:
            disturb(pathlib.Path(temporary))
    say(f"{KILLS.value} kills and {FULL_DISKS.value} full disks: every run ended as the undisturbed one")


def disturb(folder: pathlib.Path) -> None:
    cases = prepared.prepare(folder)
    for part, case in enumerate(cases):
        say(f"{case.kind.name}: undisturbed, {case.wanted.span_s:.1f} s from the first file on")
        number, chance = share(KILLS.value, part, len(cases)), random.Random(f"kills {SEED.value} {case.kind.name}")
        kills.kill_often(*case, number, chance, say)
    single = [case for case in cases if case.kind.name in ("denoiser", "agent")]
    for part, case in enumerate(single):
        number, chance = share(FULL_DISKS.value, part, len(single)), random.Random(f"disks {SEED.value} {part}")
        full_disks.fill_often(*case, number, chance, say)


if __name__ == "__main__":
    app.run(main)
