"""Pictures are read as they are looked at, whatever file they lie in."""

import numpy as np
import pytest
from PIL import Image

from evaluation.compression import files, options
from latticebench.errors import BadInput

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)


def test_orientation_transparency_and_sixteen_bits(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90° clockwise to look at it
    Image.fromarray(PIXELS).save(tmp_path / "a-turned.png", exif=exif)
    alpha = np.dstack([PIXELS, np.zeros((4, 6), np.uint8)])
    Image.fromarray(alpha).save(tmp_path / "b-clear.png")
    ramp = (np.arange(24, dtype=np.uint16) * 2800).reshape(4, 6)
    Image.fromarray(ramp).save(tmp_path / "c-deep.png")
    turned, clear, deep = (image for _, image in options.read_images(tmp_path))
    assert np.array_equal(turned, np.rot90(PIXELS, -1))
    assert (clear == 255).all()
    assert np.array_equal(deep[..., 0], np.round(ramp / 257).astype(np.uint8))


def test_what_has_no_range_is_refused(tmp_path):
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "f.tiff")
    with pytest.raises(BadInput, match=r"f\.tiff cannot be read as an image: floating-point pixels"):
        files.read_image(tmp_path / "f.tiff")
