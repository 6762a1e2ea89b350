"""The stage, the commands and the codecs on a small tokenizer and drawn images."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from PIL import Image

from evaluation import records
from evaluation.cli import compress, decompress
from evaluation.compression import bundle, classical, codecs, priors, verify
from evaluation.compression.stage import Stage
from latticebench import configuration
from latticebench.data import prepared
from latticebench.errors import BadInput, Missing

TRAINING = {"steps": 2, "batch_size": 4}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[configuration.Configuration, Path, Path]:
    """Configuration, results folder and data folder with two trained tokenizers, fsq and identity."""
    from latticebench.data import prepare
    from latticebench.tokenizers import train

    folder = tmp_path_factory.mktemp("run")
    rng = np.random.default_rng(0)
    for number in range(12):
        path = folder / "images" / "train" / f"c{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        smooth = rng.integers(0, 256, (3, 3, 3), dtype=np.uint8)
        Image.fromarray(smooth).resize((32, 32), Image.Resampling.BICUBIC).save(path)
    for number, size in enumerate([(1, 1), (40, 33)]):
        path = folder / "other" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)
    values = {
        "name": "tiny",
        "seeds": 1,
        "data": {"source": "image-folder", "path": str(folder / "images"), "size": 32, "eval_share": 0.25},
        "tokenizer": {"width": 8, "layers": 1, "heads": 1, "training": dict(TRAINING)},
        "quantizers": {
            "fsq": {"method": "fsq", "parameters": {"levels": [8, 5, 5]}},
            "none": {"method": "identity", "parameters": {"dim": 3}},
        },
        "compression": {
            "network": ["fsq"],
            "codecs": ["jpeg-420"],
            "prior": {"width": 8, "layers": 1, "heads": 1, "training": dict(TRAINING)},
        },
    }
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(values))
    config = configuration.load(path)
    data, root = folder / "data", folder / "root"
    done = CliRunner().invoke(prepare.command, ["--config", str(path), "--out", str(data)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    for name in ("fsq", "none"):
        train.train_seed(config, config.subject(name), 0, prepared.load(data), root)
    return config, root, data


@pytest.fixture(scope="module")
def files(run: tuple[configuration.Configuration, Path, Path]) -> list[Path]:
    """What the stage wrote for fsq."""
    config, root, data = run
    return Stage(config, config.subject("fsq"), prepared.load(data), root).run([0])


def test_stage_codes_and_verifies_every_image(
    run: tuple[configuration.Configuration, Path, Path], files: list[Path]
) -> None:
    config, root, data = run
    subject = config.subject("fsq")
    record = records.read(root / "records" / subject.id / "seed0" / "compression.json")
    count = len(prepared.load(data).eval)
    assert all(path.is_file() for path in files)
    for kind in ("uniform", "static", "network"):
        assert record.values[f"verified_{kind}"].value == count
        sizes = [len(data) for _, data in bundle.read(root / "coded" / subject.id / "seed0" / f"{kind}.zip")]
        assert record.samples[f"bpp_{kind}"] == pytest.approx([8 * size / 32**2 for size in sizes])
        assert record.values[f"bpp_{kind}"].value > record.values[f"prior_bpp_{kind}"].value
    assert record.values["ms_ssim"].reason and record.values["psnr"].value


def test_a_subject_without_codes_has_reasons(run: tuple[configuration.Configuration, Path, Path]) -> None:
    config, root, data = run
    Stage(config, config.subject("none"), prepared.load(data), root).run([0])
    record = records.read(root / "records" / config.subject("none").id / "seed0" / "compression.json")
    assert "without codes" in (record.values["bpp_uniform"].reason or "")


def test_commands_give_images_of_any_size_back(
    run: tuple[configuration.Configuration, Path, Path], files: list[Path], tmp_path: Path
) -> None:
    config, root, _ = run
    subject = config.subject("fsq")
    tokenizer = str(root / "tokenizers" / subject.id / "seed0")
    runner = CliRunner()
    for prior in (None, "network"):
        chosen = ["--tokenizer", tokenizer]
        if prior:
            chosen += ["--prior", str(root / "coded" / subject.id / "seed0" / f"{prior}.safetensors")]
        for number, size in enumerate([(1, 1), (33, 40)]):
            source = root.parent / "other" / f"{number}.png"
            coded, back = tmp_path / f"{prior}{number}.tok", tmp_path / f"{prior}{number}.png"
            first = [str(source), str(coded), *chosen]
            second = [str(coded), str(back), *chosen]
            assert runner.invoke(compress.command, first, catch_exceptions=False).exit_code == 0
            assert runner.invoke(decompress.command, second, catch_exceptions=False).exit_code == 0
            with Image.open(back) as image:
                assert image.size == size
            for command, words in ((compress.command, first), (decompress.command, second)):
                refused = runner.invoke(command, words)
                assert isinstance(refused.exception, BadInput) and "--force" in str(refused.exception)
                assert runner.invoke(command, [*words, "--force"], catch_exceptions=False).exit_code == 0
    missing = runner.invoke(compress.command, [str(tmp_path / "no.png"), str(tmp_path / "a"), "--tokenizer", tokenizer])
    assert isinstance(missing.exception, Missing)
    foreign = runner.invoke(
        decompress.command,
        [str(root.parent / "other" / "0.png"), str(tmp_path / "b.png"), "--tokenizer", tokenizer],
    )
    assert isinstance(foreign.exception, BadInput) and "not a token file" in str(foreign.exception)


def test_verification_fails_on_a_damaged_file(
    run: tuple[configuration.Configuration, Path, Path], files: list[Path], tmp_path: Path
) -> None:
    config, root, _ = run
    subject = config.subject("fsq")
    coded = root / "coded" / subject.id / "seed0"
    whole = [data for _, data in bundle.read(coded / "static.zip")]
    bundle.write(tmp_path / "static.zip", [*whole[:-1], whole[-1][:-1] + bytes([whole[-1][-1] ^ 1])])
    (tmp_path / "static.safetensors").write_bytes((coded / "static.safetensors").read_bytes())
    with pytest.raises(BadInput, match=rf"{len(whole) - 1:05d}\.tok"):
        verify.decode_all(root / "tokenizers" / subject.id / "seed0", tmp_path)


def test_classical_record(run: tuple[configuration.Configuration, Path, Path], tmp_path: Path) -> None:
    config, _, _ = run
    words = ["--config", str(config.path), "--images", str(config.path.parent / "other"), "--out", str(tmp_path)]
    assert CliRunner().invoke(codecs.command, words, catch_exceptions=False).exit_code == 0
    record = records.read(tmp_path / "jpeg-420.json")
    assert len(record.arrays["bpp"]) == len(record.arrays["psnr"]) == len(classical.Jpeg420.sweep)
    assert len(record.arrays["bpp_images"][0]) == 2
    assert record.parameters["options"]["subsampling"] == "4:2:0"
    assert json.loads((tmp_path / "made.json").read_text())["files"].keys() == {"jpeg-420.json"}


def test_report_draws_what_was_coded(
    run: tuple[configuration.Configuration, Path, Path], files: list[Path], tmp_path: Path
) -> None:
    from evaluation.report import compression, formats, results

    config, root, data = run
    words = ["--config", str(config.path), "--data", str(data), "--out", str(root / "records" / "codecs")]
    assert CliRunner().invoke(codecs.command, words, catch_exceptions=False).exit_code == 0
    found = results.load(config, root)
    (curve,) = compression.tokenizer_curves(found)
    assert (curve.name, len(curve.rate)) == ("fsq", 1)
    assert [codec.method for codec in compression.codec_curves(found)] == ["jpeg-420"]
    (row,) = compression.differences(found).rows
    assert row.fields["bd_rate"] is None and "1 of the 4 points" in row.fields["why"]
    assert compression.published_points(found) == []
    figure, sources = compression.curves(found)
    assert figure.axes[0].get_ylabel() == "PSNR (dB)" and len(sources) == 2
    assert "bpp (network)" in formats.to_markdown(compression.table(found))


def test_report_marks_nominal_rates_in_print() -> None:
    """Kodak's printed points: 0.2747 is a nominal rate and is drawn as one."""
    from types import SimpleNamespace

    from evaluation.report import compression

    source = SimpleNamespace(record=SimpleNamespace(dataset=SimpleNamespace(name="kodak")))
    fake = SimpleNamespace(entries=[SimpleNamespace(sources={"compression": [source]})])
    points = {(method, nominal): (rate, found) for method, nominal, rate, found in compression.published_points(fake)}
    assert points["leech-published", True] == (0.2747, {"psnr": 29.632, "ms_ssim": 0.9637})
    assert points["jpeg420", False][1]["psnr"] == pytest.approx(25.832342)


