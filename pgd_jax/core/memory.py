"""Estimates the memory of a dataset from its shapes, and checks that it is free.

The estimate is for the dataset only: networks, their training, lanes and synthetic rows take more memory.

The host holds the arrays as read, and the rows (denoiser) or the transitions (agent); the estimate counts the larger,
the transitions. The device holds the transitions (agent), or the rows as recorded and encoded (denoiser); the estimate
counts the larger, the rows. On the CPU backend both are the same memory.
"""

import pathlib
from typing import NamedTuple

import jax

from pgd_jax.core import logging, processes
from pgd_jax.core.errors import UserError

WORTH_SAYING = 1_000_000_000  # bytes from which an estimate is logged
GB = 1e9
MEMINFO = pathlib.Path("/proc/meminfo")
CGROUP = pathlib.Path("/sys/fs/cgroup")  # limits of a container or a batch system (control groups, version 2)


class Bytes(NamedTuple):
    host: float
    device: float


def estimate(num_rows: int, obs_dim: int, action_dim: int, has_next: bool) -> Bytes:
    """Peak bytes that `num_rows` rows with observations f32[O] and actions f32[A] take in a run."""
    as_read = 4 * (obs_dim * (1 + has_next) + action_dim + 1) + 2
    transition = 4 * (2 * obs_dim + action_dim + 2)
    return Bytes(num_rows * (as_read + transition), num_rows * 8 * (obs_dim + action_dim + 2))


def available() -> Bytes:
    """Free bytes, never negative; infinite if the system does not tell. On the CPU both are those of the host."""
    processes.check_devices()
    stats = jax.local_devices()[0].memory_stats()
    host = _free_on_host()
    if not stats or "bytes_limit" not in stats:
        return Bytes(host, host)
    return Bytes(host, max(float(stats["bytes_limit"] - stats.get("bytes_in_use", 0)), 0.0))


def require(source: str, num_rows: int, obs_dim: int, action_dim: int, has_next: bool) -> None:
    """Logs a large estimate for dataset `source`. Raises UserError if it is more than the free memory."""
    need, free = estimate(num_rows, obs_dim, action_dim, has_next), available()
    if jax.default_backend() == "cpu":
        need, free = Bytes(sum(need), 0.0), Bytes(free.host, 0.0)
    share = min(have / want if want else float("inf") for want, have in zip(need, free, strict=True))
    if share < 1.0:
        fewer = int(0.9 * share * num_rows)  # 0 as max_rows would mean all
        advice = (
            f"read fewer, max_rows={fewer}" if fewer else "not even one row fits with some to spare: free memory first"
        )
        raise UserError(f"{source}: {num_rows} rows take about {_text(need)}; free are {_text(free)}; {advice}")
    if sum(need) > WORTH_SAYING:
        logging.info(f"{source}: {num_rows} rows take about {_text(need)}")


def _text(size: Bytes) -> str:
    on_device = f" on the host and {size.device / GB:.3g} GB on the device" if size.device else ""
    return f"{size.host / GB:.3g} GB{on_device}"


def _free_on_host() -> float:
    """The memory that Linux can give without swapping, or less if a control group allows less."""
    fields = _table(MEMINFO)
    free = 1024.0 * fields["MemAvailable:"] if "MemAvailable:" in fields else float("inf")
    limit, used = _number(CGROUP / "memory.max"), _number(CGROUP / "memory.current")
    reclaimable = _table(CGROUP / "memory.stat").get("inactive_file", 0)  # the page cache of files read once
    return max(min(free, limit - used + reclaimable), 0.0)


def _table(path: pathlib.Path) -> dict[str, int]:
    """`name number` lines."""
    if not path.is_file():
        return {}
    return {words[0]: int(words[1]) for line in path.read_text().splitlines() if len(words := line.split()) > 1}


def _number(path: pathlib.Path) -> float:
    """A control group's number. For "max" or a missing group: infinite for the limit, 0 for the use."""
    text = path.read_text().strip() if path.is_file() else "max"
    return (float("inf") if path.name == "memory.max" else 0.0) if text == "max" else float(text)
