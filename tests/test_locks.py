"""A lock ends with its owner, on this machine and on another one that has died."""

import dataclasses
import errno
import fcntl
import json
import os
import subprocess
import sys
import threading
import time
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


@pytest.mark.parametrize("replaced", [True, False], ids=["another file", "another name"])
def test_an_owner_that_was_given_up_on_ends_without_another_word(tmp_path: Path, replaced: bool) -> None:
    path = tmp_path / "lock"
    code = (
        "import time; from latticebench import locks; locks.BEAT = 0.02\n"
        f"with locks.hold({str(path)!r}, 'x'):\n    print(flush=True); time.sleep(20)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.readline()
    if replaced:
        path.unlink()
        write(path, ELSEWHERE)
    else:  # at once, as another machine does
        with open(path, "r+b", buffering=0) as file:
            file.write(json.dumps(dataclasses.asdict(ELSEWHERE)).encode().ljust(512))
    assert process.wait(10) == 1
    assert "another machine took" in process.stderr.read()
    assert locks.read(path) == ELSEWHERE


def fail(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """From now on no lock file can be written."""

    def full(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "pwrite", full)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_lock_that_cannot_be_written_names_its_file_and_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    path = tmp_path / "lock"
    with monkeypatch.context() as patch:
        fail(patch, number)
        with pytest.raises(OSError, match=os.strerror(number)) as raised:
            locks.hold(path, "the folder")
        assert raised.value.errno == number and raised.value.filename == str(path)
    locks.hold(path, "the folder").close()


def test_an_owner_whose_signs_of_life_fail_says_so_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def said(words: str) -> bool:
        deadline = time.monotonic() + 10
        while words not in caplog.text and time.monotonic() < deadline:
            time.sleep(0.01)
        return words in caplog.text

    path = tmp_path / "lock"
    with locks.hold(path, "the folder"):
        with monkeypatch.context() as patch:
            fail(patch, errno.ENOSPC)
            assert said("no sign of life could be written to"), caplog.text
            assert said("another machine may take the folder from now on"), caplog.text
            before = locks.read(path).beat
        assert said("signs of life are written to"), caplog.text
        assert locks.read(path).beat > before
        assert caplog.text.count("no sign of life could be written to") == 1


def test_a_lock_that_cannot_be_given_up_in_writing_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def read_only(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    path = tmp_path / "lock"
    with monkeypatch.context() as patch:
        patch.setattr(os, "ftruncate", read_only)
        locks.hold(path, "the folder").close()
    assert "could not be given up in writing" in caplog.text
    locks.hold(path, "the folder").close()
