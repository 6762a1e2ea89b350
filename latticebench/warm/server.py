"""`python -m latticebench.warm.server FD FOLDER`: forks a job for every client of the listening socket FD.

One thread, and nothing that starts one or touches a GPU before the fork: a forked child then is as good as a
new process. But for what starts jobs it has imported other people's packages only; the suite's own code is imported by
each job, so that a job runs the code it finds when it starts, and its record hashes that code.
"""

import atexit
import contextlib
import ctypes
import gc
import importlib
import os
import runpy
import selectors
import shutil
import signal
import socket
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from typing import NamedTuple, NoReturn

from latticebench import shortage
from latticebench.warm.client import ACCEPTED, LENGTH, STATUS

PRELOADED = (
    "click",
    "jsonschema",
    "numba",
    "numpy",
    "PIL.Image",
    "pydantic",
    "safetensors.torch",
    "scipy.linalg",
    "scipy.ndimage",
    "scipy.special",
    "scipy.stats",
    "skimage.metrics",
    "torch",
    "tqdm",
    "yaml",
)
"""What the jobs import; one that is not installed is left to the job that needs it.

Not pyarrow, nor pandas, which imports it: it starts a thread.
"""

_READ_AT_LOAD = ("ATEN_", "DNNL_", "GOMP_", "GOTO_", "KMP_", "LD_", "MALLOC_", "MKL_", "NUMBA_", "OMP_", "ONEDNN_",
                 "OPENBLAS_", "PYTHON", "PYTORCH_", "TORCH_")  # fmt: skip
_HANDLED = (signal.SIGCHLD, signal.SIGTERM)
_SECONDS_TO_ASK = 10.0
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class Job(NamedTuple):
    """A client's wish: its folder, the module, its arguments and environment; and its files 0, 1, 2."""

    folder: bytes
    module: str
    arguments: list[str]
    environment: dict[bytes, bytes]
    files: list[int]

    @classmethod
    def of(cls, body: bytes, files: list[int]) -> "Job":
        """The inverse of client.request."""
        folder, module, count, *rest = body.split(b"\0")
        arguments, environment = rest[: int(count)], rest[int(count) :]
        pairs = (entry.partition(b"=") for entry in environment)
        return cls(
            folder,
            os.fsdecode(module),
            list(map(os.fsdecode, arguments)),
            {key: value for key, _, value in pairs},
            files,
        )

    def run(self) -> NoReturn:
        """As `python -m module arguments` does in a new process; call it in a forked child.

        Ends as multiprocessing's children do, without taking every imported module apart: that would copy the
        pages shared with the server and take longer than many a job.
        """
        for number, file in enumerate(self.files):
            os.dup2(file, number)
            os.close(file)
        os.chdir(self.folder)
        os.environb.clear()
        os.environb.update(self.environment)
        tempfile.tempdir = None
        sys.path[0] = os.getcwd()
        sys.argv = [self.module, *self.arguments]
        code = 1
        try:
            runpy.run_module(self.module, run_name="__main__", alter_sys=True)
            code = 0
        except SystemExit as end:
            code = _exit_code(end.code)
        except BaseException as error:
            traceback.print_exc()
            if shortage.of_memory(error):  # in an import, before the job's own handlers
                print(shortage.line(error), file=sys.stderr)
        threading._shutdown()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _exit_code(argument: object) -> int:
    """What the interpreter makes of SystemExit's argument."""
    if argument is None:
        return 0
    if isinstance(argument, int):
        return argument & 0xFF
    print(argument, file=sys.stderr)
    return 1


