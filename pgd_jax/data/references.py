"""D4RL's own tables: where each dataset lives and which returns count as 0 and 100 (Fu et al. 2020, arXiv 2004.07219).

They are read from the installed `d4rl` package without importing it: `import d4rl` needs the MuJoCo 2.1 binaries, but
its `infos.py` is plain data.
"""

import functools
import importlib.util
import pathlib
from typing import NamedTuple

import numpy as np

from pgd_jax.errors import UserError
from pgd_jax.registry import nearest


class _Tables(NamedTuple):
    urls: dict[str, str]
    random: dict[str, float]
    expert: dict[str, float]


@functools.cache
def _read(infos: str) -> _Tables:
    spec = importlib.util.spec_from_file_location("_d4rl_infos", infos)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return _Tables(module.DATASET_URLS, module.REF_MIN_SCORE, module.REF_MAX_SCORE)


def installed() -> bool:
    """Whether the d4rl package, and with it the tables, is there."""
    return importlib.util.find_spec("d4rl") is not None


def _tables() -> _Tables:
    spec = importlib.util.find_spec("d4rl")  # finds a top-level package without executing it
    if spec is None:
        raise UserError(
            "D4RL's dataset addresses and reference scores come from the d4rl package, which is not installed: "
            "pip install d4rl (--no-deps is enough, it is read but never imported)"
        )
    return _read(str(pathlib.Path(spec.origin).with_name("infos.py")))


def names() -> list[str]:
    """Every D4RL dataset name that has a file, sorted. Raises UserError without the d4rl package."""
    return sorted(_tables().urls)


def dataset_url(name: str) -> str:
    """The address of D4RL dataset `name`. Raises UserError for an unknown name."""
    urls = _tables().urls
    if name not in urls:
        raise UserError(f'unknown D4RL dataset "{name}"{nearest(name, urls)}')
    return urls[name]


def name_of_file(file_name: str) -> str:
    """The D4RL name whose file is called `file_name` ("hopper_medium-v2.hdf5" -> "hopper-medium-v2"), or ""."""
    for name, url in _tables().urls.items():
        if url.rsplit("/", 1)[-1] == file_name:
            return name
    return ""


def reference_scores(name: str) -> tuple[float, float] | None:
    """(random, expert) undiscounted episode returns of D4RL dataset `name`; None where D4RL gives none."""
    tables = _tables()
    if name not in tables.random or name not in tables.expert:
        return None
    return float(tables.random[name]), float(tables.expert[name])


def normalised_score(name: str, returns: float | np.ndarray) -> float | np.ndarray:
    """100 (R - R_random) / (R_expert - R_random): 0 is the random policy, 100 the expert (Fu et al. 2020, section 4).

    D4RL's own function gives the same number on a 0-1 scale. Raises UserError where `name` has no reference scores.
    """
    scores = reference_scores(name)
    if scores is None:
        raise UserError(
            f'no reference scores for "{name}"{nearest(name, _tables().expert)}; report plain returns for this dataset'
        )
    random, expert = scores
    return 100.0 * (returns - random) / (expert - random)
