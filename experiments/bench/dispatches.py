"""How often the host starts a compiled program, or moves data, while a function runs: counted in a profiler's trace."""

import pathlib
import tempfile
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

# Of a program on one device, by several releases of JAX, and of one on several.
EXECUTE = (
    "ExecuteHelperOnSingleDevice", "TfrtCpuExecutable::ExecuteHelper", "PjRtStreamExecutorLoadedExecutable::Exec",
    "CommonPjRtLoadedExecutable::Execute (",
)  # fmt: skip
ONE_OF_SEVERAL = "["  # the part of one device, "[0] ...", of what all of a mesh do
TO_DEVICE = ("DevicePut", "BufferFromHostBuffer")
TO_HOST = ("np.asarray(jax.Array)",)


class Counts(NamedTuple):
    dispatches: int
    to_device: int
    to_host: int


def count(function: Callable[[], Any]) -> tuple[Any, Counts]:
    """(what `function()` returns, counts while it ran and until its results were ready).

    Call it once before, so that nothing is compiled. Any implicit transfer raises: JAX's own guard is on.
    """
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, profiler_options=options), jax.transfer_guard("disallow"):
            result = jax.block_until_ready(function())
        names = _events(pathlib.Path(folder))
    return result, Counts(*(sum(_is_one_of(name, kind) for name in names) for kind in (EXECUTE, TO_DEVICE, TO_HOST)))


def _is_one_of(name: str, kinds: tuple[str, ...]) -> bool:
    return not name.startswith(ONE_OF_SEVERAL) and any(kind in name for kind in kinds)


def _events(folder: pathlib.Path) -> list[str]:
    """Names of the host's events."""
    traces = folder.glob("**/*.xplane.pb")
    planes = [plane for trace in traces for plane in jax.profiler.ProfileData.from_file(str(trace)).planes]
    return [event.name for plane in planes if "host" in plane.name for line in plane.lines for event in line.events]
