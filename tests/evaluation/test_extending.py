"""The door for newcomers: new-quantizer, check, and the page that describes them."""

import math
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from evaluation import protocols, reconstruction
from evaluation.cli import check, new_quantizer
from evaluation.cli.main import latticebench
from evaluation.compression import classical
from evaluation.images import from_array
from evaluation.metrics import METRICS
from latticebench import configuration, extensions, published
from latticebench.data import prepare, prepared
from latticebench.errors import BadInput
from latticebench.quantizers import conformance, load_module

PAGE = Path(__file__).resolve().parents[2] / "docs" / "extending.md"
SMALL = ("--no-training", "-p", "codebook_size=64", "-p", "dim=4")


def run(*arguments: str):
    return CliRunner().invoke(latticebench, arguments)


@pytest.fixture
def method(tmp_path):
    """Writes the skeleton with replacements and returns its path; each test needs a name of its own."""

    def write(name: str, *replacements: tuple[str, str]) -> Path:
        path = new_quantizer.write(name, tmp_path)[0]
        text = path.read_text()
        for old, new in replacements:
            assert old in text
            text = text.replace(old, new)
        path.write_text(text)
        return path

    return write


def test_the_skeleton_is_formatted_small_and_tested(tmp_path):
    result = run("new-quantizer", "my-own", "--folder", str(tmp_path))
    assert result.exit_code == 0, result.output
    assert [line.split()[0] for line in result.output.splitlines()[2:]] == ["python", "latticebench", "make"]
    ruff = [sys.executable, "-m", "ruff", "--config", str(PAGE.parents[1] / "pyproject.toml")]
    for command in (["check"], ["format", "--check"]):
        subprocess.run([*ruff[:3], *command, *ruff[3:], str(tmp_path)], check=True, capture_output=True)
    code = (tmp_path / "my_own.py").read_text().split("@register")[1]
    lines = [line for line in code.splitlines() if line.strip() and not line.strip().startswith(("#", '"""'))]
    assert len(lines) < 40
    config = configuration.load(tmp_path / "my_own.yaml")
    assert [subject.name for subject in config.subjects()] == ["my-own", "vq", "fsq"]
    test = (tmp_path / "test_my_own.py").read_text()
    assert "conformance.CHECKS" in test
    runpy.run_path(str(tmp_path / "test_my_own.py"))["test_the_nearest_point_is_chosen"]()


@pytest.mark.parametrize("name", ["Mine", "9a", "a--b", "vq", "torch", "class", "a.b"])
def test_unusable_names_are_refused(tmp_path, name):
    result = run("new-quantizer", name, "--folder", str(tmp_path))
    assert isinstance(result.exception, BadInput)
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "mine_x.yaml").write_text("precious")
    result = run("new-quantizer", "mine-x", "--folder", str(tmp_path))
    assert isinstance(result.exception, BadInput)
    assert (tmp_path / "mine_x.yaml").read_text() == "precious"
    assert len(list(tmp_path.iterdir())) == 1


def test_the_skeleton_passes_check(method):
    result = run("check", str(method("good-one")), *SMALL)
    assert result.exit_code == 0, result.output
    assert "nothing wrong" in result.output
    assert "FAIL" not in result.output


FAULTS = {
    "constant": ("constant output", ("return flat.reshape(z.shape[:-1])", "return flat.reshape(z.shape[:-1]) * 0")),
    "wrong-k": ("wrong K", ("drawn = torch.randn(", "drawn = 0 * torch.randn(")),
    "cut": ("gradient cut", ("straight_through(q, z), indices", "q, indices")),
    "dice": ("nondeterminism", ("generator=generator(parameters.seed", "generator=None and generator(parameters.seed")),
    "nan": ("NaN", ("loss = self.beta * mean_square(z, q)", "loss = self.beta * mean_square(z, q) / z.sum()")),
}


@pytest.mark.parametrize("name", FAULTS)
def test_check_names_the_fault(method, name):
    words, replacement = FAULTS[name]
    result = run("check", str(method(f"bad-{name}", replacement)), *SMALL)
    assert isinstance(result.exception, BadInput)
    assert words in str(result.exception)
    assert "FAIL" in result.output


