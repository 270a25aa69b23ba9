"""Trains and measures what is missing, the first seed of the models over all tasks first."""

import pathlib
from collections.abc import Sequence

from experiments.claims import tasks
from experiments.claims.fidelity import measure, models, page, points, setting as settings
from pgd_jax.core import signals

Missing = list[tuple[str, settings.Request]]  # (kind of policy, request)


def run(
    setting: settings.Setting, chosen: Sequence[tasks.Task], workdir: pathlib.Path, out: pathlib.Path, num_models: int
) -> bool:
    """Writes the page after each task; returns whether all of it is there, or training was stopped."""
    done = {point.name for point in points.read(points.path(out))}
    for model in range(num_models):
        for task in chosen:
            missing = [
                (agent, request)
                for agent in settings.AGENTS
                for request in setting.requests()
                if points.name(task.name, agent, model, setting.num_windows, request) not in done
            ]
            if missing and not measure_all(setting, missing, task, model, workdir, out):
                return False
            if missing:
                page.write(out)
    return True


def measure_all(
    setting: settings.Setting, missing: Missing, task: tasks.Task, model: int, workdir: pathlib.Path, out: pathlib.Path
) -> bool:
    """One seed of the models of one task; False where training was stopped."""
    if not models.prepare(setting, workdir, task, model):
        return False
    loaded, policies = models.load(setting, workdir, task, model)
    for agent, request in missing:
        signals.check()
        point = measure.point(setting, request, task.name, agent, model, loaded, policies[agent])
        points.append(points.path(out), point)
        print(points.line(point), flush=True)
    return True
