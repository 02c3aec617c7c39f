"""Right or wrong for each query, from the arrays that evaluations keep: what paired tests over queries compare."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gaprun.metrics import Outcomes

Details = Mapping[str, Any]


def within(name: str, k: int) -> Callable[[Details], Outcomes | None]:
    """Of the ranks (Q,) kept as `name`: right are those from 1 to `k`; 0 is no query (an image without captions)."""

    def read(details: Details) -> Outcomes | None:
        return of_ranks(details[name], k) if name in details else None

    return read


def hits(name: str) -> Callable[[Details], Outcomes | None]:
    """Of the bool array (Q,) kept as `name`."""

    def read(details: Details) -> Outcomes | None:
        import numpy as np

        return Outcomes(details[name], np.arange(len(details[name]))) if name in details else None

    return read


def of_ranks(ranks: Any, k: int, owner: Any = None) -> Outcomes | None:
    """Outcomes of ranks (Q,) and the image that each query belongs to; None without any query."""
    import numpy as np

    queries = np.flatnonzero(ranks > 0)
    if not len(queries):
        return None
    if owner is not None:
        owner = owner[queries]
        owner = owner if len(np.unique(owner)) < len(owner) else None
    return Outcomes(ranks[queries] <= k, queries, owner)
