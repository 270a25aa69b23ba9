"""What a point is measured with: a denoiser and a world model of one seed, and the target policies."""

import functools
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.claims import tasks
from experiments.claims.fidelity import setting as settings
from pgd_jax.agents.base import Agent
from pgd_jax.core.errors import UserError
from pgd_jax.core.types import Normalizer
from pgd_jax.data import normalizer as normalizers
from pgd_jax.envs.base import ENVS, EvalEnv
from pgd_jax.generators import one_step
from pgd_jax.report import windows as real_windows
from pgd_jax.runs import agent as agent_runs, denoiser as denoisers, world_model as world_models

KEY_REFERENCE = 18


class Policies(NamedTuple):
    """The target policies of one task and kind."""

    agent: Agent
    states: Any  # leading axis P


class Models(NamedTuple):
    """Everything but the policies, of one task and seed."""

    denoiser: denoisers.Trained
    world: one_step.Model
    normalizer: Normalizer  # of all of them
    real: jax.Array  # f32[M, T, D] real windows, network space: what generated ones would be at best
    reference: jax.Array  # f32[R, T, D] others, which samples are held against
    env: EvalEnv

    @property
    def window_length(self) -> int:
        return self.denoiser.config.data.window_length


def prepare(setting: settings.Setting, workdir: pathlib.Path, task: tasks.Task, seed: int) -> bool:
    """Trains what is missing, resuming where it stopped; returns whether all of it is there.

    The policies are of the first denoiser, whose normalizer the others share: `load` checks it.
    """
    if not (tasks.train_denoiser(workdir, task, 0) and tasks.train_denoiser(workdir, task, seed)):
        return False
    if not tasks.train_world_model(workdir, task, seed):
        return False
    first = tasks.denoiser_path(workdir, task, 0)
    return all(
        agent_runs.fit(setting.policies(first, agent), settings.policies_path(workdir, task, agent))
        for agent in settings.AGENTS
    )


def load(
    setting: settings.Setting, workdir: pathlib.Path, task: tasks.Task, seed: int
) -> tuple[Models, dict[str, Policies]]:
    """Reads what `prepare` left: the models, and the policies by kind. Raises UserError where normalizers differ."""
    denoiser = denoisers.load(tasks.denoiser_path(workdir, task, seed))
    world = world_models.load(tasks.world_model_path(workdir, task, seed))
    check_same(denoiser=denoiser.normalizer, world_model=world.normalizer)
    policies = {}
    for agent in settings.AGENTS:
        experiment, states, _ = agent_runs.load(settings.policies_path(workdir, task, agent))
        check_same(denoiser=denoiser.normalizer, policies=experiment.shared.normalizer)
        policies[agent] = Policies(experiment.program.agent, states.agent)

    def real(key: int, num_windows: int) -> jax.Array:
        drawn = real_windows.real(jax.random.key(key), experiment.raw, denoiser.config.data.window_length, num_windows)
        return normalizers.encode(denoiser.normalizer, jnp.asarray(drawn))

    models = Models(
        denoiser,
        one_step.Model(world.params, world.scale, experiment.shared.real.obs),
        denoiser.normalizer,
        real(setting.noise + seed, setting.num_windows),
        real(KEY_REFERENCE, setting.reference_windows),
        environment(task.environment),
    )
    return models, policies


def check_same(**named: Normalizer) -> None:
    """Raises UserError where two models have other normalizers: windows of one would mean nothing to the other."""
    (name, first), *others = named.items()
    for other, found in others:
        leaves = zip(jax.tree.leaves(first), jax.tree.leaves(found), strict=True)
        if found.layout != first.layout or not all(np.array_equal(a, b) for a, b in leaves):
            raise UserError(
                f"{name.replace('_', ' ')} and {other.replace('_', ' ')} have other normalizers: they were trained on "
                "other data, or on windows of another length; train them anew"
            )


@functools.cache  # one a name, as compiled functions are told apart by the identity of an environment's functions
def environment(name: str) -> EvalEnv:
    return ENVS.get(name)()
