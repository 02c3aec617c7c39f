"""Margins: how large a difference would matter, metric by metric, and in words which rows are shown to stay below."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from gaprun.errors import UserError
from gaprun.evaluation.catalogue import expand_metric
from gaprun.tables.numbers import SURE, counted

ALIKE, DIFFERENT, OPEN = "no difference of the margin", "different", "undecided"
MOST_NAMED = 6
Margin = float | Mapping[str, float]


def read_margins(texts: Sequence[str]) -> Margin | None:
    """`3` is for every metric, `recall@5=3` for those of that name; None for no text. Raises UserError for others."""
    found: dict[str, float] = {}
    for text in texts:
        name, _, size = text.rpartition("=")
        if name in found:
            raise UserError(f"--margin {text}: {name or 'every metric'} has another margin already")
        try:
            found[name] = float(size)
        except ValueError:
            raise UserError(f"--margin {text}: give a number, or METRIC=NUMBER") from None
    return found.get("", found or None) if len(found) < 2 else found


def margins_of(margin: Margin | None, metrics: Sequence[str]) -> dict[str, float]:
    """The margin of each of `metrics` that has one. Raises UserError for sizes that are none and for other metrics."""
    if margin is None:
        return {}
    given = margin if isinstance(margin, Mapping) else {"": margin}
    found: dict[str, float] = {}
    for name in sorted(given, key=bool):  # the one for every metric first, so that those by name count
        if not 0 < given[name] < math.inf:
            raise UserError(
                f"--margin {name}{'=' * bool(name)}{given[name]:g}: expected a number above 0, in the metric's units"
            )
        own = metrics if not name else [name] if name in metrics else expand_metric(name)
        if not set(own) & set(metrics):
            raise UserError(f"--margin {name}={given[name]:g}: not among the metrics compared")
        found.update((metric, given[name]) for metric in own if metric in metrics)
    return found


def verdict(p_value: float | None, p_equivalent: float | None) -> str | None:
    """What is shown of a difference, given the p-values against none and against one of the margin; None without these.

    A difference may be shown to be there and to be smaller than the margin: then the margin has the word.
    """
    if p_equivalent is None:
        return None
    return ALIKE if p_equivalent < SURE else DIFFERENT if p_value is not None and p_value < SURE else OPEN


def sentence(place: str, margin: float, verdicts: Mapping[str, str]) -> str:
    """The verdicts of one column's rows: which are shown to stay below the margin, which differ, which are open."""
    parts = []
    for one, words in (
        (ALIKE, f"no difference of {margin:g} or more"),
        (DIFFERENT, "a difference, which may be as large,"),
        (OPEN, "undecided"),
    ):
        names = [group for group, own in verdicts.items() if own == one]
        if names:
            more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
            parts.append(f"{words} for {counted(len(names), 'row')}: {', '.join(names[:MOST_NAMED])}{more}")
    return f"{place}: {'; '.join(parts)}."
