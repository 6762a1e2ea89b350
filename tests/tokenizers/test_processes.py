"""Two gloo processes train to the weights of one process with the same batches."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import yaml
from PIL import Image

from latticebench import configuration, tokenizers
from latticebench.data.prepare import prepare
from latticebench.errors import BadInput, LatticebenchError
from latticebench.quantizers import registry
from latticebench.tokenizers.build import build
from latticebench.tokenizers.losses.objective import Objective
from latticebench.tokenizers.losses.options import R1, Discriminator, Gan, Options
from latticebench.tokenizers.task import TokenizerTask
from latticebench.training import checkpoint, distributed, loop
from tests.tokenizers import helpers

STEPS = 5
VIT = {"architecture": "paper-vit", "patch": 4, "width": 16, "layers": 1, "heads": 2, "head_width": 24}
MULTI_SCALE = {
    "architecture": "multi-scale",
    "network": {"latent": None, "base": 8, "multipliers": [1, 1, 2], "blocks": 1},
    "scales": {"sides": [1, 2, 4]},
}
SMALL_VQ = {"dim": 4, "codebook_size": 32, "seed": 1}
METHODS = {
    **helpers.QUANTIZERS,
    "e8": {"method": "e8", "parameters": {"dim": 8}},
    "fibonacci": {"method": "fibonacci", "parameters": {"dim": 4, "codebook_size": 64}},
    "leech-published": {"method": "leech-published", "parameters": {"codebook_size": 64}},
    "lfq": {"method": "lfq", "parameters": {"dim": 6}},
    "product": {"method": "product", "parameters": {"base": {"method": "vq", "parameters": SMALL_VQ}, "groups": 2}},
    "residual": {"method": "residual", "parameters": {"base": {"method": "vq", "parameters": SMALL_VQ}, "depth": 2}},
    "rotation-vq": {"method": "rotation-vq", "parameters": SMALL_VQ},
    "simvq": {"method": "simvq", "parameters": SMALL_VQ},
}
CASES = {
    **{name: (helpers.ARCHITECTURE, quantizer) for name, quantizer in METHODS.items()},
    # Without the linear path the codebook starts from the first training batch, which is joined.
    "vq-first-batch": (VIT, helpers.QUANTIZERS["vq"]),
    "lgq-first-batch": (VIT, helpers.QUANTIZERS["lgq"]),
    "multi-scale": (MULTI_SCALE, {"method": "bsq", "parameters": {"dim": 6}}),
    "stylegan2": (helpers.ARCHITECTURE, helpers.QUANTIZERS["fsq"]),
}
# The kinds of shared state: none, batch statistics, a codebook's start, several scales, a second network.
FIRST = ("fsq", "bsq", "vq-ema", "lgq", "vq-first-batch", "multi-scale", "stylegan2")
OTHERS = tuple(name for name in CASES if name not in FIRST)
# Without groups of images and adaptive weights, which are of each process's own rows.
STYLEGAN2 = Discriminator(channel_base=128, minibatch_std=0)
LOSSES = {"stylegan2": Options(gan=Gan(weight=0.1, discriminator=STYLEGAN2, r1=R1(every=2)))}


def task(name):
    architecture, quantizer = CASES[name]
    tokenizer = build(architecture, quantizer, helpers.SIZE, seed=3).double()
    objective = Objective(LOSSES.get(name, Options()), tokenizer, 5)
    return TokenizerTask(name, tokenizer, helpers.pictures(), 8, True, 5, objective)


def recipe(**changes):
    return helpers.options(steps=STEPS, batch_size=8, precision="float64", ema=0.9, **changes)


def train(name, folder, **changes):
    made = task(name)
    result = loop.train(made, recipe(**changes), loop.Saving(folder / name, 1e9), {"run": name})
    rows = [{key: value for key, value in row.items() if key != "seconds"} for row in result.rows]
    companions = {f"{key}.{k}": v for key, module in made.companions.items() for k, v in module.state_dict().items()}
    return {"state": made.model.state_dict(), "companions": companions, "ema": result.ema, "rows": rows}


def worker(rank, port, folder, names):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    results = {name: train(name, folder / "two") for name in names}
    if names == FIRST:
        results["accumulated"] = train("fsq", folder / "accumulated", accumulate=2)
        stopped(rank, folder)
    torch.save(results, folder / f"{rank}.pt")
    dist.destroy_process_group()


def trained(names, folder):
    """Results of one process, and of each of two."""
    with torch.random.fork_rng():
        one = {name: train(name, folder / "one") for name in names}
    port = 20000 + os.getpid() % 20000
    mp.spawn(worker, (port, folder, names), nprocs=2)
    return one, [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def stopped(rank, folder):
    """The second process gets a signal in step 2, and both stop with a checkpoint; then they go on."""
    made = task("vq-ema")
    inner = made.losses

    def losses(step, progress, part):
        if step == 2 and rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return inner(step, progress, part)

    made.losses = losses
    saving = loop.Saving(folder / "stopped", 1e9)
    try:
        loop.train(made, recipe(), saving, {"run": "stopped"})
    except LatticebenchError as error:
        (folder / f"stopped-{rank}.txt").write_text(str(error))
    resumed = task("vq-ema")
    result = loop.train(resumed, recipe(), saving, {"run": "stopped"})
    torch.save({"state": resumed.model.state_dict(), "from": result.resumed_from}, folder / f"resumed-{rank}.pt")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return *trained(FIRST, folder), folder


@pytest.fixture(scope="module")
def other_runs(tmp_path_factory):
    return trained(OTHERS, tmp_path_factory.mktemp("others"))


def test_every_method_has_a_case():
    ours = {n for n in registry.available() if registry.method(n).__module__.startswith("latticebench.")}
    assert {quantizer["method"] for _, quantizer in CASES.values()} == ours


def equal(name, one, two):
    for rank in range(2):
        assert bool(one[name]["companions"]) == (name in LOSSES)
        for kind in ("state", "companions", "ema"):
            for key, value in one[name][kind].items():
                torch.testing.assert_close(two[rank][name][kind][key], value, rtol=0, atol=1e-9, msg=f"{kind} {key}")
    for mine, theirs in zip(one[name]["rows"], two[0][name]["rows"], strict=True):
        assert mine.keys() == theirs.keys()
        for key in {"loss", "l1", "grad_norm", "codes_used", "grad_norm/discriminator", "gan/r1"} & mine.keys():
            assert mine[key] == pytest.approx(theirs[key], abs=1e-9), key


@pytest.mark.parametrize("name", FIRST)
def test_two_processes_equal_one(name, runs):
    one, two, _ = runs
    equal(name, one, two)


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_two_processes_equal_one_with_every_method(name, other_runs):
    equal(name, *other_runs)


def test_two_processes_with_two_parts_each_equal_one(runs):
    one, two, _ = runs
    for key, value in one["fsq"]["state"].items():
        torch.testing.assert_close(two[0]["accumulated"]["state"][key], value, rtol=0, atol=1e-9, msg=key)


def test_only_the_first_process_writes(runs):
    _, _, folder = runs
    assert sorted(path.name for path in (folder / "stopped").iterdir()) == ["step-00000003.safetensors"]


def test_a_signal_to_one_process_stops_all_and_they_go_on(runs):
    one, _, folder = runs
    messages = [(folder / f"stopped-{rank}.txt").read_text() for rank in range(2)]
    assert "stopped by a signal to another process at step 3 of 5" in messages[0]
    assert "stopped by SIGTERM at step 3 of 5" in messages[1]
    for rank in range(2):
        resumed = torch.load(folder / f"resumed-{rank}.pt", weights_only=True)
        assert resumed["from"] == 3
        for key, value in one["vq-ema"]["state"].items():
            torch.testing.assert_close(resumed["state"][key], value, rtol=0, atol=1e-9, msg=key)


def test_a_batch_that_cannot_be_split_is_refused(tmp_path):
    with pytest.raises(BadInput, match="batch_size: 8 is no multiple of 3"):
        loop.train(task("fsq"), recipe(accumulate=3), loop.Saving(tmp_path), {})


def test_fewer_gpus_than_processes_are_named(monkeypatch):
    for key, value in {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(BadInput, match=r"2 processes share this node's 1 GPU; lower jobs\.gpus"), distributed.joined():
        pass


@pytest.fixture
def project(tmp_path):
    """A configuration of one quantizer with batch statistics in float64, and its prepared data."""
    (tmp_path / "pictures").mkdir()
    for i, pixels in enumerate(helpers.pictures(24)):
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{i:02}.png")
    training = {**helpers.TRAINING, "steps": 40, "precision": "float64", "ema": 0.9}
    values = {
        "name": "tiny",
        "data": {"source": "flat-folder", "path": "pictures", "size": 16, "train_margin": 4, "eval_share": 0.3},
        "tokenizer": {**helpers.ARCHITECTURE, "training": training},
        "quantizers": {"bsq": helpers.QUANTIZERS["bsq"]},
    }
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(values))
    config = configuration.load(tmp_path / "tiny.yaml")
    prepare(config, tmp_path / "data")
    return config


def start(config, out, processes, *options):
    launcher = (
        ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)] if processes > 1 else []
    )
    folder = config.path.parent
    arguments = {"config": config.path, "subject": "bsq", "seeds": "0", "data": folder / "data", "out": out}
    words = [str(word) for key, value in arguments.items() for word in (f"--{key}", value)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen(
        [sys.executable, *launcher, "-m", "latticebench.tokenizers.train", *words, "--threads", "1", *options],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_torchrun_equals_one_process_and_resumes(project, tmp_path):
    """The command as a user types it: with torchrun, stopped by SIGTERM, started again."""
    assert start(project, tmp_path / "one", 1).wait(300) == 0
    running = tmp_path / "two" / "running"
    stopped = start(project, tmp_path / "two", 2, "--checkpoint-steps", "1")
    deadline = time.monotonic() + 200
    while not list(running.rglob("step-*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    stopped.send_signal(signal.SIGTERM)
    assert stopped.wait(120) != 0
    saved = checkpoint.newest(next(running.rglob("step-*")).parent, {})
    again = start(project, tmp_path / "two", 2)
    assert again.wait(300) == 0, again.stderr.read()
    folders = [tmp_path / kind / "tokenizers" / project.subject("bsq").id for kind in ("one", "two")]
    for weights in ("raw", "ema"):
        one, two = (tokenizers.load(folder / "seed0", weights).state_dict() for folder in folders)
        for key, value in one.items():
            torch.testing.assert_close(two[key], value, rtol=0, atol=1e-9, msg=key)
    description = json.loads((folders[1] / "seed0" / "tokenizer.json").read_text())
    assert description["resumed_from"] == saved.step < 40
    assert (folders[1] / "made-0.json").is_file()
    assert not list(running.rglob("step-*"))
