"""Speed of the program's parts, and the share each reaches of the machine's own matrix-multiply rate.

    python -m experiments.bench.speed --out=speed.json

Rates are those of the best repeat, with the median beside it: their distance tells how noisy a shared machine was. The
parts take turns, so that the ratio of two of them is of the same minutes. About a minute on two idle CPU cores, half of
it compilation.
"""

import dataclasses
import functools
import json
import os
import pathlib
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
from absl import flags

from experiments.bench import parts, setting as settings
from pgd_jax.cli import entry
from pgd_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Timing:
    """One part's calls."""

    name: str
    unit: str
    amount: float  # units of one call
    flops: float  # of one call
    counted: str
    compile_s: float
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


def time_all(todo: Sequence[parts.Part], num_repeats: int) -> list[Timing]:
    """Compiles each part once, calls it once unmeasured, then measures all in turns."""
    compiled = [_compile(part) for part in todo]
    seconds: list[list[float]] = [[] for _ in todo]
    for repeat in range(num_repeats + 1):
        for part, (executable, _), mine in zip(todo, compiled, seconds, strict=True):
            began = time.perf_counter()
            jax.block_until_ready(executable(*part.args))
            if repeat:
                mine.append(time.perf_counter() - began)
    return [
        Timing(part.name, part.unit, part.amount, part.flops, part.counted, compile_s, tuple(mine))
        for part, (_, compile_s), mine in zip(todo, compiled, seconds, strict=True)
    ]


def _compile(part: parts.Part) -> tuple[Callable[..., Any], float]:
    began = time.perf_counter()
    executable = part.function.lower(*part.args).compile()
    return executable, time.perf_counter() - began


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


def _cpu_model() -> str:
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def record(timing: Timing, matmul_flops_per_s: float) -> dict[str, Any]:
    """A row of the JSON file."""
    rates = {"best_per_s": timing.best_per_s, "median_per_s": timing.median_per_s, "flops_per_s": timing.flops_per_s}
    return dataclasses.asdict(timing) | rates | {"share_of_matmul": timing.flops_per_s / matmul_flops_per_s}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows for a terminal."""
    head = ("part", "best", "median", "unit", "GFLOP/s", "share", "compile", "FLOPs counted")
    body = [
        (
            row["name"],
            f"{row['best_per_s']:.4g}",
            f"{row['median_per_s']:.4g}",
            f"{row['unit']}/s",
            f"{row['flops_per_s'] / 1e9:.4g}",
            f"{row['share_of_matmul']:.1%}",
            f"{row['compile_s']:.1f} s",
            row["counted"],
        )
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(head, *body, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in [head, *body])


def _prepare() -> Callable[[], None]:
    flags.DEFINE_string("out", "", "JSON file to write")
    flags.DEFINE_integer("num_repeats", 3, "measured calls of each part", lower_bound=1)
    return functools.partial(_main, flags.FLAGS)


def _main(options: flags.FlagValues) -> None:
    out = pathlib.Path(options.out) if options.out else None
    if out is not None and not out.parent.is_dir():
        raise UserError(f"--out={out}: there is no folder {out.parent}; make it first")
    setting, about = settings.Setting(), machine()
    print(", ".join(f"{name} {value}" for name, value in about.items()))
    print(", ".join(f"{name}={value}" for name, value in dataclasses.asdict(setting).items()), flush=True)
    products = parts.products(setting)
    timings = time_all([*products, *parts.build(setting)], options.num_repeats)
    matmul_flops_per_s = max(timing.flops_per_s for timing in timings[: len(products)])
    rows = [record(timing, matmul_flops_per_s) for timing in timings]
    print(f"shares are of the best product's {matmul_flops_per_s / 1e9:.0f} GFLOP/s, float32\n{table(rows)}")
    if out is not None:
        report = {"machine": about, "setting": dataclasses.asdict(setting), "parts": rows}
        out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    entry.run(_prepare, __doc__)