@pytest.mark.parametrize("name", classical.CODECS)
def test_classical_codecs_give_more_quality_for_more_bytes(name: str) -> None:
    from evaluation import pixels

    codec = classical.CODECS[name]
    codec.check()
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    image = np.asarray(noise.resize((128, 96), Image.Resampling.BICUBIC))
    chosen = (codec.sweep[0], codec.sweep[len(codec.sweep) // 2], codec.sweep[-1])
    points = [classical.measure(codec, image, setting) for setting in chosen]
    assert all(point.image.shape == image.shape and point.image.dtype == np.uint8 for point in points)
    quality = [float(pixels.psnr(image[None], point.image[None])[0]) for point in points]
    assert quality == sorted(quality) and quality[-1] > 30
    assert [point.size for point in points] == sorted(point.size for point in points)
    assert codec.compress(image, chosen[1]) == codec.compress(image, chosen[1])


def test_codecs_do_not_run_on_the_librarys_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow writes JPEG 2000 without its colour transform, and JPEG with standard Huffman tables."""
    from skimage import data

    from evaluation import pixels

    image = np.ascontiguousarray(data.astronaut()[64:320, 96:352])
    jpeg, wavelet = classical.CODECS["jpeg-420"], classical.CODECS["jpeg2000"]
    ours = [classical.measure(jpeg, image, 9), classical.measure(wavelet, image, 72)]
    monkeypatch.setattr(jpeg, "options", {"subsampling": "4:2:0"})
    monkeypatch.setattr(wavelet, "options", {"quality_mode": "rates", "irreversible": True, "no_jp2": True})
    theirs = [classical.measure(jpeg, image, 9), classical.measure(wavelet, image, 72)]
    np.testing.assert_array_equal(ours[0].image, theirs[0].image)
    assert ours[0].size < 0.9 * theirs[0].size
    assert ours[1].size == pytest.approx(theirs[1].size, rel=0.05)
    quality = [float(pixels.psnr(image[None], point.image[None])[0]) for point in (ours[1], theirs[1])]
    assert quality[0] > quality[1] + 0.5


def test_a_folder_that_is_no_tokenizer_is_missing(tmp_path: Path) -> None:
    from evaluation.compression import layout

    with pytest.raises(Missing, match="not a finished tokenizer"):
        layout.of_folder(tmp_path)
    with pytest.raises(Missing):
        priors.load(tmp_path / "prior")
