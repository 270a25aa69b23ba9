"""Timing of parts in turns, and what each reaches of the machine's own rates.

Rates are those of the best repeat, with the median beside it: their distance tells how noisy a shared machine was.
Parts take turns, so that the ratio of two of them is of the same minutes.
"""

import dataclasses
import os
import pathlib
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.bench import parts


@dataclasses.dataclass(frozen=True)
class Timing:
    """One part's calls, and what XLA says of its program."""

    name: str
    unit: str
    amount: float  # units of one call
    flops: float  # of one call, by hand where a piece is counted so, else by XLA
    dtype: str
    compile_s: float
    memory_bytes: float  # arguments, results and temporaries together, at most
    xla_flops: float  # of one call, by XLA's cost analysis of its pieces
    xla_bytes: float  # likewise read and written, as if no cache held anything
    seconds: tuple[float, ...]  # of each repeat

    @property
    def best_per_s(self) -> float:
        return self.amount / min(self.seconds)

    @property
    def median_per_s(self) -> float:
        return self.amount / statistics.median(self.seconds)

    @property
    def flops_per_s(self) -> float:
        """Of the best repeat."""
        return self.flops / min(self.seconds)


@dataclasses.dataclass(frozen=True)
class Rates:
    """The most that this machine showed in the same minutes."""

    flops_per_s: dict[str, float]  # by dtype of a square matrix product
    bytes_per_s: float  # read and written by a copy


def time_all(todo: Sequence[parts.Part], num_repeats: int) -> list[Timing]:
    """Compiles each part once, calls it once unmeasured, then measures all in turns."""
    compiled = [_compile(part) for part in todo]
    seconds: list[list[float]] = [[] for _ in todo]
    for repeat in range(num_repeats + 1):
        for part, (executable, _), mine in zip(todo, compiled, seconds, strict=True):
            once = seconds_of(executable, *part.args)
            if repeat:
                mine.append(once)
    return [
        _timing(part, executable, compile_s, mine)
        for part, (executable, compile_s), mine in zip(todo, compiled, seconds, strict=True)
    ]


def seconds_of(function: Callable[..., Any], *args: Any) -> float:
    """Of one call, until its results are there."""
    began = time.perf_counter()
    jax.block_until_ready(function(*args))
    return time.perf_counter() - began


def _compile(part: parts.Part) -> tuple[Any, float]:
    began = time.perf_counter()
    executable = part.function.lower(*part.args).compile()
    return executable, time.perf_counter() - began


def _timing(part: parts.Part, executable: Any, compile_s: float, seconds: Sequence[float]) -> Timing:
    counted = [(piece.times, cost_of(piece.function, *piece.args), piece.flops) for piece in part.pieces]
    counted = counted or [(1.0, _cost(executable), None)]
    return Timing(
        part.name, part.unit, part.amount,
        flops=sum(times * (cost.flops if by_hand is None else by_hand) for times, cost, by_hand in counted),
        dtype=part.dtype, compile_s=compile_s, memory_bytes=peak_bytes(executable),
        xla_flops=sum(times * cost.flops for times, cost, _ in counted),
        xla_bytes=sum(times * cost.num_bytes for times, cost, _ in counted),
        seconds=tuple(seconds),
    )  # fmt: skip


class Cost(NamedTuple):
    """XLA's account of a compiled program; a loop's body counts once, whatever its length."""

    flops: float  # of all arithmetic: the U-Net's is 4 to 7 % more than its matrix products
    num_bytes: float  # read and written, as if no cache held anything


def cost_of(function: Callable[..., Any], *args: Any) -> Cost:
    """Of a jitted function, for arguments or their shapes."""
    return _cost(function.lower(*args).compile())


def _cost(executable: Any) -> Cost:
    found = executable.cost_analysis()
    return Cost(found.get("flops", 0.0), found.get("bytes accessed", 0.0))


def peak_bytes(executable: Any) -> float:
    """What a compiled program holds at its peak by XLA's own plan; a donated argument counts once."""
    plan = executable.memory_analysis()
    if plan is None:
        return 0.0
    held = plan.argument_size_in_bytes + plan.output_size_in_bytes - plan.alias_size_in_bytes
    return float(held + plan.temp_size_in_bytes)


def rates_of(products: Sequence[Timing], copy: Timing) -> Rates:
    best: dict[str, float] = {}
    for product in products:
        best[product.dtype] = max(best.get(product.dtype, 0.0), product.flops_per_s)
    return Rates(best, 1e9 * copy.best_per_s)


def machine() -> dict[str, Any]:
    """What the numbers are of; the load is that of the last minute, at the start."""
    return {
        "device": jax.devices()[0].device_kind,
        "num_devices": jax.device_count(),
        "cpu": _cpu_model(),
        "num_cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "jax": jax.__version__,
    }


def header() -> str:
    """The machine in a line."""
    return ", ".join(f"{name} {value}" for name, value in machine().items())


def quartiles(ratios: Sequence[float]) -> list[float]:
    """First, median and third."""
    return np.quantile(ratios, (0.25, 0.5, 0.75)).tolist()


def spread(ratios: Sequence[float]) -> str:
    """Median and quartiles."""
    low, median, high = quartiles(ratios)
    return f"{median:.2f} [{low:.2f}, {high:.2f}]"


def _cpu_model() -> str:
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def record(timing: Timing, rates: Rates) -> dict[str, Any]:
    """A row of the JSON file. Shares are of the rate in the part's own dtype."""
    floor_s = timing.flops / rates.flops_per_s[timing.dtype]
    return dataclasses.asdict(timing) | {
        "best_per_s": timing.best_per_s,
        "median_per_s": timing.median_per_s,
        "flops_per_s": timing.flops_per_s,
        "share_of_matmul": floor_s / min(timing.seconds),
        "share_of_copy": timing.xla_bytes / min(timing.seconds) / rates.bytes_per_s,
    }


COLUMNS = {
    "part": lambda row: row["name"],
    "best": lambda row: f"{row['best_per_s']:.4g}",
    "median": lambda row: f"{row['median_per_s']:.4g} {row['unit']}/s",
    "GFLOP/s": lambda row: f"{row['flops_per_s'] / 1e9:.4g}",
    "of matmul": lambda row: f"{row['share_of_matmul']:.1%}",
    "XLA's FLOPs": lambda row: f"{row['xla_flops'] / row['flops']:.2f}x",
    "GB by XLA": lambda row: f"{row['xla_bytes'] / 1e9:.3g}",
    "of copy": lambda row: f"{row['share_of_copy']:.1%}",
    "memory": lambda row: f"{row['memory_bytes'] / 1e6:.4g} MB",
    "compile": lambda row: f"{row['compile_s']:.1f} s",
}


def table(rows: Sequence[Any], columns: dict[str, Callable[[Any], str]] = COLUMNS) -> str:
    """The rows for a terminal: a cell each by the functions of `columns`."""
    lines = [tuple(columns), *(tuple(cell(row) for cell in columns.values()) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
