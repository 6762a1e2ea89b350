"""A SLURM of the tests' own on this machine: two nodes with two stand-in GPUs each, on loopback.

Needs root and Debian's packages slurmctld, slurmd, slurm-client, slurm-wlm-basic-plugins and munge. The configuration
has to lie in /etc/slurm, because the cluster plugin's job step drops SLURM_CONF.
"""

import contextlib
import os
import re
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml

from tests.workflow.runs import ROOT

ETC = Path("/etc/slurm")
MUNGE = Path("/run/munge")
FILES = ("slurm.conf", "gres.conf", "cgroup.conf")
NODES = ("node1", "node2")
GPUS = 2
CPUS = 4
CLUSTER = "latticebench"

# What is not said here is SLURM's default. `config_overrides`: the nodes may have more CPUs than the machine.
CONFIG = """\
# Process {owner} of latticebench's tests wrote this and removes it.
ClusterName={cluster}
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=500
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MinJobAge=3600
KillWait=20
SlurmdParameters=config_overrides
GresTypes=gpu
SchedulerParameters=sched_interval=1,bf_interval=1
NodeName=node[1-2] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{first}-{last}] CPUs={cpus} RealMemory=8000 Gres=gpu:{gpus}
PartitionName=main Nodes=node[1-2] Default=YES MaxTime=2-0 State=UP
"""


@contextlib.contextmanager
def running(folder: Path) -> Iterator[None]:
    """Starts munged, slurmctld and two slurmd with their files in `folder`; stops them and removes what was installed.

    What a killed run of these tests left behind is stopped and removed first. Raises RuntimeError where the machine
    has a SLURM of its own, where another run's is up, or where the nodes do not come up.
    """
    clear_leftovers(ETC)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        _configure(folder)
        _start_munge()
        subprocess.run(["slurmctld"], check=True)
        for node in NODES:
            subprocess.run(["slurmd", "-N", node], check=True)
        _wait_until_idle(folder)
        yield
    finally:
        with contextlib.suppress(subprocess.SubprocessError):
            # Jobs would outlive the daemons that started them.
            subprocess.run(["scancel", "--signal=KILL", "--user=root"], timeout=10, check=False)
            subprocess.run(["scancel", "--user=root"], timeout=10, check=False)
            _wait(lambda: not command("squeue", "--noheader"), 30)
        _remove(ETC, folder)


def clear_leftovers(etc: Path) -> None:
    """Stops the daemons and removes the files of a run of these tests that was killed before it could.

    Raises RuntimeError where the configuration below `etc` is someone else's, or that of a run that goes on.
    """
    found = [etc / name for name in FILES if (etc / name).exists()]
    if not found:
        return
    text = (etc / "slurm.conf").read_text() if etc / "slurm.conf" in found else ""
    ours = re.search(rf"^ClusterName={CLUSTER}$", text, re.MULTILINE)
    folder = re.search(r"^StateSaveLocation=(.+)/state$", text, re.MULTILINE)
    if not ours or not folder:
        raise RuntimeError(f"{found[0]} is a SLURM configuration already: these tests will not touch it")
    owner = re.match(r"# Process (\d+) ", text)
    if owner and b"pytest" in _of_process(int(owner[1]), "cmdline"):
        raise RuntimeError(f"{found[0]} is that of process {owner[1]}, another run of these tests: wait for its end")
    _remove(etc, Path(folder[1]))


def _remove(etc: Path, folder: Path) -> None:
    for node in NODES:
        _stop("slurmd", folder / f"slurmd.{node}.pid")
    _stop("slurmctld", folder / "slurmctld.pid")
    _stop("munged", MUNGE / "munged.pid")
    _end_jobs()
    for name in reversed(FILES):  # the one that says whose they are goes last
        (etc / name).unlink(missing_ok=True)


def _end_jobs() -> None:
    """Ends what is left of this cluster's jobs: nobody does on a node that was declared lost under them."""
    mark = f"SLURM_CLUSTER_NAME={CLUSTER}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        if mark in _of_process(int(folder.name), "environ").split(b"\0"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(folder.name), signal.SIGKILL)


def command(*line: str) -> str:
    """The output of one of SLURM's commands."""
    return subprocess.run(line, check=True, capture_output=True, text=True, timeout=60).stdout.strip()


def jobs() -> list[tuple[str, str, str]]:
    """Number, state and comment (`rule_<name>_wildcards_<values>`) of all jobs so far."""
    lines = command("squeue", "--noheader", "--states=all", "--sort=i", "--format=%A|%T|%k").splitlines()
    return [(number, state, comment) for number, state, comment in (line.split("|", 2) for line in lines)]


