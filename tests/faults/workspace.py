"""A workflow at its smallest, an unbroken run of it, and runs that something happens to."""

import contextlib
import dataclasses
import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import yaml
from PIL import Image

from latticebench import integrity
from tests.workflow.runs import command, results

NAME = "tiny"
CONFIGURATION: dict[str, Any] = {
    "name": NAME,
    "seed": 0,
    "seeds": 1,
    "data": {"source": "flat-folder", "path": "images", "size": 32, "eval_share": 0.25},
    "tokenizer": {
        "patch": 8,
        "width": 16,
        "layers": 1,
        "heads": 2,
        "linear_path": True,
        "training": {"steps": 60, "batch_size": 8, "learning_rate": 0.002, "warmup_steps": 2},
    },
    "quantizers": {
        "fsq": {"method": "fsq", "parameters": {"levels": [4, 4]}},
        "vq": {"method": "vq", "parameters": {"dim": 4, "codebook_size": 16, "init": "data", "update": "ema"}},
    },
    "geometry": {
        "samples": 1024,
        "covering_steps": 2,
        "sweep_3": [16],
        "sweep_24": [64],
        "codebooks": {"random-16": {"method": "random", "parameters": {"dim": 3, "codebook_size": 16}}},
    },
    "compression": {
        "network": ["fsq"],
        "codecs": ["webp"],
        "prior": {"width": 16, "heads": 2, "training": {"steps": 4, "batch_size": 8}},
    },
    "generation": {
        "classes": "pixels",
        "model": {"width": 16, "layers": 1, "heads": 2},
        "training": {"steps": 8, "batch_size": 8, "warmup_steps": 2},
        "sampling": {"images": 66, "labels": "train"},
        "sweep": {"images": 66, "guidance": [1]},
    },
    "generators": {"vq": {"tokenizer": "vq"}},
}
IMAGES = 80
STAGES = ("data", "tokenizers", "tokens", "generators", "samples")
"""Folders of the results in the order in which jobs need them; what is judged and coded from them comes after."""
PATIENCE = 900.0
"""Seconds after which a run counts as stuck."""


class Unavailable(Exception):
    """The fault needs something that this machine does not allow."""


def write_images(folder: Path, seed: int = 0) -> None:
    """Smooth pictures with some texture, all from one seed."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(seed)
    for number in range(IMAGES):
        coarse = draw.integers(0, 256, (5, 5, 3), dtype=np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize((40, 40), Image.Resampling.BICUBIC), dtype=float)
        pixels = (smooth + draw.normal(0, 12, smooth.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:03d}.png")


class Run:
    """A run of the workflow as a process group of its own, with what it and its jobs have written."""

    def __init__(
        self, folder: Path, config: Path, arguments: tuple[str, ...] = (), environment: Mapping[str, str] | None = None
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        number = len(list(folder.glob("run-*.log")))
        self.log = folder / f"run-{number}.log"
        full = {**os.environ, "LATTICEBENCH_CHECKPOINT_SECONDS": "0.1", **(environment or {})}
        with open(self.log, "w") as file:
            self.process = subprocess.Popen(
                command(folder, config, "--cores", "2", *arguments),
                stdout=file,
                stderr=file,
                start_new_session=True,
                env=full,
            )

    def text(self) -> str:
        """The scheduler's words and every job's log."""
        return "\n".join(path.read_text(errors="replace") for path in [self.log, *logs(self.folder)])

    def running(self) -> bool:
        return self.process.poll() is None

    def wait(self) -> int:
        """Waits for the end. Raises subprocess.TimeoutExpired where it is stuck."""
        return self.process.wait(PATIENCE)

    def until(self, true: Callable[[], bool]) -> bool:
        """Waits until something is so; False where the run ends first."""
        deadline = time.monotonic() + PATIENCE
        while self.running() and time.monotonic() < deadline:
            if true():
                return True
            time.sleep(0.05)
        return False

    def finished_jobs(self) -> int:
        return self.log.read_text().count("Finished jobid:")

    def all_jobs(self) -> int:
        """How many the run will do; 0 before it knows."""
        found = re.search(r"^total +(\d+)$", self.log.read_text(), re.MULTILINE)
        return int(found[1]) if found else 0

    def jobs(self) -> list[psutil.Process]:
        """The processes that do the work: children of the warm server, or of the scheduler where there is none."""
        found = []
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.process.pid).children():
                if "latticebench.warm.server" in " ".join(child.cmdline()):
                    found += child.children()
        return found

    def server(self) -> psutil.Process | None:
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.process.pid).children():
                if "latticebench.warm.server" in " ".join(child.cmdline()):
                    return child
        return None

    def ranks(self) -> list[psutil.Process]:
        """The processes that share a training, where torchrun has started some."""
        found = []
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.process.pid).children(recursive=True):
                words = child.cmdline()
                if "latticebench.tokenizers.train" in words and "torch.distributed.run" not in words:
                    found.append(child)
        return found

    def kill(self) -> None:
        """SIGKILL to the scheduler's whole group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def logs(folder: Path) -> list[Path]:
    """The logs of the jobs of a run in `folder`."""
    return sorted(folder.glob("results/*/logs/**/*.log"))


