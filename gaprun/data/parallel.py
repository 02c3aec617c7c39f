"""Mapping a function over items on several threads; results come in the order of the items."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Progress = Callable[[int, int], None]  # called with (done, total)
Item = TypeVar("Item")
Result = TypeVar("Result")
_CHUNK = 32  # items handed to a worker at a time: amortises the hand-over, still smooth for a progress bar


def usable_cores() -> int:
    """Cores this process may run on, which in a container is fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def ordered_map(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int = 1
) -> Iterator[Result]:
    """Yield `function(item)` for each item in order, computed on `workers` threads.

    Threads are enough where the work is reading and Pillow's codecs, which release the interpreter lock. A
    few chunks a worker are in flight, so memory stays flat when the consumer is slower; an exception of
    `function` is raised at its item's turn.
    """
    if workers <= 1 or len(items) <= 2 * _CHUNK:
        yield from map(function, items)
        return
    executor = ThreadPoolExecutor(workers)
    pending: deque[Future[list[Result]]] = deque()
    try:
        for start in range(0, len(items), _CHUNK):
            pending.append(executor.submit(_apply, function, items[start : start + _CHUNK]))
            if len(pending) > 4 * workers:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _apply(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    return [function(item) for item in items]
