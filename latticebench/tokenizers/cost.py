"""What a tokenizer costs: parameters and floating-point operations."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from latticebench.tokenizers.base import Tokenizer, device_of


def parameters(tokenizer: Tokenizer) -> dict[str, int]:
    """Numbers of values: `trained` (gradients reach them), `quantizer` (all of its state), `total` (with buffers)."""
    return {
        "trained": sum(p.numel() for p in tokenizer.parameters() if p.requires_grad),
        "quantizer": sum(t.numel() for t in tokenizer.quantizer.state_dict().values()),
        "total": sum(t.numel() for t in tokenizer.state_dict().values()),
    }


@torch.no_grad()
def flops(tokenizer: Tokenizer, height: int | None = None, width: int | None = None) -> dict[str, int]:
    """Floating-point operations of matrix products and attention for one image (a multiply-add counts as two).

    Keys `encode` (quantizer's search included, as far as it is made of torch products) and `decode`; `identity`
    counts its unquantized features. The image is `image_size` square unless a size is given.
    """
    height, width = height or tokenizer.image_size, width or tokenizer.image_size
    images = torch.zeros(1, 3, height, width, device=device_of(tokenizer))
    with FlopCounterMode(display=False) as encoding:
        codes = tokenizer.encode(images) if tokenizer.quantizer.quantizes else tokenizer.encode_features(images)
    with FlopCounterMode(display=False) as decoding:
        if isinstance(codes, list):
            tokenizer.decode(codes)
        else:
            tokenizer.decode_features(codes)
    return {"encode": encoding.get_total_flops(), "decode": decoding.get_total_flops()}
