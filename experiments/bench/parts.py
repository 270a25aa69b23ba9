"""The parts of the program that are timed, each one jitted call of the library's own functions on random data."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.bench import flops, setting as settings
from pgd_jax import lanes, loop
from pgd_jax.agents.base import AGENTS
from pgd_jax.config import TrainingConfig
from pgd_jax.data import codec as codecs
from pgd_jax.diffusion import guidance, samplers, train
from pgd_jax.envs.base import ENVS


class Part(NamedTuple):
    name: str
    unit: str
    amount: float  # units of one call
    flops: float  # of one call
    counted: str  # how: "by hand", or from XLA's cost analysis
    function: Callable[..., Any]  # jitted
    args: tuple[Any, ...]


def build(setting: settings.Setting) -> list[Part]:
    """All parts but the matrix products, on random weights and data."""
    parts = [sampling(setting, is_guided=False), sampling(setting, is_guided=True)]
    parts += [_learning(setting, name, num_lanes) for name in flops.AGENTS for num_lanes in setting.num_lanes]
    parts += [_evaluation(setting, num_lanes) for num_lanes in setting.num_lanes]
    return [*parts, _training(setting)]


def products(setting: settings.Setting) -> list[Part]:
    """Square float32 matrix products at JAX's default precision, which the networks use too."""
    multiply, matrices = jax.jit(jnp.matmul), [(n, jnp.full((n, n), 1.0 / n)) for n in setting.matmul_sizes]
    return [Part(f"product {n}", "products", 1.0, 2.0 * n**3, "by hand", multiply, (m, m)) for n, m in matrices]


def _agent_states(program: loop.Program, lanes_: lanes.Lanes) -> Any:
    return settings.random(
        jax.eval_shape(functools.partial(loop.init, program), lanes_.seeds, lanes_.hypers, None).agent
    )


def _lanes(agent_name: str, num_lanes: int) -> lanes.Lanes:
    return lanes.build(loop.ProgramHyper(AGENTS.get(agent_name).hyper()), "", num_lanes, 0)


def sampling(setting: settings.Setting, is_guided: bool) -> Part:
    """Windows by `loop.generate`, steered by an untrained TD3+BC policy or by none."""
    program = settings.program(setting, "td3_bc")
    hyper = loop.ProgramHyper(AGENTS.get("td3_bc").hyper())
    state = settings.random(jax.eval_shape(program.agent.init, jax.random.key(0), hyper.agent))

    def sample(key: jax.Array, state: Any, hyper: loop.ProgramHyper, shared: loop.Shared) -> jax.Array:
        log_prob = functools.partial(program.agent.log_prob, state) if is_guided else guidance.uniform
        return loop.generate(key, log_prob, hyper.guidance_coefficient, hyper, shared, program)

    call = flops.unet(setting.window_length, setting.layout.dim, setting.width, setting.num_blocks)
    if is_guided:
        sizes = (setting.obs_dim, setting.action_dim, setting.hidden_dim, setting.num_hidden)
        num_evaluations = program.plan.modes.count(guidance.EVALUATED)
        call += setting.window_length * flops.mlp(*sizes) * num_evaluations / setting.num_steps
    num_calls = samplers.SAMPLERS.get(setting.sampler).calls(setting.num_steps)
    return Part(
        name="sampling, guided" if is_guided else "sampling, unguided",
        unit="windows",
        amount=setting.num_windows,
        flops=float(call * num_calls * setting.num_windows),
        counted="by hand",
        function=jax.jit(sample),
        args=(jax.random.key(1), state, jax.tree.map(jnp.float32, hyper), settings.shared(setting)),
    )


