"""The seam between the program and what fills a phase with synthetic data, under the policy of the lane."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from pgd_jax.core.config import AgentConfig, SamplingConfig
from pgd_jax.core.registry import Registry
from pgd_jax.core.types import LogProb, Normalizer, Policy, Transition
from pgd_jax.envs.base import EvalEnv, IsTerminal
from pgd_jax.measures import dynamics

Metrics = dict[str, jax.Array]
Model = Any  # a pytree of arrays that all lanes read, the generator's own
State = Any  # a pytree of arrays that a lane carries from phase to phase, the generator's own
Hyper = Any  # a flax.struct pytree of floats, the generator's own; one lane per value


class Synthetic(NamedTuple):
    """A phase's M windows of T rows, flattened, and where the valid rows are (those after a terminal are not)."""

    transition: Transition  # [M * T, ...]; next_action of valid rows, where the generator knows it, else None
    valid: jax.Array  # bool[M * T]
    order: jax.Array  # i32[M * T] the valid rows first
    num_valid: jax.Array  # i32[] at least 1


class Guide(NamedTuple):
    """The policy that a lane trains, at its newest."""

    log_prob: LogProb
    act: Policy  # greedy
    phase: jax.Array  # i32[] phases of training behind it: at 0 it knows nothing


class Generator(NamedTuple):
    """Synthetic data as pure functions: `init(key, hyper, model, normalizer) -> state` and
    `generate(key, state, guide, hyper, model, normalizer, mesh) -> (state, synthetic)`.

    `mesh` has the devices that share a phase's batches of windows; None: one does all.
    """

    init: Callable[[jax.Array, Hyper, Model, Normalizer], State]
    generate: Callable[..., tuple[State, Synthetic]]
    window_length: int  # T
    num_windows: int  # M, of a phase
    num_batches: int  # of windows, that devices may share
    plan: Any = None  # everything static behind it, for those who know this kind
    is_whole: bool = False  # whether a window's last row is a transition too; else it has no successor


class Context(NamedTuple):
    """What a generator is built from."""

    config: AgentConfig
    trained: Any  # the model in config.denoiser or config.world_model (runs/); None where none is named
    behaviour: Any  # the cloned policy in config.behaviour (runs/behaviour.py), or None
    normalizer: Normalizer
    real: Transition | None  # [N, ...] the dataset
    hypers: Hyper  # the floats of all lanes, leaves f32[L]
    is_terminal: IsTerminal | None = None  # the rule of the dataset's task, environment space; None: learned, if at all
    needs_next_action: bool = False  # whether the agent learns from Transition.next_action


class GeneratorFamily(NamedTuple):
    """What a registry entry holds: the default hyperparameters and the factory."""

    hyper: Callable[[], Hyper]  # () -> defaults, Python floats
    build: Callable[[Context], tuple[Generator, Model]]
    needs: str = ""  # "denoiser" or "world_model": the setting that must name a run; "": none
    # (config.sampling, floats of all lanes, leaves f32[L]) -> None; UserError for floats that do not go together
    check: Callable[[SamplingConfig, Hyper], None] = lambda sampling, hypers: None


GENERATORS: Registry[GeneratorFamily] = Registry("generator")


def compact(transition: Transition, valid: jax.Array) -> Synthetic:
    """Windows [M, T, ...] with their valid rows bool[M, T], whose indices are compacted once, not per batch."""
    num_rows = valid.size
    transition = jax.tree.map(lambda leaf: leaf.reshape(num_rows, *leaf.shape[2:]), transition)
    valid = valid.reshape(num_rows)
    order = jnp.nonzero(valid, size=num_rows, fill_value=0)[0].astype(jnp.int32)
    return Synthetic(transition, valid, order, jnp.sum(valid, dtype=jnp.int32))


def describe(
    synthetic: Synthetic,
    log_prob: LogProb,
    normalizer: Normalizer,
    env: EvalEnv | None,
    window_length: int,
    num_measured: int,
    is_whole: bool = False,
) -> Metrics:
    """How on-policy and how true the synthetic data are, whatever generated them.

    log pi(a|s) per action under the policy that guided them, and the normalised squared error of the next observation
    against the environment in the first `num_measured` windows K, which are independent draws: of all rows, of rows in
    reachable states, by window f32[K] and by position in the window f32[T - 1], or f32[T] where the last row has a next
    observation too (`is_whole`).
    """
    rows = synthetic.transition
    weight = synthetic.valid.astype(jnp.float32)
    total = jnp.sum(weight)
    metrics = {
        "synthetic_log_likelihood": jnp.sum(weight * log_prob(rows.obs, rows.action)) / total,
        "synthetic_valid_share": total / weight.size,
        "synthetic_reward_mean": jnp.sum(weight * rows.reward) / total,
    }
    if env is not None and env.from_obs is not None and num_measured:
        metrics |= _dynamics(synthetic, normalizer, env, window_length, num_measured)
        if not is_whole:  # the last row has no successor
            metrics["dynamics_error_by_position"] = metrics["dynamics_error_by_position"][:-1]
    return metrics


def _dynamics(
    synthetic: Synthetic, normalizer: Normalizer, env: EvalEnv, window_length: int, num_measured: int
) -> Metrics:
    num_rows = num_measured * window_length
    rows, valid = jax.tree.map(lambda leaf: leaf[:num_rows], (synthetic.transition, synthetic.valid))
    measured = dynamics.of_transitions(env, normalizer, rows, valid)
    error, weight, reachable = (leaf.reshape(-1, window_length) for leaf in measured)

    def mean(weight: jax.Array, axis: int | None = None) -> jax.Array:
        # Over 1 at least: a window of nothing but a terminal row has no error to speak of, and must not stop the run.
        return jnp.sum(weight * error, axis) / jnp.maximum(jnp.sum(weight, axis), 1.0)

    return {
        "dynamics_error": mean(weight),
        "dynamics_error_reachable": mean(weight * reachable),
        "synthetic_reachable_share": jnp.sum(weight * reachable) / jnp.maximum(jnp.sum(weight), 1.0),
        "dynamics_defined_share": jnp.sum(weight)
        / jnp.maximum(jnp.sum(valid.astype(jnp.float32) * (1.0 - rows.terminal)), 1.0),
        "dynamics_error_by_window": mean(weight, 1),
        "dynamics_error_by_position": mean(weight, 0),
    }
