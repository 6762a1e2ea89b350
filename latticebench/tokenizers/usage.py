"""How many codes a training batch uses, and when that is the collapse of a codebook."""

import logging
import math

import torch
from torch import Tensor

from latticebench.quantizers import distributed

log = logging.getLogger(__name__)

COLLAPSED = 0.1
"""Share of the codes of an even use below which a codebook is said to collapse."""


def expected_codes(codebook_size: int, tokens: int) -> float:
    """Distinct codes that `tokens` even draws from `codebook_size` codes use on average."""
    if codebook_size > tokens**2 * 2**20:
        return float(tokens)  # where a float cannot tell them apart
    if codebook_size == 1:
        return 1.0
    return -codebook_size * math.expm1(tokens * math.log1p(-1 / codebook_size))


class Usage:
    """Counts the codes of training batches and warns when they become few."""

    def __init__(self, name: str, codebook_size: int) -> None:
        self.name = name
        self.codebook_size = codebook_size
        self._collapsed = False

    def __call__(self, indices: Tensor | None, step: int) -> dict[str, Tensor]:
        """`codes_used` of the joined batch, and `code_share`, that number over what an even use would give.

        indices: int64 of one shape on every process, or None where there are none (0 codes, no share).
        """
        if indices is None:
            return {"codes_used": torch.tensor(0)}
        joined = distributed.gathered(indices)
        used, even = len(torch.unique(joined)), expected_codes(self.codebook_size, joined.numel())
        share = used / even
        if share < COLLAPSED and not self._collapsed:
            log.warning(
                "%s: step %d: the batch uses %d of %d codes, %.0f %% of what an even use would: the codebook collapses",
                self.name,
                step,
                used,
                self.codebook_size,
                100 * share,
            )
        # Said once a collapse: the codebook must have recovered well before it is said again.
        self._collapsed = share < (2 * COLLAPSED if self._collapsed else COLLAPSED)
        return {"codes_used": torch.tensor(used), "code_share": torch.tensor(share)}
