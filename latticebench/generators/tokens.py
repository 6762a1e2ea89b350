"""Token files: what a tokenizer makes of both splits, extracted once and read by every generator over them.

A folder holds `<split>.npy` (N, positions), or (N, positions, digits) above 2^62 codes, in the smallest unsigned
type that K fits, all scales of an image one after another; `<split>.labels.npy` (N,) int64, −1 without classes; and,
last, tokens.json, which says of which tokenizer, data and class list they are.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latticebench.errors import BadInput, Missing
from latticebench.files import UNREADABLE, sha256

FORMAT = 1
DESCRIPTION = "tokens.json"
SPLITS = ("train", "eval")


@dataclasses.dataclass(frozen=True)
class TokenSplit:
    """tokens: memory-mapped, as in the file. labels: (N,) int64, None where a model is told nothing."""

    tokens: np.ndarray
    labels: np.ndarray | None
    scales: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.tokens)

    def flat(self, rows: Any = slice(None)) -> np.ndarray:
        """Chosen rows (n, positions) int64."""
        return np.asarray(self.tokens[rows]).astype(np.int64)

    def maps(self, rows: Any) -> list[Tensor]:
        """Chosen rows as one int64 index map (n, h, w) a scale."""
        return split_scales(torch.from_numpy(self.flat(rows)), self.scales)

    def class_ids(self, rows: Any) -> Tensor | None:
        """Chosen rows' classes (n,), None without classes."""
        return None if self.labels is None else torch.from_numpy(np.asarray(self.labels[rows]))


@dataclasses.dataclass(frozen=True)
class Tokens:
    """Both splits and their description."""

    path: Path
    train: TokenSplit
    eval: TokenSplit
    description: dict[str, Any]

    @property
    def fingerprint(self) -> str:
        """Of the quantizer whose indices they are."""
        return self.description["fingerprint"]

    @property
    def classes(self) -> dict[str, Any] | None:
        """Identity of the class list (see latticebench.data.classes), None where a model is told nothing."""
        return self.description["classes"]

    @property
    def codebook_size(self) -> int:
        return self.description["codebook_size"]

    @property
    def scales(self) -> tuple[int, ...]:
        return tuple(self.description["scales"])

    def identity(self) -> str:
        """Hash of the description, which covers tokenizer, data and classes."""
        return sha256(self.path / DESCRIPTION)

    def check(self, tokenizer: Any) -> None:
        """Raises BadInput unless the tokens are those of this tokenizer, weights and row order."""
        weights = tokenizer.metadata.get("weights_sha256")
        if tokenizer.quantizer.fingerprint != self.fingerprint or weights != self.description["tokenizer_sha256"]:
            raise BadInput(
                f"{self.path} holds tokens of quantizer {self.fingerprint[:12]} and weights "
                f"{self.description['tokenizer_sha256'][:12]}, the tokenizer has "
                f"{tokenizer.quantizer.fingerprint[:12]} and {str(weights)[:12]}; delete the folder and extract again"
            )


def split_scales(flat: Tensor, scales: tuple[int, ...]) -> list[Tensor]:
    """(n, positions) -> one map (n, h, w) a scale."""
    parts = flat.split([side * side for side in scales], dim=1)
    return [part.unflatten(1, (side, side)) for part, side in zip(parts, scales, strict=True)]


def smallest_type(largest: int) -> np.dtype:
    """The smallest unsigned integer type that holds 0 to `largest`."""
    return np.min_scalar_type(largest)


def load(path: str | Path) -> Tokens:
    """Opens a folder of tokens. Raises Missing where it is unfinished, BadInput where it is damaged."""
    path = Path(path)
    try:
        description = json.loads((path / DESCRIPTION).read_text())
        if description["format"] != FORMAT:
            raise BadInput(f"{path}: format {description['format']}, this version reads {FORMAT}; extract again")
        splits = [_split(path, name, description) for name in SPLITS]
    except FileNotFoundError as error:
        raise Missing(
            f"{path} holds no extracted tokens ({Path(error.filename).name}); run their extraction"
        ) from error
    except UNREADABLE as error:
        raise BadInput(f"{path} is damaged ({error}); delete it and extract again") from error
    return Tokens(path, *splits, description)


def _split(path: Path, name: str, description: dict[str, Any]) -> TokenSplit:
    tokens = np.load(path / f"{name}.npy", mmap_mode="r", allow_pickle=False)
    labels = np.load(path / f"{name}.labels.npy", allow_pickle=False)
    count = description["splits"][name]["images"]
    if len(tokens) != count or len(labels) != count:
        raise ValueError(f"{name} has {len(tokens)} rows and {len(labels)} labels instead of {count}")
    told = description["classes"] is not None
    return TokenSplit(tokens, labels if told else None, tuple(description["scales"]))
