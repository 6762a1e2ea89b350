"""What the training options do to a run: parts, averages, checkpointing, compiling, and what a run says when it fails."""

import logging
import math
import subprocess
import sys
from pathlib import Path

import hypothesis
import pytest
import torch

from latticebench import tokenizers
from latticebench.errors import LatticebenchError, Missing
from latticebench.nn.checkpointing import set_gradient_checkpointing
from latticebench.tokenizers import checkpoint as finished
from latticebench.tokenizers.losses.objective import Objective
from latticebench.tokenizers.losses.options import Discriminator, Gan, Options
from latticebench.tokenizers.usage import Usage, expected_codes
from latticebench.training import log, loop
from latticebench.training.ema import Ema
from latticebench.training.task import Part
from tests.tokenizers import helpers
from tests.tokenizers.test_processes import CASES, build

IDENTITY = {"run": "a"}


def run(task, folder, **changes):
    return loop.train(task, helpers.options(**changes), loop.Saving(folder, 1e9), IDENTITY)


def double(name):
    made = helpers.task(name)
    made.model.double()
    return made


@pytest.mark.parametrize("name", ["identity", "fsq", "vq"])
def test_a_batch_in_parts_equals_the_whole(name, tmp_path):
    whole, parts = double(name), double(name)
    one = run(whole, tmp_path / "whole")
    two = run(parts, tmp_path / "parts", accumulate=2)
    for (key, expected), actual in zip(
        whole.model.state_dict().items(), parts.model.state_dict().values(), strict=True
    ):
        if key != "quantizer.steps":  # vq counts forward passes, of which there are twice as many
            torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12, msg=key)
    for first, second in zip(one.rows, two.rows, strict=True):
        assert second["loss"] == pytest.approx(first["loss"], abs=1e-12)


def test_parts_are_neighbours():
    assert [list(Part(i, 4).rows(8)) for i in range(4)] == [[0, 1], [2, 3], [4, 5], [6, 7]]


def test_the_moving_average_is_its_formula():
    model = torch.nn.BatchNorm1d(2)
    ema = Ema(model, 0.5)
    expected = model.weight.detach().clone()
    for step in range(8):
        with torch.no_grad():
            model.weight.copy_(torch.tensor([step, -step]))
            model.running_mean.fill_(step)
        ema.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * model.weight.detach()
    torch.testing.assert_close(ema.values["weight"], expected)
    assert torch.equal(ema.values["running_mean"], model.running_mean)


@pytest.mark.parametrize("name", ["vq", "vq-ema", "fsq"])
def test_averaged_weights_lie_beside_the_raw_ones(name, tmp_path):
    made = helpers.task(name)
    plain = helpers.task(name)
    result = run(made, tmp_path / "run", ema=0.9)
    assert run(plain, tmp_path / "plain").ema is None
    for a, b in zip(plain.model.state_dict().values(), made.model.state_dict().values(), strict=True):
        assert torch.equal(a, b)  # the average only looks on
    finished.save(made.model, tmp_path / "made", helpers.ARCHITECTURE, helpers.QUANTIZERS[name], {}, result.ema)
    raw, averaged = tokenizers.load(tmp_path / "made"), tokenizers.load(tmp_path / "made", weights="ema")
    for loaded, expected in ((raw, made.model.state_dict()), (averaged, result.ema)):
        for key, value in loaded.state_dict().items():
            assert torch.equal(value, expected[key]), key
    assert not torch.equal(raw.decoder.head.weight, averaged.decoder.head.weight)
    finished.save(made.model, tmp_path / "none", helpers.ARCHITECTURE, helpers.QUANTIZERS[name], {})
    with pytest.raises(Missing, match=r"tokenizer\.training\.ema above 0"):
        tokenizers.load(tmp_path / "none", weights="ema")