def test_check_refuses_what_it_cannot_find():
    assert "known method" in str(run("check", "nonsense").exception)
    assert "KEY=VALUE" in str(run("check", "vq", "-p", "dim").exception)
    assert "unknown parameter" in str(run("check", "vq", "-p", "dimension=3").exception)


@pytest.mark.parametrize(
    ("size", "levels"), [(4096, (8, 8, 8, 8)), (512, (8, 8, 8)), (1000, (10, 10, 10)), (729, (9, 9, 9)), (10, (10,))]
)
def test_fsq_comes_as_near_to_k_as_it_can(size, levels):
    assert check.fsq_levels(size) == levels


def test_comparison_is_at_equal_k():
    entry = {"method": "random", "parameters": {"dim": 6, "codebook_size": 512}}
    chosen = check.entries(entry, check.make(entry))
    assert {name: check.make(e).codebook_size for name, e in chosen.items()} == {"random": 512, "vq": 512, "fsq": 512}


def test_training_comparison_gives_a_row_each(method, tmp_path):
    entry = check.resolve(str(method("row-one")), ("codebook_size=64", "dim=4"))
    few = {"train_images": 16, "eval_images": 8}
    rows, faults = check.train_and_judge(check.entries(entry, check.make(entry)), 2, tmp_path / "out", few)
    assert not faults
    assert list(rows) == ["row-one", "vq", "fsq"]
    assert all(row.values["psnr"] > 5 and row.codebook_size == 64 for row in rows.values())
    text = check.table(rows)
    assert len(text) == 4
    assert len({len(line) for line in text}) == 1
    assert [line.split()[1] for line in check.versus(rows, "row-one")] == ["vq:", "fsq:"]
    assert check.shortfalls(check.Row(64, {"psnr_gain": 0.5, "relative_usage": 0.01})) != []


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.S)


def test_the_page_s_method_keeps_the_contract(tmp_path):
    source = next(block for block in blocks("python") if "@register" in block)
    (tmp_path / "ternary.py").write_text(source)
    cls = load_module(tmp_path / "ternary.py")
    assert conformance.check(lambda: cls(cls.Parameters(dim=6, active=3))) == []
    assert cls(cls.Parameters(dim=6, active=3)).codebook_size == 160
    code = source.split("@register")[1].splitlines()
    assert len([line for line in code if line.strip() and not line.strip().startswith(("#", '"""'))]) < 40
    lines = next(block for block in blocks("yaml") if "module:" in block)
    (tmp_path / "c.yaml").write_text(f"name: t\ndata: {{source: bundled-photographs}}\n{lines}")
    assert configuration.load(tmp_path / "c.yaml").subjects()[0].name == "ternary"


def test_the_page_s_model_runs():
    source = next(block for block in blocks("python") if "create(" in block)
    exec(compile(source, str(PAGE), "exec"), {})


def test_the_page_names_only_commands_that_exist():
    named = set(re.findall(r"latticebench ([a-z][a-z-]+)", "\n".join(blocks("sh"))))
    assert named
    assert named <= set(latticebench.list_commands(None))


PHOTOGRAPHS = "data: {source: bundled-photographs}"


@pytest.fixture
def extend(tmp_path, monkeypatch):
    """Writes the page's block that holds `words` to a file that a configuration names; nothing of it stays behind."""
    kept = {id(table): dict(table) for table in (METRICS, protocols.PROTOCOLS, protocols._OF_METRIC)}
    monkeypatch.setattr(extensions, "_found", {kind: {} for kind in extensions.KINDS})

    def write(words: str, file: str, lines: str = PHOTOGRAPHS) -> configuration.Configuration:
        (tmp_path / file).write_text(next(block for block in blocks("python") if words in block))
        text = f"name: t\nextensions: [{file}]\n{lines}\nquantizers: {{fsq: {{method: fsq}}}}\n"
        (tmp_path / "c.yaml").write_text(text)
        return configuration.load(tmp_path / "c.yaml")

    yield write
    for table in (METRICS, protocols.PROTOCOLS, protocols._OF_METRIC):
        table.clear()
        table.update(kept[id(table)])


