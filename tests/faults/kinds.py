"""The faults. Each one starts a run or takes a finished one, does its harm, and says what shows that it hit.

A fault is `hit(place, draw) -> Hit`; afterwards the caller runs the workflow once more, undisturbed, and compares.
Where a fault cannot be caused on this machine it raises Unavailable with the reason.
"""

import contextlib
import dataclasses
import os
import random
import re
import resource
import shutil
import signal
import struct
import subprocess
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import psutil
from PIL import Image

from tests.faults.pair import CHECKPOINTS, FETCHED, Pair, forget
from tests.faults.workspace import NAME, Disk, Run, Unavailable, Workspace, small_disk, unmount


@dataclasses.dataclass(frozen=True)
class Hit:
    """folder: where the run goes on. shown: what proves the harm, or empty where it came too late.

    said: patterns, each of which the run or the next one must show. after: undoes the surroundings at the end.
    config: of the run, where it is not the workspace's.
    """

    folder: Path
    shown: str
    said: tuple[str, ...] = ()
    after: Callable[[], None] = lambda: None
    config: Path | None = None


FINISHED = {
    "prepared pixels": "data/*/train.npy",
    "prepared labels": "data/*/eval.items.npz",
    "prepared manifest": "data/*/manifest.json",
    "weights": "tokenizers/*/seed*/model.safetensors",
    "weights' description": "tokenizers/*/seed*/tokenizer.json",
    "training log": "tokenizers/*/seed*/log.parquet",
    "job manifest": "tokenizers/*/made-*.json",
    "record": "records/*/seed*/*.json",
    "bitstreams": "coded/*/seed*/*.zip",
    "prior": "coded/*/seed*/*.safetensors",
    "pictures": "pictures/*/seed*.npz",
    "tokens": "tokens/*/seed*/*.npy",
    "generator": "generators/*/seed*/model.safetensors",
    "samples": "samples/*/seed*/*.npz",
}
"""Kinds of finished files below results/<name>."""


def damage(path: Path, draw: random.Random) -> str:
    """Flips a bit, cuts the file short or empties it, without moving its times. Returns what was done."""
    stat, data = path.stat(), bytearray(path.read_bytes())
    how = draw.choice(["a bit flipped", "cut short", "emptied"])
    if how == "a bit flipped":
        place = draw.randrange(len(data))
        data[place] ^= 1 << draw.randrange(8)
    else:
        del data[draw.randrange(len(data)) if how == "cut short" else 0 :]
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    return how


def damaged(kind: str) -> Callable[[Workspace, str, random.Random], Hit]:
    """A finished run, one of whose files of that kind is damaged."""

    def hit(work: Workspace, name: str, draw: random.Random) -> Hit:
        folder = work.finished(name)
        paths = sorted(folder.glob(f"results/{NAME}/{FINISHED[kind]}"))
        if not paths:
            raise Unavailable(f"the run makes no {kind}")
        path = draw.choice(paths)
        return Hit(
            folder, f"{path.relative_to(folder)} {damage(path, draw)}", (rf"{path.name} (has changed|is damaged)",)
        )

    return hit


def _moment(run: Run, draw: random.Random, to_come: int = 2) -> bool:
    """Waits for a random moment: so many jobs are finished, another one runs, and a little more time.

    to_come: jobs that are left for after it.
    """
    if not run.until(lambda: run.all_jobs() > 0):
        return False
    jobs = draw.randrange(max(run.all_jobs() - to_come, 1))
    if not run.until(lambda: run.finished_jobs() >= jobs and bool(run.jobs())):
        return False
    time.sleep(draw.random())
    return run.running()


def killed_job(number: int) -> Callable[[Workspace, str, random.Random], Hit]:
    def hit(work: Workspace, name: str, draw: random.Random) -> Hit:
        run, shown = work.part_way(name, draw), ""
        while not shown and _moment(run, draw):
            try:
                job = draw.choice(run.jobs())
                job.send_signal(number)
                shown = f"job {job.pid} got {signal.Signals(number).name}"
            except (psutil.NoSuchProcess, IndexError):  # it ended just before
                continue
        code = run.wait()
        return Hit(run.folder, shown if code else "", ("Error in rule",))

    return hit


