"""Damage in a results folder, found before a run and set aside, so that the run makes it again.

Every job ends with a manifest of the files that it made and their sha256. A run that starts compares them: a file
that is gone, cut short or changed is renamed to `<name>.damaged`, and so is its manifest. The manifests of what was
made from it are removed, because the workflow makes a file again only for the sake of one that needs it; finished
trainings among them are found whole and kept. A file whose size, times and inode are those of its last comparison is
not read again.

Stored features (evaluation/features.py) are shared by jobs and come without a manifest; `seal` gives them one when a
run ends, and `sweep` does for those of a run that was killed, as it finds them. A damaged one is computed again by the
next job that needs it.

Where a job's manifest itself is gone, nothing says what it was; the report goes too, because with it there the workflow
would find everything done. What is from the future, because a clock was wrong, gets the present as its time: the
workflow takes an output that is older than its input for a mistake, however often it is made.
"""

import contextlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from latticebench import joblist, leftovers, locks
from latticebench.errors import BadInput, Missing
from latticebench.files import sealed, sha256, write_json

log = logging.getLogger(__name__)

SEEN = ".verified.json"
"""What was compared before, in the results folder: path -> [size, times, inode, sha256]."""
DAMAGED = ".damaged"
FEATURES_MANIFEST = "made.json"
REPORT = "report/index.html"
WORTH_A_WORD = 60.0
"""Seconds by which clocks of two machines that share a disk may differ without a warning."""


def sweep(root: str | Path, act: bool = True) -> list[str]:
    """Sets aside what is damaged below a results folder. Returns a line for each such file, none where all is well.

    Does nothing while another run holds the folder. A file that cannot be read counts as damaged; what cannot be
    repaired gets a line, and the rest is repaired.

    act: without it nothing below the folder changes, and the lines say what would be set aside.
    """
    root = Path(root)
    if not root.is_dir():
        return []
    if not act:
        return [] if locks.living(root / ".lock") else _look(root)
    try:
        lock = locks.hold(root / ".lock", str(root))
    except (BadInput, OSError) as error:  # in use, or on a disk that only reads: the run itself says so
        log.debug("%s is not checked: %s", root, error)
        return []
    with lock:
        return _sweep(root)


def _look(root: Path) -> list[str]:
    seen, lines, due = _seen(root), [], set()
    for manifest in _manifests(root):
        if manifest in due:  # it goes with what it was made from
            continue
        if bad := list(_bad(root, manifest, seen, {})):
            lines += [f"{path} {reason}; a run sets it aside and makes it again" for path, reason in bad]
            due |= {*_later(root, manifest)}
    return lines


def _sweep(root: Path) -> list[str]:
    seen = _seen(root)
    kept: dict[str, list[Any]] = {}
    lines: list[str] = []
    for manifest in _manifests(root):
        bad = list(_bad(root, manifest, seen, kept))
        if not bad:
            continue
        lines += [f"{path} {reason}; it is made again" for path, reason in bad]
        for path in dict.fromkeys([*(path for path, _ in bad), manifest]):
            _attempt(lines, f"{path} could not be set aside", path.replace, path.with_name(path.name + DAMAGED))
        for later in _later(root, manifest):
            _attempt(lines, f"{later} could not be removed", later.unlink)
    for step in (_from_the_future, _leftovers, _report_is_due, _seal):
        _attempt(lines, f"{root} could not be put in order", lambda step=step: lines.extend(step(root) or []))
    if kept != seen:
        _attempt(lines, "what was compared is compared again next time", write_json, root / SEEN, kept)
    return lines


def _attempt(lines: list[str], otherwise: str, action: Callable[..., Any], *arguments: Any) -> None:
    """Does it, or adds a line with the reason. A file that is gone needs no repair."""
    try:
        with contextlib.suppress(FileNotFoundError):
            action(*arguments)
    except OSError as error:
        lines.append(f"{otherwise}: {error}")


def _leftovers(root: Path) -> list[str]:
    number, size = leftovers.remove(root)
    if not number:
        return []
    return [f"removed {number} half-written files of killed jobs from {root}, {size / 1e6:.3g} MB"]


def _report_is_due(root: Path) -> None:
    if not all((root / output).exists() for output in _outputs(root)):
        (root / REPORT).unlink(missing_ok=True)


def seal(root: str | Path) -> None:
    """Writes the hashes of stored features that a run has made. For the owner of the folder's lock, when it ends."""
    try:
        _seal(Path(root), renewed=True)
    except OSError as error:  # a full disk, or one that only reads: the next sweep does it
        log.debug("%s: features are not sealed: %s", root, error)


