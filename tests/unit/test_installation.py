"""What pip knows, against what is installed: on packages of planted metadata."""

import email.message
import importlib.metadata

import pytest
from packaging.requirements import Requirement

from pgd_jax.core import installation

PLANTED = {  # name: (version, what it asks for)
    "pgd_jax": (
        "0.1.0",
        [
            "base<2,>=1.5",
            'old; python_version < "3"',
            'simulator[render]>=3; extra == "sim"',
            'absent>=1; extra == "sim"',
            'pgd_jax[sim]; extra == "all"',
        ],
    ),
    "base": ("1.7", None),
    "simulator": ("3.1", ['window>=2; extra == "render"', 'sound; extra == "audio"']),
    "window": ("1.9", []),
}


@pytest.fixture(autouse=True)
def planted(monkeypatch):
    def find(name, number):
        if name not in PLANTED:
            raise importlib.metadata.PackageNotFoundError(name)
        return PLANTED[name][number]

    monkeypatch.setattr(importlib.metadata, "version", lambda name: find(name, 0))
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: find(name, 1))


def faults(text):
    return list(installation.faults(Requirement(text)))


def test_what_is_required_always_and_with_an_extra_on_this_python():
    assert [each.name for each in installation.required()] == ["base"]
    assert [each.name for each in installation.required(extra="sim")] == ["simulator", "absent"]
    assert installation.required("base") == installation.required("absent") == []


def test_ends_of_a_range():
    assert faults("base<2,>=1.7") == [] and faults("base") == []
    assert faults("base>=1,<1.7") == ["base 1.7 is outside the tested range <1.7,>=1"]
    assert faults("absent>=1") == ["absent is missing"]


def test_the_extras_of_a_requirement_are_looked_into_and_no_others():
    assert faults("simulator>=3") == []
    assert faults("simulator[render]>=3") == ["window 1.9 is outside the tested range >=2"]
    assert faults("simulator[audio]>=3") == ["sound is missing"]


def test_an_extra_may_be_made_of_others():
    (everything,) = installation.required(extra="all")
    assert list(installation.faults(everything)) == ["window 1.9 is outside the tested range >=2", "absent is missing"]


def test_a_release_candidate_in_the_range_is_in_the_range(monkeypatch):
    monkeypatch.setitem(PLANTED, "base", ("1.8rc1", []))
    assert faults("base<2,>=1.5") == []


@pytest.mark.parametrize(("release", "is_tested"), [("3.12.4", True), ("3.14.0", False)])
def test_a_python_that_the_package_does_not_name(release, is_tested, monkeypatch):
    metadata = email.message.Message()
    metadata["Classifier"] = "Programming Language :: Python :: 3.12"
    monkeypatch.setattr(importlib.metadata, "metadata", lambda name: metadata)
    monkeypatch.setattr(installation.platform, "python_version_tuple", lambda: release.split("."))
    assert installation.is_tested_python() == is_tested