def killed_scheduler(number: int) -> Callable[[Workspace, str, random.Random], Hit]:
    def hit(work: Workspace, name: str, draw: random.Random) -> Hit:
        run = work.part_way(name, draw)
        alive = _moment(run, draw)
        jobs = run.jobs()
        run.process.send_signal(number)
        code = run.wait()
        left = psutil.wait_procs(jobs, timeout=60)[1]
        if left:
            raise AssertionError(f"jobs outlived their scheduler: {left}")
        said = ("Will exit after finishing currently running jobs",) if number == signal.SIGTERM else ()
        return Hit(run.folder, f"scheduler ended by {signal.Signals(number).name}" if alive and code else "", said)

    return hit


def killed_server(work: Workspace, name: str, draw: random.Random) -> Hit:
    """The process that jobs are forked from."""
    run, shown = work.part_way(name, draw), ""
    if _moment(run, draw) and (server := run.server()):
        server.kill()
        shown = f"warm process {server.pid} killed"
    code = run.wait()
    return Hit(run.folder, shown if code else "", ("has died and took this job with it",))


def out_of_memory(work: Workspace, name: str, draw: random.Random) -> Hit:
    """A job may not take more memory than it has."""
    run, shown = work.part_way(name, draw), ""
    while not shown and _moment(run, draw):
        try:
            job = draw.choice(run.jobs())
            resource.prlimit(job.pid, resource.RLIMIT_AS, (job.memory_info().vms, resource.RLIM_INFINITY))
            shown = f"job {job.pid} may not grow"
        except (psutil.NoSuchProcess, ProcessLookupError, IndexError):
            continue
    code = run.wait()
    # The loader's words where a job that is not forked from the warm process cannot bring its libraries.
    said = "out of memory|MemoryError|Cannot allocate|can't allocate|failed to map segment"
    return Hit(run.folder, shown if code else "", (said,))


FULL = "disk is full|No space left"
_FAILED = re.compile(r"> (\S+\.log) 2>&1' (?:died with <Signals\.(?P<signal>\w+)|returned non-zero exit status)")


def full_disk_told(folder: Path, message: str) -> tuple[str, ...]:
    """Patterns by which a run that ended with an error told of a full disk.

    message: the scheduler's words, with logs named as seen from `folder`. Raises AssertionError for a failed job that
    does not tell. Two kinds cannot: a job that wrote into a memory map is ended by SIGBUS, and one whose log is empty,
    without the line that every job begins with, had no room for a word.
    """
    told = set()
    for failed in _FAILED.finditer(message):
        log = folder / failed[1]
        text = log.read_text(errors="replace") if log.is_file() else ""
        if re.search(FULL, text) or re.search(f"{re.escape(failed[1])}: No space left", message):
            told.add(FULL)
        elif failed["signal"] == signal.SIGBUS.name:
            told.add(signal.SIGBUS.name)
        elif not log.is_file() or text.strip():
            raise AssertionError(f"a job failed on a full disk and does not say so; {failed[1]}: …{text[-1500:]}")
        else:
            told.add(re.escape(failed[1]))
    if not told and not re.search(FULL, message):
        raise AssertionError(f"a run failed on a full disk and does not say so: …{message[-1500:]}")
    return tuple(sorted(told)) or (FULL,)


def full_disk(work: Workspace, name: str, draw: random.Random) -> Hit:
    """The results lie on a tmpfs with room for a part of them."""
    needed = sum(path.stat().st_size for path in (work.base / "unbroken/results").rglob("*") if path.is_file()) / 2**20
    folder = work.base / name / "results"
    with contextlib.ExitStack() as failed:
        failed.callback(unmount, folder)
        with small_disk(folder, max(0.1, needed * (0.1 + 0.7 * draw.random()))):
            run = work.run(name)
            code = run.wait()
            said = full_disk_told(run.folder, run.log.read_text(errors="replace")) if code else ()
        failed.pop_all()  # the recovery still needs it
    shown = f"no space left on the tmpfs: {', '.join(said)}" if code else ""
    return Hit(run.folder, shown, said, lambda: unmount(folder))