def _seal(root: Path, renewed: bool = False) -> None:
    """Hashes features that are in no manifest; with `renewed` also those that are newer than theirs.

    A job that asks for one more head of a network writes the others again, on a GPU perhaps with other last bits.
    """
    for folder in root.glob("features/*/*/"):
        manifest = folder / FEATURES_MANIFEST
        known = _hashes(manifest)
        written = manifest.stat().st_mtime_ns if known else 0
        paths = sorted(folder.glob("[!.]*.npy"))
        due = [p for p in paths if p.name not in known or (renewed and p.stat().st_mtime_ns > written)]
        if due:
            write_json(manifest, {"files": {**known, **{path.name: sha256(path) for path in due}}})


def _hashes(manifest: Path) -> dict[str, str]:
    try:
        return dict(json.loads(manifest.read_bytes())["files"])
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def _manifests(root: Path) -> list[Path]:
    return sorted([*root.glob("data/*/manifest.json"), *root.rglob("made*.json")])


_GENERATION = ("tokens", "generators", "samples")


def _later(root: Path, manifest: Path) -> list[Path]:
    """The manifests of what may have been made from a manifest's files, and the report."""
    stage, owner = manifest.relative_to(root).parts[:2]
    folders = []
    if stage == "data":
        folders = ["tokenizers/*", "records/*"]
    elif stage == "tokenizers":
        folders = [f"records/{owner}"]
    if stage in ("data", "tokenizers", *_GENERATION):
        after = _GENERATION[_GENERATION.index(stage) + 1 :] if stage in _GENERATION else _GENERATION
        folders += [f"{name}/*" for name in after]
        folders += [f"records/{path.name}" for path in root.glob("samples/*")]
    found = [path for folder in folders for path in root.glob(f"{folder}/made*.json")]
    return [*found, root / REPORT]


def _from_the_future(root: Path) -> list[str]:
    now, late = time.time(), 0.0
    for path in {*_manifests(root), *(root / output for output in _outputs(root))}:
        with contextlib.suppress(FileNotFoundError):
            ahead = path.stat().st_mtime - now
            if ahead > 0:
                os.utime(path, (now, now))
            late = max(late, ahead)
    if late < WORTH_A_WORD:
        return []
    return [f"files in {root} were from the future, by up to {late / 86400:.3g} days; their time is now the present"]


def _outputs(root: Path) -> list[str]:
    """What the jobs of the newest run were to make; nothing where that is not known."""
    try:
        return [job.output for job in joblist.read(root).jobs]
    except (Missing, BadInput):
        return []


def _bad(
    root: Path, manifest: Path, seen: dict[str, list[Any]], kept: dict[str, list[Any]]
) -> Iterator[tuple[Path, str]]:
    """The damaged files of a manifest with what is wrong."""
    try:
        text = manifest.read_bytes()
    except FileNotFoundError:  # made from what is damaged
        return
    except OSError as error:
        yield manifest, _unreadable(error)
        return
    try:
        values = json.loads(text)
        files = dict(values.get("files", {}))
        for split in values.get("splits", {}).values():
            files |= split["files"]
        if any("\0" in name for name in files):
            raise ValueError("it names what cannot be a file")
        if not sealed(values):
            raise ValueError("it differs from its own hash")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        yield manifest, "is damaged"
        return
    inside = root.resolve()
    for name, digest in files.items():
        path = manifest.parent / name
        place = Path(os.path.realpath(path))  # unlike resolve() it has an answer for links in a circle
        if not place.is_relative_to(inside):  # nobody's file outside is touched for what a manifest says
            yield manifest, f"names {name}, which is outside {root}"
            return
        if place in Path(os.path.realpath(manifest)).parents:  # to set it aside would take all that is in it along
            yield manifest, f"names {name}, a folder that it lies in"
            return
        key = str(place.relative_to(inside))
        try:
            stat = path.stat()
            signs = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, digest]
            same = seen.get(key) == signs or sha256(path) == digest
        except (FileNotFoundError, NotADirectoryError):
            yield path, "is gone"
        except OSError as error:
            yield path, _unreadable(error)
        else:
            if same:
                kept[key] = signs
            else:
                yield path, "has changed since it was made"


def _unreadable(error: OSError) -> str:
    return f"cannot be read ({error.strerror or error})"


def _seen(root: Path) -> dict[str, list[Any]]:
    try:
        values = json.loads((root / SEEN).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}
