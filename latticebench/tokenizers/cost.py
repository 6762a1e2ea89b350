"""What a tokenizer costs: parameters and floating-point operations."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from latticebench.tokenizers.base import Tokenizer, device_of, trainable_parameters


def parameters(tokenizer: Tokenizer) -> dict[str, int]:
    """Numbers of values: `trained` (gradients reach them), `quantizer` (its tables included), `total` (with buffers)."""
    return {
        "trained": trainable_parameters(tokenizer),
        "quantizer": _values(tokenizer.quantizer),
        "total": _values(tokenizer),
    }


def _values(module: nn.Module) -> int:
    return sum(t.numel() for t in (*module.parameters(), *module.buffers()))


@torch.no_grad()
def flops(tokenizer: Tokenizer, height: int | None = None, width: int | None = None) -> dict[str, int]:
    """Floating-point operations of matrix products and attention for one image (a multiply-add counts as two).

    Keys `encode` (quantizer's search included, as far as it is made of torch products) and `decode`; `identity`
    counts its unquantized features. The image is `image_size` square unless a size is given.
    """
    height, width = height or tokenizer.image_size, width or tokenizer.image_size
    images = torch.zeros(1, 3, height, width, device=device_of(tokenizer))
    with _Counter() as encoding:
        codes = tokenizer.encode(images) if tokenizer.quantizer.quantizes else tokenizer.encode_features(images)
    with _Counter() as decoding:
        if isinstance(codes, list):
            tokenizer.decode(codes)
        else:
            tokenizer.decode_features(codes)
    return {"encode": encoding.total, "decode": decoding.total}


class _Counter(TorchFunctionMode):
    """Adds up products as Python calls them.

    torch.utils.flop_counter counts one level deeper and is what the tests compare with; it imports the
    compiler, two seconds in every job, and leaves out fused attention on the CPU.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in _MATRIX_PRODUCTS:
            self.total += 2 * result.numel() * args[_MATRIX_PRODUCTS[func]].shape[-1]
        elif func is torch.einsum:
            self.total += _einsum(args[0], args[1:])
        elif func is F.scaled_dot_product_attention:
            query, key, value = args[:3]
            self.total += 2 * math.prod(query.shape) * key.shape[-2] + 2 * math.prod(result.shape) * value.shape[-2]
        elif func in (F.conv2d, torch.conv2d):
            self.total += 2 * result.numel() * math.prod(args[1].shape[1:])
        return result


_MATRIX_PRODUCTS = {
    **dict.fromkeys((F.linear, torch.matmul, torch.mm, torch.bmm, Tensor.matmul, Tensor.__matmul__, Tensor.mm), 0),
    **dict.fromkeys((torch.addmm, torch.baddbmm), 1),
}
"""Function -> which argument's last dimension is summed over."""


def _einsum(equation: str, operands: tuple[Tensor, ...]) -> int:
    terms = equation.replace(" ", "").split("->")[0].split(",")
    sizes = {
        letter: size
        for term, t in zip(terms, operands, strict=True)
        for letter, size in zip(term, t.shape, strict=True)
    }
    return 2 * math.prod(sizes.values())
