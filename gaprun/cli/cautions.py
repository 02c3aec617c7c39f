"""What a reader of measured values must know of them: said on stderr beside `gaprun eval`'s table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Row = Mapping[str, Any]


def cautions(rows: Iterable[Row]) -> list[str]:
    """A line for each caution about the values `rows` of one model."""
    rows = list(rows)
    return [*_repeated_captions(rows), *_left_out(rows)]


def _repeated_captions(rows: Iterable[Row]) -> list[str]:
    return [
        f"{row['dataset']}/{row['split']}: {row['value']:.0f} captions stand with several pictures; each counts as the "
        "caption of the one that it stands with (by index, as CLIP_benchmark counts), and the others tie against it"
        for row in rows
        if row["metric"] == "repeated_captions"
    ]


def _left_out(rows: Iterable[Row]) -> list[str]:
    """Recalls that a gallery is too small for (`Ranks.metrics`)."""
    from gaprun.evaluation.tasks.retrieval import RANKS

    found: dict[tuple[str, str], set[str]] = {}
    for row in rows:
        if row["metric"].startswith(("image_", "text_")) and row["task"] == "retrieval":
            place = f"{row['dataset']}/{row['split']}", row["protocol"]
            found.setdefault(place, set()).add(row["metric"])
    every = [f"{side}_recall@{k}" for side in ("image", "text") for k in RANKS]
    return [
        f"{split} ({protocol}): {', '.join(absent)} left out, among so few candidates 100 by definition"
        for (split, protocol), names in found.items()
        if (absent := [name for name in every if name not in names])
    ]