def _kept(folder: Path) -> set[str]:
    """The files that a run leaves and that are not about the run itself."""
    root = folder / "results" / NAME
    parts = ("data", "tokenizers", "records", "coded", "pictures", "tokens", "generators", "samples", "report")
    return {str(path.relative_to(root)) for part in parts for path in (root / part).rglob("*") if path.is_file()}


@dataclasses.dataclass
class Workspace:
    """base: holds the configuration, its images, the unbroken run and a folder a fault."""

    base: Path
    configuration: Mapping[str, Any] = dataclasses.field(default_factory=lambda: CONFIGURATION)
    arguments: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.config = self.base / "config.yaml"
        self.expected: dict[str, dict[str, object]] = {}

    def run(self, name: str, config: Path | None = None, environment: Mapping[str, str] | None = None) -> Run:
        """Starts a run in the folder `name`, with this workspace's configuration or another."""
        folder = self.base / name
        return Run(folder, config or self.config, self.arguments, {**self.environment(folder), **(environment or {})})

    def environment(self, folder: Path) -> dict[str, str]:
        """What the runs in a folder find in their environment beside the harness's own."""
        return {}

    def prepare(self) -> None:
        """Writes the inputs and makes the unbroken run. Raises RuntimeError where that fails."""
        self.base.mkdir(parents=True, exist_ok=True)
        write_images(self.base / "images")
        self.config.write_text(yaml.safe_dump(dict(self.configuration)))
        run = self.run("unbroken")
        if run.wait():
            raise RuntimeError(f"the unbroken run failed:\n{run.text()[-4000:]}")
        self.expected = results(self.base / "unbroken")

    def finished(self, name: str) -> Path:
        """A copy of the unbroken run, times included, without its log."""
        folder = self.base / name
        shutil.copytree(self.base / "unbroken", folder, ignore=shutil.ignore_patterns("run-*.log"))
        return folder

    def part_way(
        self,
        name: str,
        draw: random.Random,
        most: int = len(STAGES),
        environment: Mapping[str, str] | None = None,
    ) -> Run:
        """Starts a run that has some stages of the unbroken one behind it: none, up to the first `most` of STAGES."""
        root = self.finished(name) / "results" / NAME
        kept = {*STAGES[: draw.randrange(most + 1)], "logs"}
        for path in root.iterdir():
            if path.is_dir() and path.name not in kept:
                shutil.rmtree(path)
        return self.run(name, environment=environment)

    def difference(self, folder: Path) -> str:
        """What differs from the unbroken run or is damaged or gone, empty where nothing is."""
        if bad := integrity.sweep(folder / "results" / NAME):
            return f"still damaged: {bad}"
        if lost := _kept(self.base / "unbroken") - _kept(folder):
            return f"lost: {sorted(lost)[:5]}"
        found = results(folder)
        if found.keys() != self.expected.keys():
            return f"other records: {sorted(found.keys() ^ self.expected.keys())[:3]}"
        for name, record in found.items():
            for key, value in record.items():
                if value != self.expected[name][key]:
                    return f"{name}: {key}"
        return ""


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: float) -> Iterator[None]:
    """A tmpfs of that size at `folder`; it grows at the end and keeps its content. Raises Unavailable."""
    folder.mkdir(parents=True, exist_ok=True)
    _system("mount", "-t", "tmpfs", "-o", f"size={int(megabytes * 2**20)}", "tmpfs", str(folder))
    try:
        yield
    finally:
        subprocess.run(["mount", "-o", "remount,size=1g", str(folder)], check=True)


class Disk:
    """A file system of its own in the file `image`, mounted at `folder`. Raises Unavailable where that may not be."""

    def __init__(self, image: Path, folder: Path) -> None:
        self.image, self.folder = image, folder
        folder.mkdir(parents=True, exist_ok=True)
        with open(image, "wb") as file:
            file.truncate(512 * 2**20)
        _system("mkfs.ext4", "-q", "-F", str(image))
        self._mount()

    def _mount(self) -> None:
        _system("mount", "-o", "loop", str(self.image), str(self.folder))

    def fail(self) -> None:
        """As after an error of the disk: from now on it can only be read, whoever has a file open."""
        subprocess.run(["mount", "-o", "remount,abort", str(self.folder)], check=True)

    def repair(self) -> None:
        """Checked and mounted again, as an administrator does. What had not reached the disk is gone."""
        subprocess.run(["umount", str(self.folder)], check=True)
        done = subprocess.run(["e2fsck", "-f", "-y", str(self.image)], capture_output=True, text=True, check=False)
        if done.returncode > 1:  # 1: errors were corrected
            raise RuntimeError(done.stdout + done.stderr)
        self._mount()


def _system(*words: str) -> None:
    try:
        subprocess.run(words, check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise Unavailable(f"there is no {words[0]} here") from error
    except subprocess.CalledProcessError as error:
        raise Unavailable(f"{words[0]} is refused here: {error.stderr.strip()}") from error


def unmount(folder: Path) -> None:
    subprocess.run(["umount", "--lazy", str(folder)], check=False)
