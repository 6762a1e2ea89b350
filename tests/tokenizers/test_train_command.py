import json
import os
import shutil

import pyarrow.parquet
import pytest
import torch
import yaml
from PIL import Image

from latticebench import configuration, locks, tokenizers
from latticebench.data import prepared
from latticebench.data.prepare import prepare
from latticebench.errors import BadInput, Missing
from latticebench.tokenizers import train
from tests.tokenizers import helpers

MODULE = """
import dataclasses
import torch
from latticebench.quantizers import Quantized, Quantizer, Reference, register, straight_through

@register
class Signs(Quantizer):
    name = "{name}"
    title = "Signs"
    reference = Reference("none", 2026, "")

    @dataclasses.dataclass(frozen=True)
    class Parameters:
        dim: int = 5

    def __init__(self, parameters):
        super().__init__(parameters)
        self.dim, self.codebook_size = parameters.dim, 2**parameters.dim

    def forward(self, z):
        i = self.encode(z)
        return Quantized(straight_through(self.decode(i), z), i, z.new_zeros(()), {{}})

    def encode(self, z):
        return ((z > 0).long() * 2 ** torch.arange(self.dim)).sum(-1)

    def decode(self, indices):
        return ((indices.unsqueeze(-1) >> torch.arange(self.dim)) & 1).float() * 2 - 1
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A configuration with three quantizers and its prepared data."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "pictures").mkdir()
    for i, pixels in enumerate(helpers.pictures(24)):
        Image.fromarray(pixels).save(folder / "pictures" / f"{i:02}.png")
    (folder / "signs.py").write_text(MODULE.format(name="signs-for-train-command"))
    values = {
        "name": "tiny",
        "data": {"source": "flat-folder", "path": "pictures", "size": 16, "train_margin": 4, "eval_share": 0.3},
        "tokenizer": {**helpers.ARCHITECTURE, "training": helpers.TRAINING},
        "quantizers": {
            "fsq": helpers.QUANTIZERS["fsq"],
            "random": {"method": "random", "parameters": {"dim": 6, "codebook_size": 64}},
            "mine": {"module": "signs.py"},
        },
    }
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(values))
    config = configuration.load(path)
    prepare(config, folder / "data")
    return config, prepared.load(folder / "data")


def command(config, data, out, subject="fsq", seeds="0"):
    arguments = {"config": config.path, "subject": subject, "seeds": seeds, "data": data.path, "out": out, "threads": 1}
    words = [str(word) for key, value in arguments.items() for word in (f"--{key}", value)]
    train.command.main(words, standalone_mode=False)


def test_command_trains_all_seeds_and_lists_them(project, tmp_path):
    config, data = project
    command(config, data, tmp_path, subject="random", seeds="0-1")
    root = tmp_path / "tokenizers" / config.subject("random").id
    made = json.loads((root / "made-0-1.json").read_text())
    assert sorted(made["files"]) == sorted(f"seed{k}/{name}" for k in (0, 1) for name in train.FILES)
    assert [p.name for p in (tmp_path / "running").rglob("step-*")] == []
    loaded = [tokenizers.load(root / f"seed{k}") for k in (0, 1)]
    assert loaded[0].quantizer.fingerprint != loaded[1].quantizer.fingerprint
    metadata = loaded[1].metadata
    assert (metadata["name"], metadata["seed"], metadata["method"], metadata["steps"]) == ("random", 1, "random", 6)
    assert metadata["data_sha256"] == data.train.sha256
    assert metadata["spec"] == config.subject("random").spec
    table = pyarrow.parquet.read_table(root / "seed0" / "log.parquet")
    assert table.num_rows == 6
    assert {"step", "loss", "l1", "quantizer", "grad_norm", "lr", "codes_used", "seconds"} <= set(table.column_names)


def test_a_finished_seed_is_left_alone_and_a_damaged_one_trained_again(project, tmp_path, caplog):
    config, data = project
    subject = config.subject("fsq")
    folder = train.train_seed(config, subject, 0, data, tmp_path, "cpu")
    weights = folder / "model.safetensors"
    before = weights.read_bytes(), weights.stat().st_mtime_ns
    train.train_seed(config, subject, 0, data, tmp_path, "cpu")
    assert weights.stat().st_mtime_ns == before[1]
    weights.write_bytes(before[0][:-100])
    train.train_seed(config, subject, 0, data, tmp_path, "cpu")
    assert "is damaged; training it again" in caplog.text
    assert weights.read_bytes() == before[0]  # training is repeatable


def test_a_finished_seed_of_other_data_is_refused(project, tmp_path):
    config, data = project
    folder = train.train_seed(config, config.subject("fsq"), 0, data, tmp_path, "cpu")
    description = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps({**description, "data_sha256": "0" * 64}))
    with pytest.raises(BadInput, match="was trained on other data"):
        train.train_seed(config, config.subject("fsq"), 0, data, tmp_path, "cpu")


def test_a_second_run_is_refused_by_process_id(project, tmp_path):
    config, data = project
    subject = config.subject("fsq").id
    message = f"{subject} seed 0 is in use by process {os.getpid()}"
    lock = tmp_path / "running" / subject / "seed0.lock"
    with locks.hold(lock, "test"), pytest.raises(BadInput, match=message):
        command(config, data, tmp_path)
    command(config, data, tmp_path)


def test_load_restores_the_same_tokenizer(project, tmp_path):
    config, data = project
    for name in ("fsq", "mine"):
        folder = train.train_seed(config, config.subject(name), 0, data, tmp_path, "cpu")
        images = helpers.batch()
        with torch.no_grad():
            first, second = (tokenizers.load(folder).reconstruct(images) for _ in range(2))
        assert torch.equal(first, second)
        assert not tokenizers.load(folder).training


def test_load_refuses_what_it_cannot_trust(project, tmp_path):
    config, data = project
    folder = train.train_seed(config, config.subject("fsq"), 0, data, tmp_path, "cpu")

    def changed(number, **changes):
        copy = tmp_path / str(number)
        shutil.copytree(folder, copy)
        description = json.loads((copy / "tokenizer.json").read_text())
        (copy / "tokenizer.json").write_text(json.dumps({**description, **changes}))
        return copy

    with pytest.raises(BadInput, match="trained with quantizer 000000000000"):
        tokenizers.load(changed(1, fingerprint="0" * 64))
    with pytest.raises(BadInput, match="format 9"):
        tokenizers.load(changed(2, format=9))
    with pytest.raises(Missing, match="not a finished tokenizer"):
        tokenizers.load(tmp_path / "nothing")
    cut = changed(3)
    (cut / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-10])
    with pytest.raises(BadInput, match="has changed since it was written"):
        tokenizers.load(cut)
    (cut / "tokenizer.json").write_text("{")
    with pytest.raises(BadInput, match=r"tokenizer\.json is damaged"):
        tokenizers.load(cut)


@pytest.mark.parametrize("text", ["", "a", "2-1", "0,1", "-1", "0-"])
def test_bad_seeds(text):
    with pytest.raises(BadInput, match="--seeds"):
        train.parse_seeds(text)


def test_seeds():
    assert train.parse_seeds("3") == [3]
    assert train.parse_seeds("0-2") == [0, 1, 2]


def test_a_moving_average_is_a_subject_of_its_own(project, tmp_path):
    config, data = project
    values = {
        **config.values,
        "tokenizer": {**config.values["tokenizer"], "training": {**helpers.TRAINING, "ema": 0.9}},
    }
    averaging = configuration.from_values(values, config.path)
    raw, averaged = averaging.subject("mine"), averaging.subject("mine-averaged")
    assert averaged.trained.id == raw.id and raw.trained is raw
    assert {s.name for s in config.subjects()} == {"fsq", "random", "mine"}  # one each where nothing is averaged
    with pytest.raises(Missing, match="not a finished tokenizer"):
        train.train_seed(averaging, averaged, 0, data, tmp_path, "cpu")
    folders = [train.train_seed(averaging, subject, 0, data, tmp_path, "cpu") for subject in (raw, averaged)]
    assert sorted(path.name for path in folders[0].iterdir()) == sorted((*train.FILES, train.AVERAGED))
    assert sorted(path.name for path in folders[1].iterdir()) == ["model.safetensors", "tokenizer.json"]
    expected, made = tokenizers.load(folders[0], weights="ema"), tokenizers.load(folders[1])
    for key, value in expected.state_dict().items():
        assert torch.equal(made.state_dict()[key], value), key
    assert made.metadata["subject"] == averaged.id and made.metadata["averaged_from"] == raw.id
    assert not torch.equal(made.decoder.head.weight, tokenizers.load(folders[0]).decoder.head.weight)


def test_a_recipe_whose_network_is_missing_ends_before_it_starts(project, tmp_path, monkeypatch):
    config, data = project
    registry = configuration.SCHEMA.parents[2] / "checkpoints" / "registry.yaml"
    (tmp_path / "registry.yaml").write_bytes(registry.read_bytes())
    monkeypatch.setenv("LATTICEBENCH_CHECKPOINTS", str(tmp_path))
    losses = {"perceptual": {"weight": 0.1, "net": "vgg"}}
    values = {**config.values, "tokenizer": {**config.values["tokenizer"], "losses": losses}}
    recipe = configuration.from_values(values, config.path)
    with pytest.raises(Missing, match="latticebench fetch lpips-vgg-trunk") as error:
        train.train_seed(recipe, recipe.subject("fsq"), 0, data, tmp_path / "out", "cpu")
    assert error.value.exit_code == 3
    assert not list((tmp_path / "out").rglob("*.safetensors"))
