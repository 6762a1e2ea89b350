"""The classical codecs on Kodak against tensorflow/compression's printed points."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from evaluation.compression import classical, options
from evaluation.report import compression, kodak, published

SETTINGS = {"jpeg-420": (6, 9, 12, 14), "webp": (4, 6, 8, 11), "jpeg2000": (120, 100, 84, 72)}
"""Settings of each dial around 0.27 bpp: those printed points that lie between them are compared."""
PLAIN: dict[str, dict[str, Any]] = {
    "jpeg-420": {"subsampling": "4:2:0", "optimize": False, "progressive": False},
    "webp": {"method": 2, "lossless": False, "exact": False},
    "jpeg2000": {"quality_mode": "rates", "irreversible": False, "mct": 1, "no_jp2": True},
}
"""Options under which ours comes near the printed points: standard tables, less search, the 5/3 wavelet."""
POINTS = {"jpeg-420": "jpeg420", "webp": "webp", "jpeg2000": "j2k-opj"}


def curve(codec: classical.ClassicalCodec, images: list[np.ndarray], settings: tuple[int, ...]) -> compression.Curve:
    """Mean rate and mean of per-image PSNR at each setting."""
    points = []
    for setting in settings:
        measured = [classical.measure(codec, image, setting) for image in images]
        errors = [np.square(m.image - image.astype(float)).mean() for m, image in zip(measured, images, strict=True)]
        rate = np.mean([8 * m.size / (image.size / 3) for m, image in zip(measured, images, strict=True)])
        points.append((float(rate), float(np.mean(10 * np.log10(255**2 / np.array(errors))))))
    rates, psnr = zip(*sorted(points), strict=True)
    return compression.Curve(codec.title, codec.name, "codec", rates, {"psnr": psnr})


def differences(monkeypatch: pytest.MonkeyPatch, ours: compression.Curve, method: str) -> list[float]:
    """Ours less the printed PSNR, of the printed points of one method that the report's table finds."""
    monkeypatch.setattr(compression, "codec_curves", lambda _: [ours])
    source = SimpleNamespace(record=SimpleNamespace(dataset=SimpleNamespace(name="kodak")))
    results: Any = SimpleNamespace(entries=[SimpleNamespace(sources={"compression": [source]})])
    rows = [row for row in kodak.table(results).rows if row.key.startswith(f"{method} ")]
    return [row.fields["difference"] for row in rows if row.fields["difference"] is not None]


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("name", SETTINGS)
def test_codecs_are_no_worse_than_in_print(name: str, data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And where they are better it is for the reason that the report gives."""
    images = [image for _, image in options.read_images(data_folder / "kodak")]
    codec = classical.find(name)
    found = differences(monkeypatch, curve(codec, images, SETTINGS[name]), POINTS[name])
    assert found and min(found) > -0.3
    monkeypatch.setattr(codec, "options", PLAIN[name])
    plain = differences(monkeypatch, curve(codec, images, SETTINGS[name]), POINTS[name])
    assert plain and max(map(abs, plain)) < 0.3 and min(plain) < min(found)


def test_every_printed_codec_of_ours_has_a_reason() -> None:
    printed = {number.method for number in published.numbers() if number.task == "compression"}
    assert set(POINTS.values()) <= printed
    ours = compression.Curve("JPEG", "jpeg-420", "codec", (0.1, 0.2, 0.4, 0.8), {"psnr": (24.0, 26.0, 28.0, 30.0)})
    with pytest.MonkeyPatch.context() as patch:
        (difference,) = differences(patch, ours, "jpeg420")
    assert difference == pytest.approx(26.93 - 25.832342, abs=0.05)
