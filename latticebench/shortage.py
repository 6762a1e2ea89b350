"""Errors that mean that no memory was left, whoever says so."""

_WORDS = (
    "out of memory",  # torch on a GPU
    "can't allocate memory",  # torch on a CPU
    "cannot allocate memory",  # the system
    "failed to map segment",  # the dynamic loader, where an import brings a library
)
_CURE = "smaller batches, fewer jobs at once or a larger machine, then run again: finished work is kept"


def of_memory(error: BaseException) -> bool:
    """Whether an error is Python's, numpy's, torch's or the loader's word for no memory left."""
    words = str(error).lower()
    return isinstance(error, MemoryError) or any(each in words for each in _WORDS)


def line(error: BaseException) -> str:
    """What a program says of it before it ends."""
    return f"error: out of memory ({_CURE}): {error}"
