"""The models that the study measures with: a denoiser, a behaviour policy and the target policies of each task."""

import pathlib

from experiments.guidance_study import setting
from pgd_jax.runs import agent as agent_runs, behaviour, denoiser


def prepare(workdir: pathlib.Path, task: setting.Task) -> bool:
    """Trains what is missing under workdir/<task>, resuming where it stopped; returns whether all of it is there."""
    folder = workdir / task.name
    path = folder / "denoiser"
    if not denoiser.fit(setting.denoiser(task), path):
        return False
    if not behaviour.fit(setting.behaviour(str(path)), folder / "behaviour"):
        return False
    return all(agent_runs.fit(setting.policy(task, agent, str(path)), folder / agent) for agent in setting.AGENTS)
