"""Policy-guided diffusion (arXiv 2404.06356) as a generator: windows sampled from a denoiser, steered by the policy."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.sharding import Mesh

from pgd_jax.agents import cloned
from pgd_jax.core import devices, logging
from pgd_jax.core.config import SamplingConfig
from pgd_jax.core.errors import UserError
from pgd_jax.core.hyper import Float
from pgd_jax.core.types import LogProb, Normalizer, Params
from pgd_jax.data import normalizer as normalizers
from pgd_jax.diffusion import edm, guidance, samplers, schedules, tracing
from pgd_jax.generators import settings
from pgd_jax.generators.base import GENERATORS, Context, Generator, GeneratorFamily, Guide, Synthetic, compact
from pgd_jax.generators.settings import Hyper
from pgd_jax.networks.base import Network


class Plan(NamedTuple):
    """Everything static about it; one trace per value."""

    sampling: SamplingConfig
    window_length: int
    network: Network  # the denoiser's
    behaviour: Network | None = None  # of the behaviour policy; None: guidance does not know it
    # What no lane needs is left out of the program, by the floats of all lanes; None: any may need it.
    guided_steps: tuple[bool, ...] | None = None  # of the N noise steps
    warm_guided_steps: tuple[bool, ...] | None = None  # likewise of a phase that starts warm
    guided_batches: tuple[bool, ...] | None = None  # of a phase's batches of windows

    @property
    def num_batches(self) -> int:
        return self.sampling.num_trajectories // self.sampling.trajectories_per_batch


@struct.dataclass
class Model:
    denoiser: Params  # averaged weights
    behaviour: Params | None = None


def specialised(plan: Plan, hypers: Hyper) -> Plan:
    """The plan without what no lane needs, by the floats of all lanes (leaves f32[L])."""
    sampling = plan.sampling
    warm = guided_steps(sampling, hypers, sampling.warm_steps, hypers.warm_sigma) if sampling.warm_steps else None
    return plan._replace(
        guided_steps=guided_steps(sampling, hypers, sampling.num_steps, hypers.sigma_max),
        warm_guided_steps=warm,
        guided_batches=_guided_batches(plan, np.asarray(hypers.guided_share)),
    )


def guided_steps(sampling: SamplingConfig, hypers: Hyper, num_steps: int, sigma_max: Float) -> tuple[bool, ...]:
    """In which of `num_steps` from `sigma_max` f32[L] any lane is guided.

    Static, as a choice that differs between lanes would have to take both branches.
    """
    schedule = functools.partial(schedules.SCHEDULES.get(sampling.noise_schedule), num_steps)
    sigmas = np.asarray(jax.vmap(schedule)(hypers.sigma_min, sigma_max, hypers.rho))[:, :-1]
    low, high = (np.asarray(bound)[:, None] for bound in (hypers.guidance.sigma_min, hypers.guidance.sigma_max))
    return tuple(np.any((low <= sigmas) & (sigmas <= high), axis=0).tolist())


def _guided_batches(plan: Plan, shares: np.ndarray) -> tuple[bool, ...] | None:
    """Which batches of a phase's windows are guided in any lane, by their shares f32[L]; None: all of them."""
    found = np.any(is_guided(np.arange(plan.num_batches, dtype=np.float32), shares[:, None]), axis=0)
    return None if found.all() else tuple(found.tolist())


def is_guided(index: jax.Array | np.ndarray, share: jax.Array | np.ndarray | float) -> jax.Array | np.ndarray:
    """Whether batch `index` f32[...] is guided: the nearest number of batches to the share, evenly spread."""
    array = jnp if isinstance(index, jax.Array) or isinstance(share, jax.Array) else np
    return array.floor((index + 1.0) * share + 0.5) > array.floor(index * share + 0.5)


# (guided denoiser, key, sigmas f32[N + 1], (B, T, D), options) -> what is made of one batch, a pytree
Draw = Callable[[guidance.Guided, jax.Array, jax.Array, tuple[int, int, int], samplers.Options], Any]


def sample(
    plan: Plan,
    key: jax.Array,
    log_prob: LogProb,
    coefficient: jax.Array,
    hyper: Hyper,
    model: Model,
    normalizer: Normalizer,
    start: jax.Array | None = None,
    mesh: Mesh | None = None,
) -> jax.Array:
    """Guided windows f32[M, T, D] in network space, `trajectories_per_batch` at a time; coefficient 0 is unguided.

    A share of the batches is guided (`hyper.guided_share`, `is_guided`); the policy is evaluated in none of the others,
    unless another lane guides them. A warm start renews the windows `start` f32[M, T, D]: noised to `warm_sigma`, then
    `warm_steps` steps.
    """
    sampler = samplers.SAMPLERS.get(plan.sampling.sampler)

    def draw(guided: guidance.Guided, key: jax.Array, *others: Any) -> jax.Array:
        return sampler.sample(key, guided.denoise, *others)

    windows = _batches(plan, draw, key, log_prob, coefficient, hyper, model, normalizer, start, mesh)
    return windows.reshape(plan.sampling.num_trajectories, plan.window_length, normalizer.layout.dim)


def trace(
    plan: Plan,
    key: jax.Array,
    log_prob: LogProb,
    coefficient: jax.Array,
    hyper: Hyper,
    model: Model,
    normalizer: Normalizer,
) -> tuple[jax.Array, tracing.Steps]:
    """The windows of `sample` f32[B, T, D], which must be one batch, and the steps that they came by."""
    denoise = edm.denoiser(plan.network, model.denoiser)

    def draw(
        guided: guidance.Guided, key: jax.Array, sigmas: jax.Array, *others: Any
    ) -> tuple[jax.Array, tracing.Steps]:
        x, record = tracing.record(plan.sampling.sampler, key, guided.denoise, sigmas, *others)
        return x, tracing.explain(record, guided, denoise, sigmas)

    plan = plan._replace(guided_batches=None)  # a batch that is not guided is looked at in the same way
    made = _batches(plan, draw, key, log_prob, coefficient, hyper, model, normalizer)
    return jax.tree.map(lambda leaf: leaf[0], made)


