"""Says what is installed, what is missing, where files are looked for, and whether this device computes right.

    pgd doctor

Versions are compared with the tested ranges, and features are the extras of `pip install "pgd_jax[...]"`. The
self-check takes about ten seconds on two CPU cores: products, windows, guidance and updates with known answers, on the
devices that a run would take. The exit status is 1 where a check failed, a required package is missing, or JAX has no
device.
"""

import collections
import os
import pathlib
import platform
import tempfile
from collections.abc import Iterator
from typing import Any

from packaging.requirements import Requirement

import pgd_jax
from pgd_jax.cli import entry
from pgd_jax.core import compilation, installation
from pgd_jax.core.errors import UserError

FEATURES = {
    "cuda": "NVIDIA GPUs",
    "tpu": "TPUs",
    "mujoco": "hopper, halfcheetah, walker2d, ant, antmaze",
    "robotics": "kitchen, adroit",
    "ogbench": "OGBench's tasks (Python 3.11, 3.12)",
    "minari": "Minari datasets",
    "gymnax": "mountain car, reacher, swimmer, point robot",
    "tensorboard": "logging to TensorBoard",
    "wandb": "logging to Weights & Biases",
    "ray": "sweeps on Ray",
    "notebooks": "JupyterLab",
}
NOT_FEATURES = ("all", "test")
PLATFORMS = {"cuda": "gpu", "tpu": "tpu"}  # as JAX calls them: it may have come by other packages than the extra's
# Of environment variables that this library, or one that it uses, reads.
PREFIXES = (
    "PGD_JAX_", "JAX_", "XLA_", "CUDA_VISIBLE_", "D4RL_", "MINARI_", "OGBENCH_", "XDG_CACHE_", "MUJOCO_", "RAY_ADDRESS",
)  # fmt: skip


def run() -> None:
    entry.run(lambda: main, __doc__, compiles=False, keeps_nothing=True)


def main() -> int:
    settings = environment()
    compilation.use_float32()  # as every command that computes
    compilation.keep(compilation.AUTO)
    compilation.divide_cpu()
    _print("versions", versions())
    from pgd_jax.core import processes  # on use: where JAX cannot be imported, its version has been told

    try:
        processes.check_devices()
    except UserError as error:
        _print("devices", [str(error)])
        return 1
    _print("devices", devices())
    _print("features", features())
    _print("folders", folders())
    _print("environment", settings)
    is_complete = all(installation.version(each.name) for each in installation.required())
    return int(not (check_device() and is_complete))


def _print(title: str, lines: Iterator[str] | list[str]) -> None:
    print("\n  ".join([title, *lines]), flush=True)


def versions() -> Iterator[str]:
    """This package's and those of what it requires, each with what is wrong with it."""
    is_known = bool(installation.version(installation.NAME))
    place = pathlib.Path(pgd_jax.__file__).parent
    yield _version("pgd_jax", pgd_jax.__version__, f"in {place}{'' if is_known else ', not installed by pip'}")
    is_untested = is_known and not installation.is_tested_python()
    yield _version("python", platform.python_version(), "is not among the tested ones" if is_untested else "")
    for requirement in installation.required() or [Requirement("jax")]:
        faults = "; ".join(installation.faults(requirement))
        yield _version(requirement.name, installation.version(requirement.name), faults)
    yield _version("jaxlib", installation.version("jaxlib"))


def _version(name: str, version: str, note: str = "") -> str:
    return f"{name:<18}{version:<10}{note}".rstrip()


def features() -> Iterator[str]:
    """Every extra: ready, or what is missing and how to get it."""
    import jax

    for extra in [each for each in installation.extras() if each not in NOT_FEATURES]:
        found = (fault for each in installation.required(extra=extra) for fault in installation.faults(each))
        faults = list(dict.fromkeys(found))
        is_ready = PLATFORMS[extra] == jax.default_backend() if extra in PLATFORMS else not faults
        state = "ready" if is_ready else f"missing: pip install 'pgd_jax[{extra}]'  ({'; '.join(faults)})"
        yield f"{extra:<11}{FEATURES.get(extra, ''):<45}{state}"


def devices() -> Iterator[str]:
    import jax

    from pgd_jax.core import memory

    for text, count in collections.Counter(map(_described, jax.local_devices())).items():
        yield f"{count} x {text}"
    yield f"{compilation.num_cores()} CPU cores, {memory.available().host / memory.GB:.3g} GB of memory free"


def _described(device: Any) -> str:
    limit = (device.memory_stats() or {}).get("bytes_limit", 0)
    return f"{device.platform} ({device.device_kind}){f', {limit / 1e9:.3g} GB each for JAX' if limit else ''}"


def folders() -> Iterator[str]:
    import jax

    from pgd_jax.data import loading, minari, ogbench
    from pgd_jax.data.mazes import collect

    values = jax.config.values
    compiled = values["jax_compilation_cache_dir"] if values["jax_enable_compilation_cache"] else None
    named = {
        "D4RL ($D4RL_DATASET_DIR)": loading.root(),
        "Minari ($MINARI_DATASETS_PATH)": minari.root(),
        "OGBench ($OGBENCH_DATASET_DIR)": ogbench.root(),
        "built-in data ($PGD_JAX_CACHE_DIR)": collect.root(),
        "compiled programs ($JAX_COMPILATION_CACHE_DIR)": pathlib.Path(compiled) if compiled else None,
    }
    for name, path in named.items():
        yield f"{name:<48}{f'{path}: {_state(path)}' if path else 'none are kept'}"


def _state(path: pathlib.Path) -> str:
    """Whether a folder is there, and whether files can be written into it, or into the one that it would be made in."""
    there = next(each for each in (path.absolute(), *path.absolute().parents) if os.path.exists(each))
    name = "not there yet" if there != path.absolute() else "there"
    try:
        tempfile.TemporaryFile(dir=there).close()  # permissions alone do not tell
    except OSError as error:
        return f"{name}, {there} cannot be written to ({error.strerror})"
    return f"{name}, {'can be made' if there != path.absolute() else 'can be written to'}"


def environment() -> list[str]:
    found = [f"{name}={value}" for name, value in sorted(os.environ.items()) if name.startswith(PREFIXES)]
    return found or ["none of those that are read"]


def check_device() -> bool:
    """Whether every check is ok, each told as it is made."""
    from pgd_jax.cli import self_check

    print("self-check", flush=True)
    failed = []
    for finding in self_check.run():
        print(f"  {finding}", flush=True)
        failed += [] if finding.is_ok else [finding.name]
    print(f"FAILED: {', '.join(failed)}" if failed else "every check is ok")
    return not failed


if __name__ == "__main__":
    run()
