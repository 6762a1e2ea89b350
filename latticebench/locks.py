"""One run a folder: a lock that names its owner and dies with it, on one machine and on a shared file system.

The kernel's lock (flock) decides wherever it can. On one machine it always does: it ends with its process,
however that ends. Between machines it depends on the file system: NFS hands it to the server, which may keep it
for a machine that is gone, and some mounts keep it to the machine itself. So the owner also writes into the file
who it is and, every BEAT seconds, a higher number; a lock of another machine whose number stands still for
SILENCE seconds belongs to nobody. Clocks are not compared.

An owner that cannot give signs of life, because the disk is full or the server gone, says so and goes on: on one
machine the kernel's lock still holds. After SILENCE seconds another machine may take the folder; the owner looks for
that before each sign of life, and ends where it finds another name in the file or another file in its place.
"""

import atexit
import contextlib
import dataclasses
import errno
import fcntl
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from latticebench.errors import BadInput

log = logging.getLogger(__name__)

BEAT = 10.0
"""Seconds between signs of life."""

SILENCE = 60.0
"""Seconds without one after which an owner on another machine is taken for dead."""

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_RECORD_BYTES = 512


@dataclasses.dataclass(frozen=True)
class Owner:
    """Who holds or held a lock. boot: identity of the machine since it was started. beat: grows while it lives."""

    pid: int
    host: str
    boot: str
    beat: int = 0

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


class Lock:
    """A lock that is held: until `close`, the end of its `with` block, or of the process."""

    def __init__(self, path: Path, file: int) -> None:
        """`file`: the open lock file, closed here where an OSError keeps this from being a lock."""
        # Absolute: the process may change its folder while it holds the lock, as Snakemake does at its end.
        self._path, self._file, self._owner = path.absolute(), file, me()
        with _or_closed(file, path):
            self._write()
        self._ended = threading.Event()
        self._mutex = threading.Lock()
        threading.Thread(target=self._live, name=f"lock {path.name}", daemon=True).start()
        atexit.register(self.close)

    def __enter__(self) -> "Lock":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Gives the lock up, and says so in the file: nobody has to wait for a sign of life."""
        atexit.unregister(self.close)
        if self._owner.pid != os.getpid() or self._ended.is_set():  # a forked child's copy, or closed before
            return
        with self._mutex:
            self._ended.set()
            try:
                os.ftruncate(self._file, 0)
            except OSError as error:  # another machine waits for SILENCE seconds, then it takes the lock
                log.warning("%s could not be given up in writing: %s", self._path, error)
            finally:
                os.close(self._file)

    def forget(self) -> None:
        """Ends like `close`, and leaves the file as it is: another process has it."""
        atexit.unregister(self.close)
        with self._mutex:
            self._ended.set()
            os.close(self._file)

    def _write(self) -> None:
        os.pwrite(self._file, json.dumps(dataclasses.asdict(self._owner)).encode().ljust(_RECORD_BYTES), 0)

    def _live(self) -> None:
        last, failing, warned = time.monotonic(), False, False
        while not self._ended.wait(BEAT):
            with self._mutex:
                if self._ended.is_set():
                    return
                try:
                    if self._is_taken():
                        log.error(
                            "error: another machine took %s over, because this one gave no sign of life", self._path
                        )
                        # Whatever this process still wrote would be written beside the new owner.
                        os._exit(1)
                    self._owner = dataclasses.replace(self._owner, beat=self._owner.beat + 1)
                    self._write()
                except OSError as error:
                    if not failing:
                        log.warning("no sign of life could be written to %s: %s; trying on", self._path, error)
                    failing = True
                    if not warned and time.monotonic() - last > SILENCE:
                        warned = True
                        log.error(
                            "%s: no sign of life for %g s (%s); another machine may take the folder from now on, and"
                            " this process ends where it sees that. Free some space, or bring the server back",
                            *(self._path, SILENCE, error),
                        )
                else:
                    if failing:
                        log.warning("signs of life are written to %s again", self._path)
                    last, failing, warned = time.monotonic(), False, False

    def _is_taken(self) -> bool:
        """Whether another file is in the place of this one, or another owner in it."""
        if not _is(self._file, self._path):
            return True
        owner = read(self._path)
        return owner is not None and (owner.pid, owner.boot) != (self._owner.pid, self._owner.boot)


def hold(path: str | Path, what: str) -> Lock:
    """Takes the lock file `path`; `what` names the folder in the error.

    Raises BadInput naming the owner where another process holds it. Where that one is on another machine, looks for
    up to SILENCE seconds whether it lives, and takes the lock over where it does not. Raises OSError naming the file
    where it cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        with _or_closed(file, path):
            got = _flock(file)
            replaced = got is not False and not _is(file, path)
            owner = read(path)
            dead = not replaced and _is_dead(path, owner, got)
        if replaced:  # while this process was asking for it
            os.close(file)
            continue
        if dead:
            if got is not False:
                lock = Lock(path, file)
                if got or _alone(path):
                    return lock
                lock.forget()
                continue
            # The server keeps the lock for a dead machine: it stays with the old file, which nobody opens again.
            if _is(file, path):
                path.unlink(missing_ok=True)
            os.close(file)
            continue
        os.close(file)
        raise BadInput(
            f"{what} is in use by {owner or 'another process'} (lock {path}); wait for it, stop it, or use another"
            " `name:`"
        )


@contextlib.contextmanager
def _or_closed(file: int, path: Path) -> Iterator[None]:
    """Closes the lock file on an OSError: open it keeps the kernel's lock, and its process is in its own way."""
    try:
        yield
    except OSError as error:
        os.close(file)
        raise OSError(error.errno, error.strerror, str(path)) from error


def read(path: str | Path) -> Owner | None:
    """The owner that a lock file names, None where it was given up or never held."""
    try:
        return Owner(**json.loads(Path(path).read_bytes()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def living(path: str | Path, now: float | None = None) -> Owner | None:
    """Who holds a lock and has given a sign of life within SILENCE seconds, by the file's time; touches nothing.

    Good for telling; only `hold` decides. now: seconds since the epoch, the present if None.
    """
    owner = read(path)
    with contextlib.suppress(FileNotFoundError):
        if owner is not None and (time.time() if now is None else now) - Path(path).stat().st_mtime < SILENCE:
            return owner
    return None


def me() -> Owner:
    """This process as an owner."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        boot = socket.gethostname()
    return Owner(os.getpid(), socket.gethostname(), boot)


def _flock(file: int) -> bool | None:
    """Whether the kernel gave the lock; None where this file system has none."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return None
        raise
    return True


def _is(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def _alone(path: Path) -> bool:
    """Without the kernel's help the last of several that write at once has it; the others see that here."""
    time.sleep(min(1.0, SILENCE / 10))
    owner, here = read(path), me()
    return owner is not None and (owner.pid, owner.boot) == (here.pid, here.boot)


def _is_dead(path: Path, owner: Owner | None, got: bool | None) -> bool:
    """Whether the owner that the file names is gone; `got` is what the kernel says."""
    if owner is None:
        return got is not False
    here = me()
    if owner.boot == here.boot:
        return got if got is not None else not Path(f"/proc/{owner.pid}").exists()
    log.info("%s names %s: looking for up to %g s whether it lives", path, owner, SILENCE)
    end = time.monotonic() + SILENCE
    while time.monotonic() < end:
        time.sleep(min(BEAT / 10, SILENCE / 10))
        now = read(path)
        if now is None:
            return got is not False
        if now != owner:
            return False
    return True
