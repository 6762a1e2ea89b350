"""Encoders and decoders around a quantizer. `load(path)` restores a finished one from its folder."""

from latticebench.tokenizers.base import Tokenizer
from latticebench.tokenizers.checkpoint import load

__all__ = ["Tokenizer", "load"]