def _learning(setting: settings.Setting, agent_name: str, num_lanes: int) -> Part:
    """Gradient updates by `loop.learn`, every lane on its own synthetic rows."""
    program, lanes_ = settings.program(setting, agent_name), _lanes(agent_name, num_lanes)
    num_rows = setting.num_windows * setting.window_length
    index = np.arange(num_rows, dtype=np.int32)
    made = loop.Synthetic(settings.transitions(setting, num_rows), index >= 0, index, np.int32(num_rows))
    made = jax.tree.map(lambda leaf: jnp.asarray(np.stack([leaf] * num_lanes)), made)
    learn = functools.partial(loop.learn, program=program)
    sizes = (setting.obs_dim, setting.action_dim, setting.hidden_dim, setting.num_hidden)
    return Part(
        name=f"learning, {agent_name}, {_count(num_lanes)}",
        unit="updates",
        amount=num_lanes * setting.num_updates,
        flops=float(num_lanes * setting.num_updates * setting.batch_size * flops.AGENTS[agent_name](*sizes)),
        counted="by hand",
        function=jax.jit(jax.vmap(learn, in_axes=(0, 0, 0, 0, None))),
        args=(
            jax.random.split(jax.random.key(1), num_lanes),
            _agent_states(program, lanes_),
            made,
            lanes_.hypers,
            settings.shared(setting),
        ),
    )


def _evaluation(setting: settings.Setting, num_lanes: int) -> Part:
    """Episodes by `loop.evaluate`."""
    program, lanes_ = settings.program(setting, "td3_bc"), _lanes("td3_bc", num_lanes)
    env = program.env
    evaluate = functools.partial(loop.evaluate, program=program)
    amount = num_lanes * setting.num_episodes * env.horizon
    policy = flops.mlp(setting.obs_dim, setting.action_dim, setting.hidden_dim, setting.num_hidden)
    return Part(
        name=f"evaluation, {_count(num_lanes)}",
        unit="env steps",
        amount=amount,
        flops=float(amount * (policy + _step_flops(setting))),
        counted="by hand + XLA's one env step",
        function=jax.jit(jax.vmap(evaluate, in_axes=(0, 0, 0, None))),
        args=(
            jax.random.split(jax.random.key(1), num_lanes),
            _agent_states(program, lanes_),
            lanes_.hypers,
            settings.shared(setting),
        ),
    )


@functools.cache
def _step_flops(setting: settings.Setting) -> float:
    """XLA's count for one environment step: it counts a loop's body once, whatever its length, so it gets no loop."""
    env = ENVS.get(setting.environment)()
    keys = jax.random.split(jax.random.key(0), setting.num_episodes)
    _, states = jax.vmap(env.reset)(keys)
    actions = jnp.zeros((setting.num_episodes, env.action_dim))
    compiled = jax.jit(jax.vmap(env.step)).lower(keys, states, actions).compile()
    return compiled.cost_analysis()["flops"] / setting.num_episodes


def _training(setting: settings.Setting) -> Part:
    """Optimiser steps of the denoiser by `train.train_chunk`."""
    network, shared = settings.network(setting), settings.shared(setting)
    config = TrainingConfig(
        num_steps=setting.num_train_steps, steps_per_chunk=setting.num_train_steps, batch_size=setting.windows_per_step
    )
    rows = codecs.encode(shared.codec, jnp.asarray(settings.rows(setting, setting.num_real)))
    starts = jnp.arange(0, setting.num_real - setting.window_length, 8, dtype=jnp.int32)
    state = train.init(jax.random.key(0), network._replace(init=lambda key: shared.denoiser), config)

    def steps(state: train.TrainState, windows: train.Windows) -> tuple[train.TrainState, jax.Array]:
        # Within another jit the state is not donated, so the same one serves every repeat.
        return train.train_chunk(state, windows, length=setting.window_length, network=network, config=config)

    forward = flops.unet(setting.window_length, setting.layout.dim, setting.width, setting.num_blocks)
    return Part(
        name="training the denoiser",
        unit="steps",
        amount=setting.num_train_steps,
        flops=3.0 * forward * setting.windows_per_step * setting.num_train_steps,
        counted="by hand",
        function=jax.jit(steps),
        args=(state, train.Windows(rows, starts)),
    )


def _count(num_lanes: int) -> str:
    return f"{num_lanes} lane" + "s" * (num_lanes > 1)
