"""Who is asked whether a queued run still waits: one function a cluster, brought by who knows that cluster."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

# By the queue's `cluster`: for each of the queues given, why its run waits for nothing, "" where it does wait, and
# None where that cannot be told from here.
SCHEDULERS: dict[str, Callable[[Sequence[Mapping[str, Any]]], list[str | None]]] = {}


def submitted_at(queue: Mapping[str, Any]) -> datetime | None:
    """When a queue says that its run was submitted."""
    return datetime.fromisoformat(queue["submitted"]) if "submitted" in queue else None
