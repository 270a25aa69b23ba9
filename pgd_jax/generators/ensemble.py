"""Rollouts of a one-step world model as a generator: what model-based offline RL trains on.

MBPO's branched rollouts (Janner et al. 2019, arXiv 1906.08253, algorithm 2) with MOPO's penalised reward (Yu et al.
2020, arXiv 2005.13239, algorithm 1), under the policy of the lane, afresh in each phase:

    s_0 a state of the dataset
    for k steps:
        a = act(s) + noise within [-1, 1]
        (s', r) ~ a Gaussian of an elite member, drawn anew for each row and step
        the row's reward is r - penalty u(s, a); the episode ends by the task's rule, or as the model says
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.sharding import Mesh

from pgd_jax.core import devices, ranges
from pgd_jax.core.config import RULE, RolloutConfig
from pgd_jax.core.hyper import Float, setting
from pgd_jax.core.types import Normalizer, Policy, Transition
from pgd_jax.data import normalizer as normalizers
from pgd_jax.envs.base import IsTerminal
from pgd_jax.generators import one_step
from pgd_jax.generators.base import GENERATORS, Context, Generator, GeneratorFamily, Guide, Synthetic, compact
from pgd_jax.generators.one_step import Model


@struct.dataclass
class Hyper:
    """Every float of a rollout."""

    penalty: Float = setting(
        1.0, "lambda of MOPO: reward - lambda * uncertainty, in the environment's units", ranges.NOT_NEGATIVE
    )
    model_noise: Float = setting(
        1.0, "spread of the model's outcomes: 1 samples its Gaussian, 0 takes the mean", ranges.NOT_NEGATIVE
    )
    action_noise: Float = setting(
        0.1, "standard deviation of the Gaussian that is added to the policy's greedy action", ranges.NOT_NEGATIVE
    )


class Plan(NamedTuple):
    """Everything static about it; one trace per value."""

    rollout: RolloutConfig
    is_terminal: IsTerminal | None = None  # None: the model has learned it
    # What no lane needs is left out of the program.
    is_penalised: bool = True
    is_sampled: bool = True  # of the model's Gaussian
    is_exploring: bool = True
    has_next_action: bool = False  # whether the policy acts once more after the last step

    @property
    def num_batches(self) -> int:
        return self.rollout.num_rollouts // self.rollout.rollouts_per_batch


def specialised(plan: Plan, hypers: Hyper) -> Plan:
    """The plan without what no lane needs, by the floats of all lanes (leaves f32[L])."""
    is_penalised, is_sampled, is_exploring = (
        bool(np.any(np.asarray(each) > 0.0)) for each in (hypers.penalty, hypers.model_noise, hypers.action_noise)
    )
    return plan._replace(is_penalised=is_penalised, is_sampled=is_sampled, is_exploring=is_exploring)


def step(
    plan: Plan, key: jax.Array, obs: jax.Array, policy: Policy, hyper: Hyper, model: Model, normalizer: Normalizer
) -> Transition:
    """One step of all rows from obs f32[B, O]; the spaces are Transition's."""
    key_action, key_deal, key_noise, key_end = jax.random.split(key, 4)
    action = _act(plan, key_action, obs, policy, hyper)
    x = one_step.inputs(model.scale, obs, action)
    dealt = one_step.deal(key_deal, len(x), model.params["max_log_var"].shape[0])
    if plan.is_penalised:
        guess, found = one_step.predict_all(model.params, x, dealt)
        charge = hyper.penalty * one_step.uncertainty(plan.rollout.uncertainty, found, model.scale, normalizer)
    else:
        guess, charge = one_step.predict_dealt(model.params, x, dealt), jnp.zeros(len(x))
    target = guess.mean
    if plan.is_sampled:
        target = target + hyper.model_noise * guess.std * jax.random.normal(key_noise, target.shape)
    next_obs, reward = one_step.outcome(model.scale, obs, target)
    if plan.is_terminal is not None:
        terminal = jax.vmap(plan.is_terminal)(normalizers.decode_obs(normalizer, next_obs))
    else:
        terminal = jax.nn.sigmoid(guess.logit) > _threshold(plan, key_end, guess.logit.shape, hyper)
    return Transition(obs, action, reward - charge, next_obs, terminal.astype(jnp.float32))


