"""Classes computed from an image's own pixels, for data without labels: brightness, contrast and hue.

They mean little, but they are defined for every image, held-out scenes included, and a picture's tokens depend
on them: enough to see whether a class-conditional model uses what it is told. The bounds are fixed numbers, not
fitted to any data.
"""

import itertools
from typing import Any

import numpy as np

from latticebench.data import classes

BRIGHTNESS = (85.0, 150.0)
"""Bounds between dark, medium and bright: mean luminance (Rec. 601) of 255."""
CONTRAST = 35.0
"""Bound between flat and rich: the luminance's standard deviation."""
WORDS = (("dark", "medium", "bright"), ("flat", "rich"), ("cold", "warm"))
NAMES = tuple("-".join(words) for words in itertools.product(*WORDS))
_LUMINANCE = np.array([0.299, 0.587, 0.114])


def identity() -> dict[str, Any]:
    """The class list as a manifest holds it: kind `local`, twelve names such as `dark-rich-warm`."""
    return classes.identity(NAMES, "local")


def labels(images: np.ndarray) -> np.ndarray:
    """uint8 (N, H, W, 3) -> (N,) int64 rows of NAMES; warm is a mean red above the mean blue."""
    colour = images.reshape(len(images), -1, 3)
    luminance = colour @ _LUMINANCE
    brightness = np.digitize(luminance.mean(axis=1), BRIGHTNESS)
    contrast = luminance.std(axis=1) >= CONTRAST
    means = colour.mean(axis=1)
    warm = means[:, 0] > means[:, 2]
    return ((brightness * 2 + contrast) * 2 + warm).astype(np.int64)
