"""The stage on real pictures: tokens, training, sampling and judging in one small results folder."""

import json
import shutil

import numpy as np
import pytest
import torch
import yaml

from evaluation import generation, records
from latticebench import configuration, generator_entries, integrity, tokenizers
from latticebench.data import pixel_classes, prepared
from latticebench.data.prepare import prepare
from latticebench.errors import BadInput, Missing
from latticebench.generators import build, checkpoint, extract, sample, train
from latticebench.generators import tokens as token_files
from latticebench.tokenizers import train as tokenizer_train
from latticebench.training.loop import NotFinite

VALUES = {
    "name": "t",
    "seeds": 1,
    "data": {"source": "bundled-photographs", "size": 16, "train_margin": 8, "train_images": 60, "eval_images": 24},
    "tokenizer": {
        "patch": 4,
        "width": 16,
        "layers": 1,
        "heads": 2,
        "training": {"steps": 2, "batch_size": 4, "warmup_steps": 1},
    },
    "quantizers": {
        "vq": {"method": "vq", "parameters": {"dim": 4, "codebook_size": 32, "init": "data"}},
        "bsq": {"method": "bsq", "parameters": {"dim": 6}},
    },
    "generation": {
        "classes": "pixels",
        "tokens": {"views": 2},
        "model": {"width": 16, "layers": 1, "heads": 2},
        "training": {"steps": 6, "batch_size": 8, "warmup_steps": 1, "log_every": 1},
        "sampling": {"images": 70, "labels": "train", "batch_size": 16},
    },
    "generators": {
        "full": {"tokenizer": "vq", "generation": {"sweep": {"guidance": [1, 2], "images": 66}}},
        "digits": {
            "tokenizer": "bsq",
            "generation": {
                "head": {"kind": "digits"},
                "training": {"optimizer": "dion", "others": "lion", "z_weight": 0.0001, "snapshots": [3]},
                "sampling": {"images": 8},
                "sweep": {"images": 8},
            },
        },
        "untold": {"tokenizer": "vq", "generation": {"classes": "none", "sampling": {"images": 8}}},
    },
}


class Project:
    def __init__(self, root):
        self.root = root
        self.path = root / "c.yaml"
        self.write(VALUES)
        prepare(self.config, root / "data")
        self.data = prepared.load(root / "data")
        for name in VALUES["quantizers"]:
            tokenizer_train.train_seed(self.config, self.config.subject(name), 0, self.data, root)
        for name in VALUES["generators"]:
            generator = self.config.generator(name)
            extract.extract(generator_entries.tokens_of(generator), 0, self.data, root)
            train.train(generator_entries.training_of(generator), 0, root)

    def write(self, values):
        self.path.write_text(yaml.safe_dump(values))
        self.config = configuration.load(self.path)

    def tokenizer(self, generator):
        return tokenizers.load(self.root / "tokenizers" / generator_entries.tokenizer_of(generator).id / "seed0")

    def tokens(self, generator):
        return token_files.load(self.root / "tokens" / generator_entries.tokens_of(generator).id / "seed0")

    def trained(self, generator):
        return self.root / "generators" / generator_entries.training_of(generator).id / "seed0"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return Project(tmp_path_factory.mktemp("generation"))


def test_tokens_are_those_of_the_tokenizer_stored_in_the_smallest_type(project):
    generator = project.config.generator("full")
    tokens, tokenizer = project.tokens(generator), project.tokenizer(generator)
    images = torch.from_numpy(np.array(project.data.eval.images)).permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():
        (expected,) = tokenizer.encode(images)
    assert torch.equal(tokens.eval.maps(slice(None))[0], expected)
    assert tokens.train.tokens.dtype == np.uint8 and tokens.train.tokens.shape == (60 * 4, 16)
    assert tokens.description["splits"]["eval"] == {"images": 24, "sha256": project.data.eval.sha256}
    tokens.check(tokenizer)


def test_the_first_view_is_the_centre_and_the_second_its_mirror_image(project):
    generator = project.config.generator("full")
    crop = np.array(project.data.train.images[:3, 4:20, 4:20])
    tokenizer, tokens = project.tokenizer(generator), project.tokens(generator)
    for view, pictures in enumerate((crop, np.array(crop[:, :, ::-1]))):
        with torch.inference_mode():
            (expected,) = tokenizer.encode(torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255)
        assert torch.equal(tokens.train.maps(np.arange(3) * 4 + view)[0], expected)


