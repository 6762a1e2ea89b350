"""A second small workflow: a training by two processes, and a released tokenizer from a hub on loopback."""

import functools
import hashlib
import io
import shutil
from pathlib import Path
from typing import Any

import torch
import yaml

from tests.checkpoints.hub import Hub
from tests.faults.workspace import CONFIGURATION, NAME, Workspace
from tests.published.cases import CASES
from tests.published.test_replay import tensors
from tests.workflow.runs import ROOT

REPOSITORY, FILE, ENTRY = "owner/name", "vq.pt", "tiny-vq"
CHECKPOINTS = "checkpoints"
FETCHED = f"{CHECKPOINTS}/{ENTRY}/weights.safetensors"
PAIR: dict[str, Any] = {
    **{key: CONFIGURATION[key] for key in ("seed", "seeds", "data", "geometry")},
    # Two processes wait for each other in every step.
    "tokenizer": {**CONFIGURATION["tokenizer"], "training": {**CONFIGURATION["tokenizer"]["training"], "steps": 30}},
    "name": NAME,
    "jobs": {"gpus": 2},
    "compression": {"codecs": []},
    "quantizers": {
        "bsq": {"method": "bsq", "parameters": {"dim": 6}},
        "released": {
            "method": "vq",
            "parameters": {"dim": 8, "codebook_size": 64, "metric": "cosine"},
            "released": ENTRY,
        },
    },
}


class Pair(Workspace):
    """Trainings by two processes (torchrun, gloo), told apart from others by `jobs.gpus` alone; weights from `hub`."""

    def __init__(self, base: Path) -> None:
        # The machine need not have the two GPUs: without one, torchrun's processes train on the CPU.
        super().__init__(base, PAIR, ("--resources", "gpu=2"))
        self.hub = Hub()
        buffer = io.BytesIO()
        torch.save({"model": tensors(CASES["llamagen"].state())}, buffer)
        self.body = buffer.getvalue()
        self.heal()

    def heal(self) -> None:
        """The hub answers as it should."""
        self.hub.files[REPOSITORY] = {FILE: self.body}
        self.hub.etags, self.hub.drops, self.hub.truncates = {}, 0, False

    def replace(self) -> None:
        """The hub sends other bytes than those that it announces."""
        changed = bytearray(self.body)
        changed[len(changed) // 2] ^= 1
        self.hub.files[REPOSITORY][FILE] = bytes(changed)
        self.hub.etags[FILE] = hashlib.sha256(self.body).hexdigest()

    def environment(self, folder: Path) -> dict[str, str]:
        """Each folder fetches for itself."""
        checkpoints = folder / CHECKPOINTS
        checkpoints.mkdir(parents=True, exist_ok=True)
        if not (checkpoints / "registry.yaml").exists():
            (checkpoints / "registry.yaml").write_text(_registry())
        return {
            "LATTICEBENCH_CHECKPOINTS": str(checkpoints),
            "HF_ENDPOINT": self.hub.url,
            "HF_HUB_OFFLINE": "0",
            **dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost"),
        }


def forget(folder: Path, subject: str) -> None:
    """Takes all that was made of a quantizer entry, and the report, from a finished run."""
    root = folder / "results" / NAME
    for path in [*root.glob(f"*/{subject}-*"), root / "report"]:
        shutil.rmtree(path)


@functools.cache
def _registry() -> str:
    shipped = yaml.safe_load((ROOT / "checkpoints" / "registry.yaml").read_text())["weights"]
    judged_with = {name: fields for name, fields in shipped.items() if "family" not in fields}
    own = {
        "title": "a tiny tokenizer",
        "licence": "MIT",
        "hub": {"repository": REPOSITORY, "revision": "main", "file": FILE},
        "family": "llamagen",
        "container": [["model"]],
        "architecture": {"image_size": 32},
        "weights": "raw",
        "elements": None,
    }
    return yaml.safe_dump({"weights": {**judged_with, ENTRY: own}})