def read_only(work: Workspace, name: str, draw: random.Random) -> Hit:
    """The results' file system turns read-only in the middle, as one does after an error of its disk."""
    folder = work.base / name / "results"
    disk = Disk(work.base / f"{name}.ext4", folder)
    with contextlib.ExitStack() as failed:
        failed.callback(unmount, folder)
        run = work.run(name)
        alive = _moment(run, draw)
        disk.fail()
        code = run.wait()
        text = run.text()
        disk.repair()
        failed.pop_all()  # the recovery still needs it
    shown = "results turned read-only" if alive and code and "Read-only file system" in text else ""
    return Hit(run.folder, shown, ("Read-only file system",), lambda: unmount(folder))


def running_checkpoint(work: Workspace, name: str, draw: random.Random) -> Hit:
    """Everything is killed during a training, and its newest checkpoint is damaged."""
    run = work.part_way(name, draw, most=1)
    steps = f"results/{NAME}/running/*/seed*/step-*.safetensors"
    seen = run.until(lambda: bool(list(run.folder.glob(steps))))
    run.kill()
    time.sleep(1)  # the jobs end with their scheduler
    paths = sorted(run.folder.glob(steps), key=lambda path: path.name)
    if not seen or not paths:
        return Hit(run.folder, "")
    newest = paths[-1]
    return Hit(
        run.folder, f"{newest.name} {damage(newest, draw)}", (rf"{newest.name} is damaged .*(going on|starting)",)
    )


def second_run(work: Workspace, name: str, draw: random.Random) -> Hit:
    """Another run starts in the same folder."""
    run = work.part_way(name, draw)
    alive = _moment(run, draw)
    other = work.run(name)
    code, first = other.wait(), run.wait()
    return Hit(run.folder, "the second run was refused" if alive and code and not first else "", ("is in use by",))


def clock_jump(work: Workspace, name: str, draw: random.Random) -> Hit:
    """The clock that a run's processes see jumps by up to a year, either way; then the run is killed.

    The kernel's clock, which stamps files, stays: the times of half the files are moved in its place.
    """
    library, offset = work.base / "clock.so", work.base / f"{name}.clock"
    source = Path(__file__).with_name("clock.c")
    compiler = shutil.which("cc")
    if compiler is None:
        raise Unavailable("no C compiler to make the library that moves a process's clock")
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    offset.write_bytes(bytes(8))
    run = work.part_way(name, draw, environment={"LD_PRELOAD": str(library), "FAULTS_CLOCK": str(offset)})
    alive = _moment(run, draw, to_come=5)
    seconds = int(draw.uniform(-1, 1) * 365 * 86400)
    with open(offset, "r+b") as file:
        file.write(struct.pack("q", seconds))
    done = run.finished_jobs()
    alive = alive and run.until(lambda: run.finished_jobs() >= done + 2)  # jobs start and end on the moved clock
    stamped = f"{datetime.fromtimestamp(time.time() + seconds):%a %b} " in run.log.read_text()
    run.kill()
    time.sleep(1)
    paths = [path for path in sorted(run.folder.glob("results/**/*")) if path.is_file() and draw.random() < 0.5]
    for path in paths:
        moved = time.time() + draw.uniform(-1, 1) * 365 * 86400
        os.utime(path, (moved, moved))
    shown = f"clock moved by {seconds / 86400:.0f} days, times of {len(paths)} files moved"
    return Hit(run.folder, shown if alive and stamped and paths else "")


def changed_source(work: Workspace, name: str, draw: random.Random) -> Hit:
    """The pictures change while the run goes on with what it prepared from them."""
    own = work.base / f"{name}-input"
    shutil.copytree(work.base / "images", own / "images")
    config = own / "config.yaml"
    shutil.copy(work.config, config)
    run = work.run(name, config)
    prepared = run.until(lambda: bool(list(run.folder.glob(f"results/{NAME}/data/*/manifest.json"))))
    for path in draw.sample(sorted((own / "images").iterdir()), 10):
        Image.new("RGB", (40, 40), "red").save(path)
    code = run.wait()
    return Hit(run.folder, "10 pictures replaced" if prepared and code == 0 else "", config=config)


def changed_data(work: Workspace, name: str, draw: random.Random) -> Hit:
    """The run is killed, and before it goes on a prepared array is damaged."""
    run = work.part_way(name, draw)
    alive = _moment(run, draw)
    run.kill()
    time.sleep(1)
    paths = sorted(run.folder.glob(f"results/{NAME}/data/*/*.npy"))
    manifest = list(run.folder.glob(f"results/{NAME}/data/*/manifest.json"))
    if not alive or not paths or not manifest:
        return Hit(run.folder, "")
    path = draw.choice(paths)
    return Hit(run.folder, f"{path.name} {damage(path, draw)}", (f"{path.name} has changed",))