def test_the_moving_average_resumes_with_the_same_bits(tmp_path):
    reference = run(helpers.task("fsq"), tmp_path / "unbroken", ema=0.9)
    broken = helpers.task("fsq")
    inner = broken.losses

    def losses(step, progress):
        if step == 4:
            raise KeyboardInterrupt
        return inner(step, progress)

    broken.losses = losses
    with pytest.raises(KeyboardInterrupt):
        loop.train(broken, helpers.options(ema=0.9), loop.Saving(tmp_path / "broken", 1e9, 3), IDENTITY)
    result = run(helpers.task("fsq"), tmp_path / "broken", ema=0.9)
    assert result.resumed_from == 3
    assert all(torch.equal(result.ema[key], value) for key, value in reference.ema.items())


@pytest.mark.parametrize("name", ["bsq", "vq-first-batch", "multi-scale"])
def test_gradient_checkpointing_gives_the_same_gradients(name):
    architecture, quantizer = CASES[name]
    gradients = []
    for on in (False, True):
        made = build(architecture, quantizer, helpers.SIZE, seed=3).train()
        set_gradient_checkpointing(made, on)
        output = made(helpers.batch(3))
        (output.images.square().mean() + output.quantized.loss).backward()
        gradients.append({key: p.grad for key, p in made.named_parameters()})
    assert gradients[0].keys() == gradients[1].keys()
    for key, gradient in gradients[0].items():
        assert (gradient is None and gradients[1][key] is None) or torch.equal(gradient, gradients[1][key]), key


@pytest.mark.slow
@pytest.mark.parametrize("checkpointing", [False, True])
def test_compiled_training_is_close_and_saves_the_same_names(checkpointing, tmp_path):
    game = Options(gan=Gan(weight=0.1, adaptive=True, discriminator=Discriminator(channel_base=128)))
    tasks = []
    for compiled in (False, True):
        made = helpers.task("bsq")
        made.objective = Objective(game, made.model, seed=5)
        made.companions = made.objective.companions
        rows = run(made, tmp_path / str(compiled), compile=compiled, gradient_checkpointing=checkpointing, steps=3).rows
        tasks.append((made, rows))
    (plain, expected), (compiled, actual) = tasks
    assert plain.model.state_dict().keys() == compiled.model.state_dict().keys()
    for first, second in zip(expected, actual, strict=True):
        assert second["l1"] == pytest.approx(first["l1"], rel=1e-3)
        assert second["gan/adaptive"] == pytest.approx(first["gan/adaptive"], rel=1e-2)


@pytest.mark.parametrize(("name", "parts"), [("fsq", 1), ("leech", 1), ("leech", 2)])
def test_a_bad_step_names_the_layer(name, parts, tmp_path):
    made = helpers.task(name)
    inner = made.initialize

    def initialize():
        inner()
        with torch.no_grad():
            made.model.encoder.blocks[0].mlp[0].bias[0] = float("nan")

    made.initialize = initialize
    with pytest.raises(
        loop.NotFinite, match=r"at step 0 \(first in the output of encoder\.blocks\.0\.mlp\.0\)"
    ) as error:
        run(made, tmp_path, accumulate=parts)
    assert error.value.step == 0


def test_a_bad_gradient_names_the_parameter(tmp_path):
    backward = helpers.task("fsq")
    backward.model.decoder.norm_out.register_full_backward_hook(lambda m, inputs, outputs: (inputs[0] * torch.inf,))
    with pytest.raises(loop.NotFinite, match=r"first in the gradient of decoder\.blocks\.0") as error:
        run(backward, tmp_path)
    assert error.value.rows == []


def test_a_gpu_out_of_memory_says_what_to_lower(tmp_path):
    made = helpers.task("fsq")
    inner = made.losses

    def losses(step, progress):
        if step == 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")
        return inner(step, progress)

    made.losses = losses
    with pytest.raises(LatticebenchError, match=r"out of memory at step 2 .*2\.00 GiB") as error:
        run(made, tmp_path)
    for key in ("training.accumulate", "training.gradient_checkpointing", "training.batch_size"):
        assert key in str(error.value)


