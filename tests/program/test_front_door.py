"""What a newcomer types: a dataset, a denoiser, guided windows, agents, scores."""

import pathlib

import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest

import pgd_jax as pgd

matplotlib.use("agg")


@pytest.mark.slow
def test_fourteen_lines_from_a_dataset_to_the_scores_of_agents(tmp_path, monkeypatch):
    """On real sizes; a minute and a half on two idle cores."""
    monkeypatch.chdir(tmp_path)
    import jax

    data = pgd.load_dataset("maze2d-umaze-waypoint-v0")
    denoiser = pgd.train_denoiser(data, num_steps=2_000)

    def log_prob(obs, action):
        return -0.5 * jnp.sum((action - 0.5) ** 2, axis=-1) / 0.09

    plain = denoiser.sample(jax.random.key(0), 256)
    guided = denoiser.sample(jax.random.key(0), 256, log_prob=log_prob, guidance=10.0)
    guided.obs, guided.action, guided.transitions(), guided.save("guided.hdf5")  # noqa: B018
    error = pgd.measures.dynamics_error(guided, data.env)
    axes = pgd.plot.windows({"data": data.windows(64), "unguided": plain, "guided": guided})
    result = pgd.train_agent(data, denoiser, agent="td3_bc", num_seeds=4, guidance_coefficient=[0, 10])
    scores, curves, policy = result.scores, result.curves, result.policy(lane=0)
    returns = pgd.evaluate(policy, data.env, num_episodes=16)

    assert plain.obs.shape == guided.obs.shape == (256, 16, 4) and guided.action.shape == (256, 16, 2)
    likelihood = [pgd.measures.log_likelihood(windows, log_prob) for windows in (plain, guided)]
    assert likelihood[1] > likelihood[0] + 1.0 and np.isfinite(error)
    assert len(np.ravel(axes)) == 3 and pathlib.Path("guided.hdf5").exists()
    assert {name: len(values) for name, values in scores.items()} == {
        "unguided": 4,
        "guided guidance_coefficient=10": 4,
    }
    assert all(curve.shape == (4, 4) for curve in curves.values()) and returns.shape == (16,)
