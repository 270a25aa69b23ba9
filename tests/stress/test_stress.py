"""A few kills of every kind of command, and a few full disks; `python -m tests.stress` does many."""

import random

import pytest

from tests.stress import full_disks, kills, prepared

NUM_KILLS, NUM_FULL_DISKS = 4, 3
NAMES = ["denoiser", "agent", "agent_on_two_devices", "sweep"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # the first one makes the undisturbed runs


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    found = prepared.prepare(tmp_path_factory.mktemp("stress"))
    return {case.kind.name: case for case in found}


@pytest.mark.parametrize("name", NAMES)
def test_what_is_killed_at_random_moments_ends_as_the_undisturbed(cases, name):
    kills.kill_often(*cases[name], NUM_KILLS, random.Random(name), print)


@pytest.mark.parametrize("name", ["denoiser", "agent"])
def test_what_finds_its_disk_full_says_so_in_one_line_and_ends_as_the_undisturbed(cases, name):
    try:
        full_disks.fill_often(*cases[name], NUM_FULL_DISKS, random.Random(name), print)
    except full_disks.CannotMount as error:
        pytest.skip(f"a small disk cannot be mounted: {error}")
