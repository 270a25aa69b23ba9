"""Shares the devices of one machine between jobs, by environment variables that are set before a job starts.

JAX takes all GPUs that it sees and three quarters of their memory. So a job may only see its own GPUs, and may take
only its share of a shared GPU.
"""

import os
import subprocess
from collections.abc import Mapping

from pgd_jax.core.errors import UserError

SHARE_USED = 0.85  # part of a job's share for JAX's memory pool; the rest is for CUDA's contexts and libraries
VISIBLE, FRACTION = "CUDA_VISIBLE_DEVICES", "XLA_PYTHON_CLIENT_MEM_FRACTION"

Slot = Mapping[str, str]  # environment variables of the job that runs in it


def slots(gpus_per_job: float, num_parallel: int) -> list[Slot]:
    """A slot for each job that runs at the same time. With `num_parallel` 0: one without GPUs, else as many as fit."""
    if gpus_per_job == 0.0:
        return [{}] * (num_parallel or 1)
    found = of_gpus(visible_gpus(), gpus_per_job)
    if num_parallel > len(found):
        raise UserError(
            f"num_parallel={num_parallel} jobs with gpus={gpus_per_job:g} each do not fit: {len(found)} do; lower one"
        )
    return found[: num_parallel or len(found)]


def of_gpus(gpus: list[str], per_job: float) -> list[Slot]:
    """Slots on the GPUs. Slots of one GPU are far apart in the list, so that a few jobs have a GPU each."""
    if per_job < 1.0:
        fraction = f"{SHARE_USED * per_job:.3f}"
        return [{VISIBLE: gpu, FRACTION: fraction} for _ in range(int(1.0 / per_job + 1e-6)) for gpu in gpus]
    size = int(per_job)
    if size > len(gpus):
        raise UserError(f"gpus={size} for each job, and this machine shows {len(gpus)} ({','.join(gpus) or 'none'})")
    return [{VISIBLE: ",".join(gpus[i : i + size])} for i in range(0, len(gpus) - size + 1, size)]


def visible_gpus() -> list[str]:
    """The GPUs of CUDA_VISIBLE_DEVICES, else all that nvidia-smi lists. Raises UserError if there is none."""
    named = os.environ.get(VISIBLE)
    if named is not None:
        found = [name.strip() for name in named.split(",") if name.strip() not in ("", "-1")]
    else:
        found = [str(number) for number in range(_count())]
    if not found:
        raise UserError(f"gpus were asked for, and this machine shows none ({VISIBLE}, nvidia-smi); leave --gpus out")
    return found


def _count() -> int:
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return sum(line.startswith("GPU ") for line in done.stdout.splitlines()) if done.returncode == 0 else 0
