"""The parts of the program that are timed, each one jitted call of the library's own functions on random data."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from experiments.bench import flops, setting as settings
from pgd_jax.agents.base import AGENTS
from pgd_jax.core import devices
from pgd_jax.core.config import TrainingConfig
from pgd_jax.core.types import Normalizer
from pgd_jax.data import normalizer as normalizers
from pgd_jax.diffusion import guidance, samplers
from pgd_jax.generators import diffusion
from pgd_jax.generators.base import Synthetic
from pgd_jax.train import denoiser as denoiser_training, loop


class Piece(NamedTuple):
    """What a part does over and over, without a loop in it: XLA counts a loop's body once, whatever its length."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    times: float
    flops: float | None = None  # of one call by hand: matrix products alone; None: XLA's count of all arithmetic


class Part(NamedTuple):
    name: str
    unit: str
    amount: float  # units of one call
    function: Callable[..., Any]  # jitted
    args: tuple[Any, ...]
    pieces: tuple[Piece, ...] = ()  # none: the part itself has no loop
    dtype: str = "float32"  # of its matrix products

    @property
    def flops_by_hand(self) -> float:
        """Of one call, where all of it is counted by hand."""
        return sum(piece.times * piece.flops for piece in self.pieces)


def build(setting: settings.Setting) -> list[Part]:
    """All parts on random weights and data, and the whole phase."""
    parts = [forward(setting), backward(setting)]
    parts += [sampling(setting, is_guided) for is_guided in (False, True)]
    parts += [learning(setting, name, num_lanes) for name in flops.AGENTS for num_lanes in setting.num_lanes]
    parts += [evaluating(setting, num_lanes) for num_lanes in setting.num_lanes]
    return [*parts, training(setting), phase(setting, setting.num_lanes[0])]


def _windows(setting: settings.Setting, num_windows: int) -> tuple[jax.Array, jax.Array]:
    """What a U-Net reads: windows and noise levels."""
    x = jax.random.normal(jax.random.key(2), (num_windows, setting.window_length, setting.layout.dim))
    return x, jnp.linspace(-1.0, 1.0, num_windows)


def forward(setting: settings.Setting) -> Part:
    """The U-Net on one batch of windows."""
    args = (settings.shared(setting).model.denoiser, *_windows(setting, setting.windows_at_once))
    function = jax.jit(settings.network(setting).apply)
    return Part("denoiser, forward", "windows", setting.windows_at_once, function, args, dtype=setting.compute_dtype)


def backward(setting: settings.Setting) -> Part:
    """The U-Net and its gradient on a training batch, outside of any loop."""
    network = settings.network(setting)

    def loss(params: Any, x: jax.Array, c_noise: jax.Array) -> jax.Array:
        return jnp.mean(network.apply(params, x, c_noise) ** 2)

    num_windows, function = setting.windows_per_step, jax.jit(jax.value_and_grad(loss))
    args = (settings.shared(setting).model.denoiser, *_windows(setting, num_windows))
    return Part("denoiser, forward and backward", "windows", num_windows, function, args, dtype=setting.compute_dtype)


def sampling(setting: settings.Setting, is_guided: bool) -> Part:
    """Windows by `diffusion.sample`, steered by an untrained TD3+BC policy or by none."""
    program = settings.program(setting, "td3_bc")
    plan, hyper = program.generator.plan, jax.tree.map(jnp.float32, diffusion.Hyper())
    state, shared = _agent_state(setting, "td3_bc"), settings.shared(setting)

    def sample(
        key: jax.Array, state: Any, hyper: diffusion.Hyper, model: diffusion.Model, normalizer: Normalizer
    ) -> jax.Array:
        log_prob = functools.partial(program.agent.log_prob, state) if is_guided else guidance.uniform
        return diffusion.sample(plan, key, log_prob, hyper.guidance_coefficient, hyper, model, normalizer)

    def look(state: Any, windows: jax.Array, normalizer: Normalizer) -> guidance.Tilt:
        return guidance.tilt(functools.partial(program.agent.log_prob, state), normalizer, windows)

    num_calls = samplers.SAMPLERS.get(setting.sampler).calls(setting.num_steps)
    windows, c_noise = _windows(setting, setting.windows_at_once)
    denoising = (shared.model.denoiser, windows, c_noise[:1])
    pieces = [Piece(jax.jit(plan.network.apply), denoising, plan.num_batches * num_calls)]
    if is_guided:
        times = plan.num_batches * sum(plan.guided_steps)
        pieces.append(Piece(jax.jit(look), (state, windows, shared.normalizer), times))
    return Part(
        name="sampling, guided" if is_guided else "sampling, unguided",
        unit="windows",
        amount=setting.num_windows,
        function=jax.jit(sample),
        args=(jax.random.key(1), state, hyper, shared.model, shared.normalizer),
        pieces=tuple(pieces),
        dtype=setting.compute_dtype,
    )


