"""How XLA compiles, and compiled programs kept on disk: what one start of a command has compiled, the next one reads.

XLA's code for a CPU is for the very one that it was compiled on: another may stop at an instruction that it lacks, and
JAX, whose keys know nothing of the CPU, only logs the difference. A program compiled for one core is not divided
over eight either. So each kind of machine has a folder of its own, also where several share a home folder.
"""

import contextlib
import functools
import hashlib
import importlib.metadata
import itertools
import os
import pathlib
import platform
import re
import sys
import time
import zlib
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from pgd_jax.core import logging
from pgd_jax.core.errors import UserError

P = ParamSpec("P")
R = TypeVar("R")

AUTO, NONE = "auto", "none"
# Flax's initialisers take half a second each, a dozen of them in a U-Net: a limit near that would keep some of them.
MIN_COMPILE_S = 0.2
MAX_BYTES = 1 << 30  # a thousand programs of the quickstart's size
PROGRAM = re.compile(r".+-[0-9a-f]{64}-cache")  # JAX's name for one: module, SHA-256 of its key
SETTLED_S = 10.0  # a program that was not written to for so long will not be written any further
ZSTD = b"\x28\xb5\x2f\xfd"  # what it begins with
MARK = "CACHEDIR.TAG"  # its time is that up to which programs were looked through
MARK_TEXT = "Signature: 8a477f597d28d172789f06886806bc55\n# Programs that pgd_jax has compiled; may be removed.\n"
CPU_INFO = pathlib.Path("/proc/cpuinfo")
# What decides the instructions that LLVM chooses: on x86, then on ARM.
CPU_FIELDS = {"vendor_id", "cpu family", "model", "model name", "flags"} | {
    "CPU implementer", "CPU architecture", "CPU variant", "CPU part", "Features",
}  # fmt: skip
# Which matrix products XLA gives to YNNPACK on a CPU. Releases without the flag would end the process at it.
YNN_FLAG, YNN_RELEASES = "--xla_cpu_experimental_ynn_fusion_type", ("0.10.", "0.11.", "0.12.0")
DEVICES_FLAG = "--xla_force_host_platform_device_count"


def use_eigen() -> None:
    """Has XLA multiply matrices on a CPU by Eigen, not YNNPACK: a phase takes 3/4 of the time (experiments/bench).

    Holds for this process and those that it starts, unless XLA_FLAGS already says which. Where JAX has begun to use a
    CPU it comes too late for this process, which is said.
    """
    if not importlib.metadata.version("jaxlib").startswith(YNN_RELEASES) or YNN_FLAG in os.environ.get("XLA_FLAGS", ""):
        return
    _add_flag(YNN_FLAG, "")
    if _has_begun() and sys.modules["jax"].default_backend() == "cpu":
        logging.warning(
            "pgd_jax was imported after JAX had started: XLA multiplies matrices on this CPU by YNNPACK, about a third "
            f"slower; import pgd_jax first, or set XLA_FLAGS={YNN_FLAG}="
        )


def _has_begun() -> bool:
    """Whether JAX has started its devices, without starting them."""
    bridge = sys.modules.get("jax._src.xla_bridge")  # JAX has no public way to ask
    return getattr(bridge, "backends_are_initialized", lambda: False)()


def divide_cpu() -> None:
    """Has a CPU pass for as many devices as it has cores: lanes divide over them (experiments/bench).

    Holds and does nothing as `use_eigen`, nor where JAX_NUM_CPU_DEVICES is set.
    """
    if "JAX_NUM_CPU_DEVICES" not in os.environ:
        _add_flag(DEVICES_FLAG, str(num_cores()))


def use_float32() -> None:
    """Takes back JAX_ENABLE_X64=1, for a command: programs and checkpoints of this library are float32 throughout."""
    os.environ.pop("JAX_ENABLE_X64", None)
    if "jax" in sys.modules:
        sys.modules["jax"].config.update("jax_enable_x64", False)


