"""What killed jobs left half-written goes when it is old, and nothing else does."""

import os
import tempfile
import time
from pathlib import Path

import pytest

from latticebench import integrity, leftovers
from latticebench.files import whole

OLD = time.time() - 2 * leftovers.SECONDS


@pytest.mark.parametrize("name", ["model.safetensors", "manifest.json", "plain", "a.b.npy"])
def test_what_a_writer_leaves_is_known_by_its_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(FileNotFoundError), whole(tmp_path / "deep" / name) as temporary:
        temporary.write_bytes(b"half")
        assert leftovers.remove(tmp_path) == (0, 0), "it may still be written"
        os.utime(temporary, (OLD, OLD))
        assert leftovers.remove(tmp_path) == (1, 4)
    assert not any((tmp_path / "deep").iterdir())


def test_a_folder_goes_whole_once_nothing_in_it_is_new(tmp_path: Path) -> None:
    folder = Path(tempfile.mkdtemp(dir=tmp_path, prefix=".report."))
    page = folder / "report" / "index.html"
    page.parent.mkdir()
    page.write_text("half")
    for path in (folder, page.parent):
        os.utime(path, (OLD, OLD))
    assert leftovers.remove(tmp_path)[0] == 0 and page.exists()
    os.utime(page, (OLD, OLD))
    assert leftovers.remove(tmp_path)[0] == 1 and not folder.exists()


def test_a_link_is_removed_and_not_followed(tmp_path: Path) -> None:
    kept = tmp_path / "elsewhere" / "kept"
    kept.parent.mkdir()
    kept.write_text("kept")
    root = tmp_path / "root"
    root.mkdir()
    (root / ".elsewhere.abcdefgh").symlink_to(kept.parent)
    os.utime(root / ".elsewhere.abcdefgh", (OLD, OLD), follow_symlinks=False)
    assert leftovers.remove(root)[0] == 1 and kept.read_text() == "kept"


@pytest.mark.parametrize(
    "name", [integrity.SEEN, ".lock", ".snakemake_timestamp", ".a.json.abcdefgh.npy", "a.abcdefgh"]
)
def test_other_hidden_files_stay(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("x")
    os.utime(tmp_path / name, (OLD, OLD))
    assert leftovers.remove(tmp_path) == (0, 0) and (tmp_path / name).exists()


def test_a_run_that_starts_says_what_it_removed(tmp_path: Path) -> None:
    path = tmp_path / "tokenizers" / ".model.safetensors.abcd_123.safetensors"
    path.parent.mkdir()
    path.write_bytes(bytes(2_000_000))
    os.utime(path, (OLD, OLD))
    (line,) = integrity.sweep(tmp_path)
    assert line.startswith("removed 1 half-written files") and line.endswith("2 MB")
    assert integrity.sweep(tmp_path) == []
