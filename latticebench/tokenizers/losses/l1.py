"""Mean absolute error of pixels."""

from torch import Tensor


def l1(reconstructions: Tensor, images: Tensor, unit: Tensor | float) -> Tensor:
    """Mean of |difference| / unit over (B, 3, H, W); in a tokenizer's own unit one weight suits dark and bright data."""
    return ((reconstructions - images) / unit).abs().mean()
