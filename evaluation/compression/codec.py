"""Tokens to files and back: the prior's bytes under a header that names tokenizer and prior, all of it checked."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from evaluation.compression import coder, format
from evaluation.compression.layout import Layout, check_tokens, coding_order
from evaluation.compression.priors import Prior, UniformPrior
from latticebench.errors import BadInput


@dataclasses.dataclass(frozen=True)
class Coded:
    """The tokens of an image: (tiles, positions) int64, and the image's height and width in pixels."""

    tokens: np.ndarray
    height: int
    width: int


class TokenCodec:
    """Files of one tokenizer under one prior.

    Raises BadInput where the prior was made for another tokenizer or another codebook size.
    """

    def __init__(self, layout: Layout, prior: Prior | None = None) -> None:
        self.layout = layout
        self.prior = UniformPrior(layout.codebook_size) if prior is None else prior
        if self.prior.codebook_size != layout.codebook_size:
            raise BadInput(
                f"the prior is for {self.prior.codebook_size} codes and the tokenizer has {layout.codebook_size}"
            )
        if self.prior.tokenizer not in (None, layout.tokenizer):
            raise BadInput(
                f"the prior was made for the tokenizer {self.prior.tokenizer[:16]}…, not for {layout.tokenizer[:16]}…"
            )

    def write(self, images: Sequence[Coded]) -> list[bytes]:
        """The file of each image. Raises BadInput on tokens or sizes that do not fit the tokenizer."""
        return self.write_priced(images)[0]

    def write_priced(self, images: Sequence[Coded]) -> tuple[list[bytes], np.ndarray]:
        """`write`, and the prior's cross-entropy of each image's tokens in bits."""
        for image in images:
            format.check_size(image.height, image.width)
            check_tokens(image.tokens, self.layout.codebook_size)
            rows, columns = self.layout.tiles(image.height, image.width)
            if image.tokens.shape != (rows * columns, self.layout.tokens_per_tile):
                raise BadInput(
                    f"an image of {image.height} x {image.width} px has {rows * columns} tiles of "
                    f"{self.layout.tokens_per_tile} tokens, got {image.tokens.shape}"
                )
        payloads, bits = self.prior.encode_priced([image.tokens for image in images])
        files = [
            format.pack(
                format.TokenFile(
                    self._header(image.height, image.width),
                    format.token_checksum(image.height, image.width, coding_order(image.tokens)),
                    payload,
                )
            )
            for image, payload in zip(images, payloads, strict=True)
        ]
        return files, bits

    def read(self, files: Sequence[bytes], names: Sequence[str] | None = None) -> list[Coded]:
        """The inverse of `write`. Raises BadInput that names the file on anything but what `write` wrote."""
        names = [f"file {i}" for i in range(len(files))] if names is None else names
        parsed = [self._open(data, name) for data, name in zip(files, names, strict=True)]
        sizes = [(file.header.height, file.header.width) for file in parsed]
        tiles = [rows * columns for rows, columns in (self.layout.tiles(*size) for size in sizes)]
        payloads = [file.payload for file in parsed]
        try:
            decoded = self.prior.decode(payloads, tiles, self.layout.tokens_per_tile)
        except BadInput as error:
            if len(files) > 1:  # Alone, the damaged one is the one that fails.
                return [self.read([data], [name])[0] for data, name in zip(files, names, strict=True)]
            raise BadInput(f"{names[0]}: {error}") from error
        for file, name, size, (array, again) in zip(parsed, names, sizes, decoded, strict=True):
            if format.token_checksum(*size, coding_order(array)) != file.checksum:
                raise BadInput(f"{name} is damaged: its tokens fail their checksum")
            # Bytes that the tokens do not need would go unnoticed otherwise: a file has one valid form.
            if again != file.payload:
                raise BadInput(f"{name} is damaged: {len(file.payload)} coded bytes are not those of its tokens")
        return [Coded(array, *size) for array, size in zip((array for array, _ in decoded), sizes, strict=True)]

    def _header(self, height: int, width: int) -> format.Header:
        return format.Header(self.prior.kind, self.layout.tokenizer[:16], self.prior.fingerprint[:16], height, width)

    def _open(self, data: bytes, name: str) -> format.TokenFile:
        file = format.unpack(data, name)
        head, wanted = file.header, self._header(file.header.height, file.header.width)
        if head.tokenizer != wanted.tokenizer:
            raise BadInput(
                f"{name} was written with the tokenizer {head.tokenizer}…, not with {wanted.tokenizer}…: "
                "give the one that wrote it"
            )
        if head.mode != wanted.mode or head.prior != wanted.prior:
            raise BadInput(
                f"{name} was written with the {head.mode} prior {head.prior}…, not with the {wanted.mode} prior "
                f"{wanted.prior}…: give the one that wrote it"
            )
        count = self.layout.token_count(head.height, head.width)
        if count > coder.most_tokens(len(file.payload), self.prior.least_bits):
            raise BadInput(
                f"{name} is truncated or damaged: {len(file.payload)} coded bytes cannot hold the {count} tokens of "
                f"{head.height} x {head.width} px"
            )
        return file
