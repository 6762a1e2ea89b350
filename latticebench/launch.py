"""`python -m latticebench.launch --gpus G --nodes N MODULE ARGS…`: starts MODULE once for every device of a job.

The job as a whole starts this command once. With one device it becomes `python -m MODULE ARGS…`; with several on
one node it becomes torchrun (https://docs.pytorch.org/docs/stable/elastic/run.html); on several nodes it becomes an
srun that starts one torchrun on each, and these meet at the first node of the allocation.

Nothing is restarted in here: a process that ends with an error ends the job, and the workflow's retry goes on
from the checkpoint.
"""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import click

from latticebench import commands
from latticebench.errors import LatticebenchError

SIGNALS = "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1"
"""What torchrun passes on to its processes; SIGUSR1 is SLURM's warning before the time limit."""

SECONDS_TO_END = 300
"""Time that processes have for a checkpoint after a signal, and other nodes once the first one has ended."""

DISTRIBUTED = ("latticebench.tokenizers.train", "latticebench.generators.train")
"""Modules that know that they are one of several processes; any other is started once, whatever the job holds."""


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("--gpus", required=True, type=click.IntRange(0), help="Devices on each node; 0 is a CPU process.")
@click.option("--nodes", required=True, type=click.IntRange(1), help="Nodes of the allocation.")
@click.argument("module")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(gpus: int, nodes: int, module: str, arguments: tuple[str, ...]) -> None:
    """Become MODULE with its ARGUMENTS, started once for every device."""
    line, environment = plan(gpus, nodes, module, arguments, os.environ)
    # The command that takes this process's place is still the scheduler's child, and ends with it.
    commands.end_with_scheduler()
    sys.stderr.flush()
    os.execvpe(line[0], line, environment)


def plan(
    gpus: int, nodes: int, module: str, arguments: tuple[str, ...], environment: Mapping[str, str]
) -> tuple[list[str], dict[str, str]]:
    """The command line and the environment that start `module`.

    Raises LatticebenchError where several nodes are asked for outside a SLURM job.
    """
    devices, env = max(gpus, 1), dict(environment)
    if devices * nodes == 1 or module not in DISTRIBUTED:
        return [sys.executable, "-m", module, *arguments], env
    if nodes > 1 and "SLURM_JOB_ID" not in env:
        raise LatticebenchError(f"jobs.nodes is {nodes}: several nodes need SLURM; set it to 1 for this machine")
    if nodes > 1 and "SLURM_STEP_ID" not in env:
        return _srun(gpus, nodes, module, arguments, env), env
    if "OMP_NUM_THREADS" in env:  # the job's; its processes share them
        env["OMP_NUM_THREADS"] = str(max(1, int(env["OMP_NUM_THREADS"]) // devices))
    meeting = ["--standalone"] if nodes == 1 else _meeting(nodes, env)
    return [
        *(sys.executable, "-m", "torch.distributed.run", *meeting, f"--nproc-per-node={devices}"),
        *("--max-restarts=0", f"--signals-to-handle={SIGNALS}", f"--shutdown-timeout={SECONDS_TO_END}"),
        *("-m", module, *arguments),
    ], env


def _srun(gpus: int, nodes: int, module: str, arguments: tuple[str, ...], env: Mapping[str, str]) -> list[str]:
    """One task a node, each this command again."""
    return [
        *("srun", f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1"),
        *([f"--gpus-per-node={gpus}"] if gpus else []),
        *(f"--cpus-per-task={env.get('OMP_NUM_THREADS', '1')}", "--kill-on-bad-exit=0", f"--wait={SECONDS_TO_END}"),
        *(sys.executable, "-m", "latticebench.launch", f"--gpus={gpus}", f"--nodes={nodes}", module, *arguments),
    ]


def _meeting(nodes: int, env: Mapping[str, str]) -> list[str]:
    """torchrun's options for the rendezvous, inside one task of the step that `_srun` started."""
    rank = int(env["SLURM_NODEID"])
    hosts = _ask("scontrol", "show", "hostnames", env["SLURM_STEP_NODELIST"]).split()
    # Two jobs whose first node is the same must not meet: the port follows from the job's number.
    port = 20000 + int(env["SLURM_JOB_ID"]) % 20000
    return [
        *(f"--nnodes={nodes}", "--rdzv-backend=c10d", f"--rdzv-endpoint={_address(hosts[0])}:{port}"),
        *(f"--rdzv-id={env['SLURM_JOB_ID']}.{env['SLURM_STEP_ID']}", f"--rdzv-conf=is_host={int(rank == 0)}"),
        f"--local-addr={_address(hosts[rank])}",
    ]


def _address(node: str) -> str:
    """Where SLURM itself reaches a node; its name need not be one that resolves."""
    match = re.search(r"\bNodeAddr=(\S+)", _ask("scontrol", "show", "node", node))
    return match[1] if match else node


def _ask(*line: str) -> str:
    return subprocess.run(line, check=True, stdout=subprocess.PIPE, text=True).stdout


def resources(jobs: Mapping[str, Any]) -> dict[str, Any]:
    """What a training rule asks the cluster for, beyond memory and time, from a configuration's `jobs`.

    On several nodes the job's own command starts the tasks, which the cluster plugin calls mpi; without that it
    would start the command inside a step of one node. `tasks_per_gpu` 0 keeps the plugin from asking for a task on
    every device. GPUs are then counted per node (`gres`), so that no node gets more than the others.
    """
    nodes, gpus = jobs["nodes"], jobs["gpus"]
    if nodes == 1:
        return {"gpu": gpus}
    devices = {"gres": f"gpu:{gpus}"} if gpus else {}
    return {"nodes": nodes, "mpi": "srun", "tasks": nodes, "tasks_per_gpu": 0, **devices}


def prefix(jobs: Mapping[str, Any]) -> str:
    """The words before a training's module in a shell command: none where it is one process."""
    if max(jobs["gpus"], 1) * jobs["nodes"] == 1:
        return ""
    return f"latticebench.launch --gpus {jobs['gpus']} --nodes {jobs['nodes']} "


if __name__ == "__main__":
    commands.run(command)
