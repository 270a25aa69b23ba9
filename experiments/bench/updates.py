"""Agent updates against their floor, the best matrix product, and several lanes against one, all in turns.

    python -m experiments.bench.updates [--num_repeats=20] [--agents=td3_bc,iql] [--rows=200000]

A floor is the FLOPs of an update (flops.py) at the rate of the product before and the one after it, so
that a machine that slows down slows both. Of all agents about an hour on two idle CPU cores, most of it for 8 lanes;
without rows one lane alone is timed.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
from absl import flags

from experiments.bench import flops, parts, setting as settings, speed
from pgd_jax.cli import entry

ROWS = ("200000", "1000000")


def seconds(part: parts.Part) -> float:
    """Of one call."""
    return speed.seconds_of(part.function, *part.args)


def best_product(setting: settings.Setting) -> parts.Part:
    """The float32 product of the highest rate; all are called once before."""
    products = [part for part in parts.products(setting) if part.dtype == "float32"]
    for part in products:
        seconds(part)
    return max(products, key=lambda part: part.flops_by_hand / min(seconds(part) for _ in range(3)))


def over_floor(part: parts.Part, product: parts.Part, num_repeats: int) -> list[float]:
    """Time over floor of each repeat."""
    seconds(part)
    before, ratios = seconds(product), []
    for _ in range(num_repeats):
        ours, after = seconds(part), seconds(product)
        ratios.append(ours / (part.flops_by_hand / product.flops_by_hand * (before + after) / 2))
        before = after
    return ratios


def lanes_over_one(setting: settings.Setting, name: str, num_lanes: int, num_repeats: int) -> list[float]:
    """Updates a second of all lanes over those of one: the lanes together, on as many devices as a run of them takes,
    and, in turns with it, each by itself."""
    one, many = parts.learning(setting, name, 1), parts.learning(setting, name, num_lanes)
    own = jax.device_put(many.args[:-1], jax.devices()[0])
    each = [
        one._replace(args=(*jax.tree.map(lambda leaf: leaf[i : i + 1], own), one.args[-1])) for i in range(num_lanes)
    ]
    for part in (many, *each):
        seconds(part)
    return [sum(map(seconds, each)) / seconds(many) for _ in range(num_repeats)]


def _prepare() -> Callable[[], None]:
    flags.DEFINE_integer("num_repeats", 20, "turns", lower_bound=1)
    flags.DEFINE_integer("num_lanes", 8, "lanes against one", lower_bound=2)
    flags.DEFINE_list("agents", list(flops.AGENTS), "agents")
    flags.DEFINE_list("rows", list(ROWS), "real rows, for each of which lanes are held against one; none: they are not")
    return functools.partial(_main, flags.FLAGS)


def _main(options: flags.FlagValues) -> None:
    cpu = settings.SETTINGS["cpu"]
    product = best_product(cpu)
    print(f"{speed.header()}; {product.name}")
    for name in options.agents:
        part = parts.learning(cpu, name, 1)
        ratios = over_floor(part, product, options.num_repeats)
        of_one = part.flops_by_hand / part.amount / 1e6
        print(f"{part.name}, {of_one:.0f} MFLOP an update: times its floor: {speed.spread(ratios)}", flush=True)
    for name in options.agents:
        for rows in map(int, options.rows):
            setting = dataclasses.replace(cpu, num_real=rows)
            ratios = lanes_over_one(setting, name, options.num_lanes, options.num_repeats)
            what = f"{name}, {rows:,} rows: updates/s of {options.num_lanes} lanes over one's"
            print(f"{what}: {speed.spread(ratios)}", flush=True)


if __name__ == "__main__":
    entry.run(_prepare, __doc__, keeps_nothing=True)
