import jax
import numpy as np
import pytest
from flax import struct

from pgd_jax.core import hyper as floats
from pgd_jax.core.errors import UserError
from pgd_jax.core.hyper import Float, setting
from pgd_jax.generators import diffusion
from pgd_jax.train import lanes
from pgd_jax.train.loop import ProgramHyper


@struct.dataclass
class AgentHyper:
    alpha: Float = setting(2.5, "weight")
    discount: Float = setting(0.99, "gamma")


HYPER = ProgramHyper(AgentHyper(), diffusion.Hyper())
KNOWN = floats.names(HYPER)


def test_names_are_dotted_paths_in_the_order_of_the_leaves():
    assert {"agent.alpha", "agent.discount", "generator.guidance_coefficient", "reward_scale"} <= set(KNOWN)
    values = dict(zip(KNOWN, jax.tree.leaves(HYPER), strict=True))
    assert values["agent.alpha"] == 2.5 and values["generator.noise.churn"] == 80.0
    assert values["generator.guidance_coefficient"] == 10.0
    assert all(text for _, _, text in floats.described(HYPER)), "every float says what it means"


def test_a_name_may_be_cut_to_its_last_words():
    for name in KNOWN:
        assert floats.full(floats.short(name, KNOWN), KNOWN) == name == floats.full(name, KNOWN)
    assert floats.short("agent.alpha", KNOWN) == "alpha"
    assert floats.full("sigma_max", KNOWN) == "generator.sigma_max"  # fewer words than generator.guidance.sigma_max
    assert floats.short("generator.guidance.sigma_max", KNOWN) == "guidance.sigma_max"


def test_values_are_those_given_or_the_defaults():
    found = floats.values(HYPER, {"guidance_coefficient": [0, 0.15], "agent": {"alpha": 2}})
    assert found["generator.guidance_coefficient"] == (0.0, 0.15) and found["agent.alpha"] == (2.0,)
    assert found["agent.discount"] == (0.99,) and list(found) == KNOWN
    assert floats.values(HYPER, floats.nest(found)) == found


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"agent.alhpa": 1}, 'unknown float "agent.alhpa"; did you mean "agent.alpha"'),
        ({"alhpa": 1}, 'unknown float "alhpa"; did you mean "alpha"'),
        ({"alpha": 1, "agent": {"alpha": 2}}, 'the float "agent.alpha" is given twice'),
        ({"alpha": (1, "two")}, "hyper.alpha=(1, 'two') must be a finite number"),
        ({"alpha": ()}, "hyper.alpha=() must be a finite number"),
        ({"alpha": "1"}, "hyper.alpha='1' must be a finite number"),
        ({"alpha": None}, "hyper.alpha=None must be a finite number"),
        ({"alpha": True}, "hyper.alpha=True must be a finite number"),
        ({"alpha": [[1.0]]}, "hyper.alpha=[[1.0]] must be a finite number"),
        ({"alpha": (1, float("inf"))}, "hyper.alpha=(1, inf) must be a finite number"),
        ({"alpha": float("nan")}, "hyper.alpha=nan must be a finite number"),
    ],
)
def test_bad_values_are_refused(given, message):
    with pytest.raises(UserError) as error:
        lanes.build(HYPER, given, num_seeds=1, first_seed=0)
    assert message in str(error.value)


def test_an_ambiguous_name_is_refused():
    with pytest.raises(UserError, match='"x" may be a.x or b.x: write more of the name'):
        floats.full("x", ["a.x", "b.x"])


def test_a_lane_for_each_combination_and_seed():
    """Seeds run fastest, then the last of the names in the order of the settings."""
    built = lanes.build(HYPER, {"guidance_coefficient": (0, 1), "alpha": (2, 3)}, num_seeds=2, first_seed=7)
    np.testing.assert_array_equal(built.seeds, [7, 8] * 4)
    np.testing.assert_array_equal(built.hypers.agent.alpha, [2, 2, 2, 2, 3, 3, 3, 3])
    np.testing.assert_array_equal(built.hypers.generator.guidance_coefficient, [0, 0, 1, 1, 0, 0, 1, 1])
    np.testing.assert_array_equal(built.hypers.agent.discount, np.full(8, np.float32(0.99)))
    np.testing.assert_array_equal(built.hypers.generator.noise.churn_scale, np.full(8, np.float32(1.003)))
    assert built.settings[3] == {"alpha": 2.0, "guidance_coefficient": 1.0}
    assert all(leaf.shape == (8,) and leaf.dtype == np.float32 for leaf in jax.tree.leaves(built.hypers))
    assert built.seeds.dtype == np.uint32


def test_lanes_tell_what_differs_or_is_no_default():
    assert lanes.build(ProgramHyper(AgentHyper()), {}, 3, 0).settings == [{}, {}, {}]
    assert lanes.build(ProgramHyper(AgentHyper()), {"alpha": 1}, 1, 0).settings == [{"alpha": 1.0}]
    # Reports compare by lambda, whatever it is.
    assert lanes.build(HYPER, {}, 1, 0).settings == [{"guidance_coefficient": 10.0}]


def test_unguided_lanes_do_not_tell_of_a_guidance_that_they_have_not():
    settings = lanes.build(HYPER, {"guidance_coefficient": (0, 10), "guided_share": 0.5}, 1, 0).settings
    assert settings == [{"guidance_coefficient": 0.0}, {"guidance_coefficient": 10.0, "guided_share": 0.5}]
    several = lanes.build(HYPER, {"guidance_coefficient": 0, "guided_share": (0.5, 1.0)}, 1, 0).settings
    assert [setting["guided_share"] for setting in several] == [0.5, 1.0], "else two lanes would have one name"
