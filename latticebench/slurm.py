"""Looks at a SLURM cluster before the first job is sent: what a site has to set, and jobs that could never start.

SLURM takes a job that asks for more than its partition has and lets it wait for ever; a status command that
answers nothing makes the workflow wait with it. Here both are errors that name the key.
"""

import dataclasses
import math
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from latticebench.errors import BadInput, Missing

PROFILE = "workflow/profiles/slurm/config.yaml"
PLACEHOLDER = "SET-ME"
"""What the profile holds where a site has to write something."""

Ask = Callable[[Sequence[str]], str]


@dataclasses.dataclass(frozen=True)
class Request:
    """What a rule's jobs ask for. runtime: minutes. mem_mb and threads: of the whole job. gpus: on each node."""

    rule: str
    partition: str | None
    account: str | None
    runtime: int
    mem_mb: int
    threads: int
    gpus: int
    nodes: int


@dataclasses.dataclass
class Partition:
    """The most that a partition offers. runtime: minutes; mem_mb, cpus, gpus: of its largest node."""

    runtime: float = 0
    mem_mb: int = 0
    cpus: int = 0
    gpus: int = 0
    nodes: int = 0


def ask(line: Sequence[str]) -> str:
    """The output of a command of SLURM. Raises Missing where there is none, BadInput where it fails."""
    if shutil.which(line[0]) is None:
        raise Missing(
            f"the slurm profile needs {line[0]} on the PATH: start the workflow on a login node of the cluster"
        )
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise BadInput(f"`{' '.join(line)}` failed: {done.stderr.strip()}; does the cluster answer?")
    return done.stdout


def check(
    requests: Iterable[Request], no_account: bool, status_command: str | None, status_seconds: int, ask: Ask = ask
) -> None:
    """Raises BadInput on the first thing that would keep the jobs from being sent, started or noticed.

    no_account, status_command, status_seconds: the profile's slurm-no-account, slurm-status-command and
    slurm-init-seconds-before-status-checks.
    """
    there = partitions(ask(["sinfo", "--noheader", "--all", "--exact", "--format=%R|%l|%m|%c|%G|%D"]))
    for request in requests:
        _check_site(request, no_account, there)
        _check_limits(request, there[str(request.partition)])
    _check_status(ask(["scontrol", "show", "config"]), status_command, status_seconds)


def _check_site(request: Request, no_account: bool, there: dict[str, Partition]) -> None:
    names = ", ".join(sorted(there))
    if request.partition in (None, PLACEHOLDER):
        raise BadInput(f"{PROFILE}: set default-resources: slurm_partition to one of this cluster's: {names}")
    if str(request.partition) not in there:
        raise BadInput(
            f"{PROFILE}: rule {request.rule}: slurm_partition is {request.partition!r}; this cluster has {names}"
        )
    if request.account == PLACEHOLDER or (request.account is None and not no_account):
        raise BadInput(
            f"{PROFILE}: set default-resources: slurm_account to the account that pays, or slurm-no-account: true"
            " where the cluster has none"
        )


def _check_limits(request: Request, partition: Partition) -> None:
    training = "jobs.{} in the configuration"
    wishes: list[tuple[str, float, float, str]] = [
        ("runtime", request.runtime, partition.runtime, "minutes"),
        ("mem_mb", math.ceil(request.mem_mb / request.nodes), partition.mem_mb, "MB a node"),
        ("threads", request.threads, partition.cpus, "CPUs a node"),
        ("gpus", request.gpus, partition.gpus, "GPUs a node"),
        ("nodes", request.nodes, partition.nodes, "nodes"),
    ]
    for key, wanted, most, unit in wishes:
        if wanted > most:
            raise BadInput(
                f"rule {request.rule} asks for {wanted} {unit}, partition {request.partition!r} has at most {most:g}:"
                f" its jobs would wait for ever. Change {training.format(key)}, or give the rule another"
                f" slurm_partition under set-resources in {PROFILE}"
            )


def _check_status(config: str, command: str | None, seconds: int) -> None:
    values = dict(re.findall(r"^(\w+)\s*= *(.*?)\s*$", config, re.MULTILINE))
    storage = values.get("AccountingStorageType", "")
    if command == "sacct" and storage in ("(null)", "accounting_storage/none"):
        raise BadInput(
            f"{PROFILE}: slurm-status-command is sacct, but this cluster keeps no accounts ({storage}), so that no job"
            " would ever be seen to end; set it to squeue"
        )
    age = int(re.match(r"\d*", values.get("MinJobAge", ""))[0] or 0)  # type: ignore[index]
    if command == "squeue" and 0 < age < 3 * seconds:
        raise BadInput(
            f"{PROFILE}: slurm-status-command is squeue, but this cluster forgets ended jobs after {age} s (MinJobAge):"
            f" set slurm-init-seconds-before-status-checks below {age // 3 + 1}, or use sacct"
        )


def partitions(lines: str) -> dict[str, Partition]:
    """The partitions in sinfo's `%R|%l|%m|%c|%G|%D`, one line for each kind of node."""
    result: dict[str, Partition] = {}
    for line in filter(None, map(str.strip, lines.splitlines())):
        name, limit, memory, cpus, gres, nodes = line.split("|")
        entry = result.setdefault(name, Partition())
        entry.runtime = max(entry.runtime, minutes(limit))
        entry.mem_mb = max(entry.mem_mb, int(memory.rstrip("+")))
        entry.cpus = max(entry.cpus, int(cpus.rstrip("+")))
        entry.gpus = max(
            entry.gpus, sum(int(n or 1) for n in re.findall(r"\bgpu(?::[A-Za-z][\w.-]*)?(?::(\d+))?", gres))
        )
        entry.nodes += int(nodes)
    return result


def minutes(limit: str) -> float:
    """Minutes of SLURM's `[days-]hours:minutes:seconds`; infinite is infinite."""
    if limit in ("infinite", "n/a"):
        return math.inf
    days, _, clock = limit.rpartition("-")
    parts = [int(part) for part in clock.split(":")]
    hours, mins, secs = [0] * (3 - len(parts)) + parts
    return int(days or 0) * 1440 + hours * 60 + mins + secs / 60


def request(rule: str, resources: Mapping[str, Any], threads: int) -> Request:
    """A rule's request from Snakemake's resources of one of its jobs."""
    gres = re.search(r"\bgpu:(\d+)", str(resources.get("gres", "")))
    return Request(
        rule,
        resources.get("slurm_partition"),
        resources.get("slurm_account"),
        int(resources.get("runtime", 0)),
        int(resources.get("mem_mb", 0)),
        threads,
        int(gres[1]) if gres else int(resources.get("gpu", 0)),
        int(resources.get("nodes", 1)),
    )
