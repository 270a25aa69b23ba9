"""Which environment judges, and whose scores normalise what it finds."""

import dataclasses

import numpy as np
import pytest

from pgd_jax.core.errors import UserError
from pgd_jax.data.base import RawDataset
from pgd_jax.runs import evaluators, experiment


def raw(reference, env):
    nothing = np.zeros((0, 4), np.float32)
    return RawDataset(
        "mine", env, reference, nothing, nothing[:, :2], nothing[:, 0], None, nothing[:, 0], nothing[:, 0]
    )


def test_scores_of_one_task_say_nothing_of_another():
    """Of the same shape, and thus judged without complaint: another maze, another reward, and no judge at all."""
    data = raw("maze2d-umaze-v1", "maze2d-umaze")
    assert experiment.reference_of(data, "maze2d-umaze") == "maze2d-umaze-v1"
    for environment in ("maze2d-large", "maze2d-umaze-dense", "none", ""):
        assert experiment.reference_of(data, environment) == ""
    assert experiment.reference_of(dataclasses.replace(data, reference=""), "maze2d-umaze") == ""


def test_episodes_are_as_long_as_d4rls_of_the_dataset():
    """maze2d-umaze-v0 has episodes of 150 steps, v1 of 300; another maze keeps its own."""
    for reference, environment, horizon in (
        ("maze2d-umaze-v0", "maze2d-umaze", 150),
        ("maze2d-umaze-v1", "maze2d-umaze", 300),
        ("maze2d-umaze-v0", "maze2d-large", 800),
    ):
        assert evaluators.in_graph(environment, raw(reference, environment)).horizon == horizon


@pytest.mark.parametrize(
    ("wrong", "right"), [("kitchen-mixd", "kitchen-mixed"), ("hoper", "hopper"), ("antmaze-umazee", "antmaze-umaze")]
)
def test_a_wrong_name_is_answered_with_the_nearest_of_both_kinds(wrong, right):
    with pytest.raises(UserError, match=f'unknown environment "{wrong}"; did you mean "{right}"'):
        evaluators.check_known(wrong)
