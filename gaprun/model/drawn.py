"""Random numbers are drawn on the host, so that they are the same on every device; this brings them to the features."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def beside(values: Tensor, x: Tensor) -> Tensor:
    """CPU `values` in x's type on x's device; a GPU fetches them from pinned memory while the host goes on."""
    values = values.to(x.dtype)
    return values.pin_memory().to(x.device, non_blocking=True) if x.is_cuda else values.to(x.device)
