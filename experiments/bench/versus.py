"""This library against the straightforward implementation in baseline.py: the same phase, in turns, on this machine.

    python -m experiments.bench.versus [--out=versus.json]

Ratios are of neighbouring calls (median, first and third quartile), so that a machine that slows down slows both. About
half an hour on two idle CPU cores. Compilation is left out on both sides.
"""

import dataclasses
import functools
import json
import pathlib
import statistics
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from absl import flags

from experiments.bench import baseline, parts, setting as settings, speed
from experiments.bench.setting import Setting
from pgd_jax.cli import entry
from pgd_jax.core import places
from pgd_jax.core.errors import UserError

# PGD's own sampling, whose quality the library's default has in 32 steps (experiments/guidance_study)
PAPER_SAMPLER, PAPER_STEPS = "churned_heun", 256


class Pair(NamedTuple):
    """The same work done twice: once by each."""

    name: str
    ours: Callable[[], Any]
    theirs: Callable[[], Any]
    factor: float = 1.0  # theirs is so many times what was timed


def sampling(setting: Setting, sampler: str) -> Pair:
    """Guided windows at an equal number of steps: ours by the library's default rule, theirs by the paper's."""
    ours = parts.sampling(dataclasses.replace(setting, sampler=sampler), is_guided=True)
    sample = baseline.sampling(setting, sampler, setting.windows_at_once)
    policy = baseline.agent(setting, jax.random.key(0)).actor.params
    name = f"guided sampling, {sampler}, {setting.num_steps} steps, width {setting.width}"
    return Pair(name, lambda: ours.function(*ours.args), lambda: sample(jax.random.key(1), policy))


def learning(setting: Setting, num_lanes: int) -> Pair:
    """TD3+BC updates: lanes of one program against runs one after the other, of which one is timed."""
    part = parts.learning(setting, "td3_bc", num_lanes)
    learn, agent = baseline.updates(setting), baseline.agent(setting, jax.random.key(0))
    synthetic = settings.transitions(setting, setting.num_windows * (setting.window_length - 1))
    synthetic, real = jax.tree.map(jnp.asarray, synthetic), settings.shared(setting).real
    name = f"updates, {num_lanes} lane{'s' * (num_lanes > 1)}, {setting.num_real:,} rows"
    theirs = functools.partial(learn, jax.random.key(0), agent, synthetic, real)
    return Pair(name, lambda: part.function(*part.args), theirs, float(num_lanes))


def phase(setting: Setting, sampler: str) -> Pair:
    """A whole phase at an equal number of steps."""
    ours = dataclasses.replace(setting, sampler=sampler)
    name = f"phase, {sampler}, {setting.num_steps} steps, {setting.num_updates} updates"
    return _phase(name, ours, theirs=ours)


def phase_at_equal_quality(setting: Setting) -> Pair:
    name = f"phase at equal quality, {setting.num_updates} updates, {setting.num_real:,} rows"
    return _phase(name, setting, theirs=_paper(setting))


def _phase(name: str, ours: Setting, theirs: Setting) -> Pair:
    part = parts.phase(ours, num_lanes=1)
    sample = baseline.sampling(theirs, theirs.sampler, theirs.windows_at_once)
    run, agent = baseline.phase(theirs, sample), baseline.agent(theirs, jax.random.key(0))
    return Pair(name, lambda: part.function(*part.args), lambda: run(jax.random.key(0), agent))


def sampling_at_equal_quality(setting: Setting) -> Pair:
    ours, theirs = parts.sampling(setting, is_guided=True), _paper(setting)
    sample = baseline.sampling(theirs, theirs.sampler, theirs.windows_at_once)
    policy = baseline.agent(theirs, jax.random.key(0)).actor.params
    name = f"guided sampling at equal quality, width {setting.width}"
    return Pair(name, lambda: ours.function(*ours.args), lambda: sample(jax.random.key(1), policy))


def _paper(setting: Setting) -> Setting:
    return dataclasses.replace(setting, sampler=PAPER_SAMPLER, num_steps=PAPER_STEPS)


def pairs() -> list[Pair]:
    """Of the library's default sizes, where not said; sampling of one batch, as more are only more of the same."""
    cpu = settings.SETTINGS["cpu"]
    small = dataclasses.replace(cpu, num_windows=128, windows_at_once=128)
    million = dataclasses.replace(cpu, num_real=1_000_000)
    whole = dataclasses.replace(small, num_updates=160)  # in the proportion of 8,192 windows and 10,000 updates
    return [
        sampling(small, "dpmpp_2m_sde"),
        sampling(small, "churned_heun"),
        sampling(dataclasses.replace(small, width=128), "dpmpp_2m_sde"),
        learning(cpu, 1),
        learning(cpu, 8),
        learning(million, 1),
        learning(million, 8),
        phase(whole, "dpmpp_2m_sde"),
        sampling_at_equal_quality(small),
        phase_at_equal_quality(whole),
        phase_at_equal_quality(dataclasses.replace(whole, num_real=1_000_000)),
    ]


def measure(pair: Pair, num_repeats: int) -> dict[str, Any]:
    """Median seconds of both and quartiles of the ratio, of calls in turns after an unmeasured one of each."""
    seconds: list[tuple[float, float]] = []
    for repeat in range(num_repeats + 1):
        both = speed.seconds_of(pair.ours), pair.factor * speed.seconds_of(pair.theirs)
        if repeat:
            seconds.append(both)
    ratios = [theirs / ours for ours, theirs in seconds]
    ours, theirs = (statistics.median(column) for column in zip(*seconds, strict=True))
    found = {"name": pair.name, "ours_s": ours, "baseline_s": theirs}
    return found | {"ratio": speed.quartiles(ratios), "ratios": ratios, "seconds": seconds}


def _prepare() -> Callable[[], None]:
    entry.define_optional_path("out", "JSON file to write")
    flags.DEFINE_integer("num_repeats", 5, "pairs of calls", lower_bound=1)
    flags.DEFINE_string("only", "", "measure the pairs with this in their name")
    return functools.partial(_main, flags.FLAGS)


def _main(options: flags.FlagValues) -> None:
    if options.out:
        places.check_place(options.out)
    chosen = [pair for pair in pairs() if options.only in pair.name]
    if not chosen:
        raise UserError(f"--only={options.only}: no pair has this in its name ({'; '.join(p.name for p in pairs())})")
    print(speed.header())
    rows = []
    for pair in chosen:
        rows.append(measure(pair, options.num_repeats))
        print(f"{pair.name}: {speed.spread(rows[-1]['ratios'])} times faster "
              f"({rows[-1]['ours_s']:.3g} s, baseline {rows[-1]['baseline_s']:.3g} s)", flush=True)  # fmt: skip
    if options.out:
        pathlib.Path(options.out).write_text(json.dumps({"machine": speed.machine(), "pairs": rows}, indent=2) + "\n")


if __name__ == "__main__":
    entry.run(_prepare, __doc__, keeps_nothing=True)
