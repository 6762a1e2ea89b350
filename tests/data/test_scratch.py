"""Prepared data are copied to a node's own disk once, and again when they change."""

import os
from pathlib import Path

import pytest

from latticebench.data import scratch
from latticebench.errors import BadInput


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "results" / "mine" / "data" / "0123abcd"
    path.mkdir(parents=True)
    (path / "train.npy").write_bytes(b"images")
    (path / "manifest.json").write_text("{}")
    return path


def test_without_scratch_the_data_are_read_where_they_are(folder: Path) -> None:
    assert scratch.local(folder, None) == folder


def test_copied_once_and_again_after_a_change(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODE_DISK", str(tmp_path / "disk"))
    copy = scratch.local(folder, "$NODE_DISK")
    assert copy == tmp_path / "disk" / "latticebench" / "mine" / "0123abcd"
    assert (copy / "train.npy").read_bytes() == b"images"
    first = (copy / "train.npy").stat().st_ino
    assert (scratch.local(folder, "$NODE_DISK") / "train.npy").stat().st_ino == first

    (folder / "train.npy").write_bytes(b"others")
    os.utime(folder / "train.npy", (1, 1))
    assert (scratch.local(folder, "$NODE_DISK") / "train.npy").read_bytes() == b"others"


def test_an_unset_variable_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NODE_DISK", raising=False)
    with pytest.raises(BadInput, match=r"jobs\.scratch: \$NODE_DISK"):
        scratch.local(folder, "$NODE_DISK")