def _act(plan: Plan, key: jax.Array, obs: jax.Array, policy: Policy, hyper: Hyper) -> jax.Array:
    action = policy(obs)
    if plan.is_exploring:
        action = action + hyper.action_noise * jax.random.normal(key, action.shape)
    return jnp.clip(action, -1.0, 1.0)


def _threshold(plan: Plan, key: jax.Array, shape: tuple[int, ...], hyper: Hyper) -> jax.Array | float:
    """Of the probability that the episode ends: uniform at model_noise 1, which draws it; 1/2 at 0."""
    if not plan.is_sampled:
        return 0.5
    return 0.5 + jnp.minimum(hyper.model_noise, 1.0) * (jax.random.uniform(key, shape) - 0.5)


def roll_out(
    plan: Plan,
    key: jax.Array,
    starts: jax.Array,
    num_steps: int,
    policy: Policy,
    hyper: Hyper,
    model: Model,
    normalizer: Normalizer,
) -> tuple[Transition, jax.Array]:
    """(transitions [B, T, ...], valid bool[B, T]) of T steps from starts f32[B, O], network space.

    Every valid row is a whole transition, the last one of a rollout too. Rows after a terminal one are not valid: they
    stay where they were, as what the model would say of a state after the end may be anything.
    """

    def advance(carry: tuple[jax.Array, jax.Array], key: jax.Array) -> tuple[Any, tuple[Transition, jax.Array]]:
        obs, alive = carry
        row = step(plan, key, obs, policy, hyper, model, normalizer)
        goes_on = alive & (row.terminal == 0.0)
        return (jnp.where(goes_on[:, None], row.next_obs, obs), goes_on), (row, alive)

    carry = (starts, jnp.ones(len(starts), bool))
    keys = jax.random.split(key, num_steps + plan.has_next_action)
    _, (rows, valid) = jax.lax.scan(advance, carry, keys[:num_steps])
    if plan.has_next_action:
        last = _act(plan, keys[-1], rows.next_obs[-1], policy, hyper)
        rows = rows._replace(next_action=jnp.concatenate([rows.action[1:], last[None]]))
    return jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), (rows, valid))


def sample(
    plan: Plan,
    key: jax.Array,
    policy: Policy,
    hyper: Hyper,
    model: Model,
    normalizer: Normalizer,
    mesh: Mesh | None = None,
) -> tuple[Transition, jax.Array]:
    """(transitions [M, T, ...], valid bool[M, T]) of a phase, `rollouts_per_batch` at a time."""
    rollout = plan.rollout

    def batch(key: jax.Array) -> tuple[Transition, jax.Array]:
        key_start, key_steps = jax.random.split(key)
        index = jax.random.randint(key_start, (rollout.rollouts_per_batch,), 0, model.starts.shape[0])
        return roll_out(plan, key_steps, model.starts[index], rollout.horizon, policy, hyper, model, normalizer)

    made = devices.map_windows(batch, jax.random.split(key, plan.num_batches), mesh)
    return jax.tree.map(lambda leaf: leaf.reshape(rollout.num_rollouts, *leaf.shape[2:]), made)


def generate(
    plan: Plan,
    key: jax.Array,
    state: None,
    guide: Guide,
    hyper: Hyper,
    model: Model,
    normalizer: Normalizer,
    mesh: Mesh | None = None,
) -> tuple[None, Synthetic]:
    """The rollouts of one phase; from the first phase on, as the policy's actions are followed from where data are."""
    return state, compact(*sample(plan, key, guide.act, hyper, model, normalizer, mesh))


@functools.cache  # one generator a plan, as programs are compared by the identity of their functions
def of_plan(plan: Plan) -> Generator:
    return Generator(
        lambda key, hyper, model, normalizer: None,
        functools.partial(generate, plan),
        plan.rollout.horizon,
        plan.rollout.num_rollouts,
        plan.num_batches,
        plan,
        is_whole=True,
    )


def build(context: Context) -> tuple[Generator, Model]:
    """From a trained world model, whose rollouts start at the real rows."""
    rollout, trained = context.config.rollout, context.trained
    assert context.real is not None
    rule = context.is_terminal if rollout.terminals == RULE else None
    plan = Plan(rollout, rule, has_next_action=context.needs_next_action)
    model = Model(trained.params, trained.scale, context.real.obs)
    return of_plan(specialised(plan, context.hypers)), model


GENERATORS.add("ensemble", GeneratorFamily(Hyper, build, needs="world_model"))
