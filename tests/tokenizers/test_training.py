import errno
import itertools
import logging
import os
import signal

import pytest
import torch

from latticebench.errors import BadInput, LatticebenchError
from latticebench.training import checkpoint, loop
from latticebench.training.adamw import AdamW
from tests.tokenizers import helpers

IDENTITY = {"specification": "a", "data": "b", "seed": "0"}


class Crash(Exception):
    pass


def run(task, folder, identity=IDENTITY, steps=None, **changes):
    return loop.train(task, helpers.options(**changes), loop.Saving(folder, 1e9, steps), identity)


def stopping(task, at, action):
    """The task, doing `action` at the start of step `at`."""
    inner = task.losses

    def losses(step, progress):
        if step == at:
            action()
        return inner(step, progress)

    task.losses = losses
    return task


def crash():
    raise Crash


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


def steps_in(folder):
    return sorted(int(path.stem.split("-")[1]) for path in folder.glob("step-*"))


@pytest.mark.parametrize("name", list(helpers.QUANTIZERS))
def test_a_resumed_run_ends_with_the_same_bits(name, tmp_path):
    unbroken = helpers.task(name)
    reference = run(unbroken, tmp_path / "unbroken")
    with pytest.raises(Crash):
        run(stopping(helpers.task(name), 4, crash), tmp_path / "broken", steps=3)
    torch.manual_seed(12345)  # whatever the new process's random state is
    resumed = helpers.task(name, seed=5)
    result = run(resumed, tmp_path / "broken")
    assert (reference.resumed_from, result.resumed_from) == (None, 3)
    for (key, expected), actual in zip(
        unbroken.model.state_dict().items(), resumed.model.state_dict().values(), strict=True
    ):
        assert torch.equal(expected, actual), key
    assert [{**row, "seconds": 0} for row in result.rows] == [{**row, "seconds": 0} for row in reference.rows]
    assert [row["step"] for row in result.rows] == list(range(6))


def test_sigterm_writes_a_checkpoint_and_gives_handlers_back(tmp_path):
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(LatticebenchError, match="SIGTERM at step 3 of 6; run again"):
        run(stopping(helpers.task("fsq"), 2, terminate), tmp_path)
    assert steps_in(tmp_path) == [3]
    assert signal.getsignal(signal.SIGTERM) is handler


def test_the_newest_two_checkpoints_are_kept(tmp_path):
    run(helpers.task("fsq"), tmp_path, steps=1)
    assert steps_in(tmp_path) == [4, 5]


@pytest.mark.parametrize("keep", [0, 100, 0.5, -1])
def test_a_damaged_checkpoint_falls_back(keep, tmp_path, caplog):
    with pytest.raises(Crash):
        run(stopping(helpers.task("fsq"), 4, crash), tmp_path, steps=1)
    newest = tmp_path / "step-00000004.safetensors"
    damage(newest, keep)
    with caplog.at_level(logging.WARNING):
        assert run(helpers.task("fsq"), tmp_path).resumed_from == 3
    assert "step-00000004.safetensors is damaged" in caplog.text
    assert "going on from step-00000003.safetensors" in caplog.text


def test_another_step_in_a_checkpoint_is_damage(tmp_path, caplog):
    with pytest.raises(Crash):
        run(stopping(helpers.task("fsq"), 4, crash), tmp_path, steps=1)
    newest = tmp_path / "step-00000004.safetensors"
    content = newest.read_bytes()
    assert content.count(b'\\"step\\": 4,') == 1
    newest.write_bytes(content.replace(b'\\"step\\": 4,', b'\\"step\\": 5,'))
    assert run(helpers.task("fsq"), tmp_path).resumed_from == 3
    assert "its state differs from its checksum" in caplog.text


def test_all_checkpoints_damaged_starts_again_and_says_so(tmp_path, caplog):
    with pytest.raises(Crash):
        run(stopping(helpers.task("fsq"), 4, crash), tmp_path, steps=1)
    for path in tmp_path.glob("step-*"):
        damage(path, 0.5)
    reference = run(helpers.task("fsq"), tmp_path / "other")
    with caplog.at_level(logging.WARNING):
        result = run(helpers.task("fsq"), tmp_path)
    assert "starting again from step 0" in caplog.text
    assert result.resumed_from is None
    assert result.rows[-1]["loss"] == reference.rows[-1]["loss"]


def damage(path, keep):
    """Truncates to `keep` bytes (or that share), or flips a bit near the end where `keep` is negative."""
    content = bytearray(path.read_bytes())
    if keep < 0:
        content[-20] ^= 1
    else:
        content = content[: keep if isinstance(keep, int) else int(len(content) * keep)]
    path.write_bytes(content)


@pytest.mark.parametrize("key", list(IDENTITY))
def test_a_checkpoint_of_another_run_is_refused(key, tmp_path):
    with pytest.raises(Crash):
        run(stopping(helpers.task("fsq"), 4, crash), tmp_path, steps=2)
    with pytest.raises(BadInput, match=f"another run: {key} {IDENTITY[key]} instead of other; delete"):
        run(helpers.task("fsq"), tmp_path, {**IDENTITY, key: "other"})