def damaged_features(work: Workspace, name: str, draw: random.Random) -> Hit:
    """Stored features are damaged in a finished run, and every job that would read them has to be done again."""
    folder = work.finished(name)
    root = folder / "results" / NAME
    path = draw.choice(sorted(root.glob("features/*/*/*.npy")))
    how = damage(path, draw)
    for manifest in [*root.glob("records/*/made-0.json"), *root.glob("records/oracle-*/made.json")]:
        manifest.unlink()
    return Hit(folder, f"{path.relative_to(folder)} {how}", (rf"{path.name} has changed",))


def killed_rank(work: Workspace, name: str, draw: random.Random) -> Hit:
    """One of the two processes of a training dies."""
    assert isinstance(work, Pair)
    forget(work.finished(name), "bsq")
    run, shown, number = work.run(name), "", draw.choice([signal.SIGKILL, signal.SIGTERM])
    steps, count = f"results/{NAME}/running/*/seed*/step-*.safetensors", draw.randrange(12)
    if run.until(lambda: any(int(path.stem.removeprefix("step-")) > count for path in run.folder.glob(steps))):
        with contextlib.suppress(psutil.NoSuchProcess, IndexError):
            rank = draw.choice(run.ranks())
            place = rank.environ()["RANK"]
            rank.send_signal(number)
            shown = f"rank {place} of 2 got {number.name}"
    code = run.wait()
    said = ("Error in rule tokenizer", "exitcode|stopped by", r"going on from step \d+")
    return Hit(run.folder, shown if code else "", said)


def broken_download(work: Workspace, name: str, draw: random.Random) -> Hit:
    """The hub breaks off, ends early as if that were all, or sends other bytes than it announced."""
    assert isinstance(work, Pair)
    folder = work.finished(name)
    forget(folder, "released")
    shutil.rmtree(folder / CHECKPOINTS)
    how = draw.choice(["broken off", "cut short", "changed"])
    if how == "broken off":
        work.hub.drops = 10**6
    elif how == "cut short":
        work.hub.truncates = True
    else:
        work.replace()
    try:
        run = work.run(name)
        code = run.wait()
    finally:
        work.heal()
    unused = not list(run.folder.glob(f"results/{NAME}/tokenizers/released-*/made-*.json"))
    return Hit(run.folder, f"download {how}" if code and unused else "", ("broke off|no answer|it is not used",))


def damaged_fetched(work: Workspace, name: str, draw: random.Random) -> Hit:
    """Fetched weights are damaged after they have arrived, and are needed once more."""
    folder = work.finished(name)
    how = damage(folder / FETCHED, draw)
    forget(folder, "released")
    # Cut short it is not taken for whole and comes again without a word; of the same size its hash tells.
    said = (rf"{Path(FETCHED).name} has changed since it was fetched",) if how == "a bit flipped" else ()
    return Hit(folder, f"{FETCHED} {how}", said)


KINDS: dict[str, Callable[[Workspace, str, random.Random], Hit]] = {
    "killed rank of two": killed_rank,
    "damaged download": broken_download,
    "damaged fetched weights": damaged_fetched,
    "damaged features": damaged_features,
    "read-only results": read_only,
    "clock jump": clock_jump,
    "SIGKILL of a job": killed_job(signal.SIGKILL),
    "SIGTERM of a job": killed_job(signal.SIGTERM),
    "SIGKILL of the scheduler": killed_scheduler(signal.SIGKILL),
    "SIGTERM of the scheduler": killed_scheduler(signal.SIGTERM),
    "SIGKILL of the warm process": killed_server,
    "out of memory in a job": out_of_memory,
    "full disk": full_disk,
    "damaged running checkpoint": running_checkpoint,
    "two runs in one folder": second_run,
    "source changed under a run": changed_source,
    "prepared data changed between runs": changed_data,
    **{f"damaged {kind}": damaged(kind) for kind in FINISHED},
}
PAIRED = ("killed rank of two", "damaged download", "damaged fetched weights")
"""Kinds that need the second workflow (tests/faults/pair.py)."""
