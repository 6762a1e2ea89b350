"""One root seed, derived per use.

Every random draw names its use, so adding a draw somewhere never moves another one, and a draw that
depends on a sample names the sample's index, so it does not depend on workers, devices or batches.
"""

import hashlib

import torch


def derive(root: int, *uses: str | int) -> int:
    """A 63-bit seed for one use of the root seed; `uses` are the words and indices that name it."""
    text = "/".join([str(root), *map(str, uses)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(root: int, *uses: str | int) -> torch.Generator:
    """A CPU generator seeded for one use."""
    return torch.Generator().manual_seed(derive(root, *uses))
