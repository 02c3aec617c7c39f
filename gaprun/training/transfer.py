"""A step's batch on its way to the device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from gaprun.data.stream import Batch
from gaprun.runtime.transfer import moved_ahead


def on_device(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """`batches` with their tensors on `device`, in order. On the CPU they pass through."""
    if device.type != "cuda":
        return batches

    def move(batch: Batch) -> Batch:
        pictures = batch.pictures.to(device, non_blocking=True)
        return replace(batch, pictures=pictures, tokens=batch.tokens.to(device, non_blocking=True))

    def tensors(batch: Batch) -> list[Tensor]:
        pictures = batch.pictures
        return [pictures if isinstance(pictures, Tensor) else pictures.pixels, batch.tokens]

    return moved_ahead(batches, device, move, tensors)
