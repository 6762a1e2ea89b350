"""Work on many images in fixed chunks, by one process or several, with the same result bit for bit.

The cut into chunks depends on the images alone. Processes take chunks by their number and the results come
back in order, so sums over chunks are added in the same order however many processes there are.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from tqdm import tqdm

T = TypeVar("T")
Chunk = tuple[int, int]


def cut(shapes: Sequence[tuple[int, int]], size: int) -> list[Chunk]:
    """Half-open index ranges of at most `size` consecutive images of one shape; shapes: (height, width) each."""
    result: list[Chunk] = []
    start = 0
    for index in range(1, len(shapes) + 1):
        if index == len(shapes) or index - start == size or shapes[index] != shapes[start]:
            result.append((start, index))
            start = index
    return result


def run(job: Callable[[Chunk], T], chunks: Sequence[Chunk], processes: int = 1, title: str = "") -> Iterator[T]:
    """`job` of every chunk, in order. With several processes `job` is pickled and run in spawned ones."""
    progress = {"total": len(chunks), "desc": title, "unit": "chunk", "delay": 3}
    if processes <= 1 or len(chunks) <= 1:
        yield from tqdm(map(job, chunks), **progress)
        return
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    import torch

    context = multiprocessing.get_context("spawn")
    devices = context.Queue()
    for number in range(processes):
        devices.put(number)
    with ProcessPoolExecutor(processes, context, _start, (devices, torch.get_num_threads())) as pool:
        yield from tqdm(pool.map(job, chunks), **progress)


def _start(numbers: Any, threads: int) -> None:
    """A worker: as many threads as its parent, so that sums round alike, and a GPU of its own where there are some."""
    import torch

    torch.set_num_threads(threads)
    number = numbers.get()
    if torch.cuda.is_available():
        torch.cuda.set_device(number % torch.cuda.device_count())
