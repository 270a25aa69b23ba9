"""Several processes as one program (jax.distributed): all compute, the first one writes.

Every process runs the same command on a file system that all of them see. Arrays of a run may then lie on devices of
other processes: `readable` brings them here.

Where one process is gone, none can go on. What the others compute together then raises an error, or JAX aborts them
with pages of its own; `joined` has each end with one message.
"""

import contextlib
import functools
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from pgd_jax.core import logging, signals
from pgd_jax.core.errors import Stopped, UserError, first_line

NONE, AUTO = "", "auto"
TIMEOUT_S = 30  # a process that gives no sign of life for so long is gone
OTHERS_FIRST_S = 5.0
LOST = 1  # exit status
TOGETHER = re.compile(r"Gloo|NCCL|[Cc]oordination|[Hh]eartbeat|[Bb]arrier")  # in errors of what processes do together
GO_ON = "Start the same command in every process again: it goes on from the last checkpoint"
SEE_THERE = "its own output says why"
LAST_WORDS = f"error: killed, or ended by JAX because another process is gone ({SEE_THERE}). {GO_ON}"


@contextlib.contextmanager
def joined(choice: str) -> Iterator[None]:
    """Within the block this is one of the processes of `choice` (see `start`), which end together.

    Where another one is gone, this one ends within a minute, with one message and a status other than 0.
    """
    if choice == NONE:
        start(choice)
        yield
        return
    is_lost = False
    with _last_words():
        start(choice)
        try:
            yield
            wait("the end")  # JAX waits no longer than TIMEOUT_S; the first process may have a checkpoint to finish
            jax.distributed.shutdown()
        except Exception as error:
            is_lost = not isinstance(error, UserError) and bool(TOGETHER.search(str(error)))
            if not is_lost:
                raise
            logging.info(f"error: another process is gone ({first_line(error)}); {SEE_THERE}. {GO_ON}")
    if is_lost:  # without waiting for the others, as JAX does at a process's exit
        if is_first():
            time.sleep(OTHERS_FIRST_S)  # JAX aborts the others as soon as the first one is gone
        os._exit(LOST)


@contextlib.contextmanager
def _last_words() -> Iterator[None]:
    """Has LAST_WORDS said if this process does not come to the block's end: at SIGKILL, and where JAX aborts it.

    A shell waits for that; the end of its input without a line tells it.
    """
    script = ["/bin/sh", "-c", r'read -r _ || printf "\n%s\n" "$0" >&2', LAST_WORDS]
    shell = subprocess.Popen(script, stdin=subprocess.PIPE, start_new_session=True)  # not the terminal's Ctrl-C
    try:
        yield
    finally:
        shell.communicate(b"\n")


def start(choice: str) -> None:
    """Joins the other processes; to be called before anything asks JAX for its devices.

    `choice` is "" (one process), "auto" (as the cluster says: Slurm, Open MPI, Kubernetes, TPU pods), or
    "address:port,num_processes,index" with the address of the first process. Raises UserError for anything else, and
    where the others do not answer.
    """
    if choice == NONE:
        return check_devices()
    initialize = functools.partial(
        jax.distributed.initialize, heartbeat_timeout_seconds=TIMEOUT_S, shutdown_timeout_seconds=TIMEOUT_S
    )
    try:
        if choice == AUTO:
            initialize()
        else:
            initialize(*_parse(choice))
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
