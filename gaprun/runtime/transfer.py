"""Batches on their way to the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

Item = TypeVar("Item")


def moved_ahead(
    items: Iterator[Item],
    device: torch.device,
    move: Callable[[Item], Item],
    tensors: Callable[[Item], list[Tensor]] = tree_leaves,
) -> Iterator[Item]:
    """`move(item)` of each of `items`, in order, where `tensors(moved)` are then on `device`.

    A GPU copies from pinned memory on a stream of its own: the next item is fetched as soon as work on one is queued,
    and travels while that is computed.
    """
    if device.type != "cuda":
        yield from map(move, items)
        return
    beside = torch.cuda.Stream(device)
    for item in items:
        with torch.cuda.stream(beside):
            moved = move(item)
        computing = torch.cuda.current_stream(device)
        computing.wait_stream(beside)
        for tensor in tensors(moved):
            tensor.record_stream(computing)  # its memory is not given to the next copy before it was used
        yield moved
