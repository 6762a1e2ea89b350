"""From a hub on loopback to a row of the table: fetch, convert, adapt, judge."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from click.testing import CliRunner

from evaluation import judge
from evaluation.report import formats, results, tables
from latticebench import configuration, tokenizers
from latticebench.commands import run
from latticebench.data import prepare
from latticebench.errors import BadInput
from latticebench.published import make
from tests.checkpoints.conftest import REPOSITORY, on_hub, pickled
from tests.published.cases import CASES
from tests.published.test_replay import adapted, tensors

ROOT = Path(__file__).parents[2]


@pytest.fixture
def released(hub, checkpoints):
    """A tiny LlamaGen and a tiny multi-scale tokenizer on the hub."""
    hub.files[REPOSITORY]["vq.pt"] = pickled({"model": tensors(CASES["llamagen"].state()), "steps": 3})
    hub.files[REPOSITORY]["cc.ckpt"] = pickled({"vae": tensors(CASES["infinitycc-tokenizer"].state())})
    common = {"weights": "raw", "elements": None}
    shipped = yaml.safe_load((ROOT / "checkpoints" / "registry.yaml").read_text())["weights"]
    return checkpoints(
        **{name: fields for name, fields in shipped.items() if "family" not in fields},  # the judge asks for them
        tiny_vq=on_hub(
            "vq.pt", family="llamagen", container=[["ema"], ["model"]], architecture={"image_size": 32}, **common
        ),
        tiny_cc=on_hub("cc.ckpt", family="infinitycc-tokenizer", container=[["vae"]], **common),
    )


def configured(folder, **quantizers):
    path = folder / "config.yaml"
    data = {"source": "bundled-photographs", "size": 32, "train_images": 4, "eval_images": 6}
    path.write_text(yaml.safe_dump({"name": "released", "seeds": 2, "data": data, "quantizers": quantizers}))
    return path


VQ = {"method": "vq", "parameters": {"dim": 8, "codebook_size": 64, "metric": "cosine"}, "released": "tiny-vq"}


def test_from_the_hub_to_a_row(released, tmp_path):
    path = configured(tmp_path, **{"llamagen-as-released": VQ})
    config = configuration.load(path)
    subject = config.subjects()[0]
    assert subject.seeds == (0,)
    root, data = tmp_path / "results", tmp_path / "data"
    prepare.prepare(config, data)
    options = ["--config", str(path), "--subject", subject.id, "--seeds", "0", "--data", str(data)]
    assert CliRunner().invoke(make.command, [*options, "--out", str(root)], catch_exceptions=False).exit_code == 0
    folder = root / "tokenizers" / subject.id
    assert set(json.loads((folder / "made-0.json").read_text())["files"]) == {
        "seed0/model.safetensors",
        "seed0/tokenizer.json",
    }
    restored = tokenizers.load(folder / "seed0")
    pictures = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(restored.reconstruct(pictures), adapted("llamagen").reconstruct(pictures))
    assert restored.metadata["released"]["place"] == "vq.pt of owner/name at main"
    judge.judge(config, subject, "0", data, root)
    table = formats.to_csv(tables.main(results.load(config, root)))
    assert "llamagen-as-released" in table


def test_a_multi_scale_tokenizer_restores(released, tmp_path):
    from latticebench import weights
    from latticebench.published import checkpoint

    registry = weights.load()
    weights.fetch(registry, "tiny-cc")
    checkpoint.write(registry, "tiny-cc", checkpoint.tokenizer(registry, "tiny-cc"), tmp_path / "out")
    restored, original = tokenizers.load(tmp_path / "out"), adapted("infinitycc-tokenizer")
    pictures = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert all(torch.equal(a, b) for a, b in zip(restored.encode(pictures), original.encode(pictures), strict=True))
        assert torch.equal(restored.reconstruct(pictures), original.reconstruct(pictures))
    assert restored.bits_per_image(64, 64) == original.bits_per_image(64, 64)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            {**VQ, "parameters": {"dim": 8, "codebook_size": 128}},
            "codebook_size is 128, but the released tokenizer has 64",
        ),
        ({"method": "bsq", "parameters": {"dim": 18}, "released": "tiny-vq"}, "method is bsq, but .* has vq"),
        ({"method": "leech-published", "released": "tiny-cc"}, r"data\.size is 32; tiny-cc takes 64 px"),
        ({**VQ, "released": "nothing"}, "known: .*tiny-cc, tiny-vq"),
    ],
)
def test_a_configuration_that_says_something_else(released, tmp_path, entry, message):
    config = configuration.load(configured(tmp_path, thing=entry))
    with pytest.raises(BadInput, match=message):
        make.make(config, config.subjects()[0], tmp_path / "out", "0" * 64)
    assert not (tmp_path / "out" / "tokenizer.json").exists()


def test_the_command(released, capsys):
    from evaluation.cli.main import latticebench

    for arguments in (["fetch", "tiny-vq"], ["fetch", "--list"]):
        with pytest.raises(SystemExit) as end:
            run(latticebench, arguments)
        assert end.value.code == 0
    shown = capsys.readouterr().out
    assert "tiny-vq: " in shown and "weights.safetensors" in shown and "llamagen" in shown
    lock = released / "lock.yaml"
    lock.write_text(lock.read_text().replace("sha256: ", "sha256: other-"))
    with pytest.raises(SystemExit):
        run(latticebench, ["fetch", "--list"])
    assert "not as pinned" in capsys.readouterr().out
    for arguments, code in ((["fetch"], 2), (["fetch", "nothing"], 2), (["fetch", "tiny-cc", "--offline"], 3)):
        with pytest.raises(SystemExit) as end:
            run(latticebench, arguments)
        assert end.value.code == code
    assert "put cc.ckpt from cc.ckpt of owner/name at main into" in capsys.readouterr().err
