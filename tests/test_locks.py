"""A lock ends with its owner, on this machine and on another one that has died."""

import dataclasses
import errno
import fcntl
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from latticebench import locks
from latticebench.errors import BadInput

ELSEWHERE = locks.Owner(7, "node7", "another-boot", 3)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "BEAT", 0.02)
    monkeypatch.setattr(locks, "SILENCE", 0.2)


@pytest.fixture
def alive(tmp_path: Path) -> Iterator[Path]:
    """A lock file whose owner on another machine keeps giving signs of life."""
    path, ended = tmp_path / "lock", threading.Event()

    def beat() -> None:
        owner = ELSEWHERE
        while not ended.wait(0.01):
            owner = dataclasses.replace(owner, beat=owner.beat + 1)
            temporary = tmp_path / "record"
            temporary.write_text(json.dumps(dataclasses.asdict(owner)))
            temporary.replace(path)

    write(path, ELSEWHERE)
    thread = threading.Thread(target=beat)
    thread.start()
    yield path
    ended.set()
    thread.join()


def write(path: Path, owner: locks.Owner) -> None:
    path.write_text(json.dumps(dataclasses.asdict(owner)))


def test_the_owner_is_named_until_it_gives_the_lock_up(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with locks.hold(path, "the folder"):
        assert locks.read(path) == dataclasses.replace(locks.me(), beat=locks.read(path).beat)
        with pytest.raises(BadInput, match=f"the folder is in use by process {os.getpid()} on "):
            locks.hold(path, "the folder")
    assert locks.read(path) is None
    locks.hold(path, "the folder").close()


def test_a_killed_owner_leaves_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    code = f"import os, signal; from latticebench import locks; x = locks.hold({str(path)!r}, 'x'); os.kill(os.getpid(), 9)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert locks.read(path) is not None
    locks.hold(path, "the folder").close()


def test_a_dead_machine_s_lock_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    write(path, ELSEWHERE)
    with locks.hold(path, "the folder"):
        assert locks.read(path).pid == os.getpid()


def test_a_lock_that_the_server_keeps_for_a_dead_machine_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    write(path, ELSEWHERE)
    with open(path) as server:
        fcntl.flock(server, fcntl.LOCK_EX)
        with locks.hold(path, "the folder"), pytest.raises(BadInput, match=f"process {os.getpid()}"):
            locks.hold(path, "the folder")


def test_a_living_machine_s_lock_is_respected_where_the_kernel_knows_nothing_of_it(alive: Path) -> None:
    with pytest.raises(BadInput, match="in use by process 7 on node7"):
        locks.hold(alive, "the folder")


def test_without_kernel_locks_the_record_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    path = tmp_path / "lock"
    with locks.hold(path, "the folder"), pytest.raises(BadInput, match=f"process {os.getpid()}"):
        locks.hold(path, "the folder")
    write(path, dataclasses.replace(locks.me(), pid=2**22 + 1))  # no such process
    locks.hold(path, "the folder").close()


def test_an_owner_that_was_given_up_on_ends_without_another_word(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    code = (
        "import time; from latticebench import locks; locks.BEAT = 0.02\n"
        f"with locks.hold({str(path)!r}, 'x'):\n    print(flush=True); time.sleep(20)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.readline()
    path.unlink()
    write(path, ELSEWHERE)
    assert process.wait(10) == 1
    assert "another machine took" in process.stderr.read()
    assert locks.read(path) == ELSEWHERE
