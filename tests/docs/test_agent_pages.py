"""The tables of docs/agents say what the code says: every agent, its floats, its sizes and their defaults."""

import fractions
import re

import pytest

from pgd_jax import agents  # noqa: F401 (registers the agents)
from pgd_jax.agents.base import AGENTS
from pgd_jax.core import hyper
from tests import pages

FOLDER = pages.ROOT / "docs" / "agents"
PAGES = {"bc_gaussian": "bc", "iql_deterministic": "iql"}  # of agents that share one
ROW = re.compile(r"^\| `(\w+)` \| ([^|]+?) \|", re.MULTILINE)
SIZES = ("hidden_dim", "num_hidden", "critic_norm", "num_critics")


@pytest.mark.parametrize("name", AGENTS.names())
def test_a_page_has_every_float_and_size_of_its_agent(name):
    family = AGENTS.get(name)
    text = (FOLDER / f"{PAGES.get(name, name)}.md").read_text()
    found = dict(ROW.findall(text))
    sizes = {size: found.pop(size) for size in SIZES if size in found}
    assert sizes == {size: str(getattr(family.plan, size)) for size in sizes}
    assert sizes.keys() == set(SIZES if "critic_lr" in found else SIZES[:2])
    expected = {float_name: default for float_name, default, _ in hyper.described(family.hyper())}
    assert {each: float(fractions.Fraction(default)) for each, default in found.items()} == expected
    assert f"`{name}`" in text.splitlines()[0]


def test_the_first_page_lists_every_agent_and_those_that_see_raw_observations():
    text = (FOLDER / "index.md").read_text()
    assert sorted(re.findall(r"^\| \[`(\w+)`\]", text, re.MULTILINE)) == AGENTS.names()
    raw = [name for name in AGENTS.names() if AGENTS.get(name).sees_raw_obs]
    (sentence,) = re.findall(r"([^.]*) see them raw", text)
    assert sorted(re.findall(r"`(\w+)`", sentence)) == raw