def _sizes(setting: settings.Setting, out_dim: int) -> tuple[int, int, int, int]:
    return setting.obs_dim, out_dim, setting.hidden_dim, setting.num_hidden


def _agent_state(setting: settings.Setting, agent_name: str) -> Any:
    hyper = AGENTS.get(agent_name).hyper()
    return settings.random(jax.eval_shape(settings.program(setting, agent_name).agent.init, jax.random.key(0), hyper))


def _agent_states(setting: settings.Setting, agent_name: str, num_lanes: int) -> Any:
    return jax.tree.map(lambda leaf: jnp.stack([leaf] * num_lanes), _agent_state(setting, agent_name))


def learning(setting: settings.Setting, agent_name: str, num_lanes: int) -> Part:
    """Gradient updates by `loop.learn`, every lane on its own synthetic rows."""
    program, hypers = settings.program(setting, agent_name), settings.population(agent_name, num_lanes).hypers
    num_rows = setting.num_windows * setting.window_length
    index = np.arange(num_rows, dtype=np.int32)
    has_next_action = program.agent.needs_next_action
    rows = settings.transitions(setting, num_rows, has_next_action)
    made = Synthetic(rows, index >= 0, index, np.int32(num_rows))
    made = jax.tree.map(lambda leaf: jnp.asarray(np.stack([leaf] * num_lanes)), made)
    states, keys = _agent_states(setting, agent_name, num_lanes), jax.random.split(jax.random.key(1), num_lanes)
    batches_shape = (num_lanes, program.agent.batches_per_update, setting.batch_size)
    shared = settings.shared(setting)
    if has_next_action:
        shared = shared._replace(real=settings.transitions(setting, setting.num_real, has_next_action))
    batches = jax.tree.map(lambda leaf: jnp.zeros((*batches_shape, *leaf.shape[1:])), shared.real)
    times = setting.num_updates / program.agent.batches_per_update
    of_row = flops.AGENTS[agent_name](setting.obs_dim, setting.action_dim, settings.agent_plan(setting, agent_name))
    update = Piece(
        jax.jit(jax.vmap(program.agent.update)), (keys, states, batches, hypers.agent), times,
        flops=float(math.prod(batches_shape) * of_row),
    )  # fmt: skip
    mesh = devices.mesh_of(devices.AUTO, num_lanes, num_batches=0)
    learn = devices.in_turn(functools.partial(loop.learn, program=program), mesh)
    function, args = _over_lanes(learn, mesh, (keys, states, made, hypers), shared)
    return Part(
        name=f"learning, {agent_name}, {_count(num_lanes)}",
        unit="updates",
        amount=num_lanes * setting.num_updates,
        function=function,
        args=args,
        pieces=(update,),
    )


def _over_lanes(
    function: Callable[..., Any], mesh: Mesh | None, by_lane: tuple[Any, ...], shared: Any
) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """`function` of a lane's own and of what all share, jitted, and its arguments, on the devices of the mesh."""
    lanes = jax.vmap(function, in_axes=(0,) * len(by_lane) + (None,))
    divided = devices.by_lane(lanes, mesh, num_by_lane=len(by_lane), num_copied=1)
    return jax.jit(divided), (*devices.place(by_lane, mesh, devices.LANES), devices.place(shared, mesh))


def evaluating(setting: settings.Setting, num_lanes: int) -> Part:
    """Episodes by `loop.evaluate`, until the last one ends."""
    program, hypers = settings.program(setting, "td3_bc"), settings.population("td3_bc", num_lanes).hypers
    env, states = program.env, _agent_states(setting, "td3_bc", num_lanes)
    amount = num_lanes * setting.num_episodes * env.horizon

    def step(state: Any, keys: jax.Array, env_states: Any, obs: jax.Array) -> Any:
        return jax.vmap(env.step)(keys, env_states, program.agent.act(state, obs))

    keys = jax.random.split(jax.random.key(0), setting.num_episodes)
    obs, env_states = jax.vmap(env.reset)(keys)
    # The physics' own arithmetic is left to XLA's count.
    policy = float(setting.num_episodes * flops.mlp(*_sizes(setting, setting.action_dim)))
    of_agent = _agent_state(setting, "td3_bc")
    piece = Piece(jax.jit(step), (of_agent, keys, env_states, obs), num_lanes * env.horizon, flops=policy)
    evaluate = functools.partial(loop.evaluate, program=program)
    by_lane = (jax.random.split(jax.random.key(1), num_lanes), states, hypers)
    mesh = devices.mesh_of(devices.AUTO, num_lanes, num_batches=0)
    function, args = _over_lanes(evaluate, mesh, by_lane, settings.shared(setting))
    return Part(
        name=f"evaluation, {_count(num_lanes)}",
        unit="env steps",
        amount=amount,
        function=function,
        args=args,
        pieces=(piece,),
    )


