"""The token file, byte for byte: a 24-byte header, a 4-byte checksum of the tokens, the coded tokens.

docs/compression.md draws it. All integers are big-endian.

    0   2   magic "LT"
    2   1   version (high 4 bits), mode (low 4 bits: 0 uniform, 1 static, 2 network prior)
    3   8   first 64 bits of the tokenizer's fingerprint
    11  8   first 64 bits of the prior's fingerprint
    19  2   image height in pixels
    21  2   image width in pixels
    23  1   CRC-8 of bytes 0 to 22
    24  4   CRC-32 of height and width (as above) and the tokens (64-bit little-endian, in coding order)
    28  ..  the range coder's 32-bit words, most significant byte first, without trailing zero bytes
"""

import dataclasses
import struct
import zlib

import numpy as np

from latticebench.errors import BadInput

MAGIC = b"LT"
VERSION = 1
MODES = ("uniform", "static", "network")
HEADER_BYTES = 24
CHECKSUM_BYTES = 4
MAX_SIDE = 2**16 - 1
MAX_PIXELS = 2**26
"""A decoder refuses larger images: a damaged size must not ask for all memory."""

_LAYOUT = struct.Struct(">2sB8s8sHH")


@dataclasses.dataclass(frozen=True)
class Header:
    """mode: the prior's kind. tokenizer, prior: 16 hex digits each. height, width: of the image, in pixels."""

    mode: str
    tokenizer: str
    prior: str
    height: int
    width: int


@dataclasses.dataclass(frozen=True)
class TokenFile:
    """A parsed file: what `pack` writes. checksum: `token_checksum` of size and tokens. payload: the coder's bytes."""

    header: Header
    checksum: int
    payload: bytes


def check_size(height: int, width: int) -> None:
    """Raises BadInput on an image that the format cannot hold."""
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE and height * width <= MAX_PIXELS):
        raise BadInput(
            f"an image of {height} x {width} px does not fit a token file: sides from 1 to {MAX_SIDE} px and at most "
            f"{MAX_PIXELS} px in all; cut it into parts"
        )


def pack(file: TokenFile) -> bytes:
    """The file's bytes. Raises BadInput on an image that the format cannot hold."""
    head = file.header
    check_size(head.height, head.width)
    start = _LAYOUT.pack(
        MAGIC,
        VERSION << 4 | MODES.index(head.mode),
        bytes.fromhex(head.tokenizer),
        bytes.fromhex(head.prior),
        head.height,
        head.width,
    )
    return start + bytes([header_check(start)]) + struct.pack(">I", file.checksum) + file.payload


def unpack(data: bytes, name: str) -> TokenFile:
    """The parsed file. Raises BadInput naming `name` on anything that is no whole, undamaged header."""
    if data[:2] != MAGIC:
        raise BadInput(f"{name} is not a token file: it does not start with {MAGIC.decode()!r}")
    if len(data) < 3 or data[2] >> 4 == 0:
        raise BadInput(f"{name} is damaged: it has no version")
    if data[2] >> 4 > VERSION:
        raise BadInput(
            f"{name} has format version {data[2] >> 4}; this program reads up to {VERSION}: use a newer latticebench"
        )
    if len(data) < HEADER_BYTES + CHECKSUM_BYTES:
        raise BadInput(f"{name} is truncated: {len(data)} bytes, the header alone has {HEADER_BYTES + CHECKSUM_BYTES}")
    if header_check(data) != data[HEADER_BYTES - 1]:
        raise BadInput(f"{name} is damaged: its header fails its check")
    _, kind, tokenizer, prior, height, width = _LAYOUT.unpack_from(data)
    if kind & 15 >= len(MODES):
        raise BadInput(f"{name} is damaged: unknown mode {kind & 15}")
    if not (height and width) or height * width > MAX_PIXELS:
        raise BadInput(f"{name} is damaged: an image of {height} x {width} px")
    (checksum,) = struct.unpack_from(">I", data, HEADER_BYTES)
    header = Header(MODES[kind & 15], tokenizer.hex(), prior.hex(), height, width)
    return TokenFile(header, checksum, data[HEADER_BYTES + CHECKSUM_BYTES :])


def token_checksum(height: int, width: int, tokens: np.ndarray) -> int:
    """CRC-32 over the image's size and its tokens in coding order: two sizes may have equally many tokens."""
    return zlib.crc32(np.ascontiguousarray(tokens, "<i8").tobytes(), zlib.crc32(struct.pack(">HH", height, width)))


def header_check(data: bytes) -> int:
    """CRC-8 of bytes 0 to 22: polynomial x^8 + x^2 + x + 1, start value 0."""
    value = 0
    for byte in data[: HEADER_BYTES - 1]:
        value ^= byte
        for _ in range(8):
            value = (value << 1 ^ 0x07) & 0xFF if value & 0x80 else value << 1
    return value
