"""Several processes as one program (jax.distributed): all compute, the first one writes.

Every process runs the same command on a file system that all of them see. Arrays of a run may then lie on devices of
other processes: `readable` brings them here.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from pgd_jax.core import signals
from pgd_jax.core.errors import Stopped, UserError

NONE, AUTO = "", "auto"


def start(choice: str) -> None:
    """Joins the other processes; to be called before anything asks JAX for its devices.

    `choice` is "" (one process), "auto" (as the cluster says: Slurm, Open MPI, Kubernetes, TPU pods), or
    "address:port,num_processes,index" with the address of the first process. Raises UserError for anything else, and
    where the others do not answer.
    """
    if choice == NONE:
        return check_devices()
    try:
        if choice == AUTO:
            jax.distributed.initialize()
        else:
            jax.distributed.initialize(*_parse(choice))
    except (RuntimeError, ValueError) as error:
        raise UserError(f'--distributed="{choice}": the processes did not find each other ({error})') from None
    check_devices()
    if are_several():
        signals.leave_to_all()


def check_devices() -> None:
    """Raises UserError where JAX finds no device of the kind that it is told to take; the first question starts it."""
    try:
        jax.local_devices()
    except (RuntimeError, AssertionError) as error:  # the latter where a platform is known, but nothing of it installed
        wanted = jax.config.values["jax_platforms"]
        reason = str(error).partition(" (set JAX_PLATFORMS")[0] or "nothing of it is installed"
        raise UserError(
            f'JAX has no device of JAX_PLATFORMS="{wanted}" here ({reason}); unset it to take what there is, or '
            "JAX_PLATFORMS=cpu"
        ) from None


def _parse(choice: str) -> tuple[str, int, int]:
    address, *numbers = choice.split(",")
    if ":" not in address or len(numbers) != 2 or not all(number.isdecimal() for number in numbers):
        raise UserError(
            f'--distributed="{choice}" must be "{AUTO}" or read address:port,number of processes,index of this one, '
            'such as "10.0.0.1:1234,2,0"'
        )
    num_processes, index = map(int, numbers)
    if index >= num_processes:
        most = num_processes - 1
        raise UserError(f'--distributed="{choice}": the index of {num_processes} processes is at most {most}')
    return address, num_processes, index


def are_several() -> bool:
    return jax.process_count() > 1


def is_first() -> bool:
    """Whether this is the one that writes."""
    return jax.process_index() == 0


def wait(name: str) -> None:
    """Until every process has come to this point."""
    if are_several():
        multihost_utils.sync_global_devices(name)


def any_of(flag: bool) -> bool:
    """Whether it is true in any process: the same answer in all, at the same moment of the program."""
    return bool(np.any(multihost_utils.process_allgather(np.asarray(flag)))) if are_several() else flag


def check() -> None:
    """`interrupt.check` of all processes together: raises Stopped in each where a signal has come to any."""
    if any_of(bool(signals.found())):
        raise Stopped(signals.found() or "the signal that another process got")


def readable(tree: Any) -> Any:
    """A copy that this process can read whole, and that nothing donates."""
    if not are_several():
        return _copied(tree)
    return _copied_to_each(next(leaf.sharding.mesh for leaf in jax.tree.leaves(tree)))(tree)


@jax.jit
def _copied(tree: Any) -> Any:
    return jax.tree.map(jnp.copy, tree)


@functools.cache
def _copied_to_each(mesh: Mesh) -> Callable[[Any], Any]:
    return jax.jit(_copied, out_shardings=NamedSharding(mesh, PartitionSpec()))
