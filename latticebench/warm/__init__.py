"""Warm jobs: on one machine the workflow's jobs are forked from a process that has imported torch once.

Importing torch takes two core-seconds and a run has dozens of jobs. `start` starts the server of one run; the
workflow then runs `client.py MODULE ARGS…`, which behaves as `python -m MODULE ARGS…` does: same exit code,
environment, working folder, files and signals, and the same results. Where there is no server (a cluster's
job, another system than Linux, one that died) the client becomes that plain command.
"""

import logging
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from latticebench.warm.client import SOCKET

log = logging.getLogger(__name__)

SWITCH = "LATTICEBENCH_WARM"
"""Environment variable: `0` turns warm jobs off."""

CLIENT = Path(__file__).with_name("client.py")
"""Run as a file and without site packages: it starts in 20 ms."""

AHEAD = "LATTICEBENCH_WARM_AHEAD"
"""Environment variable: the process whose server is started already, and the threads of that server's jobs."""

_BACKLOG = 1024


def command(*words: str) -> list[str]:
    """The command line that runs `python -m` with `words`, forked from the warm process where there is one."""
    return [sys.executable, "-I", "-S", str(CLIENT), *words]


def thread_variables(threads: int) -> dict[str, str]:
    """The variables that Snakemake sets for a job with `threads` threads; libraries read them when they load."""
    names = ("OMP", "GOTO", "OPENBLAS", "MKL", "VECLIB_MAXIMUM", "NUMEXPR")
    return {f"{name if '_' in name else name + '_NUM'}_THREADS": str(threads) for name in names}


def start(threads: int, environment: Mapping[str, str] | None = None) -> subprocess.Popen[bytes] | None:
    """Starts the server for jobs of `threads` threads; it ends when the returned object's stdin closes.

    Names its socket in this process's environment, for the jobs. Returns None where warm jobs are off or cannot be.
    The caller's death closes stdin too, so that server and jobs never outlive it. Where `start_ahead` was called in
    this process before, there is nothing to start, and None is returned.
    """
    environment = os.environ if environment is None else environment
    if environment.get(AHEAD) == _ahead(threads):
        return None
    if sys.platform != "linux" or environment.get(SWITCH) == "0":
        return None
    folder = Path(tempfile.mkdtemp(prefix="latticebench-"))  # for this user alone
    path = folder / "jobs"
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            # Jobs that come while the server still imports wait in line.
            listener.listen(_BACKLOG)
            server = subprocess.Popen(
                [sys.executable, "-m", "latticebench.warm.server", str(listener.fileno()), str(folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                pass_fds=[listener.fileno()],
                env={**environment, **thread_variables(threads)},
                start_new_session=True,  # Ctrl-C is the clients' to pass on
            )
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        log.warning("jobs start one by one, without a warm process: %s", error)
        return None
    os.environ[SOCKET] = str(path)
    return server


def start_ahead(threads: int) -> None:
    """Starts the server for a command that this process is about to become (os.exec), which then calls `start`.

    So the server's imports go on beside what comes before the first job.
    """
    server = start(threads)
    if server is not None:
        assert server.stdin is not None
        os.set_inheritable(server.stdin.fileno(), True)  # open until the command ends, which ends the server
        os.environ[AHEAD] = _ahead(threads)


def forget() -> None:
    """Jobs of this process run on other machines: none is to look for a server that was started ahead."""
    os.environ.pop(SOCKET, None)


def _ahead(threads: int) -> str:
    return f"{os.getpid()} {threads}"
