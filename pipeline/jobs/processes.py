"""Maps a function over tasks, in this process or over several of this machine."""

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any


@contextmanager
def mapping(workers: int, here: Callable[..., Any] = map) -> Iterator[Callable[..., Any]]:
    """`here` for one worker, else `map` over so many processes; tasks that have not begun when the block ends are dropped."""
    if workers == 1:
        yield here
        return
    # Spawned, not forked: the caller may have threads.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        try:
            yield pool.map
        finally:
            pool.shutdown(cancel_futures=True)