def test_event_files_hold_the_log_and_survive_a_resume(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    saving = loop.Saving(tmp_path / "run", 1e9, 3, tmp_path / "board")
    broken = helpers.task("fsq")
    inner = broken.losses

    def losses(step, progress):
        if step == 5:
            raise KeyboardInterrupt
        return inner(step, progress)

    broken.losses = losses
    with pytest.raises(KeyboardInterrupt):
        loop.train(broken, helpers.options(), saving, IDENTITY)
    result = loop.train(helpers.task("fsq"), helpers.options(), saving, IDENTITY)
    assert result.resumed_from == 3
    events = EventAccumulator(str(tmp_path / "board"))
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == list(range(6))
    assert events.Scalars("loss")[-1].value == pytest.approx(result.rows[-1]["loss"])


def test_a_column_that_begins_late_is_empty_before(tmp_path):
    import pyarrow.parquet

    log.write([{"step": 0, "a": 1.0}, {"step": 1, "b": 2.0}], tmp_path / "log.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "log.parquet").to_pydict()
    assert table == {"step": [0, 1], "a": [1.0, None], "b": [None, 2.0]}


VALUES = hypothesis.strategies.one_of(
    hypothesis.strategies.none(), hypothesis.strategies.floats(), hypothesis.strategies.integers(-(2**53), 2**53)
)


@hypothesis.given(hypothesis.strategies.lists(VALUES, min_size=1, max_size=40))
def test_a_log_s_column_is_what_pyarrow_makes_of_the_list(values):
    import pyarrow as pa

    hypothesis.assume(any(value is not None for value in values))
    ours = log._column(values)
    assert ours.type == (pa.float64() if any(isinstance(v, float) for v in values) else pa.int64())
    assert repr(ours.to_pylist()) == repr(pa.array(values, ours.type).to_pylist())  # as text: no NaN equals another


def test_a_log_is_written_without_pandas(tmp_path):
    script = (
        "import pathlib, sys\nfrom latticebench.training import log\n"
        f"log.write([{{'step': 0, 'loss': 0.5}}], pathlib.Path({str(tmp_path / 'log.parquet')!r}))\n"
        "assert 'pyarrow' in sys.modules and 'pandas' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).parents[2])


def test_collapse_is_reported_once_as_it_happens(caplog):
    usage = Usage("vq seed 0", 256)
    torch.manual_seed(0)
    spread, narrow = torch.randint(256, (512,)), torch.randint(8, (512,))
    with caplog.at_level(logging.WARNING):
        shares = [float(usage(indices, step)["code_share"]) for step, indices in enumerate([spread, narrow, narrow])]
        usage(spread, 3)
        usage(narrow, 4)
    assert 0.95 < shares[0] < 1.05 and shares[1] == pytest.approx(8 / expected_codes(256, 512))
    assert [record.getMessage().split(":")[1] for record in caplog.records] == [" step 1", " step 4"]
    assert "the batch uses 8 of 256 codes, 4 % of what an even use would: the codebook collapses" in caplog.text
    assert usage(None, 5) == {"codes_used": torch.tensor(0)}


def test_the_codes_of_an_even_use():
    draws = torch.stack([torch.tensor(float(len(torch.randint(50, (40,)).unique()))) for _ in range(2000)])
    assert expected_codes(50, 40) == pytest.approx(float(draws.mean()), rel=0.02)
    assert expected_codes(1, 7) == 1
    for bits in (36, 62, 2000):
        assert expected_codes(2**bits, 4096) == pytest.approx(4096, rel=1e-3)


def test_the_rise_may_start_above_zero():
    options = helpers.options(steps=100, warmup_steps=10, learning_rate=1.0, warmup_from=0.1)
    assert [options.rate(step) for step in range(10)] == pytest.approx([0.1 + 0.09 * (k + 1) for k in range(10)])
    assert math.isclose(options.rate(10), 1.0)
