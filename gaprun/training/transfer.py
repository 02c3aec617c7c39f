"""Batches on their way to the device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from gaprun.data.stream import Batch


def on_device(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """`batches` with their tensors on `device`, in order.

    A GPU copies from pinned memory on a stream of its own: the next batch is fetched as soon as a step is queued, and
    travels while that step is computed. On the CPU the batches pass through.
    """
    if device.type != "cuda":
        yield from batches
        return
    beside = torch.cuda.Stream(device)
    for batch in batches:
        with torch.cuda.stream(beside):
            moved = replace(
                batch,
                pictures=batch.pictures.to(device, non_blocking=True),
                tokens=batch.tokens.to(device, non_blocking=True),
            )
        computing = torch.cuda.current_stream(device)
        computing.wait_stream(beside)
        pictures = moved.pictures
        for tensor in (pictures if isinstance(pictures, Tensor) else pictures.pixels, moved.tokens):
            tensor.record_stream(
                computing
            )  # its memory is not given to the next copy before the step is done
        yield moved
