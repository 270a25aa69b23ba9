"""Environment steps per second of every in-graph task, and what evaluating costs beside learning.

    python -m experiments.bench.envs [--match=hopper,ant] [--num_envs=10,256] [--out=envs.json]

Every environment takes `num_steps` steps under random actions and starts again where its episode ends, so that all of
the batch is at work all the time. The share is that of 10 episodes of full length in a phase of 10,000 TD3+BC updates
(two hidden layers of 256, batches of 256) and that evaluation, one lane; generation would only make it smaller.
"""

import functools
import json
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from absl import flags

import pgd_jax.envs  # noqa: F401  registers
from experiments.bench import parts, setting as settings, speed
from pgd_jax.cli import entry
from pgd_jax.core import places
from pgd_jax.core.errors import UserError
from pgd_jax.envs.base import ENVS, EvalEnv

NUM_EPISODES, UPDATES_PER_PHASE = 10, 10_000


def roll(env: EvalEnv, num_envs: int, num_steps: int, key: jax.Array) -> jax.Array:
    """Sum of rewards f32[num_envs] of `num_steps` random steps each, restarted at every end."""

    def step(carry: tuple[Any, jax.Array], key: jax.Array) -> tuple[tuple[Any, jax.Array], None]:
        state, total = carry
        key_action, key_step, key_reset = jax.random.split(key, 3)
        action = jax.random.uniform(key_action, (env.action_dim,), minval=-1.0, maxval=1.0)
        _, following, reward, terminal = env.step(key_step, state, action)
        state = jax.tree.map(functools.partial(jnp.where, terminal), env.reset(key_reset)[1], following)
        return (state, total + reward), None

    def one(key: jax.Array) -> jax.Array:
        key_reset, key_steps = jax.random.split(key)
        carry = env.reset(key_reset)[1], jnp.float32(0.0)
        return jax.lax.scan(step, carry, jax.random.split(key_steps, num_steps))[0][1]

    return jax.vmap(one)(jax.random.split(key, num_envs))


def measure(name: str, num_envs: int, num_steps: int, num_repeats: int) -> dict[str, Any]:
    """Compile seconds and environment steps per second, best and median of the repeats."""
    env = ENVS.get(name)()
    function = jax.jit(functools.partial(roll, env, num_envs, num_steps))
    part = parts.Part(name, "env steps", num_envs * num_steps, function, (jax.random.key(0),))
    (timing,) = speed.time_all([part], num_repeats)
    rates = {"best_per_s": timing.best_per_s, "median_per_s": timing.median_per_s}
    return {"task": name, "num_envs": num_envs, "horizon": env.horizon, "compile_s": timing.compile_s} | rates


def updates_per_s(num_repeats: int) -> float:
    """Of TD3+BC in one lane, best repeat."""
    learning = parts.learning(settings.Setting(), "td3_bc", num_lanes=1)
    return speed.time_all([learning], num_repeats)[0].best_per_s


def _prepare() -> Callable[[], None]:
    flags.DEFINE_list("match", [], "tasks whose name holds one of these; none: all but copies of a maze")
    flags.DEFINE_list("num_envs", ["10", "256"], "environments side by side")
    flags.DEFINE_integer("num_steps", 100, "steps of each environment in a call", lower_bound=1)
    flags.DEFINE_integer("num_repeats", 3, "measured calls", lower_bound=1)
    entry.define_optional_path("out", "JSON file to write")
    return functools.partial(_main, flags.FLAGS)


def _names(match: list[str]) -> list[str]:
    if not match:
        return [name for name in ENVS if "eval" not in name and "dense" not in name]
    names = [name for name in ENVS if any(part in name for part in match)]
    if not names:
        raise UserError(f"--match={','.join(match)} fits no task; there are: {', '.join(ENVS)}")
    return names


def _main(options: flags.FlagValues) -> None:
    if options.out:
        places.check_place(options.out)
    about, rate = speed.machine(), updates_per_s(options.num_repeats)
    print(speed.header())
    print(f"TD3+BC: {rate:.0f} updates/s", flush=True)
    rows = []
    for name in _names(options.match):
        for num_envs in map(int, options.num_envs):
            row = measure(name, num_envs, options.num_steps, options.num_repeats)
            evaluation_s = NUM_EPISODES * row["horizon"] / row["best_per_s"]
            row["share"] = evaluation_s / (evaluation_s + UPDATES_PER_PHASE / rate)
            share = f", evaluation {row['share']:.1%} of a phase" if num_envs == NUM_EPISODES else ""
            print(
                f"{name:24} {num_envs:5} side by side: {row['best_per_s']:9.0f} steps/s (median "
                f"{row['median_per_s']:.0f}), compiled in {row['compile_s']:.1f} s{share}",
                flush=True,
            )
            rows.append(row)
    if options.out:
        report = {"machine": about, "updates_per_s": rate, "tasks": rows}
        pathlib.Path(options.out).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    entry.run(_prepare, __doc__, keeps_nothing=True)
