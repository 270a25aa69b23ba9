"""What pip knows of this package, against what is installed: versions and their tested ranges, and extras.

Of a package that pip has not installed, such as this one run from a folder, nothing is known.
"""

import importlib.metadata
import platform
from collections.abc import Iterator

from packaging.requirements import Requirement

NAME = "pgd_jax"


def version(package: str) -> str:
    """The version that is installed; "" where there is none."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def required(package: str = NAME, extra: str = "") -> list[Requirement]:
    """What an installed package asks for on this Python: always, or only with `extra`."""
    texts = importlib.metadata.requires(package) if version(package) else None
    requirements = [Requirement(text) for text in texts or []]
    return [each for each in requirements if _holds(each, extra) and not (extra and _holds(each, ""))]


def _holds(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def extras() -> list[str]:
    return importlib.metadata.metadata(NAME).get_all("Provides-Extra", []) if version(NAME) else []


def faults(requirement: Requirement) -> Iterator[str]:
    """What is not as asked for, in the package and in what its extras ask for: nothing where all is well."""
    found = version(requirement.name)
    if not found:
        yield f"{requirement.name} is missing"
        return
    if not requirement.specifier.contains(found, prereleases=True):
        yield f"{requirement.name} {found} is outside the tested range {requirement.specifier}"
    for extra in sorted(requirement.extras):
        for each in required(requirement.name, extra):
            yield from faults(each)


def is_tested_python() -> bool:
    """Whether this Python is among those that the package names."""
    release = ".".join(platform.python_version_tuple()[:2])
    named = importlib.metadata.metadata(NAME).get_all("Classifier", [])
    return f"Programming Language :: Python :: {release}" in named
