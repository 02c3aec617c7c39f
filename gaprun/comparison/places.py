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

    Of splits that are equal in that, the one where this holds for most metrics: gap and recall are then of one split.
    What is drawn or averaged in one figure is taken from there and nowhere else, of all runs alike.
    """
    counts: dict[str, Counter[tuple[Any, ...]]] = {}
    pooled: set[tuple[Any, ...]] = set()
    for row in rows:
        if row["value"] is not None:
            place = place_of(row)
            counts.setdefault(row["metric"], Counter())[place] += 1
            if row["pool"] is not None:
                pooled.add(place)
    equal: dict[str, list[tuple[Any, ...]]] = {}
    for metric, found in counts.items():
        first = max((number, place in pooled) for place, number in found.items())
        equal[metric] = [place for place, number in found.items() if (number, place in pooled) == first]
    splits = Counter(split for places in equal.values() for split in {place[:2] for place in places})
    return {
        metric: min(places, key=lambda place: (-splits[place[:2]], *map(str, place)))
        for metric, places in equal.items()
    }