def read_at_load(environment: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """The variables that libraries read once, when they load: a job that wants others cannot be forked."""
    prefixes = tuple(prefix.encode() for prefix in _READ_AT_LOAD)
    return {key: value for key, value in environment.items() if key.startswith(prefixes)}


def _read(connection: socket.socket) -> Job:
    """A client's request. Raises ValueError on anything else, OSError where the client is gone."""
    head, files, _, _ = socket.recv_fds(connection, LENGTH.size, 3)
    if len(head) != LENGTH.size or len(files) != 3:
        raise ValueError("not a request")
    (left,) = LENGTH.unpack(head)
    body = bytearray()
    while len(body) < left:
        part = connection.recv(left - len(body))
        if not part:
            raise ValueError("a request ends early")
        body += part
    return Job.of(bytes(body), files)


class Server:
    """Waits for clients, signals, the end of jobs and its own end. `serve` returns a Job in each forked child."""

    def __init__(self, listener: socket.socket, control: int) -> None:
        self.listener, self.control = listener, control
        self.own = read_at_load(dict(os.environb))
        self.process = os.getpid()
        self.jobs: dict[int, socket.socket] = {}
        self.child: Job | None = None
        self.wakeup, self.woken = socket.socketpair()
        self.selector = selectors.DefaultSelector()

    def serve(self) -> Job | None:
        """A job to run, in a forked child; None in the server itself, when its control file has closed."""
        for end in (self.wakeup, self.woken, self.listener):
            end.setblocking(False)
        signal.set_wakeup_fd(self.woken.fileno())
        for number in _HANDLED:  # with a handler of its own a signal wakes the selector
            signal.signal(number, lambda *_: None)
        self._watch(self.listener, self._accept)
        self._watch(self.control, self._end)
        self._watch(self.wakeup, self._signalled)
        self.running = True
        while self.running and self.child is None:
            for key, _ in self.selector.select():
                key.data()
                if self.child is not None:
                    return self.child
        for pid in self.jobs:
            os.kill(pid, signal.SIGTERM)
        return None

    def _watch(self, file: int | socket.socket, call: Callable[[], None]) -> None:
        self.selector.register(file, selectors.EVENT_READ, call)

    def _end(self) -> None:
        self.running = False

    def _accept(self) -> None:
        connection, _ = self.listener.accept()
        connection.settimeout(_SECONDS_TO_ASK)
        try:
            job = _read(connection)
        except (OSError, ValueError):  # a client that died while it asked, or none of ours
            connection.close()
            return
        if read_at_load(job.environment) == self.own:
            self._fork(job, connection)
        if self.child is None:
            for file in job.files:
                os.close(file)
            if connection not in self.jobs.values():
                connection.close()

    def _fork(self, job: Job, connection: socket.socket) -> None:
        # Until a child has its own, a signal to it would reach the server's handlers.
        signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)
        try:
            pid = os.fork()
            if pid == 0:
                self._leave(connection)
                self.child = job
                return
        except OSError:  # no memory or no process left: the client tries by itself
            return
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED)
        self.jobs[pid] = connection
        connection.setblocking(False)
        self._watch(connection, lambda: self._forward(pid, connection))
        with contextlib.suppress(OSError):  # a client that is gone is seen by _forward
            connection.send(ACCEPTED)

    def _leave(self, connection: socket.socket) -> None:
        """In the child: let go of all that is the server's."""
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != self.process:  # it died before the kernel was asked
            os._exit(1)
        self.selector.close()
        for end in (self.listener, self.wakeup, self.woken, connection, *self.jobs.values()):
            end.close()

    def _forward(self, pid: int, connection: socket.socket) -> None:
        """Signals from the client to its job; the job of a client that is gone is asked to end."""
        try:
            numbers = connection.recv(16)
        except OSError:
            numbers = b""
        if not numbers:
            self.selector.unregister(connection)
        for number in numbers or [signal.SIGTERM]:
            os.kill(pid, number)

    def _signalled(self) -> None:
        if signal.SIGTERM in self.wakeup.recv(4096):
            self.running = False
        while self.jobs:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            connection = self.jobs.pop(pid)
            if connection in self.selector.get_map():
                self.selector.unregister(connection)
            with contextlib.suppress(OSError):
                connection.send(STATUS.pack(status))
            connection.close()


def preload() -> None:
    """Imports what jobs need; exits where that has started threads, because forking beside them is not safe."""
    for name in PRELOADED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    with contextlib.suppress(ImportError):
        # Pydantic imports most of itself when the first model is made.
        importlib.import_module("pydantic").create_model("Preloaded", number=(int, 0))
    if len(os.listdir("/proc/self/task")) > 1:
        sys.exit("jobs start one by one: an imported library has started threads, beside which nothing is forked")
    gc.freeze()  # collections in the jobs leave these objects' pages shared


def main() -> Job | None:
    """Serves until the workflow ends. Returns a job in each forked child."""
    listener, folder = socket.socket(fileno=int(sys.argv[1])), sys.argv[2]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    server = Server(listener, control=0)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    job = None
    try:
        preload()
        job = server.serve()
    finally:
        if job is None:
            shutil.rmtree(folder, ignore_errors=True)
    return job


if __name__ == "__main__":
    if (job := main()) is not None:
        job.run()
