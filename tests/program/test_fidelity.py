"""The study of claims 2 and 3 from end to end, with tiny models on pendulum's shapes."""

import dataclasses
import json

import numpy as np
import pytest

from experiments.claims import tasks
from experiments.claims.fidelity import points, setting as settings, study
from experiments.claims.fidelity.setting import DEFAULT, PAPER, ROLLOUTS
from tests import worlds

TINY = tasks.Task("tiny", "", "pendulum", False)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """(folder, setting) of a whole study on pendulum's shapes, of one seed of the models."""
    folder = tmp_path_factory.mktemp("study")
    dataset = worlds.write_dataset(folder / "tiny.hdf5")
    steps = {"num_steps": 4}
    setting = settings.Setting(
        cells={rule: dataclasses.replace(cell, **steps) for rule, cell in settings.Setting().cells.items()},
        strengths={DEFAULT: (0.0, 100.0), PAPER: (0.0, 1.0)},
        action_noises=(0.0, 0.5),
        num_windows=8,
        reference_windows=16,
        num_policies=2,
        hidden_dim=16,
        batch_size=16,
        num_updates=40,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tasks, "TASKS", (TINY,))
        patch.setattr(tasks, "denoiser", lambda task, seed: worlds.denoiser_config(dataset, seed=seed))
        patch.setattr(tasks, "world_model", lambda task, seed: worlds.world_model_config(dataset, seed=seed))
        yield folder, lambda: study.run(setting, [TINY], folder / "work", folder, num_models=1), setting


def test_a_tiny_study_from_end_to_end(tiny):
    folder, run, setting = tiny
    assert run()
    found = {(p.agent, p.generator, p.strength): p for p in points.read(points.path(folder))}
    assert len(found) == len(settings.AGENTS) * len(list(setting.requests())) == 18
    for agent in settings.AGENTS:
        for rule, strengths in setting.strengths.items():
            weak, strong = (found[agent, rule, s].measures["log_likelihood"] for s in (strengths[0], strengths[-1]))
            assert (strong[:, -1] > weak[:, -1]).all(), (agent, rule)
        greedy, noisy = (found[agent, ROLLOUTS, noise].measures["log_likelihood"] for noise in (0.0, 0.5))
        assert (greedy > noisy).all()
    # Unguided windows are the same whichever policy looks at them, and so are their errors.
    errors = [found[agent, DEFAULT, 0.0].measures["dynamics_error"] for agent in settings.AGENTS]
    np.testing.assert_allclose(*errors, rtol=1e-4)
    text = (folder / "fidelity.md").read_text()
    assert "tiny" in text and (folder / "fidelity" / "tiny.png").exists()


def test_a_study_that_was_cut_off_goes_on_with_the_same_points(tiny):
    folder, run, _ = tiny
    path = points.path(folder)
    whole = path.read_text().splitlines()
    path.write_text("\n".join([*whole[:-1], whole[-1][:50]]))
    assert run()
    again = path.read_text().splitlines()
    assert again[:-1] == whole[:-1] and len(again) == len(whole)
    old, new = (json.loads(line) for line in (whole[-1], again[-1]))
    assert old | {"seconds": 0.0} == new | {"seconds": 0.0}