def test_pixel_classes_are_a_function_of_the_picture(project):
    generator = project.config.generator("full")
    found = project.tokens(generator)
    assert np.array_equal(found.eval.labels, pixel_classes.labels(np.asarray(project.data.eval.images)))
    assert found.classes["names"] == list(pixel_classes.NAMES) and found.classes["kind"] == "local"
    plain = np.zeros((3, 8, 8, 3), np.uint8)
    plain[1] = (255, 200, 200)
    plain[2, ::2] = (0, 0, 255)
    names = [pixel_classes.NAMES[i] for i in pixel_classes.labels(plain)]
    assert names == ["dark-flat-cold", "bright-flat-warm", "dark-flat-cold"]


def test_tokens_of_another_tokenizer_are_refused(project):
    full, digits = (project.config.generator(name) for name in ("full", "digits"))
    with pytest.raises(BadInput, match="holds tokens of quantizer"):
        project.tokens(full).check(project.tokenizer(digits))


def test_the_log_has_the_loss_the_partition_function_and_the_gradient(project):
    import pyarrow.parquet as pq

    for name in ("full", "digits"):
        log = pq.read_table(project.trained(project.config.generator(name)) / "log.parquet").to_pydict()
        assert {"step", "loss", "cross_entropy", "log_z", "grad_norm", "lr"} <= log.keys()
        assert len(log["step"]) == 6 and all(value >= 0 for value in log["log_z"])


def test_a_finished_generator_is_kept_and_a_damaged_one_made_again(project, tmp_path):
    generator = generator_entries.training_of(project.config.generator("full"))
    folder = project.trained(project.config.generator("full"))
    before = (folder / "model.safetensors").read_bytes()
    stamp = (folder / "generator.json").stat().st_mtime_ns
    train.train(generator, 0, project.root)
    assert (folder / "generator.json").stat().st_mtime_ns == stamp
    (folder / "model.safetensors").write_bytes(b"x")
    train.train(generator, 0, project.root)
    assert (folder / "model.safetensors").read_bytes() == before


def test_an_interrupted_training_ends_with_the_same_weights(project, tmp_path, monkeypatch):
    from latticebench.generators import task

    generator = project.config.generator("digits")
    whole = project.trained(generator)
    for part in ("tokens", "tokenizers"):
        shutil.copytree(project.root / part, tmp_path / part)
    losses = task.GeneratorTask.losses

    def fails(self, step, *rest):
        if step == 4:
            raise KeyboardInterrupt
        return losses(self, step, *rest)

    training = generator_entries.training_of(generator)
    monkeypatch.setattr(task.GeneratorTask, "losses", fails)
    with pytest.raises(KeyboardInterrupt):
        train.train(training, 0, tmp_path, checkpoint_steps=2)
    monkeypatch.setattr(task.GeneratorTask, "losses", losses)
    again = train.train(training, 0, tmp_path, checkpoint_steps=2)
    assert checkpoint.describe(again)["resumed_from"] == 4
    for name in ("model.safetensors", train.snapshot(3)):
        assert (again / name).read_bytes() == (whole / name).read_bytes()


def test_a_generator_is_refused_with_another_tokenizer_or_class_list(project):
    full, digits = (project.config.generator(name) for name in ("full", "digits"))
    tokenizer = project.tokenizer(full)
    classes = dict(project.tokens(full).classes)
    checkpoint.load(project.trained(full), tokenizer, classes)
    with pytest.raises(BadInput, match="use the tokenizer that it was trained with"):
        checkpoint.load(project.trained(full), project.tokenizer(digits), classes)
    with pytest.raises(BadInput, match="labels of two lists must not be mixed"):
        checkpoint.load(project.trained(full), tokenizer, {**classes, "sha256": "0" * 64})
    with pytest.raises(Missing, match="run its training first"):
        checkpoint.load(project.root / "nowhere", tokenizer)


def test_options_that_do_not_fit_the_tokens_are_refused(project):
    generator = project.config.generator("full")
    tokenizer, classes = project.tokenizer(generator), project.tokens(generator).classes
    options = generator.spec["generation"]

    def changed(part, **values):
        return {**options, part: {**options[part], **values}}

    for bad, words in (
        (changed("model", classes=20), "model.classes is 20, the class list of the tokens has 12"),
        (changed("model", family="next-scale"), "needs a multi-scale tokenizer"),
        (changed("head", kind="digits"), "vq has no digits"),
        (changed("head", memory_mb=0.001), "head.memory_mb"),
    ):
        with pytest.raises(BadInput, match=words):
            build.build(bad, tokenizer, classes, 0)


