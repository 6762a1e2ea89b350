import hashlib
import io

import pytest
import torch
import yaml

from tests.checkpoints.hub import Hub

REPOSITORY = "owner/name"


@pytest.fixture
def hub(monkeypatch):
    """A hub on loopback that the hub's library takes for the real one."""
    hub = Hub()
    hub.files[REPOSITORY] = {}
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1,localhost")
    yield hub
    hub.close()


@pytest.fixture
def checkpoints(tmp_path, monkeypatch):
    """Writes a registry: checkpoints(name={...}) -> the folder that files land in."""
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    monkeypatch.setenv("LATTICEBENCH_CHECKPOINTS", str(folder))

    def write(**entries):
        common = {"title": "a test file", "licence": "MIT"}
        weights = {name.replace("_", "-"): {**common, **fields} for name, fields in entries.items()}
        (folder / "registry.yaml").write_text(yaml.safe_dump({"weights": weights}))
        return folder

    return write


def on_hub(file, **fields):
    """Fields of an entry on the test's hub."""
    return {"hub": {"repository": REPOSITORY, "revision": "main", "file": file}, **fields}


def pickled(content) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()
