"""Writes safetensors one tensor at a time: a file of 1 GB needs little more than its largest tensor.

The format (huggingface/safetensors): eight bytes with the header's length, the header as JSON, the raw
little-endian values. The library's own writer first copies every tensor.
"""

import json
import struct
from pathlib import Path

import torch
from torch import Tensor

from latticebench.errors import BadInput
from latticebench.files import whole

_TYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def write(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """tensors -> a safetensors file, whole or not at all. Raises BadInput on a type that the format lacks."""
    header: dict[str, object] = {"__metadata__": metadata}
    offset = 0
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.dtype not in _TYPES:
            raise BadInput(f"{name} is {tensor.dtype} {tensor.layout}, which safetensors cannot hold")
        size = tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": _TYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + size],
        }
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with whole(path) as temporary, open(temporary, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors.values():
            if tensor.numel():
                flat = tensor.detach().contiguous().reshape(-1)
                file.write(flat.view(torch.uint8).numpy().data)


def metadata(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file."""
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        return dict(file.metadata() or {})
