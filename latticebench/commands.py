"""What every command shares: errors become a message and an exit code, the log goes to stderr."""

import ctypes
import errno
import logging
import os
import signal
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NoReturn

import click

from latticebench import locks, shortage
from latticebench.errors import BadInput, LatticebenchError
from latticebench.files import DISK_FULL

_WRONG_PATH = (errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EACCES, errno.EPERM, errno.EROFS)
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
SCHEDULER = "LATTICEBENCH_SCHEDULER"
"""Environment variable with the process id of the scheduler that a job must not outlive."""
STARTED = "started"
"""First word of a workflow job's log; the time and the process follow (evaluation/status.py)."""


def end_with_scheduler() -> None:
    """Asks the kernel to send this process SIGTERM when the scheduler that started it dies.

    Only a direct child of the process that SCHEDULER names asks: a job that a cluster started, or a
    command typed by hand, is nobody's to end. Linux only; elsewhere jobs run to their end.
    """
    if not sys.platform.startswith("linux") or os.environ.get(SCHEDULER) != str(os.getppid()):
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.environ[SCHEDULER] != str(os.getppid()):  # it died before the kernel was asked
        sys.exit(1)


def explain(error: OSError) -> str | None:
    """What to tell of a full disk or a path that cannot be used; None for any other error."""
    if error.errno in DISK_FULL:
        where = f" while writing {error.filename}" if error.filename else ""
        return f"the disk is full{where}; free some space and run again: finished work is kept"
    if error.errno in _WRONG_PATH and error.filename:
        cure = "; mount it for writing, or run in another folder" if error.errno == errno.EROFS else ""
        return f"{error.filename}: {error.strerror}{cure}"
    return None


def run(command: click.Command, args: Sequence[str] | None = None, prog_name: str | None = None) -> NoReturn:
    """Runs a click command as a program: `if __name__ == "__main__": run(command)`.

    Exit codes: 0 done, 2 bad input (usage errors included), 3 missing weights or data, 1 anything else.
    A LatticebenchError, a path that cannot be used, a full disk and a lack of memory end in one line `error: …` on
    stderr, any other exception in its traceback.
    """
    end_with_scheduler()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    if SCHEDULER in os.environ:
        logging.info("%s %s %s", STARTED, f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", locks.me())
    try:
        command.main(args=None if args is None else list(args), prog_name=prog_name)
    except LatticebenchError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except (MemoryError, RuntimeError, ImportError) as error:
        if not shortage.of_memory(error):
            raise
        click.echo(shortage.line(error), err=True)
        sys.exit(1)
    except OSError as error:
        if shortage.of_memory(error):
            click.echo(shortage.line(error), err=True)
            sys.exit(1)
        text = explain(error)
        if text is None:
            raise
        click.echo(f"error: {text}", err=True)
        sys.exit(1 if error.errno in DISK_FULL else BadInput.exit_code)
    sys.exit(0)
