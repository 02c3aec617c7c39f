"""Where and how a value was measured: what values must share to stand in one column, one chart, one choice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

PLACE = "metric", "dataset", "split", "protocol"  # what values stand in one column by
SAME = {
    "n": "number of items (gallery size)",
    "data_fingerprint": "data",
    "definition": "definition of the metric",
    "options_hash": "set of options (or plugin code) of the evaluation",
    "task": "task",
}
Row = dict[str, Any]


def place_of(row: Row) -> tuple[Any, ...]:
    """Everything that values must share to be averaged: data set, split, protocol, and what SAME names."""
    return row["dataset"], row["split"], row["protocol"], *(row[key] for key in SAME)


def usual_places(rows: Iterable[Row]) -> dict[str, tuple[Any, ...]]:
    """For each metric where and how it was measured in most of `rows` (`place_of`), a pool protocol before others.

    Of splits that are equal in that, the one where most metrics were measured: gap and recall are then of one split.
    What is drawn or averaged in one figure is taken from there and nowhere else, of all runs alike.
    """
    counts: dict[str, Counter[tuple[Any, ...]]] = {}
    pooled: set[tuple[Any, ...]] = set()
    measured: dict[tuple[Any, ...], set[str]] = {}
    for row in rows:
        if row["value"] is not None:
            place = place_of(row)
            counts.setdefault(row["metric"], Counter())[place] += 1
            measured.setdefault(place[:2], set()).add(row["metric"])
            if row["pool"] is not None:
                pooled.add(place)
    return {
        metric: min(
            found,
            key=lambda place: (
                -found[place],
                place not in pooled,
                -len(measured[place[:2]]),
                *map(str, place),
            ),
        )
        for metric, found in counts.items()
    }
