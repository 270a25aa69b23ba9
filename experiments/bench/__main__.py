"""Speed of the program's parts and of a whole phase, and the share each reaches of this machine's own rates.

    python -m experiments.bench --out=before.json                    about two minutes on two idle CPU cores
    python -m experiments.bench --setting=full --out=h100.json       the reference's sizes, for an accelerator
    python -m experiments.bench --compare=before.json,after.json
    python -m experiments.bench --curves=all --out=curves.json       and curves.png: how time grows with each size

FLOPs of agents are counted by hand (matrix products only), those of the denoiser and all bytes by XLA; rates are those
of the best repeat, shares of the machine's own best matrix product and copy in the same minutes. See
experiments/bench/NOTES.md for what was learned.
"""

import dataclasses
import json
import math
import pathlib

from absl import flags

from pgd_jax.cli import entry
from pgd_jax.core import places
from pgd_jax.core.errors import UserError

SETTINGS, CURVES = ("cpu", "medium", "full", "full_float32"), ("trajectories", "lanes", "horizon", "width", "devices")


def run() -> None:
    entry.run(_prepare, __doc__, keeps_nothing=True)


def _prepare():
    flags.DEFINE_enum("setting", SETTINGS[0], SETTINGS, "sizes of everything")
    entry.define_optional_path("out", "JSON file to write; with --curves a .png beside it, and curves in it are kept")
    flags.DEFINE_integer("num_repeats", 3, "measured calls of each part", lower_bound=1)
    flags.DEFINE_list("compare", [], "two JSON files to hold against each other; nothing is measured")
    flags.DEFINE_list("curves", [], f"instead of the parts, these scaling curves: {', '.join(CURVES)}, or all")
    return lambda: _main(flags.FLAGS)


def _main(options: flags.FlagValues) -> None:
    out = pathlib.Path(options.out) if options.out else None
    if out is not None and not out.parent.is_dir():
        raise UserError(f"--out={out}: there is no folder {out.parent}; make it first")
    if options.compare:
        entry.check_not_given(("setting", "num_repeats", "out", "curves"), "with --compare, which measures nothing")
        _compare([pathlib.Path(path) for path in options.compare])
    elif options.curves:
        _curves(options, out)
    else:
        _parts(options, out)


def _compare(paths: list[pathlib.Path]) -> None:
    from experiments.bench import compare  # after the flags: --help and mistakes need not wait for JAX

    if len(paths) != 2:
        raise UserError(f"--compare={','.join(map(str, paths))} must name two files, by a comma")
    print(compare.table(*map(compare.read, paths)))


def _parts(options: flags.FlagValues, out: pathlib.Path | None) -> None:
    from experiments.bench import dispatches, parts, setting as settings, speed

    if out is not None:
        places.check_free(out)
    setting, about = settings.SETTINGS[options.setting], speed.machine()
    print(speed.header())
    print(", ".join(f"{name}={value}" for name, value in dataclasses.asdict(setting).items()), flush=True)
    products, todo = parts.products(setting), parts.build(setting)
    timings = speed.time_all([*products, parts.copy(setting), *todo], options.num_repeats)
    rates = speed.rates_of(timings[: len(products)], timings[len(products)])
    rows = [speed.record(timing, rates) for timing in timings]
    phase = todo[-1]
    counts = dispatches.count(lambda: phase.function(*phase.args))[1]
    best = ", ".join(f"{rate / 1e9:.0f} GFLOP/s in {dtype}" for dtype, rate in rates.flops_per_s.items())
    print(f"best product {best}; copy {rates.bytes_per_s / 1e9:.1f} GB/s\n{speed.table(rows)}")
    print(f"{phase.name}: {counts.dispatches} dispatch, {counts.to_device} to the device, {counts.to_host} to the host")
    if out is not None:
        report = {"machine": about, "setting": dataclasses.asdict(setting), "rates": dataclasses.asdict(rates)}
        _write(out, report | {"parts": rows, "phase": counts._asdict()})


def _curves(options: flags.FlagValues, out: pathlib.Path | None) -> None:
    from experiments.bench import curves, setting as settings, speed

    sizes = list(CURVES) if options.curves == ["all"] else options.curves
    for size in sizes:
        if size not in CURVES:
            raise UserError(f'--curves: there is no "{size}"; choose among {", ".join(CURVES)}, or all')
    setting, about = settings.SETTINGS[options.setting], {"setting": options.setting} | speed.machine()
    rows = curves.kept(out, about) if out is not None and out.exists() else []
    if out is not None and not rows:
        places.check_free(out.with_suffix(".png"))
    for size in sizes:
        if size in {row["size"] for row in rows}:
            print(f"{out}: has {size} already")
            continue
        if size == "devices" and not curves.has_enough_devices():
            rows += curves.measure_forced(options.setting, options.num_repeats)
        else:
            rows += curves.measure(size, setting, options.num_repeats)
        if out is not None:
            _write(out, {"machine": about, "curves": rows})
            curves.figure(rows, out.with_suffix(".png"))
    for (size, part), (in_size, in_flops) in curves.exponents(rows).items():
        of_work = "the work stays" if math.isnan(in_flops) else f"as FLOPs^{in_flops:.3f}"
        print(f"{size}: {part}: time grows as {size}^{in_size:.3f}, {of_work}")


def _write(out: pathlib.Path, report: dict) -> None:
    out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run()
