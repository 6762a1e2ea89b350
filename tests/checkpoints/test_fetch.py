"""Fetching against a hub on loopback: what works, and every accident."""

import json
import multiprocessing
import os
import shutil

import pytest
import torch
import yaml
from safetensors.torch import load_file

from latticebench import weights
from latticebench.errors import BadInput, LatticebenchError, Missing
from latticebench.weights import transfer
from tests.checkpoints.conftest import REPOSITORY, digest, on_hub, pickled

BODY = os.urandom(3_000_000)


def get(name="thing", **options):
    return weights.fetch(weights.load(), name, **options)


def test_from_the_hub_through_its_redirect(hub, checkpoints):
    hub.files[REPOSITORY]["deep/folder/thing.bin"] = BODY
    folder = checkpoints(thing=on_hub("deep/folder/thing.bin"))
    path = get()
    assert path == folder / "thing.bin" and path.read_bytes() == BODY
    assert any(p.startswith("/cdn/") for _, p, _ in hub.log)
    locked = yaml.safe_load((folder / "lock.yaml").read_text())["thing"]
    assert locked["sha256"] == digest(BODY) and locked["size"] == len(BODY)
    assert not (folder / "thing" / ".incoming").exists()


def test_small_files_come_without_a_redirect_and_repositories_move(hub, checkpoints):
    hub.direct = True
    hub.files["new/home"] = {"thing.bin": BODY}
    hub.renamed[REPOSITORY] = "new/home"
    checkpoints(thing=on_hub("thing.bin"))
    assert get().read_bytes() == BODY


def test_a_second_call_asks_nobody(hub, checkpoints):
    hub.files[REPOSITORY]["thing.bin"] = BODY
    checkpoints(thing=on_hub("thing.bin"))
    get()
    before = len(hub.log)
    assert get() and len(hub.log) == before


def test_plain_https_with_a_redirect(hub, checkpoints):
    hub.plain["/there/thing.bin"] = BODY
    folder = checkpoints(thing={"url": f"{hub.url}/moved/there/thing.bin", "sha256_prefix": digest(BODY)[:8]})
    assert get().read_bytes() == BODY
    assert get() == folder / "thing.bin"


@pytest.mark.parametrize("source", ["hub", "url"])
def test_a_dropped_connection_is_taken_up_where_it_stopped(hub, checkpoints, source, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the hub's library pauses between attempts
    body = BODY * 8  # the hub's library keeps what came in pieces of ten megabytes
    hub.files[REPOSITORY]["thing.bin"] = hub.plain["/thing.bin"] = body
    checkpoints(thing=on_hub("thing.bin") if source == "hub" else {"url": f"{hub.url}/thing.bin"})
    hub.drops = 1
    assert get().read_bytes() == body
    ranges = hub.bodies("thing.bin")
    assert any(r and 0 < int(r.removeprefix("bytes=").split("-")[0]) < len(body) for r in ranges)


def test_a_url_download_resumes_in_the_next_call(hub, checkpoints, monkeypatch):
    hub.plain["/thing.bin"] = BODY
    folder = checkpoints(thing={"url": f"{hub.url}/thing.bin"})
    hub.drops = 1
    monkeypatch.setattr(transfer, "ATTEMPTS", 1)
    with pytest.raises(LatticebenchError, match="goes on where it stopped"):
        get()
    assert not (folder / "thing.bin").exists()
    assert get().read_bytes() == BODY
    assert hub.bodies("thing.bin")[-1] == f"bytes={len(BODY) // 2}-"


@pytest.mark.parametrize("source", ["hub", "url"])
def test_a_truncated_body(hub, checkpoints, source):
    hub.files[REPOSITORY]["thing.bin"] = hub.plain["/thing.bin"] = BODY
    folder = checkpoints(thing=on_hub("thing.bin") if source == "hub" else {"url": f"{hub.url}/thing.bin"})
    hub.truncates = True
    with pytest.raises(LatticebenchError, match="broke off"):
        get()
    assert not (folder / "thing.bin").exists() and not (folder / "lock.yaml").exists()
    hub.truncates = False
    assert get().read_bytes() == BODY


@pytest.mark.parametrize("source", ["hub", "url"])
def test_a_wrong_checksum_is_never_used(hub, checkpoints, source):
    hub.files[REPOSITORY]["thing.bin"] = hub.plain["/thing.bin"] = BODY
    hub.etags["thing.bin"] = "a" * 40  # a git hash: the server promises no sha256
    place = on_hub("thing.bin") if source == "hub" else {"url": f"{hub.url}/thing.bin"}
    folder = checkpoints(thing={**place, "sha256": "0" * 64})
    with pytest.raises(BadInput, match=f"{digest(BODY)}, expected {'0' * 64}"):
        get()
    assert not list(folder.glob("**/thing.bin*"))


def test_a_hash_that_the_name_promises(hub, checkpoints):
    hub.plain["/thing-00000000.pth"] = BODY
    checkpoints(thing={"url": f"{hub.url}/thing-00000000.pth", "sha256_prefix": "00000000"})
    with pytest.raises(BadInput, match="expected 00000000"):
        get()


def test_a_file_that_the_hub_replaced_is_refused_before_the_download(hub, checkpoints):
    hub.files[REPOSITORY]["thing.bin"] = BODY
    folder = checkpoints(thing=on_hub("thing.bin"))
    get().unlink()
    shutil.rmtree(folder / "thing")
    hub.files[REPOSITORY]["thing.bin"] = BODY[::-1]
    hub.log.clear()
    with pytest.raises(BadInput, match=r"lock\.yaml"):
        get()
    assert not hub.bodies("/cdn/")


def test_404(hub, checkpoints):
    checkpoints(
        thing=on_hub("gone.bin"),
        elsewhere={"url": f"{hub.url}/gone.bin"},
        nowhere={"hub": {"repository": "no/body", "revision": "main", "file": "a"}},
    )
    with pytest.raises(Missing, match=r"the hub has no gone\.bin of owner/name"):
        get()
    with pytest.raises(Missing, match="does not exist; correct the registry"):
        get("elsewhere")
    with pytest.raises(Missing, match="does not exist or is private"):
        get("nowhere")


def test_gated_says_how_to_log_in(hub, checkpoints):
    hub.gated.add(REPOSITORY)
    checkpoints(thing=on_hub("thing.bin"))
    with pytest.raises(Missing, match=r"accept its terms.*hf auth login.*HF_TOKEN"):
        get()


def test_no_server(hub, checkpoints, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    checkpoints(thing=on_hub("thing.bin"), elsewhere={"url": f"{hub.url}/thing.bin"})
    hub.close()
    for name in ("thing", "elsewhere"):
        with pytest.raises(Missing, match="no answer from"):
            get(name)


def test_no_space(hub, checkpoints, monkeypatch):
    hub.files[REPOSITORY]["thing.bin"] = BODY
    checkpoints(thing=on_hub("thing.bin"))
    usage = type(shutil.disk_usage("/"))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 1000, 1000))
    with pytest.raises(LatticebenchError, match=r"needs 0\.00 GB in .* make room"):
        get()
    assert not hub.bodies("/cdn/")