def _batches(
    plan: Plan,
    draw: Draw,
    key: jax.Array,
    log_prob: LogProb,
    coefficient: jax.Array,
    hyper: Hyper,
    model: Model,
    normalizer: Normalizer,
    start: jax.Array | None = None,
    mesh: Mesh | None = None,
) -> Any:
    """What `draw` makes of each batch, stacked."""
    sampling = plan.sampling
    if plan.behaviour is not None:
        behaviour = functools.partial(cloned.log_prob, plan.behaviour, model.behaviour)
        log_prob = guidance.without_behaviour(log_prob, behaviour, hyper.guidance.behaviour)
    num_steps, sigma_max, steps = sampling.num_steps, hyper.sigma_max, plan.guided_steps
    if start is not None:
        num_steps, sigma_max, steps = sampling.warm_steps, hyper.warm_sigma, plan.warm_guided_steps
    denoise = edm.denoiser(plan.network, model.denoiser)
    sigmas = schedules.SCHEDULES.get(sampling.noise_schedule)(num_steps, hyper.sigma_min, sigma_max, hyper.rho)
    shape = (sampling.trajectories_per_batch, plan.window_length, normalizer.layout.dim)

    def drawn(made: guidance.Guided, key: jax.Array, start: jax.Array | None) -> Any:
        options = made.options(noise=hyper.noise, start=start, num_particles=sampling.num_particles)
        return draw(made, key, sigmas, shape, options)

    def guided(key: jax.Array, start: jax.Array | None, index: jax.Array) -> Any:
        strength = jnp.where(is_guided(index.astype(jnp.float32), hyper.guided_share), coefficient, 0.0)
        made = guidance.guide(
            denoise, log_prob, normalizer, strength, num_steps, sampling.guidance, sampling.guidance_schedule,
            hyper.guidance, steps,
        )  # fmt: skip
        return drawn(made, key, start)

    def batch(item: tuple[jax.Array, jax.Array | None, jax.Array]) -> Any:
        key, start, index = item
        if plan.guided_batches is None:
            return guided(key, start, index)
        # The same choice in every lane, so that it stays one under vmap: only one of the two is computed.
        is_any = jnp.array(plan.guided_batches)[index]
        unguided = functools.partial(drawn, guidance.Guided(denoise))
        return jax.lax.cond(is_any, guided, lambda key, start, _: unguided(key, start), key, start, index)

    keys = jax.random.split(key, plan.num_batches)
    starts = None if start is None else start.reshape(plan.num_batches, *shape)
    return devices.map_windows(batch, (keys, starts, jnp.arange(plan.num_batches)), mesh)


def flatten(normalizer: Normalizer, windows: jax.Array) -> Synthetic:
    """Windows f32[M, T, D] in network space as a phase's synthetic data."""
    return compact(*normalizers.to_transitions(normalizer, windows))


def init(plan: Plan, key: jax.Array, hyper: Hyper, model: Model, normalizer: Normalizer) -> jax.Array | None:
    """The newest windows f32[M, T, D], which warm starts renew: at first unguided ones. None without warm starts."""
    if not plan.sampling.warm_steps:
        return None
    return sample(plan, key, guidance.uniform, jnp.float32(0.0), hyper, model, normalizer)


def generate(
    plan: Plan,
    key: jax.Array,
    state: jax.Array | None,
    guide: Guide,
    hyper: Hyper,
    model: Model,
    normalizer: Normalizer,
    mesh: Mesh | None = None,
) -> tuple[jax.Array | None, Synthetic]:
    """The windows of one phase."""
    # The first set is unguided: an untrained policy has nothing to say about good actions.
    coefficient = jnp.where(guide.phase > 0, hyper.guidance_coefficient, 0.0)
    windows = sample(plan, key, guide.log_prob, coefficient, hyper, model, normalizer, state, mesh)
    return windows if plan.sampling.warm_steps else None, flatten(normalizer, windows)


@functools.cache  # one generator a plan, as programs are compared by the identity of their functions
def of_plan(plan: Plan) -> Generator:
    return Generator(
        functools.partial(init, plan),
        functools.partial(generate, plan),
        plan.window_length,
        plan.sampling.num_trajectories,
        plan.num_batches,
        plan,
    )


def build(context: Context) -> tuple[Generator, Model]:
    """From a trained denoiser, and a cloned behaviour policy where the config names one."""
    trained, behaviour = context.trained, context.behaviour
    if behaviour is None and np.any(np.asarray(context.hypers.guidance.behaviour) != 0.0):
        raise UserError(
            "hyper.generator.guidance.behaviour is the share of the behaviour policy that guidance leaves out: "
            "config.behaviour must name the run directory of train_behaviour that cloned it"
        )
    if found := settings.unlike_published(context.config.sampling, context.hypers):
        logging.info(f"sampling.{found}")
    plan = Plan(
        context.config.sampling, trained.config.data.window_length, trained.network, behaviour and behaviour.network
    )
    return of_plan(specialised(plan, context.hypers)), Model(trained.params, behaviour and behaviour.params)


GENERATORS.add("diffusion", GeneratorFamily(Hyper, build, needs="denoiser", check=settings.check_hypers))