def training(setting: settings.Setting) -> Part:
    """Optimiser steps of the denoiser by `train.train_chunk`."""
    network, shared = settings.network(setting), settings.shared(setting)
    num_steps = setting.num_train_steps
    config = TrainingConfig(
        num_steps=num_steps, steps_per_chunk=num_steps, batch_size=setting.windows_per_step,
        ema_period=math.gcd(TrainingConfig.ema_period, num_steps),
    )  # fmt: skip
    rows = normalizers.encode(shared.normalizer, jnp.asarray(settings.rows(setting, setting.num_real)))
    starts = jnp.arange(0, setting.num_real - setting.window_length, 8, dtype=jnp.int32)
    state = denoiser_training.init(jax.random.key(0), network._replace(init=lambda key: shared.model.denoiser), config)
    options = dict(length=setting.window_length, network=network, config=config)

    def steps(
        state: denoiser_training.TrainState, windows: denoiser_training.TrainingWindows
    ) -> tuple[denoiser_training.TrainState, jax.Array]:
        # Within another jit the state is not donated, so the same one serves every repeat.
        return denoiser_training.train_chunk(state, windows, **options)

    step = jax.jit(functools.partial(denoiser_training.train_step, **options))
    windows = denoiser_training.TrainingWindows(rows, starts, starts + setting.window_length - 1)
    return Part(
        name="training the denoiser",
        unit="steps",
        amount=num_steps,
        function=jax.jit(steps),
        args=(state, windows),
        pieces=(Piece(step, (state, jax.random.key(0), windows), num_steps),),
        dtype=setting.compute_dtype,
    )


def phase(setting: settings.Setting, num_lanes: int, mesh: str = devices.AUTO) -> Part:
    """Generate, learn and evaluate, all lanes, by `loop.run_chunk`: one dispatch. `mesh` as a run's setting."""
    mesh = devices.mesh_of(mesh, num_lanes, num_batches=0)
    program = settings.program(setting, "td3_bc")._replace(mesh=mesh)
    hypers, shared = settings.population("td3_bc", num_lanes).hypers, settings.shared(setting)
    keys = jax.random.split(jax.random.key(1), num_lanes)
    states = loop.LaneState(keys, jnp.ones(num_lanes, jnp.int32), _agent_states(setting, "td3_bc", num_lanes))

    def run(states: loop.LaneState, hypers: loop.ProgramHyper, shared: loop.Shared) -> Any:
        return loop.run_chunk(program, 1, states, hypers, shared)

    inner = [sampling(setting, True), learning(setting, "td3_bc", num_lanes), evaluating(setting, num_lanes)]
    repeats = (num_lanes, 1, 1)
    pieces = [
        piece._replace(times=n * piece.times) for part, n in zip(inner, repeats, strict=True) for piece in part.pieces
    ]
    return Part(
        name=f"phase, td3_bc, {_count(num_lanes)}",
        unit="phases",
        amount=num_lanes,
        function=jax.jit(run),
        args=(*devices.place((states, hypers), mesh, devices.LANES), devices.place(shared, mesh)),
        pieces=tuple(pieces),
        dtype=setting.compute_dtype,
    )


def products(setting: settings.Setting) -> list[Part]:
    """Square matrix products at JAX's default precision, which the networks use too, in float32 and bfloat16.

    With `copy` what the parts are held against: this machine's own rates.
    """
    multiply = jax.jit(jnp.matmul)

    def product(size: int, dtype: str) -> Part:
        matrix = jnp.full((size, size), 1.0 / size, dtype)
        piece = Piece(multiply, (matrix, matrix), 1.0, flops=2.0 * size**3)
        return Part(f"product {size}, {dtype}", "products", 1.0, multiply, piece.args, (piece,), dtype)

    return [product(size, dtype) for dtype in ("float32", "bfloat16") for size in setting.matmul_sizes]


def copy(setting: settings.Setting) -> Part:
    """Reads and writes an array that no cache holds, in place: new memory is slow, as it must be had first."""
    array = jnp.zeros(setting.copy_bytes // 4)
    add = jax.jit(lambda x: x + 1.0)
    many = jax.jit(lambda x: jax.lax.fori_loop(0, setting.num_copies, lambda _, x: x + 1.0, x))
    amount = setting.num_copies * 2.0 * array.nbytes / 1e9
    return Part("copy", "GB", amount, many, (array,), (Piece(add, (array,), setting.num_copies),))


def _count(num_lanes: int) -> str:
    return f"{num_lanes} lane" + "s" * (num_lanes > 1)