def test_offline_says_what_goes_where_and_takes_it_from_there(hub, checkpoints):
    folder = checkpoints(thing=on_hub("deep/thing.bin", sha256=digest(BODY)))
    with pytest.raises(Missing, match=rf"put thing\.bin \(sha256 {digest(BODY)}\) from deep/thing\.bin of owner/name"):
        get(offline=True)
    assert not hub.log
    (folder / "thing.bin").write_bytes(b"something else")
    with pytest.raises(BadInput, match="expected"):
        get(offline=True)
    (folder / "thing.bin").write_bytes(BODY)
    assert get(offline=True).read_bytes() == BODY


def test_offline_by_the_hubs_own_variable(hub, checkpoints, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    checkpoints(thing=on_hub("thing.bin"))
    with pytest.raises(Missing, match="offline mode"):
        get()
    assert not hub.log


def test_mirror(hub, checkpoints, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    hub.files[REPOSITORY]["thing.bin"] = hub.plain["/files/plain/other.bin"] = BODY
    checkpoints(thing=on_hub("thing.bin"), plain={"url": "http://127.0.0.1:9/else/other.bin"})
    assert get(mirror=hub.url).read_bytes() == BODY
    assert get("plain", mirror=hub.url).read_bytes() == BODY


def test_a_pattern_names_one_file_of_a_folder(hub, checkpoints):
    hub.files[REPOSITORY] = {"log/run/last.ckpt": BODY, "log/run/config.yaml": b"x", "log/two/a.ckpt": b"y"}
    place = {"repository": REPOSITORY, "revision": "main", "pattern": "*.ckpt"}
    checkpoints(thing={"hub": {**place, "folder": "log/run"}}, both={"hub": {**place, "folder": "log"}})
    assert get().read_bytes() == BODY
    with pytest.raises(BadInput, match=r"2 files match .*last\.ckpt.*a\.ckpt"):
        get("both")


def test_a_hub_that_names_a_file_outside(hub, checkpoints):
    hub.files[REPOSITORY] = {"log/../../../evil.ckpt": BODY}
    checkpoints(thing={"hub": {"repository": REPOSITORY, "revision": "main", "folder": "log", "pattern": "*.ckpt"}})
    with pytest.raises(BadInput, match="outside its repository"):
        get()


@pytest.mark.parametrize("path", ["../evil", "/etc/passwd", "a/../../b", "a\\..\\b", "a//b", "./a"])
def test_a_path_that_escapes(checkpoints, path):
    checkpoints(thing=on_hub(path))
    with pytest.raises(BadInput, match=r"weights\.thing\.hub\.file"):
        weights.load()


@pytest.mark.parametrize("file", ["registry.yaml", "lock.yaml", "thing"])
def test_a_file_that_would_replace_the_registry(checkpoints, file):
    checkpoints(thing=on_hub(f"deep/{file}"))
    with pytest.raises(BadInput, match="on top of another"):
        weights.load()


@pytest.mark.parametrize("name", ["../evil", "UP", "a/b", ""])
def test_a_name_that_escapes(tmp_path, name):
    file = tmp_path / "registry.yaml"
    file.write_text(yaml.safe_dump({"weights": {name: {"title": "t", "licence": "l", "url": "http://h/f"}}}))
    with pytest.raises(BadInput):
        weights.load(tmp_path, file)


def _fetch_in_a_process(folder, url, results):
    os.environ.update(LATTICEBENCH_CHECKPOINTS=str(folder), HF_ENDPOINT=url)
    results.put(get().read_bytes() == BODY)


def test_two_processes_fetch_the_same_file_once(hub, checkpoints):
    hub.files[REPOSITORY]["thing.bin"] = BODY
    folder = checkpoints(thing=on_hub("thing.bin"))
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    processes = [context.Process(target=_fetch_in_a_process, args=(folder, hub.url, results)) for _ in range(2)]
    for process in processes:
        process.start()
    assert [results.get(timeout=60) for _ in processes] == [True, True]
    for process in processes:
        process.join(10)
    assert len(hub.bodies("/cdn/")) == 1


def test_a_damaged_folder_is_fetched_again(hub, checkpoints):
    hub.files[REPOSITORY]["thing.bin"] = BODY
    folder = checkpoints(thing=on_hub("thing.bin"))
    path = get()
    path.unlink()
    assert weights.present(weights.load(), "thing") is None
    assert get().read_bytes() == BODY
    (folder / "thing" / "fetched.json").write_text("{")
    assert get().read_bytes() == BODY
    assert json.loads((folder / "thing" / "fetched.json").read_text())["sha256"] == digest(BODY)


@pytest.mark.parametrize("family", [None, "llamagen"])
def test_a_file_whose_bytes_changed_is_set_aside_and_fetched_again(hub, checkpoints, family):
    body = pickled({"model": {"weight": torch.arange(6.0)}})
    hub.files[REPOSITORY]["thing.pt"] = body
    more = {"family": family, "container": [["model"]], "weights": "raw", "elements": None} if family else {}
    checkpoints(thing=on_hub("thing.pt", **more))
    path = get()
    good = path.read_bytes()
    changed = bytearray(good)
    changed[-1] ^= 1
    path.write_bytes(changed)
    assert get() == path and path.read_bytes() == good
    assert path.with_name(path.name + ".damaged").read_bytes() == bytes(changed)


def test_unknown_and_unreleased_names():
    registry = weights.load()
    with pytest.raises(BadInput, match="known: infinitycc-l24-tokenizer"):
        registry.entry("nothing")
    with pytest.raises(BadInput, match="cannot be fetched: its authors"):
        registry.entry("lgq")


class Runs:
    """A pickle that makes a folder when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_pickle_with_code_in_it(hub, checkpoints, tmp_path):
    hub.files[REPOSITORY]["evil.pt"] = pickled({"model": {"w": torch.ones(2)}, "x": Runs(str(tmp_path / "ran"))})
    folder = checkpoints(thing=on_hub("evil.pt", family="llamagen", container=[["model"]], weights="raw"))
    with pytest.raises(BadInput, match=r"refused: it wants to build posix\.mkdir"):
        get()
    assert not (tmp_path / "ran").exists()
    assert not (folder / "lock.yaml").exists() and not (folder / "thing" / "weights.safetensors").exists()


def test_a_checkpoint_arrives_as_safetensors(hub, checkpoints):
    content = {"model": {"w": torch.ones(2, 3), "name": "x"}, "epoch": 3, "args": {"lr": 1.0}}
    hub.files[REPOSITORY]["good.pt"] = pickled(content)
    folder = checkpoints(thing=on_hub("good.pt", family="llamagen", container=[["ema"], ["model"]], weights="raw"))
    path = get()
    assert path == folder / "thing" / "weights.safetensors" and list(load_file(path)) == ["w"]
    facts = json.loads((folder / "thing" / "fetched.json").read_text())
    assert facts["left_out"] == ["model.name (str)", "epoch (int)", "args (dict of 1)"]
    assert facts["sha256"] == digest(hub.files[REPOSITORY]["good.pt"]) and facts["elements"] == 6
    assert sorted(p.name for p in (folder / "thing").iterdir()) == [".lock", "fetched.json", "weights.safetensors"]
