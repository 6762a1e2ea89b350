"""Damaged results are set aside before a run, and nothing else is."""

import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

from latticebench import integrity, joblist, leftovers, locks
from latticebench.files import seal, sha256, write_json


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A results folder with prepared data and a job's manifest whose files lie beside and elsewhere."""
    folder = tmp_path / "results"
    files = ["data/abc/train.npy", "records/x/seed0/cost.json", "pictures/x/seed0.npz"]
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    write_json(
        folder / "data/abc/manifest.json", {"splits": {"train": {"files": {"train.npy": sha256(folder / files[0])}}}}
    )
    write_json(
        folder / "records/x/made-0.json",
        {
            "files": {
                "seed0/cost.json": sha256(folder / files[1]),
                "../../pictures/x/seed0.npz": sha256(folder / files[2]),
            }
        },
    )
    assert integrity.sweep(folder) == []
    return folder


def there(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and path.name[0] != "."}


def test_what_is_whole_stays_and_is_not_read_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = there(root)
    monkeypatch.setattr(integrity, "sha256", lambda path: pytest.fail(f"{path} was read again"))
    assert integrity.sweep(root) == []
    assert there(root) == before


@pytest.mark.parametrize(
    ("file", "manifest"),
    [
        ("data/abc/train.npy", "data/abc/manifest.json"),
        ("records/x/seed0/cost.json", "records/x/made-0.json"),
        ("pictures/x/seed0.npz", "records/x/made-0.json"),
        ("records/x/made-0.json", "records/x/made-0.json"),
    ],
)
@pytest.mark.parametrize("cut", [True, False])
def test_a_damaged_file_and_its_manifest_are_set_aside(root: Path, file: str, manifest: str, cut: bool) -> None:
    before, path = there(root), root / file
    text, stat = path.read_bytes(), path.stat()
    path.write_bytes(text[: len(text) // 2] if cut else b"\xff" + text[1:])
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    lines = integrity.sweep(root)
    assert len(lines) == 1 and file in lines[0] and "made again" in lines[0]
    gone = {file, manifest}
    made_from_it = {"records/x/made-0.json"} if file.startswith("data") else set()
    assert there(root) == before - gone - made_from_it | {name + integrity.DAMAGED for name in gone}
    assert integrity.sweep(root) == []


def test_a_file_that_cannot_be_read_is_a_finding_and_hides_no_other(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "pictures/x/seed0.npz").write_text("changed")
    record = root / "records/x/seed0/cost.json"
    record.write_text("changed")

    def broken(path: Path) -> str:
        if path.name == record.name:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return sha256(path)

    monkeypatch.setattr(integrity, "sha256", broken)
    lines = integrity.sweep(root)
    assert len(lines) == 2
    assert any("cost.json cannot be read (Input/output error); it is made again" in line for line in lines)
    assert any("seed0.npz has changed" in line for line in lines)
    assert not record.exists() and not (root / "records/x/made-0.json").exists()


@pytest.mark.parametrize("name", ["records/x/seed0/cost.json", "records/x/made-0.json"])
def test_a_folder_in_the_place_of_a_file_is_set_aside(root: Path, name: str) -> None:
    (root / name).unlink()
    (root / name).mkdir()
    (line,) = integrity.sweep(root)
    assert f"{name} cannot be read (Is a directory)" in line
    assert (root / (name + integrity.DAMAGED)).is_dir() and not (root / name).exists()
    assert integrity.sweep(root) == []


def test_links_in_a_circle_are_set_aside(root: Path) -> None:
    path = root / "records/x/seed0/cost.json"
    path.unlink()
    path.symlink_to(path)
    (line,) = integrity.sweep(root)
    assert "cost.json cannot be read (Too many levels of symbolic links)" in line
    assert not path.is_symlink()


def test_what_cannot_be_set_aside_is_named_and_its_job_is_due(root: Path) -> None:
    (root / "pictures/x/seed0.npz").write_text("changed")
    (root / "pictures/x/seed0.npz.damaged").mkdir()
    lines = integrity.sweep(root)
    assert len(lines) == 2 and "seed0.npz could not be set aside: " in lines[1]
    assert not (root / "records/x/made-0.json").exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [(leftovers, "remove"), (integrity, "_seal"), (integrity, "write_json")],
    ids=["leftovers", "seal", "notes"],
)
def test_findings_are_told_where_a_later_step_fails(
    root: Path, monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module, name, full)
    (root / "pictures/x/seed0.npz").unlink()
    lines = integrity.sweep(root)
    assert "seed0.npz is gone" in lines[0]
    assert "No space left on device" in lines[1]
    assert not (root / "records/x/made-0.json").exists()


def test_what_was_made_from_it_is_due_again_and_the_rest_stays(root: Path) -> None:
    def manifest(place: str) -> Path:
        write_json(root / place / "made-0.json", {"files": {}})
        return root / place / "made-0.json"

    weights = root / "tokenizers/x/model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_text("weights")
    write_json(weights.parent / "made-0.json", {"files": {weights.name: sha256(weights)}})
    due = [manifest(place) for place in ("tokens/t", "generators/g", "samples/s", "records/s")]
    stays = [manifest(place) for place in ("tokenizers/y", "records/y")]
    (root / "report").mkdir()
    (root / "report/index.html").write_text("page")
    weights.write_text("Weights")
    integrity.sweep(root)
    assert not any(path.exists() for path in [*due, root / "records/x/made-0.json", root / "report/index.html"])
    assert all(path.exists() for path in stays)


def test_a_manifest_that_differs_from_its_own_hash_is_set_aside(root: Path) -> None:
    path = root / "data/abc/manifest.json"
    values = json.loads(path.read_text())
    write_json(path, seal(values))
    assert integrity.sweep(root) == []
    write_json(path, {**seal(values), "name": "another"})
    assert "is damaged" in integrity.sweep(root)[0]


def test_a_lost_file_makes_its_job_due(root: Path) -> None:
    (root / "pictures/x/seed0.npz").unlink()
    assert "is gone" in integrity.sweep(root)[0]
    assert not (root / "records/x/made-0.json").exists()


@pytest.mark.parametrize(
    "text",
    ["[]", "{", '{"files": 3}', '{"splits": {"train": {}}}', "\xff", "[" * 100_000, '{"files": {"a\\u0000": ""}}'],
)
def test_a_manifest_that_makes_no_sense_is_set_aside(root: Path, text: str) -> None:
    (root / "records/x/made-0.json").write_text(text)
    assert "is damaged" in integrity.sweep(root)[0]


@pytest.mark.parametrize("text", ["", "[]", '{"records/x/seed0/cost.json": 1}'])
def test_damaged_notes_cost_a_second_look_only(root: Path, text: str) -> None:
    (root / integrity.SEEN).write_text(text)
    before = there(root)
    assert integrity.sweep(root) == []
    assert there(root) == before


def test_a_folder_in_use_or_absent_is_left_alone(root: Path) -> None:
    (root / "pictures/x/seed0.npz").unlink()
    before = there(root)
    with locks.hold(root / ".lock", "the folder"):
        assert integrity.sweep(root) == []
    assert there(root) == before
    assert integrity.sweep(root / "nowhere") == [] and not (root / "nowhere").exists()


def everything(root: Path) -> dict[str, tuple[int, ...]]:
    """Every file and folder with what would change if it were touched."""
    return {
        str(path): (path.stat().st_mtime_ns, path.stat().st_ctime_ns, path.stat().st_ino, path.stat().st_size)
        for path in [root, *root.rglob("*")]
    }


def test_a_look_names_what_a_sweep_would_set_aside_and_changes_nothing(root: Path) -> None:
    (root / "data/abc/train.npy").write_text("changed")
    (root / "pictures/x/seed0.npz").write_text("changed")  # what is made from the data is due with it
    old = root / "data/abc/.train.npy.abcdefgh.npy"
    old.write_text("half")
    for path in (old, root / "records/x/made-0.json"):
        os.utime(path, (time.time() + (1e7 if path is not old else -1e7),) * 2)
    (root / ".lock").unlink()
    before = everything(root)
    (line,) = integrity.sweep(root, act=False)
    assert "train.npy has changed since it was made; a run sets it aside" in line
    assert everything(root) == before
    assert any("train.npy has changed" in line for line in integrity.sweep(root))
    assert integrity.sweep(root, act=False) == []


def test_a_look_at_a_folder_in_use_says_nothing(root: Path) -> None:
    (root / "pictures/x/seed0.npz").unlink()
    with locks.hold(root / ".lock", "the folder"):
        assert integrity.sweep(root, act=False) == []
    assert len(integrity.sweep(root, act=False)) == 1


def test_a_manifest_cannot_reach_outside(root: Path) -> None:
    outside = root.parent / "precious.txt"
    outside.write_text("mine")
    write_json(root / "records/x/made-0.json", {"files": {"../../../precious.txt": "0" * 64}})
    assert "is outside" in integrity.sweep(root)[0]
    assert outside.read_text() == "mine"


@pytest.mark.parametrize("name", ["../..", "..", "."])
def test_a_manifest_cannot_move_the_folder_that_it_lies_in(root: Path, name: str) -> None:
    write_json(root / "records/x/made-0.json", {"files": {name: "0" * 64}})
    before = there(root)
    assert "a folder that it lies in" in integrity.sweep(root)[0]
    assert there(root) == before - {"records/x/made-0.json"} | {"records/x/made-0.json.damaged"}


def test_a_lock_lives_on_where_its_process_changes_its_folder(tmp_path: Path) -> None:
    script = (
        "import os, time\nfrom latticebench import locks\nlocks.BEAT = 0.05\n"
        "lock = locks.hold('results/.lock', 'results')\nos.chdir('/')\ntime.sleep(0.5)\nprint('alive')"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "alive", done.stderr


@pytest.mark.parametrize("lost", [True, False])
def test_a_lost_manifest_makes_the_report_due(root: Path, lost: bool) -> None:
    output = "records/x/made-0.json"
    joblist.write(root, [joblist.Job("judge", "x", str(root / output), None)])
    (root / "report").mkdir()
    (root / "report/index.html").write_text("")
    if lost:
        (root / output).unlink()
    assert integrity.sweep(root) == []
    assert (root / "report/index.html").exists() != lost


def test_what_is_from_the_future_gets_the_present_as_its_time(root: Path) -> None:
    manifest, record = root / "records/x/made-0.json", root / "records/x/seed0/cost.json"
    for path in (manifest, record):
        os.utime(path, (time.time() + 1e7,) * 2)
    (line,) = integrity.sweep(root)
    assert "from the future, by up to 116 days" in line
    assert manifest.stat().st_mtime <= time.time()
    assert integrity.sweep(root) == []


def test_stored_features_are_sealed_when_a_run_ends_and_compared_when_one_starts(root: Path) -> None:
    folder = root / "features/network/images"
    folder.mkdir(parents=True)
    for name in ("pool.npy", "spatial.npy", ".pool.npy.unfinished.npy"):
        (folder / name).write_text(name)
    integrity.seal(root)
    made = json.loads((folder / "made.json").read_text())["files"]
    assert made == {name: sha256(folder / name) for name in ("pool.npy", "spatial.npy")}
    assert integrity.sweep(root) == []
    (folder / "pool.npy").write_text("other")
    lines = integrity.sweep(root)
    assert len(lines) == 1 and "pool.npy has changed since it was made" in lines[0]
    assert not (folder / "pool.npy").exists()
    assert set(json.loads((folder / "made.json").read_text())["files"]) == {"spatial.npy"}  # found whole just now
    (folder / "pool.npy").write_text("made again")
    integrity.seal(root)
    assert integrity.sweep(root) == []


def test_features_that_a_run_wrote_again_are_sealed_again(root: Path) -> None:
    folder = root / "features/network/images"
    folder.mkdir(parents=True)
    (folder / "pool.npy").write_text("one")
    integrity.sweep(root)  # of a run that was killed: sealed as they are found
    (folder / "pool.npy").write_text("two")
    later = (folder / "made.json").stat().st_mtime_ns + 10**9
    os.utime(folder / "pool.npy", ns=(later, later))
    integrity.seal(root)
    assert integrity.sweep(root) == []
