"""A Slurm of one machine, real and private: munged, slurmctld and two slurmd, which pass for two nodes, in a folder.

    python -m tests.slurm_cluster /tmp/cluster        # runs until Ctrl-C; then, elsewhere:
    SLURM_CONF=/tmp/cluster/slurm.conf sinfo

Needs root and Debian's packages slurm-wlm and munge (`apt-get install -y slurm-wlm munge`). Nothing of the system's own
Slurm is read or touched: key, sockets, ports, state and logs are those of the folder.
"""

import contextlib
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol", "srun")
NUM_CPUS = 4  # that a node says to have, whatever it has: jobs here mostly wait
START_S = 60

CONF = """\
ClusterName=pgdtest
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld_port}
AuthType=auth/munge
AuthInfo=socket={here}/munge/socket,cred_expire=10
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={here}/state
SlurmdSpoolDir={here}/spool/%n
SlurmctldPidFile={here}/slurmctld.pid
SlurmdPidFile={here}/%n.pid
SlurmctldLogFile={here}/slurmctld.log
SlurmdLogFile={here}/%n.log
PlugStackConfig={here}/plugstack.conf
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,bf_interval=1,requeue_delay=1
KillWait=20
OverTimeLimit=0
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
NODE = "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={cpus} CoresPerSocket={cpus}\n"


def missing() -> str:
    """Why none can be started here; "" where one can."""
    if os.geteuid() != 0:
        return "a Slurm of its own needs root"
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    return f"{absent[0]} is not installed (apt-get install -y slurm-wlm munge)" if absent else ""


@contextlib.contextmanager
def running(folder: pathlib.Path) -> Iterator[dict[str, str]]:
    """A cluster in the new `folder`, of which the block's environment must have the yielded variables."""
    _write(folder)
    own = {"SLURM_CONF": str(folder / "slurm.conf")}
    key, sock = folder / "munge" / "key", folder / "munge" / "socket"
    munged = ["munged", "--foreground", "--force", f"--key-file={key}", f"--socket={sock}"]
    munged += [f"--{name}-file={folder}/munge/{name}" for name in ("log", "pid", "seed")]
    started: list[subprocess.Popen] = []
    try:
        for command in (munged, ["slurmctld", "-D"], *(["slurmd", "-D", "-N", node] for node in _nodes())):
            with open(folder / f"{command[0]}.out", "ab") as out:
                started.append(subprocess.Popen(command, env=os.environ | own, stdout=out, stderr=subprocess.STDOUT))
            if command is munged:
                _wait(sock.exists, "munged made no socket")
        is_up = lambda: _said(["sinfo", "-h", "-o", "%D %T"], own).strip() == f"{len(_nodes())} idle"
        _wait(is_up, f"the nodes are not idle; see {folder}/slurmctld.log")
        yield own
    finally:
        _said(["scancel", "--user=root"], own)
        _wait(lambda: not _said(["squeue", "-h"], own).strip(), "jobs did not end", is_needed=False)
        for process in reversed(started):
            process.send_signal(signal.SIGTERM)
        for process in started:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=20)
            process.kill()


def _write(folder: pathlib.Path) -> None:
    for name in ("munge", "state", "spool"):
        (folder / name).mkdir(parents=True, mode=0o700)
    (folder / "munge").chmod(0o711)
    (folder / "munge" / "key").write_bytes(os.urandom(128))
    (folder / "munge" / "key").chmod(0o400)
    (folder / "plugstack.conf").touch()
    ctld_port, *ports = _free_ports(1 + len(_nodes()))
    text = CONF.format(host=_nodes()[0], here=folder, ctld_port=ctld_port)
    for name, port in zip(_nodes(), ports, strict=True):
        text += NODE.format(name=name, host=_nodes()[0], port=port, cpus=NUM_CPUS)
        (folder / "spool" / name).mkdir()
    (folder / "slurm.conf").write_text(text)


def _nodes() -> list[str]:
    """The first has the machine's own name, which resolves: others must find it."""
    host = socket.gethostname().partition(".")[0]
    return [host, f"{host}-b"]


def _free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        found = [stack.enter_context(socket.socket()) for _ in range(number)]
        for item in found:
            item.bind(("127.0.0.1", 0))
        return [item.getsockname()[1] for item in found]


def _said(command: list[str], own: dict[str, str]) -> str:
    done = subprocess.run(command, env=os.environ | own, capture_output=True, text=True, check=False, timeout=30)
    return done.stdout


def _wait(is_so, message: str, is_needed: bool = True) -> None:
    deadline = time.monotonic() + START_S
    while not is_so():
        if time.monotonic() > deadline:
            if is_needed:
                raise TimeoutError(message)
            return
        time.sleep(0.2)


if __name__ == "__main__":
    if reason := missing():
        sys.exit(reason)
    with running(pathlib.Path(sys.argv[1]).absolute()), contextlib.suppress(KeyboardInterrupt):
        print(f"export SLURM_CONF={pathlib.Path(sys.argv[1]).absolute()}/slurm.conf", flush=True)
        signal.pause()
