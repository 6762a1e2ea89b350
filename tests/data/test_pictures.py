"""One image to one square array: modes, orientation, filters."""

import io
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from latticebench.data import pictures
from latticebench.data.sources import SUFFIXES


def prepare(image: Image.Image, size: int = 8, resize: str = "none", upscale: bool = False) -> np.ndarray:
    return pictures.prepare(lambda: image, size, resize, upscale)


def test_grey_is_repeated():
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    assert np.array_equal(prepare(Image.fromarray(pixels)), np.repeat(pixels[..., None], 3, 2))


def test_16_bit_grey_keeps_its_range():
    stored = np.array([[0, 257 * 7, 65535, 128], [129, 257, 30000, 65279]] * 4, dtype=np.uint16).repeat(2, 1)
    stream = io.BytesIO()
    Image.fromarray(stored).save(stream, "PNG")
    result = pictures.prepare(lambda: Image.open(stream), 8, "none", False)
    assert np.array_equal(result[..., 0], np.round(stored / 257).astype(np.uint8))


def test_transparency_is_laid_on_white():
    image = Image.new("RGBA", (8, 8), (200, 0, 0, 0))
    assert (prepare(image) == 255).all()
    palette = Image.new("P", (8, 8), 3)
    palette.info["transparency"] = 3
    assert (prepare(palette) == 255).all()


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "LA", "P", "1", "HSV", "LAB"])
def test_every_mode_gives_rgb(mode):
    image = Image.new("RGB", (8, 8), (90, 90, 90))
    image = image.convert("L").convert(mode) if mode in ("1", "LA") else _convert(image, mode)
    assert prepare(image).shape == (8, 8, 3)


def _convert(image: Image.Image, mode: str) -> Image.Image:
    return Image.new("LAB", image.size) if mode == "LAB" else image.convert(mode)


def test_floating_point_is_refused():
    with pytest.raises(pictures.Unusable, match="floating"):
        prepare(Image.new("F", (8, 8)))


def test_exif_orientation_is_applied():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 270 degrees
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", exif=exif)
    assert np.array_equal(pictures.prepare(lambda: Image.open(stream), 8, "none", False), np.rot90(pixels, 3))


@given(
    st.integers(1, 40), st.integers(1, 40), st.sampled_from(["none", "lanczos", "box", "box-halving"]), st.booleans()
)
def test_the_result_is_square_or_the_image_is_unusable(width, height, resize, upscale):
    image = Image.new("RGB", (width, height), (5, 6, 7))
    if min(width, height) < 8 and (resize == "none" or not upscale):
        with pytest.raises(pictures.Unusable, match="too small"):
            prepare(image, 8, resize, upscale)
    else:
        assert np.array_equal(prepare(image, 8, resize, upscale), np.full((8, 8, 3), (5, 6, 7), np.uint8))


def test_filters_differ_and_none_keeps_pixels():
    pixels = np.random.default_rng(1).integers(0, 256, (40, 33, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    assert np.array_equal(prepare(image), pixels[16:24, 12:20])
    results = {name: prepare(image, 8, name).tobytes() for name in (*pictures.FILTERS, "box-halving")}
    assert len(set(results.values())) == len(results)


def test_damaged_bytes_are_unusable():
    with pytest.raises(pictures.Unusable, match="unreadable"):
        pictures.prepare(lambda: Image.open(io.BytesIO(b"\x89PNG\r\n\x1a\nxx")), 8, "none", False)


READ_ALONE = """
import sys
from PIL import Image
from latticebench.data import pictures
print(pictures.prepare(lambda: Image.open(sys.argv[1]), 16, "none", False).shape)
"""


@pytest.mark.parametrize("suffix", sorted(SUFFIXES))
def test_every_suffix_that_a_source_lists_is_read(suffix, tmp_path):
    path = tmp_path / f"a{suffix}"
    Image.new("L" if suffix == ".pgm" else "RGB", (16, 16), 90).save(path)
    assert pictures.prepare(lambda: Image.open(path), 16, "none", False).shape == (16, 16, 3)


def test_jpeg_xl_is_read_in_a_process_of_its_own(tmp_path):
    Image.new("RGB", (16, 16), "red").save(tmp_path / "a.jxl")
    done = subprocess.run(
        [sys.executable, "-c", READ_ALONE, str(tmp_path / "a.jxl")], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "(16, 16, 3)", done.stderr
