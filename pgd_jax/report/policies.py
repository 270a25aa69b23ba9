"""The final policies of a run, evaluated over many episodes: the entries of a policy pool."""

import functools

import jax
import numpy as np

from pgd_jax.agents.base import greedy
from pgd_jax.core.errors import UserError
from pgd_jax.data import catalogue
from pgd_jax.envs import evaluate as evaluation
from pgd_jax.report import exchange
from pgd_jax.report.results import Run
from pgd_jax.runs import agent as agent_runs, evaluators
from pgd_jax.runs.experiment import Experiment
from pgd_jax.train import loop


def check_episodes(num_pool_episodes: int) -> None:
    """Raises UserError for a number of episodes that no pool can have."""
    if num_pool_episodes < 0:
        raise UserError(f"num_pool_episodes={num_pool_episodes}: name how many episodes, or 0 for no pool")


def pool(
    key: jax.Array, run: Run, dataset: str, experiment: Experiment, states: loop.LaneState, num_episodes: int
) -> list[exchange.Policy]:
    """A policy for each lane of the run (states [L, ...]), with `num_episodes` new episodes; [] without an environment.

    Lanes whose returns are not finite are left out.
    """
    returns = _returns(key, experiment, states, num_episodes)
    if returns is None:
        return []
    seeds, made = np.asarray(experiment.lanes.seeds), []
    for lane, (setting, values) in enumerate(zip(experiment.lanes.settings, returns, strict=True)):
        if not np.isfinite(values).all():
            continue
        scores = np.asarray(catalogue.normalised_score(experiment.reference, values)) if experiment.reference else None
        args = {"seed": int(seeds[lane]), "lane": lane, "commit": run.commit} | setting
        kind = agent_runs.group(experiment.config, setting).split()[0]
        made.append(exchange.Policy(f"{run.config.agent} {kind}", dataset, values, scores, args))
    return made


def _returns(key: jax.Array, experiment: Experiment, states: loop.LaneState, num_episodes: int) -> np.ndarray | None:
    """Returns f64[L, E] in the environment whose scores the report shows: the program's, else the host's."""
    program, num_lanes = experiment.program, len(experiment.lanes.settings)
    if program.is_judged:
        # As many episodes in parallel as in the run, so that they take no more memory than it did.
        num_rounds = -(-num_episodes // program.plan.num_episodes)
        keys = jax.random.split(key, (num_lanes, num_rounds))
        rounds = _rounds(program, keys, states, experiment.shared)
        return np.asarray(rounds, np.float64).reshape(num_lanes, -1)[:, :num_episodes]
    if experiment.host is None:
        return None
    judge = evaluators.HostEvaluator(
        experiment.host._replace(num_episodes=num_episodes), program.agent, experiment.shared.normalizer,
        experiment.lanes,
    )  # fmt: skip
    # An evaluation number beyond the run's own gives new initial states.
    return np.asarray(judge.episodes(states, experiment.config.num_phases).returns, np.float64)


@functools.partial(jax.jit, static_argnums=0)
def _rounds(program: loop.Program, keys: jax.Array, states: loop.LaneState, shared: loop.Shared) -> jax.Array:
    """keys [L, n] -> returns f32[L, n, E]."""
    assert program.env is not None
    env, num_episodes = program.env, program.plan.num_episodes

    def lane(keys: jax.Array, agent: object) -> jax.Array:
        policy = greedy(program.agent, agent, shared.normalizer)
        return jax.lax.map(lambda key: evaluation.evaluate(key, policy, env, num_episodes).returns, keys)

    return jax.vmap(lane)(keys, states.agent)