def test_the_page_s_source_is_prepared(extend, tmp_path):
    config = extend("class Stripes", "stripes.py", "data: {source: stripes, size: 32}")
    prepare.prepare(config, tmp_path / "data")
    data = prepared.load(tmp_path / "data")
    assert (data.train.images.shape, data.eval.images.shape) == ((40, 32, 32, 3), (20, 32, 32, 3))
    assert data.train.images.std() > 50
    before = config.data_hash, config.subjects()[0].id
    (tmp_path / "stripes.py").write_text((tmp_path / "stripes.py").read_text() + "# edited")
    after = configuration.load(tmp_path / "c.yaml")
    assert before[0] != after.data_hash
    assert before[1] != after.subjects()[0].id


def test_the_page_s_metric_is_judged(extend):
    config = extend("def mae", "mae.py")
    assert config.data_hash == configuration.from_values({**config.values, "extensions": []}, config.path).data_hash
    images = np.zeros((3, 32, 32, 3), np.uint8)
    judged = reconstruction.measure(
        from_array(images), from_array(images + np.uint8(5)), None, reconstruction.Settings()
    )
    assert judged.values["mae"].value == 5
    assert judged.values["mae"].protocol == "mae-v1"
    assert judged.values["mae"].unit == "grey levels"
    assert protocols.by_id("mae-v1").comparable
    with pytest.raises(BadInput, match="there is a metric 'mae' already"):
        from evaluation.pair_metrics import register

        register(METRICS["mae"], protocols.of_metric("mae"))


def test_the_page_s_codec_is_measured(extend):
    config = extend("class Posterised", "posterised.py", PHOTOGRAPHS + "\ncompression: {codecs: [posterised]}")
    assert config.values["compression"]["codecs"] == ["posterised"]
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    codec = classical.find("posterised")
    codec.check()
    points = [classical.measure(codec, image, setting) for setting in codec.sweep]
    assert [point.size for point in points] == sorted(point.size for point in points)
    assert all(point.image.shape == image.shape for point in points)


def test_the_page_s_family_is_read(extend):
    extend("plain-vit", "plain_vit.py")
    from latticebench.quantizers import create
    from latticebench.tokenizers.vit import Architecture, ViTTokenizer

    network = Architecture(patch=8, width=64, layers=2, heads=4, linear_path=False)
    trained = ViTTokenizer(create("fsq"), 64, network, seed=3).eval()
    state = {f"net.{key}": value for key, value in trained.state_dict().items()}
    made = published.adapt("plain-vit", state)
    images = torch.rand(1, 3, 64, 64)
    assert torch.equal(made.encode(images)[0], trained.encode(images)[0])
    with pytest.raises(BadInput, match="unmapped"):
        published.adapt("plain-vit", {**state, "other": torch.zeros(1)})


def test_the_page_s_head_makes_logits(extend):
    from latticebench.generators.next_scale import NextScaleParameters, NextScaleTransformer

    with pytest.raises(BadInput, match="unknown head 'low-rank'; known: linear"):
        NextScaleTransformer(NextScaleParameters(8, (50,), (1, 2), width=32, layers=1, heads=2, head="low-rank"))
    extend("class LowRank", "low_rank.py")
    transformer = NextScaleTransformer(
        NextScaleParameters(8, (50, 7), (1, 2), width=32, layers=1, heads=2, classes=3, head="low-rank")
    )
    logits = transformer(torch.tensor([0, 2]), torch.zeros(2, 4, 8))
    assert logits.shape == (2, 5, 57)
    assert math.isfinite(float(logits.detach().sum()))


def test_extensions_that_are_wrong_are_named(extend, tmp_path):
    with pytest.raises(BadInput, match=r"c\.yaml: .*absent\.py does not exist"):
        configuration.from_values({"extensions": ["absent.py"]}, tmp_path / "c.yaml")
    extend("class LowRank", "low_rank.py")
    with pytest.raises(BadInput, match="a head called 'low-rank'"):
        extensions.register("head", "low-rank", None)
    with pytest.raises(BadInput, match="unknown kind"):
        extensions.register("hat", "mine", None)
    extensions.register("codec", "webp", None)
    with pytest.raises(BadInput, match="registers the codec 'webp', which exists already"):
        configuration.from_values({"name": "t"}, tmp_path / "c.yaml")


def test_the_page_s_yaml_of_extensions_names_files_of_the_page():
    text = next(block for block in blocks("yaml") if "extensions" in block)
    for file in re.findall(r"\w+\.py", text):
        assert f"This is `{file}`" in PAGE.read_text()
