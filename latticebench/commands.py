"""What every command shares: errors become a message and an exit code, the log goes to stderr."""

import errno
import logging
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from latticebench.errors import LatticebenchError

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


def run(command: click.Command, args: Sequence[str] | None = None, prog_name: str | None = None) -> NoReturn:
    """Runs a click command as a program: `if __name__ == "__main__": run(command)`.

    Exit codes: 0 done, 2 bad input (usage errors included), 3 missing weights or data, 1 anything else.
    A LatticebenchError and a full disk end in one line `error: …` on stderr, any other exception in its traceback.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        command.main(args=None if args is None else list(args), prog_name=prog_name)
    except LatticebenchError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno not in _DISK_FULL:
            raise
        where = f" while writing {error.filename}" if error.filename else ""
        click.echo(f"error: the disk is full{where}; free some space and run again: finished work is kept", err=True)
        sys.exit(1)
    sys.exit(0)