def _configure(folder: Path) -> None:
    for node in NODES:
        (folder / f"spool.{node}").mkdir()
        for index in range(GPUS):
            # Each a character device (here /dev/null's): SLURM takes nothing else for a GPU it may hand out.
            os.mknod(folder / f"{node}-gpu{index}", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    (folder / "state").mkdir()
    first = _free_ports(len(NODES) + 1)
    values = {"owner": os.getpid(), "cluster": CLUSTER}
    values |= {"host": socket.gethostname().split(".")[0], "folder": folder, "cpus": CPUS, "gpus": GPUS}
    ports = {"port": first, "first": first + 1, "last": first + len(NODES)}
    ETC.mkdir(exist_ok=True)
    (ETC / "slurm.conf").write_text(CONFIG.format(**values, **ports))
    gres = [f"NodeName={node} Name=gpu File={folder}/{node}-gpu[0-{GPUS - 1}]" for node in NODES]
    (ETC / "gres.conf").write_text("\n".join(gres) + "\n")
    (ETC / "cgroup.conf").write_text("CgroupAutomount=no\n")


def _free_ports(count: int) -> int:
    for first in range(17800, 18800, count):
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for port in range(first, first + count):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return first
    raise RuntimeError("no free ports for SLURM")


def _start_munge() -> None:
    subprocess.run(["install", "-d", "-o", "munge", "-g", "munge", "-m", "755", str(MUNGE)], check=True)
    subprocess.run(["runuser", "-u", "munge", "--", "munged"], check=True)


def _wait_until_idle(folder: Path) -> None:
    if not _wait(lambda: command("sinfo", "--noheader", "--Node", "--format=%t").split() == ["idle"] * len(NODES), 30):
        logs = "\n".join(path.read_text()[-2000:] for path in sorted(folder.glob("*.log")))
        raise RuntimeError(f"SLURM's nodes did not come up:\n{logs}")


def _wait(done: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(subprocess.SubprocessError):
            if done():
                return True
        time.sleep(0.2)
    return False


def _of_process(pid: int, what: str) -> bytes:
    """What /proc tells of a process; nothing where there is none of this number, or one that is not for us to see."""
    try:
        return Path(f"/proc/{pid}/{what}").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return b""


def _stop(daemon: str, pid_file: Path) -> None:
    try:
        pid = int(pid_file.read_text())
        if _of_process(pid, "comm").strip() != daemon.encode():
            return  # it has ended, and its number may be another's by now
        os.kill(pid, signal.SIGTERM)
    except (FileNotFoundError, ValueError, ProcessLookupError):
        return
    if not _wait(lambda: not Path(f"/proc/{pid}").exists(), 10):
        os.kill(pid, signal.SIGKILL)


def profile(folder: Path, **changes: object) -> Path:
    """A copy of the shipped profile below `folder`, set for this cluster, with further top-level `changes`."""
    values = yaml.safe_load((ROOT / "workflow" / "profiles" / "slurm" / "config.yaml").read_text())
    values["default-resources"] |= {"slurm_partition": "main"}
    del values["default-resources"]["slurm_account"]
    values |= {"slurm-no-account": True, "slurm-status-command": "squeue", "latency-wait": 10}
    values |= {"slurm-init-seconds-before-status-checks": 2}
    path = folder / "profile" / "config.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(values | changes))
    return path.parent


def devices() -> dict[str, list[str]]:
    """The GPUs that running jobs hold: job number -> ["node1/0", …]."""
    held = {}
    for text in command("scontrol", "show", "job", "--details").split("\n\n"):
        if "JobState=RUNNING" not in text:
            continue
        number = re.search(r"JobId=(\d+)", text)[1]
        places = re.findall(r"Nodes=(\S+) .*?GRES=gpu(?::\w+)?:\d+\(IDX:([\d,-]+)\)", text)
        held[number] = [
            f"{node}/{index}" for nodes, indices in places for node in _nodes(nodes) for index in _expand(indices)
        ]
    return held


def _nodes(names: str) -> list[str]:
    return [node for node in NODES if node == names or "[" in names]  # two at most: node[1-2] is both


def _expand(indices: str) -> list[int]:
    result: list[int] = []
    for part in indices.split(","):
        first, _, last = part.partition("-")
        result += range(int(first), int(last or first) + 1)
    return result