def in_float32(function: Callable[P, R]) -> Callable[P, R]:
    """The function without JAX_ENABLE_X64, which a user's own program may have set for its own arrays."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        import jax  # on use, as above

        with jax.enable_x64(False):
            return function(*args, **kwargs)

    return run


def _add_flag(name: str, value: str) -> None:
    """To XLA_FLAGS, unless they have it."""
    flags = os.environ.get("XLA_FLAGS", "")
    if name not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {name}={value}".strip()


def num_cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def keep(choice: str, are_several: bool = False) -> None:
    """Sets where this process, and those that it starts, keep what JAX compiles; before the first is compiled.

    `choice` is "auto" (as JAX_* variables of the environment say, else in the user's folder of caches), "none", or a
    folder. A folder that cannot be written to is told of and left out. Several processes of one program keep nothing
    by "auto": on GPUs they measure kernels together as they compile, and would wait for one that has found its program.
    Raises UserError for an empty choice.
    """
    if not choice:
        raise UserError(f'--compilation_cache is empty: it must be "{AUTO}", "{NONE}" or a folder')
    if choice == NONE:
        _configure("jax_enable_compilation_cache", "false", False)
        return
    is_set = {"JAX_COMPILATION_CACHE_DIR", "JAX_ENABLE_COMPILATION_CACHE"} & os.environ.keys()
    if choice == AUTO and (is_set or are_several):
        return
    try:
        root = _user_caches() / "pgd_jax" / "compiled" if choice == AUTO else pathlib.Path(choice).expanduser()
        folder = root.absolute() / machine()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # who can write here has the user's rights: it is code
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(f"{folder} cannot be written to")
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home folder
        logging.warning(f"compiled programs are not kept: {error} (--compilation_cache names another folder, or none)")
        return
    if choice == AUTO or not any(folder.iterdir()):
        _mark(folder)
    remove_broken(folder)
    shrink(root, MAX_BYTES)
    _configure("jax_enable_compilation_cache", "true", True)
    _configure("jax_compilation_cache_dir", str(folder), str(folder))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        _configure("jax_persistent_cache_min_compile_time_secs", str(MIN_COMPILE_S), MIN_COMPILE_S)


def _configure(name: str, text: str, value: str | float | bool) -> None:
    """For JAX, whether it is imported already or later, here or in a child process."""
    os.environ[name.upper()] = text
    if "jax" in sys.modules:
        sys.modules["jax"].config.update(name, value)


def _user_caches() -> pathlib.Path:
    """$XDG_CACHE_HOME, which counts only where it is absolute, else ~/.cache. Raises RuntimeError without a home."""
    named = pathlib.Path(os.environ.get("XDG_CACHE_HOME", ""))
    return named if named.is_absolute() else pathlib.Path.home() / ".cache"


def machine() -> str:
    """A name that two machines share only where each would compile the same, and so can run what the other has."""
    facts = [platform.system(), platform.machine(), str(num_cores()), *_cpu()]
    digest = hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]
    return f"jaxlib-{importlib.metadata.version('jaxlib')}-{digest}"


def _cpu() -> list[str]:
    try:
        with CPU_INFO.open(encoding="utf-8") as file:
            first = list(itertools.takewhile(str.strip, file))  # one paragraph a core, all alike
    except OSError:  # not Linux: as little is known of the CPU, every machine is taken to be another
        return [platform.processor(), platform.node()]
    return [line for line in first if line.partition(":")[0].strip() in CPU_FIELDS]


def _mark(folder: pathlib.Path) -> None:
    """Says that a folder is a cache (https://bford.info/cachedir), and of this library: `shrink` may empty it."""
    if _is_ours(folder):
        return
    with contextlib.suppress(OSError):
        (folder / MARK).write_text(MARK_TEXT, encoding="utf-8")


def _is_ours(folder: pathlib.Path) -> bool:
    try:
        return (folder / MARK).read_text(encoding="utf-8") == MARK_TEXT
    except (OSError, UnicodeDecodeError):
        return False


def remove_broken(folder: pathlib.Path) -> None:
    """Removes programs that a killed process, or one that found the disk full, left half written.

    JAX writes them in place and never again: it would warn and compile at every start. Each is looked at once.
    """
    mark, settled = folder / MARK, time.time() - SETTLED_S
    if not _is_ours(folder):
        return
    with contextlib.suppress(OSError):  # another process removes files too
        seen = mark.stat().st_mtime
        for path in folder.glob("*-cache"):
            written = path.stat().st_mtime
            if PROGRAM.fullmatch(path.name) and seen <= written <= settled and not _is_whole(path.read_bytes()):
                path.unlink()
        os.utime(mark, (settled, settled))


def _is_whole(program: bytes) -> bool:
    """Whether it decompresses to its end. Of zstd, which JAX takes where Python has it, only the mark is looked for."""
    if program.startswith(ZSTD):
        return True
    try:
        zlib.decompress(program)
    except zlib.error:
        return False
    return True


def shrink(root: pathlib.Path, max_bytes: int) -> None:
    """Where programs below `root`, of all machines and versions, take more, removes the least recently read half.

    Only files that JAX names so count and are removed, in folders that `keep` made and marked. JAX can bound a folder
    too, but not those of other versions, and by a lock for each file that it reads, through a package that it does not
    bring along.
    """
    programs = []
    for path in root.glob("*/*-cache"):
        if not (PROGRAM.fullmatch(path.name) and _is_ours(path.parent)):
            continue
        with contextlib.suppress(OSError):  # another process removes files too
            about = path.stat()
            programs.append((max(about.st_atime, about.st_mtime), about.st_size, path))
    total = sum(size for _, size, _ in programs)
    if total <= max_bytes:
        return
    for _, size, path in sorted(programs):
        if total <= max_bytes // 2:
            break
        with contextlib.suppress(OSError):
            path.unlink()
        total -= size
