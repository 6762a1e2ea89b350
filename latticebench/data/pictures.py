"""One image to one square uint8 array: orientation, colour, resize, crop. All of it is recorded as the preparation.

The rules, in order:
- EXIF orientation is applied; of animations the first frame is taken; colour profiles are ignored.
- 16-bit grey is divided by 257 and rounded (Pillow itself reads 16-bit RGB as its upper 8 bits);
  transparency is laid on white; CMYK and other modes go through Pillow's `convert("RGB")`; grey is repeated.
- `resize` brings the shorter side to the stored side (`box-halving` is ADM's: halve by box while the shorter
  side is at least twice the target, then bicubic); `none` keeps the pixels.
- The crop is central, its offset (side − size) // 2.
"""

import contextlib
from typing import Any

import numpy as np
from PIL import Image, ImageOps

with contextlib.suppress(ImportError):
    import pillow_jxl  # noqa: F401 (registers JPEG XL with Pillow)

RULES = 1
"""Version of the rules above; part of the preparation and so of the data's hash."""

FILTERS = {
    "lanczos": Image.Resampling.LANCZOS,
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "box": Image.Resampling.BOX,
}


class Unusable(Exception):
    """An image that cannot be read or is too small; the text says why."""


def to_rgb(image: Image.Image) -> Image.Image:
    """An 8-bit RGB image by the rules above. Raises Unusable for floating-point pixels."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64).clip(0, 65535)
        return Image.fromarray(((values + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise Unusable("floating-point pixels have no agreed range")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def square(image: Image.Image, size: int, resize: str, upscale: bool) -> np.ndarray:
    """RGB image -> (size, size, 3) uint8. Raises Unusable where it is too small."""
    short = min(image.size)
    if short < size and (resize == "none" or not upscale):
        raise Unusable(f"too small: {image.width}x{image.height}, {size} needed")
    if resize != "none" and short != size:
        image = _shorter_side(image, size, resize)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return np.asarray(image.crop((left, top, left + size, top + size)))


def _shorter_side(image: Image.Image, size: int, resize: str) -> Image.Image:
    if resize == "box-halving":
        while min(image.size) >= 2 * size:
            image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
        resize = "bicubic"
    scale = size / min(image.size)
    return image.resize(
        (max(size, round(image.width * scale)), max(size, round(image.height * scale))), FILTERS[resize]
    )


def prepare(opener: Any, size: int, resize: str, upscale: bool) -> np.ndarray:
    """Opens and prepares one image -> (size, size, 3) uint8. Raises Unusable with the reason."""
    try:
        with opener() as image:
            return square(to_rgb(image), size, resize, upscale)
    except Unusable:
        raise
    except Exception as error:  # Pillow's decoders raise almost anything on damaged files
        raise Unusable(f"unreadable: {type(error).__name__}: {error}") from error


def description(size: int, resize: str, upscale: bool) -> dict[str, Any]:
    """The preparation as recorded and hashed."""
    return {
        "rules": RULES,
        "size": size,
        "resize": resize,
        "upscale": upscale,
        "crop": "centre, offset (side - size) // 2",
        "colour": "8-bit RGB; alpha on white; 16-bit grey / 257; profiles ignored; EXIF orientation applied",
    }
