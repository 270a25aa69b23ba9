"""The denoiser study: its networks, its budget, and a whole point of tiny size."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.denoiser_study import measure, networks, recipes, report
from pgd_jax.core import validation

DIM = 6


@pytest.mark.parametrize("recipe", recipes.RECIPES, ids=lambda recipe: recipe.name)
def test_a_recipe_takes_its_budget(recipe, key):
    network = recipes.build(recipe, DIM)
    params = jax.eval_shape(network.init, key)
    out = jax.eval_shape(network.apply, params, jnp.zeros((3, recipe.window_length, DIM)), jnp.zeros(3))
    assert out.shape == (3, recipe.window_length, DIM)
    flops = 4e6
    config = recipes.config(recipe, "pendulum-mixed-v0", 0, flops)
    validation.validate_denoiser(config)
    assert config.training.batch_size * config.data.window_length in (512, 1024, 2048)
    spent = config.training.num_steps * config.training.batch_size * flops
    assert abs(spent / (recipe.budgets * recipes.BUDGET) - 1.0) < 0.2
    assert len({other.name for other in recipes.RECIPES}) == len(recipes.RECIPES)


@pytest.mark.parametrize("kind", networks.BLOCKS)
def test_networks_start_at_zero_and_see_every_row(kind, key):
    network = networks.build(kind, 8, DIM, width=16, num_blocks=4)
    params = network.init(key)
    x = jax.random.normal(key, (2, 8, DIM))
    np.testing.assert_array_equal(network.apply(params, x, jnp.zeros(1)), jnp.zeros_like(x))
    moved = jax.tree.map(lambda leaf: leaf + 0.1 * jax.random.normal(jax.random.key(1), leaf.shape), params)
    out = network.apply(moved, x, jnp.zeros(1))
    reached = np.abs(network.apply(moved, x.at[0, 3].add(1.0), jnp.zeros(1)) - out)
    assert reached[0, 0].max() > 0.0 and reached[0, 7].max() > 0.0 and reached[1].max() == 0.0


def test_flops_are_those_of_the_products(key):
    """Two levels of width 8 against a count by hand; norms and activations add to it, a conv of half rows is halved."""
    network = recipes.build(recipes.Recipe("unet of the reference", 8, 1), DIM)
    params = network.init(key)
    of_rows = 2 * 16 * (3 * DIM * 8 + 2 * 3 * 8 * 8 + 8 * 8 + 8 * DIM)
    found = measure.flops_of(network, params, 16, DIM)
    assert of_rows < found < 2.5 * of_rows


def test_a_point_is_measured_and_shown(monkeypatch):
    monkeypatch.setattr(recipes, "BUDGET", 1.0)
    monkeypatch.setattr(measure, "NUM_WINDOWS", 32)
    monkeypatch.setattr(measure, "DYNAMICS_WINDOWS", 8)
    original = recipes.config

    def short(*args):
        config = original(*args)
        return dataclasses.replace(
            config, training=dataclasses.replace(config.training, num_steps=20, steps_per_chunk=10)
        )

    monkeypatch.setattr(recipes, "config", short)
    point = measure.point(recipes.Recipe(width=8), "pendulum-mixed-v0", 0)
    assert point["num_steps"] == 20 and point["parameters"] > 1_000
    assert 0.0 < point["dynamics_error"] < 20.0 and 0.5 < point["loss_0.5"] < 1.2
    page = report.page([point, point | {"seed": 1, "dynamics_error": point["dynamics_error"] + 2.0}])
    assert "| unet 8 x 2 | 2 | 20 |" in page and f"{point['dynamics_error'] + 1.0:.4f}" in page
