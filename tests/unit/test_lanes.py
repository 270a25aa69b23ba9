import jax
import numpy as np
import pytest
from flax import struct

from pgd_jax import lanes
from pgd_jax.errors import UserError
from pgd_jax.loop import ProgramHyper

KNOWN = ["guidance_coefficient", "agent.alpha", "agent.discount"]


@struct.dataclass
class AgentHyper:
    alpha: float = 2.5
    discount: float = 0.99


def test_names_are_dotted_paths_in_the_order_of_the_leaves():
    hyper = ProgramHyper(AgentHyper())
    names = lanes.names(hyper)
    assert {"agent.alpha", "agent.discount", "guidance_coefficient", "reward_scale", "noise.churn"} <= set(names)
    values = dict(zip(names, jax.tree.leaves(hyper), strict=True))
    assert values["agent.alpha"] == 2.5 and values["noise.churn"] == 80.0 and values["guidance_coefficient"] == 10.0


def test_parse_sweep():
    parsed = lanes.parse_sweep(" guidance_coefficient = 0, 1.5e-1 ;agent.alpha=2; ", KNOWN)
    assert parsed == {"guidance_coefficient": [0.0, 0.15], "agent.alpha": [2.0]}
    assert lanes.parse_sweep("", KNOWN) == {}


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        ("agent.alpha", '"agent.alpha" must read name=value'),
        ("agent.alpha=", '"agent.alpha=" must read name=value'),
        ("agent.alhpa=1", 'unknown hyperparameter "agent.alhpa"; did you mean "agent.alpha"'),
        ("agent.alpha=1;agent.alpha=2", '"agent.alpha" is given twice'),
        ("agent.alpha=1,two", '"agent.alpha=1,two" has a value that is not a number'),
        ("agent.alpha=1,,2", '"agent.alpha=1,,2" has a value that is not a number'),
        ("agent.alpha=inf", '"agent.alpha=inf" has a value that is not finite'),
        ("agent.alpha=nan", '"agent.alpha=nan" has a value that is not finite'),
    ],
)
def test_bad_sweeps_are_refused(sweep, message):
    with pytest.raises(UserError) as error:
        lanes.parse_sweep(sweep, KNOWN)
    assert message in str(error.value) and str(error.value).startswith("sweep: ")


def test_a_lane_for_each_combination_and_seed():
    """Seeds run fastest, then the last of the swept names."""
    sweep = "guidance_coefficient=0,1; agent.alpha=2,3"
    built = lanes.build(ProgramHyper(AgentHyper()), sweep, num_seeds=2, first_seed=7)
    np.testing.assert_array_equal(built.seeds, [7, 8] * 4)
    np.testing.assert_array_equal(built.hypers.guidance_coefficient, [0, 0, 0, 0, 1, 1, 1, 1])
    np.testing.assert_array_equal(built.hypers.agent.alpha, [2, 2, 3, 3, 2, 2, 3, 3])
    np.testing.assert_array_equal(built.hypers.agent.discount, np.full(8, np.float32(0.99)))
    np.testing.assert_array_equal(built.hypers.noise.churn_scale, np.full(8, np.float32(1.003)))
    assert built.settings[5] == {"guidance_coefficient": 1.0, "agent.alpha": 2.0}
    assert all(leaf.shape == (8,) and leaf.dtype == np.float32 for leaf in jax.tree.leaves(built.hypers))
    assert built.seeds.dtype == np.uint32


def test_without_a_sweep_the_lanes_are_the_seeds():
    built = lanes.build(ProgramHyper(AgentHyper()), "", num_seeds=3, first_seed=0)
    assert built.settings == [{}, {}, {}] and built.seeds.tolist() == [0, 1, 2]
