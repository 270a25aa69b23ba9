"""How time grows with one size while all others stay: a curve for each size, with the exponent fitted in log-log."""

import dataclasses
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.bench import parts, speed
from experiments.bench.setting import Setting
from pgd_jax.core.errors import UserError

NUM_DEVICES = 8


class Curve(NamedTuple):
    """A size, the values that it takes, and what is timed at each."""

    size: str
    values: tuple[int, ...]
    build: Callable[[Setting, int], list[parts.Part]]


def _trajectories(setting: Setting, value: int) -> list[parts.Part]:
    at_once = min(value, setting.windows_at_once)
    return [parts.sampling(dataclasses.replace(setting, num_windows=value, windows_at_once=at_once), is_guided=True)]


def _lanes(setting: Setting, value: int) -> list[parts.Part]:
    setting = dataclasses.replace(setting, num_windows=64, windows_at_once=64)
    learning = [parts.learning(setting, name, value) for name in ("td3_bc", "iql")]
    return [*learning, parts.phase(setting, value)]


def _horizon(setting: Setting, value: int) -> list[parts.Part]:
    setting = dataclasses.replace(setting, window_length=value)
    return [parts.sampling(setting, is_guided=True), parts.training(setting)]


def _width(setting: Setting, value: int) -> list[parts.Part]:
    setting = dataclasses.replace(setting, width=value, num_windows=64, windows_at_once=64, num_train_steps=2)
    return [parts.sampling(setting, is_guided=True), parts.training(setting)]


def _devices(setting: Setting, value: int) -> list[parts.Part]:
    """A phase of eight lanes divided over devices: the work stays, only its place changes."""
    setting = dataclasses.replace(setting, num_windows=64, windows_at_once=64)
    return [parts.phase(setting, NUM_DEVICES, f"lanes={value}")]


CURVES = {
    curve.size: curve
    for curve in (
        Curve("trajectories", tuple(1 << n for n in range(6, 15)), _trajectories),
        Curve("lanes", tuple(1 << n for n in range(7)), _lanes),
        Curve("horizon", (16, 32, 64, 128, 256), _horizon),
        Curve("width", (32, 64, 128, 256, 512, 1024), _width),
        Curve("devices", (1, 2, 4, 8), _devices),
    )
}


def measure(size: str, setting: Setting, num_repeats: int) -> list[dict[str, Any]]:
    """Rows of {size, value, part, seconds, first, flops}, the parts' names without their counts of lanes.

    `first` are seconds of the part at the curve's first value, in turns with each value: the machine of the hour that
    the last value is measured in is not that of the first.
    """
    curve, rows = CURVES[size], []
    for value in curve.values:
        timings = speed.time_all([*curve.build(setting, curve.values[0]), *curve.build(setting, value)], num_repeats)
        half = len(timings) // 2
        for first, timing in zip(timings[:half], timings[half:], strict=True):
            name = timing.name.rpartition(", ")[0] if "lane" in timing.name else timing.name
            row = {"size": size, "value": value, "part": name, "flops": timing.flops}
            rows.append(row | {"seconds": list(timing.seconds), "first": list(first.seconds)})
            print(f"{size} {value}: {name} {min(timing.seconds):.4g} s, {_relative(rows[-1]):.4g} firsts", flush=True)
    return rows


def _relative(row: dict[str, Any]) -> float:
    """Time over that of the curve's first value, the median of the turns."""
    return statistics.median(ours / first for ours, first in zip(row["seconds"], row["first"], strict=True))


def kept(path: pathlib.Path, machine: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of the curves in a file of this benchmark; UserError where it is of another machine, or no such file."""
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        rows, theirs = report["curves"], report["machine"]
        for row in rows:
            _relative(row)  # fails on rows of a version that had no `first`
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} holds no curves to go on from ({error!r}): name another file, or remove it") from None
    differing = [name for name in machine if name != "load" and theirs.get(name) != machine[name]]
    if differing:
        found = ", ".join(f"{name} {theirs.get(name)}, here {machine[name]}" for name in differing)
        raise UserError(f"{path} has curves of something else ({found}): name another file, or remove it")
    return rows


def has_enough_devices() -> bool:
    return jax.device_count() >= NUM_DEVICES


def measure_forced(setting_name: str, num_repeats: int) -> list[dict[str, Any]]:
    """The curve over devices where there are too few: a process of its own, in which the host passes for eight."""
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(NUM_DEVICES), "JAX_PLATFORMS": "cpu"}
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "devices.json"
        options = ["--curves=devices", f"--setting={setting_name}", f"--num_repeats={num_repeats}", f"--out={out}"]
        subprocess.run([sys.executable, "-m", "experiments.bench", *options], env=environment, check=True)
        return json.loads(out.read_text(encoding="utf-8"))["curves"]


def exponents(rows: Sequence[dict[str, Any]]) -> dict[tuple[str, str], tuple[float, float]]:
    """(size, part) -> exponents of time in the size and in the FLOPs, least squares in log-log over all values.

    Time is that over the first value's, in turns with it.
    """
    found = {}
    for size, part in dict.fromkeys((row["size"], row["part"]) for row in rows):
        mine = [row for row in rows if (row["size"], row["part"]) == (size, part)]
        times = [_relative(row) for row in mine]
        work = [row["flops"] for row in mine]
        in_flops = slope(work, times) if len(set(work)) > 1 else math.nan
        found[size, part] = slope([row["value"] for row in mine], times), in_flops
    return found


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Of log y over log x."""
    return float(statistics.linear_regression(np.log(x), np.log(y)).slope)


def figure(rows: Sequence[dict[str, Any]], path: pathlib.Path) -> None:
    """Seconds a call over each size, log-log, one panel a size; the legend gives the exponent."""
    from matplotlib.figure import Figure

    sizes, fitted = list(dict.fromkeys(row["size"] for row in rows)), exponents(rows)
    page = Figure(figsize=(4.2 * len(sizes), 3.8), layout="constrained")
    for axes, size in zip(page.subplots(1, len(sizes), squeeze=False)[0], sizes, strict=True):
        for part in dict.fromkeys(row["part"] for row in rows if row["size"] == size):
            mine = [row for row in rows if (row["size"], row["part"]) == (size, part)]
            label = f"{part}: exponent {fitted[size, part][0]:.2f}"
            axes.loglog([row["value"] for row in mine], [min(row["seconds"]) for row in mine], "o-", label=label)
        axes.set(xlabel=size, ylabel="seconds a call" if size == sizes[0] else None, xticks=CURVES[size].values)
        axes.set_xticklabels([str(value) for value in CURVES[size].values], fontsize=7)
        axes.xaxis.minorticks_off()  # a panel of less than a decade has its labels at the minor ticks of time
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    page.savefig(path, dpi=130)