def test_labels_must_be_in_the_data(project):
    tokens = generator_entries.tokens_of(project.config.generator("full"))
    tokens.spec["classes"] = "data"
    with pytest.raises(BadInput, match="has no labels"):
        extract.extract(tokens, 0, project.data, project.root)


def test_divergence_is_an_error_or_a_record(project, tmp_path):
    values = json.loads(json.dumps(VALUES))
    values["generation"]["training"] |= {"learning_rate": 1e30, "clip_norm": 0}
    values["generators"] = {
        "stops": {"tokenizer": "vq"},
        "recorded": {"tokenizer": "vq", "generation": {"training": {"divergence": "record"}}},
    }
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(values))
    config = configuration.load(path)
    with pytest.raises(NotFinite, match="not finite at step"):
        train.train(generator_entries.training_of(config.generator("stops")), 0, project.root)
    generator = config.generator("recorded")
    folder = train.train(generator_entries.training_of(generator), 0, project.root)
    step = checkpoint.describe(folder)["diverged"]
    assert step is not None and step > 0
    sample.sample(generator, 0, project.root)
    record = records.read(generation.Judge(config, project.data, project.root).seed(generator, 0))
    assert all(value.reason == f"training diverged at step {step}" for value in record.values.values())
    assert "log" in record.files


def test_samples_are_in_the_adm_layout_and_do_not_depend_on_their_number(project):
    generator = project.config.generator("full")
    folder = sample.sample(generator, 0, project.root)
    with np.load(folder / "samples.npz") as file:
        images, labels = file["arr_0"], file["arr_1"]
    assert images.shape == (70, 16, 16, 3) and images.dtype == np.uint8
    tokens = project.tokens(generator)
    shares = np.bincount(tokens.train.labels, minlength=12) / len(tokens.train)
    assert np.abs(np.bincount(labels, minlength=12) - 70 * shares).max() <= 1
    assert not np.array_equal(labels, np.sort(labels)), "a shuffled order"
    fewer = yaml.safe_load(project.path.read_text())
    fewer["generation"]["sampling"] |= {"labels": "even", "images": 24}
    fewer["generators"] = {name: {"tokenizer": "vq"} for name in ("few",)}
    pools = []
    for count in (24, 36):
        fewer["generation"]["sampling"]["images"] = count
        chosen = configuration.from_values(fewer, project.path).generator("few")
        train.train(generator_entries.training_of(chosen), 0, project.root)
        with np.load(sample.sample(chosen, 0, project.root) / "samples.npz") as file:
            pools.append({(int(c), i.tobytes()) for i, c in zip(file["arr_0"], file["arr_1"], strict=True)})
    assert pools[0] <= pools[1], "a sample is a function of its class and its number within it"


def test_a_sweep_crosses_its_lists_and_adds_snapshots(project):
    options = json.loads(json.dumps(project.config.generator("digits").spec["generation"]))
    main, few = sample.settings(options)
    assert main.images == 8 and [setting.step for setting in few] == [3]
    options["sweep"] |= {"temperature": [0.9, 1.0], "top_p": [0.9, 0.95, 1.0]}
    settings = sample.settings(options)[1]
    assert len(settings) == 7
    assert {(s.temperature, s.top_p) for s in settings[:6]} == {(t, p) for t in (0.9, 1.0) for p in (0.9, 0.95, 1.0)}


def test_manifests_carry_the_seconds_that_the_overhead_counts(project, tmp_path):
    from benchmarks import workflow_overhead

    generator = project.config.generator("untold")
    out = tmp_path / "results"
    for stage in ("tokenizers", "generators"):
        shutil.copytree(project.root / stage, out / stage)
    tokens = generator_entries.tokens_of(generator).id
    common = ["--config", str(project.path), "--seed", "0", "--out", str(out)]
    extract.command.main([*common, "--tokens", tokens, "--data", str(project.root / "data")], standalone_mode=False)
    sample.command.main([*common, "--generator", generator.id], standalone_mode=False)
    manifests = {"tokens": out / "tokens" / tokens, "samples": out / "samples" / generator.id}
    counted = workflow_overhead.working_seconds(out)
    for stage, folder in manifests.items():
        seconds = json.loads((folder / "made-0.json").read_text())["seconds"]
        assert 0 < seconds == counted[stage]
    assert "seconds" not in token_files.load(manifests["tokens"] / "seed0").description
    assert not integrity.sweep(out)
