"""Fetches released weights: download, check, convert, record; whole or not at all.

A fetched family's file becomes checkpoints/NAME/weights.safetensors; what the judge's libraries read themselves is
kept as it came in checkpoints/. checkpoints/NAME/fetched.json says what it was and is written last.
"""

import fcntl
import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from latticebench.errors import BadInput, Missing
from latticebench.files import sha256, write_json
from latticebench.weights import convert, reading, transfer
from latticebench.weights.registry import LOCK, Entry, Registry

log = logging.getLogger(__name__)

CONVERTED = "weights.safetensors"
FACTS = "fetched.json"
INCOMING = ".incoming"
"""Folder of unfinished downloads inside the entry's own."""
DAMAGED = ".damaged"


def fetch(
    registry: Registry,
    name: str,
    *,
    stand_ins: tuple[str, ...] = (),
    offline: bool | None = None,
    mirror: str | None = None,
) -> Path:
    """The path of an entry's file, fetched if it is not here yet.

    stand_ins: names of the classes that the family's files may hold. offline: ask nobody; a file put where the message
    says is taken (default: what HF_HUB_OFFLINE says). mirror: address that serves hub repositories under the hub's
    paths and other files under files/NAME/ (default: HF_ENDPOINT for the hub).
    Raises Missing, BadInput (wrong checksum, code inside) or LatticebenchError (broken connection, full disk).
    """
    entry = registry.entry(name)
    folder = registry.folder / name
    if offline is None:
        offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON")
    if entry.hub is not None and mirror is None:
        mirror = os.environ.get("HF_ENDPOINT") or None
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / ".lock"):
        done = present(registry, name)
        if done is not None and _as_it_came(folder, done):
            return done
        source, remote = _source(registry, entry, folder, offline, mirror)
        facts = _checked(registry, entry, source, remote)
        path = _converted(entry, folder, source, facts, stand_ins) if entry.family else _kept(registry, source, facts)
        if registry.pin(name) is None:
            with _locked(registry.folder / ".lock"):
                registry.record(name, {key: facts[key] for key in ("sha256", "size", "file", "revision")})
        write_json(folder / FACTS, facts)
        shutil.rmtree(folder / INCOMING, ignore_errors=True)
        return path


def present(registry: Registry, name: str) -> Path | None:
    """The path of an entry that is here and whole, else None. Raises BadInput where the lock file names another."""
    folder = registry.folder / registry.entry(name).name
    if not (folder / FACTS).is_file():
        return None
    try:
        facts = json.loads((folder / FACTS).read_text())
        path = (folder if registry.entry(name).family else registry.folder) / facts["here"]["file"]
        whole = path.is_file() and path.stat().st_size == facts["here"]["size"]
    except (ValueError, KeyError, TypeError):
        return None
    pin = registry.pin(name)
    if pin is not None and pin["sha256"] != facts["sha256"]:
        raise BadInput(
            f"{folder} holds {name} with sha256 {facts['sha256'][:12]}…, {LOCK} says {pin['sha256'][:12]}…; "
            "delete the folder and fetch again, or correct the lock file"
        )
    return path if whole else None


def _as_it_came(folder: Path, path: Path) -> bool:
    """Whether the file still has the hash it had when it was fetched; another is set aside."""
    if json.loads((folder / FACTS).read_text())["here"].get("sha256") == sha256(path):
        return True
    aside = path.replace(path.with_name(path.name + DAMAGED))
    log.warning("%s has changed since it was fetched; it is now %s and is fetched again", path, aside.name)
    return False


def _source(
    registry: Registry, entry: Entry, folder: Path, offline: bool, mirror: str | None
) -> tuple[Path, transfer.Remote | None]:
    """The original file: put here by hand, or downloaded."""
    home = folder if entry.family else registry.folder
    by_hand = _by_hand(entry, home)
    if by_hand is not None:
        return by_hand, None
    if offline:
        known = registry.pin(entry.name)
        hash_ = f" (sha256 {known['sha256']})" if known else ""
        raise Missing(
            f"{entry.name} is not here and this is offline mode: put {entry.basename}{hash_} "
            f"from {entry.place} into {home}/ and fetch again"
        )
    remote = transfer.inspect(entry, mirror)
    pin = registry.pin(entry.name)
    if pin is not None and remote.sha256 is not None and remote.sha256 != pin["sha256"]:
        raise _mismatch(registry, entry, remote.sha256, pin["sha256"], "the server offers")
    incoming = folder / INCOMING
    incoming.mkdir(exist_ok=True)
    if entry.family:  # the converted copy lies beside the original for a moment
        transfer.check_room(folder, 2 * (remote.size or 0), entry.name)
    return transfer.download(entry, remote, incoming, mirror), remote


def _by_hand(entry: Entry, home: Path) -> Path | None:
    """The original, if the user put it where offline mode says."""
    if entry.hub is not None and "pattern" in entry.hub:
        # A pattern says enough in a folder of the entry's own only.
        found = sorted(home.glob(entry.basename)) if entry.family else []
    else:
        found = [home / entry.basename]
    return next((path for path in found if path.is_file()), None)


def _checked(registry: Registry, entry: Entry, source: Path, remote: transfer.Remote | None) -> dict[str, Any]:
    """What the file is, after its checksum was compared; a download with a wrong one is deleted."""
    log.info("%s: computing the sha256 of %.2f GB", entry.name, source.stat().st_size / 1e9)
    found = sha256(source)
    pin = registry.pin(entry.name)
    expected = pin["sha256"] if pin else (remote.sha256 if remote else None)
    wrong = expected is not None and found != expected
    if not wrong and entry.sha256_prefix and not found.startswith(entry.sha256_prefix):
        wrong, expected = True, entry.sha256_prefix
    if wrong:
        if remote is not None:
            shutil.rmtree(registry.folder / entry.name / INCOMING)
        raise _mismatch(registry, entry, found, str(expected), f"{source.name} has")
    return {
        "name": entry.name,
        "sha256": found,
        "size": source.stat().st_size,
        "file": remote.location if remote and entry.hub else source.name,
        "revision": remote.revision if remote and entry.hub else None,
    }


def _mismatch(registry: Registry, entry: Entry, found: str, expected: str, what: str) -> BadInput:
    return BadInput(
        f"{entry.name}: {what} sha256 {found}, expected {expected}; it is not used. If its authors replaced the file "
        f"and you trust the new one, remove {entry.name} from {registry.folder / LOCK} and fetch again"
    )


def _converted(entry: Entry, folder: Path, source: Path, facts: dict[str, Any], stand_ins: tuple[str, ...]) -> Path:
    tensors, left_out = reading.state_dict(source, entry.container, stand_ins)
    path = folder / CONVERTED
    log.info("%s: writing %d tensors to %s", entry.name, len(tensors), path)
    convert.write(path, tensors, {"family": str(entry.family), "name": entry.name, "source_sha256": facts["sha256"]})
    facts["left_out"] = left_out
    facts["tensors"] = len(tensors)
    facts["elements"] = sum(tensor.numel() for tensor in tensors.values())
    facts["here"] = {"file": CONVERTED, "size": path.stat().st_size, "sha256": sha256(path)}
    del tensors
    source.unlink()
    return path


def _kept(registry: Registry, source: Path, facts: dict[str, Any]) -> Path:
    path = registry.folder / source.name
    if path != source:
        source.replace(path)
    facts["here"] = {"file": path.name, "size": facts["size"], "sha256": facts["sha256"]}
    return path


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Waits for the other process that fetches the same file; the kernel drops the lock when a process ends."""
    with open(path, "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
