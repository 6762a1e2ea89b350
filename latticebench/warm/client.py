"""`python -I -S client.py MODULE ARGS…`: as `python -m MODULE ARGS…`, forked from the run's warm server where it can be.

Needs nothing but the standard library's smallest parts, because every job pays for its start.
"""

import os
import signal
import socket
import struct
import sys

SOCKET = "LATTICEBENCH_WARM_SOCKET"
"""Environment variable with the path of the server's socket."""

ACCEPTED = b"+"
LENGTH = struct.Struct("!Q")
STATUS = struct.Struct("!i")

PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def request(module: str, arguments: list[str]) -> bytes:
    """What the server must know: working folder, module, arguments and environment, separated by NUL."""
    environment = [key + b"=" + value for key, value in os.environb.items()]
    fields = [os.getcwdb(), os.fsencode(module), b"%d" % len(arguments), *map(os.fsencode, arguments), *environment]
    return b"\0".join(fields)


def run_warm(path: str, module: str, arguments: list[str]) -> int | None:
    """The job's wait status, or None where no server took it."""
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(path)
            body = request(module, arguments)
            socket.send_fds(connection, [LENGTH.pack(len(body))], [0, 1, 2])
            connection.sendall(body)
            if connection.recv(1) != ACCEPTED:
                return None
        except OSError:
            return None
        # From here a signal is the job's; before, it ends this process, and the server sees that.
        for number in PASSED_ON:
            signal.signal(number, lambda received, _: connection.send(bytes([received])))
        try:
            answer = connection.recv(STATUS.size, socket.MSG_WAITALL)
        except OSError:
            answer = b""
        if len(answer) < STATUS.size:
            sys.exit("error: the process that jobs are forked from has died and took this job with it; run again")
        return STATUS.unpack(answer)[0]


def end_as(status: int) -> None:
    """Ends this process as the job ended: by the same exit code or the same signal."""
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


def main() -> None:
    """Runs the job and ends as it does."""
    module, *arguments = sys.argv[1:]
    path = os.environ.get(SOCKET)
    status = run_warm(path, module, arguments) if path else None
    if status is not None:
        end_as(status)
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])


if __name__ == "__main__":
    main()
