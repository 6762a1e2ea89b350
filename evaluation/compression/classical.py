"""The classical codecs, each with every option that moves its bytes, through Pillow and its JPEG XL plugin."""

import abc
import dataclasses
import io
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from latticebench import extensions
from latticebench.errors import Missing


class ClassicalCodec(abc.ABC):
    """One codec with one quality dial.

    name: in records and curves. title: for people. sweep: the dial's settings, from fewest to most bytes.
    options: what is given to Pillow beside the dial. reason: why the options differ from the library's defaults.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    pillow_format: ClassVar[str]
    dial: ClassVar[str]
    sweep: ClassVar[tuple[float, ...]]
    options: ClassVar[dict[str, Any]]
    reason: ClassVar[str] = ""

    def check(self) -> None:
        """Raises Missing where this installation cannot write the format."""
        Image.init()
        if self.pillow_format not in Image.SAVE:
            raise Missing(f"{self.title}: this Pillow cannot write {self.pillow_format}")

    def compress(self, image: np.ndarray, setting: float) -> bytes:
        """uint8 (H, W, 3) -> the file's bytes."""
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, format=self.pillow_format, **self.options, **self.turned(setting))
        return buffer.getvalue()

    def decompress(self, data: bytes) -> np.ndarray:
        """The file's bytes -> uint8 (H, W, 3)."""
        with Image.open(io.BytesIO(data), formats=[self.pillow_format]) as image:
            return np.asarray(image.convert("RGB"))

    def turned(self, setting: float) -> dict[str, Any]:
        """The dial at a setting, as Pillow takes it."""
        return {self.dial: int(setting)}

    def describe(self) -> dict[str, Any]:
        """Everything that fixes the bytes, for the record."""
        return {
            "format": self.pillow_format,
            "dial": self.dial,
            "sweep": list(self.sweep),
            "options": self.options,
            "reason": self.reason,
        }


class Jpeg420(ClassicalCodec):
    name, title, pillow_format, dial = "jpeg-420", "JPEG 4:2:0", "JPEG", "quality"
    sweep = (3, 6, 9, 12, 16, 20, 26, 34, 44, 56, 70, 82, 90)
    options: ClassVar = {"subsampling": "4:2:0", "optimize": True, "progressive": False}
    reason = "Huffman tables optimised for each image; the standard tables cost 25 to 35% more bytes below 0.3 bpp"


class Jpeg444(Jpeg420):
    name, title = "jpeg-444", "JPEG 4:4:4"
    options: ClassVar = {"subsampling": "4:4:4", "optimize": True, "progressive": False}


class WebP(ClassicalCodec):
    name, title, pillow_format, dial = "webp", "WebP", "WEBP", "quality"
    sweep = (0, 3, 8, 15, 25, 38, 50, 65, 78, 88, 94)
    options: ClassVar = {"method": 4, "lossless": False, "exact": False}


class Jpeg2000(ClassicalCodec):
    """Bare codestream, no JP2 boxes."""

    name, title, pillow_format, dial = "jpeg2000", "JPEG 2000", "JPEG2000", "quality_layers"
    sweep = (240, 160, 120, 96, 72, 56, 44, 32, 24, 16, 12, 8)
    options: ClassVar = {"quality_mode": "rates", "irreversible": True, "mct": 1, "no_jp2": True}
    reason = "colour transform and 9/7 wavelet on: Pillow's default leaves the transform off (2.3 dB lower at 0.25 bpp)"

    def turned(self, setting: float) -> dict[str, Any]:
        return {"quality_layers": [float(setting)]}


class Avif(ClassicalCodec):
    name, title, pillow_format, dial = "avif", "AVIF", "AVIF", "quality"
    sweep = (2, 8, 16, 25, 35, 45, 55, 65, 75, 85)
    options: ClassVar = {"subsampling": "4:4:4", "speed": 6, "range": "full", "codec": "aom", "max_threads": 1}
    reason = "one thread, so that the bytes do not depend on the machine"


class JpegXl(ClassicalCodec):
    name, title, pillow_format, dial = "jpeg-xl", "JPEG XL", "JXL", "quality"
    sweep = (5, 10, 20, 30, 40, 50, 60, 70, 80, 90)
    options: ClassVar = {"effort": 7, "lossless": False, "num_threads": 1}

    def check(self) -> None:
        try:
            import pillow_jxl  # noqa: F401 (registers the format)
        except ImportError as error:
            raise Missing("JPEG XL needs the package pillow-jxl-plugin") from error
        super().check()


CODECS: dict[str, ClassicalCodec] = {
    codec.name: codec for codec in (Jpeg420(), Jpeg444(), WebP(), Jpeg2000(), Avif(), JpegXl())
}


def find(name: str) -> ClassicalCodec:
    """A codec of this file or of an extension. Raises KeyError on an unknown one, which no configuration can name."""
    return CODECS[name] if name in CODECS else extensions.find("codec")[name]


@dataclasses.dataclass(frozen=True)
class Point:
    """One image at one setting: file size in bytes and the decoded image."""

    size: int
    image: np.ndarray


def measure(codec: ClassicalCodec, image: np.ndarray, setting: float) -> Point:
    """Writes, reads back and weighs one image."""
    data = codec.compress(image, setting)
    return Point(len(data), codec.decompress(data))
