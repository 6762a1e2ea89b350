"""No (tokens x K) matrix above the configured memory exists, forward or backward; half precision never reaches a search."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from latticebench.quantizers import create


class Watch(TorchDispatchMode):
    """Notes the largest tensor that any operation makes, in bytes, and the dtypes of products."""

    def __init__(self):
        super().__init__()
        self.largest, self.products = 0, set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.largest = max(self.largest, tensor.numel() * tensor.element_size())
                if "mm" in str(function):
                    self.products.add(tensor.dtype)
        return result


METHODS = [
    ("vq", {}),
    ("vq", {"update": "ema", "init": "data"}),
    ("simvq", {}),
    ("lgq", {"dim": 8}),
    ("random", {"dim": 8}),
    ("fibonacci", {"dim": 8}),
    ("leech", {"codebook_size": 2048}),
    ("bsq", {"dim": 22, "entropy": "group", "group_size": 11}),
    ("lfq", {"dim": 22, "group_size": 11}),
]


@pytest.mark.parametrize(("name", "parameters"), METHODS)
def test_tiles_hold_the_memory(name, parameters):
    cap = 0.5 if name not in ("lfq", "bsq") else 1.0
    sizes = {"codebook_size": 2048} if name in ("vq", "simvq", "lgq", "random", "fibonacci") else {}
    quantizer = create(name, tile_mb=cap, **{**sizes, **parameters}).train()
    z = torch.randn(2000, quantizer.dim, requires_grad=True)
    with Watch() as watch:
        out = quantizer(z)
        (out.vectors.square().mean() + out.loss).backward()
        quantizer.encode(z)
    assert watch.largest <= cap * 2**20, f"{watch.largest / 2**20:.2f} MiB"


@pytest.mark.parametrize(("name", "parameters"), METHODS[:7])
def test_searches_run_in_full_precision_under_autocast(name, parameters):
    quantizer = create(name, **parameters).train()
    with Watch() as watch, torch.autocast("cpu", dtype=torch.bfloat16):
        quantizer(torch.randn(10, quantizer.dim, dtype=torch.bfloat16))
        quantizer.encode(torch.randn(10, quantizer.dim))
    assert watch.products <= {torch.float32}


def test_tiles_give_the_codes_of_one_product():
    z = torch.randn(3000, 8)
    for name in ("vq", "simvq", "random"):
        codes = [create(name, dim=8, codebook_size=1000, tile_mb=mb).encode(z) for mb in (0.01, 1.0, 256.0)]
        assert torch.equal(codes[0], codes[1]) and torch.equal(codes[0], codes[2])