def test_a_checkpoint_of_another_quantizer_is_refused(tmp_path):
    with pytest.raises(Crash):
        run(stopping(helpers.task("random"), 4, crash), tmp_path, steps=2)
    other = helpers.task("random")
    other.fingerprint = lambda: "0" * 64
    with pytest.raises(BadInput, match="hold quantizer"):
        run(other, tmp_path)
    with pytest.raises(BadInput, match="do not fit this model"):
        run(helpers.task("random", width=32), tmp_path)


def test_a_full_disk_keeps_the_older_checkpoint(tmp_path, monkeypatch):
    full = []

    def write_bytes(path, content):
        if len(full) == 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        full.append(path)
        with open(path, "wb") as file:
            return file.write(content)

    monkeypatch.setattr("pathlib.Path.write_bytes", write_bytes)
    with pytest.raises(LatticebenchError, match=r"the disk is full.*step-00000004.*step-00000002.safetensors is kept"):
        run(helpers.task("fsq"), tmp_path, steps=2)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000002.safetensors"]
    assert checkpoint.newest(tmp_path, IDENTITY).step == 2


@pytest.mark.parametrize("name", ["fsq", "leech"])  # the search of Leech refuses NaN inside the forward pass
def test_a_loss_that_is_not_finite_stops_with_the_step(name, tmp_path):
    task = helpers.task(name)

    def poison():
        with torch.no_grad():
            task.model.linear.encoder.weight.fill_(float("nan"))

    with pytest.raises(loop.NotFinite, match=f"{name}: the loss or its gradient is not finite at step 3") as error:
        run(stopping(task, 3, poison), tmp_path, steps=1)
    assert "first in the output of linear.encoder)" in str(error.value)
    assert (error.value.step, len(error.value.rows)) == (3, 3)
    assert steps_in(tmp_path) == [2, 3]  # nothing poisoned was saved


def test_another_error_of_a_forward_pass_is_not_hidden(tmp_path):
    task = helpers.task("fsq")

    def forward(images):
        raise ValueError("something else")

    def broken():
        task.model.forward = forward

    with pytest.raises(ValueError, match="something else"):
        run(stopping(task, 3, broken), tmp_path)


@pytest.mark.parametrize(
    ("clip_norm", "advice"),
    [(1.0, "or training.clip_norm, or"), (0.0, "turn training.clip_norm on (0 is off), or")],
)
def test_the_advice_fits_the_recipe(clip_norm, advice, tmp_path):
    task = helpers.task("fsq")
    task.losses = lambda step, progress: loop.Losses(loss=task.model.linear.encoder.weight.sum() * torch.nan)
    with pytest.raises(loop.NotFinite) as error:
        run(task, tmp_path, clip_norm=clip_norm)
    # The section is one of a tokenizer, a generator or a prior.
    assert advice in str(error.value) and "tokenizer.training" not in str(error.value)


def test_training_lowers_the_loss_and_logs_every_term(tmp_path):
    result = loop.train(
        helpers.task("vq"), helpers.options(steps=40, learning_rate=0.005), loop.Saving(tmp_path), IDENTITY
    )
    rows = result.rows
    assert set(rows[0]) == {
        "step", "loss", "l1", "quantizer", "term/commitment", "term/codebook", "codes_used", "code_share",
        "grad_norm", "lr", "seconds",
    }  # fmt: skip
    assert rows[-1]["l1"] < rows[0]["l1"]
    assert rows[0]["lr"] < rows[1]["lr"] > rows[-1]["lr"]


def test_every_learnable_entry_moves_and_nothing_else_of_the_quantizer(tmp_path):
    for name in ("vq", "vq-ema", "lgq", "random", "fsq"):
        task = helpers.task(name)
        task.initialize()
        before = {key: value.clone() for key, value in task.model.quantizer.state_dict().items()}
        task.initialize = lambda: None
        run(task, tmp_path / name)
        moved = {k for k, v in task.model.quantizer.state_dict().items() if not torch.equal(v, before[k])}
        assert moved == set(task.model.quantizer.learnable), name


def test_log_every(tmp_path):
    assert [row["step"] for row in run(helpers.task("fsq"), tmp_path, log_every=4).rows] == [0, 4, 5]


def test_adamw_is_torch_adamw():
    own, theirs = (torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Linear(7, 2)) for _ in range(2))
    theirs.load_state_dict(own.state_dict())
    ours = AdamW(own.parameters(), (0.9, 0.99), 0.1)
    reference = torch.optim.AdamW(theirs.parameters(), betas=(0.9, 0.99), weight_decay=0.1, fused=True)
    for step in range(5):
        ours.rate = reference.param_groups[0]["lr"] = 0.01 * (step + 1)
        x = torch.randn(3, 5)
        for model, optimizer in ((own, ours), (theirs, reference)):
            optimizer.zero_grad()
            model(x).square().sum().backward()
            optimizer.step()
    for mine, other in zip(own.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine, other)
    with pytest.raises(KeyError, match="2 parameters instead of 4"):
        ours.load_state_dict(AdamW(own[0].parameters(), (0.9, 0.99), 0.1).state_dict())


def test_rate():
    options = helpers.options(steps=100, warmup_steps=10, learning_rate=1.0, final_rate=0.1)
    rates = [options.rate(step) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * k for k in range(1, 11)])
    assert max(rates) == 1.0
    assert all(a >= b for a, b in itertools.pairwise(rates[9:]))
    assert 0.1 < rates[-1] < 0.11
    assert helpers.options(steps=2, warmup_steps=50, learning_rate=1.0).rate(1) == 1.0
