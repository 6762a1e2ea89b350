"""Exit codes and messages of commands."""

import errno
import os

import click
import pytest

from latticebench import commands, user_files
from latticebench.errors import BadInput, Missing


def outcome(raised, capsys, args=()):
    @click.command()
    def command():
        if raised is not None:
            raise raised

    with pytest.raises(SystemExit) as stop:
        commands.run(command, args=args)
    return stop.value.code, capsys.readouterr().err


@pytest.mark.parametrize(("error", "code"), [(BadInput("key x"), 2), (Missing("file y"), 3)])
def test_known_errors_are_one_line_and_their_exit_code(error, code, capsys):
    assert outcome(error, capsys) == (code, f"error: {error}\n")


def test_success_is_zero(capsys):
    assert outcome(None, capsys) == (0, "")


def test_usage_errors_are_bad_input(capsys):
    code, message = outcome(None, capsys, ["--nonsense"])
    assert code == 2
    assert "--nonsense" in message


def test_a_full_disk_is_named(capsys):
    code, message = outcome(OSError(errno.ENOSPC, "No space left on device", "model.safetensors"), capsys)
    assert code == 1
    assert message.startswith("error: the disk is full while writing model.safetensors")


@pytest.mark.parametrize("number", [errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EROFS])
def test_a_path_that_cannot_be_used_is_named(number, capsys):
    error = OSError(number, os.strerror(number), "config/mine.yaml/manifest.json")
    code, message = outcome(error, capsys)
    assert code == 2 and message.count("\n") == 1
    assert message.startswith(f"error: config/mine.yaml/manifest.json: {os.strerror(number)}")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 2.00 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
        ImportError("lib.so: failed to map segment from shared object"),
        OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
    ],
    ids=lambda error: type(error).__name__,
)
def test_no_memory_left_is_one_line_whoever_says_it(error, capsys):
    code, message = outcome(error, capsys)
    assert code == 1 and message.count("\n") == 1
    assert message.startswith("error: out of memory (") and str(error) in message


def test_only_python_files_are_imported(tmp_path):
    (tmp_path / "mine.txt").write_text("name = 1")
    with pytest.raises(BadInput, match=r"mine.txt is no Python file: .*`module:`"):
        user_files.import_file(tmp_path / "mine.txt", "module")


@pytest.mark.parametrize(("text", "says"), [("def f(:", "line 1"), ("import nothing_there", "'nothing_there'")])
def test_a_file_that_cannot_be_imported_is_one_message(text, says, tmp_path):
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(BadInput, match=rf"mine.py cannot be imported: .*{says}"):
        user_files.import_file(tmp_path / "mine.py", "module")


def test_anything_else_keeps_its_traceback(capsys):
    with pytest.raises(ZeroDivisionError):

        @click.command()
        def command():
            1 / 0  # noqa: B018

        commands.run(command, args=[])
