"""The released Leech codebook inside a state dict."""

import torch
from torch.nn import functional as F

from latticebench.errors import BadInput
from latticebench.lattices import leech
from latticebench.published.keys import Released
from latticebench.quantizers import Quantizer, create

TOLERANCE = 1e-6
"""A row may differ by rounding of 1/√32 only."""


def checked(released: Released, keys: tuple[str, ...], codebook_size: int | None, normalize: bool) -> Quantizer:
    """`leech-published` with as many first rows as the file has (or `codebook_size`).

    keys: aliases of the codebook's key. Raises BadInput where a row is not the released one: indices would mean
    other vectors. A missing key is left to the loader's report.
    """
    name = released.first(*keys)
    table = released.take(name)
    if table is None:
        raise BadInput(f"{released.family}: 1 missing: {name}")
    size = codebook_size or len(table)
    if table.ndim != 2 or tuple(table.shape) != (size, leech.DIM) or size > leech.SIZE:
        raise BadInput(f"{released.family}: 1 misshaped: {name} is {tuple(table.shape)}, not {(size, leech.DIM)}")
    rows = leech.vectors(torch.arange(size), codebook="released")
    wrong = ((F.normalize(table.float(), dim=-1) - rows).abs() > TOLERANCE).any(dim=1).nonzero()
    if len(wrong):
        raise BadInput(
            f"{released.family}: row {int(wrong[0])} of {name} (and {len(wrong) - 1} more) is not that of the released "
            "Leech codebook, so its indices would mean other vectors"
        )
    return create("leech-published", codebook_size=size, subset="first", normalize=normalize)
