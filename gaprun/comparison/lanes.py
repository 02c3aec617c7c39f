"""Several set-ups shown: which of their columns stand below each other on a screen, what is said above each set-up's
rows, which rows are left out of a long list; and views that are made of each set-up for itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from gaprun.comparison.statistics import settled
from gaprun.comparison.values import Column, Comparison
from gaprun.errors import UserError
from gaprun.metrics import UP
from gaprun.tables import Table

OWN = "own runs"  # what a set-up is called that only the kind of its runs tells from others: they are not imported
MOST_ROWS = 36  # of all set-ups together
Lane = Mapping[str, Column]
Place = tuple[str, str, str]


def place_of(column: Column) -> Place:
    """Where a column was measured: data set, split, protocol."""
    return column.dataset, column.split, column.protocol


def lanes_of(parts: Mapping[str, Comparison], order: Sequence[Column]) -> list[Lane]:
    """By set-up the column that stands in each column of the table.

    A metric has one for all set-ups where none measured it in several places, else one for each place.
    """
    found: list[Lane] = []
    for metric in dict.fromkeys(column.metric for column in order):
        own = {words: [c for c in part.columns if c.metric == metric] for words, part in parts.items()}
        if all(len(columns) < 2 for columns in own.values()):
            found.append({words: columns[0] for words, columns in own.items() if columns})
            continue
        for column in order:
            lane = {
                words: columns[columns.index(column)] for words, columns in own.items() if column in columns
            }
            found += [lane] if lane else []
    return found


def is_alone(lane: Lane, lanes: Sequence[Lane]) -> bool:
    """Whether no other column of the table is of its metric."""
    return sum(_metric(one) == _metric(lane) for one in lanes) == 1


def line_above(words: str, lanes: Sequence[Lane], places: bool) -> str:
    """What stands above a set-up's rows: its words and, if asked for, where its columns were measured, but for those
    whose heads say it.
    """
    by_place: dict[Place, list[str]] = {}
    for lane in lanes:
        if words in lane and is_alone(lane, lanes):
            by_place.setdefault(place_of(lane[words]), []).append(lane[words].metric)
    words = words or OWN
    if not places or not by_place:
        return f"{words}:"
    texts = [f"{dataset}/{split}, {protocol}" for dataset, split, protocol in by_place]
    if len(texts) > 1:
        texts = [f"{', '.join(own)} on {text}" for text, own in zip(texts, by_place.values(), strict=True)]
    return f"{words} ({'; '.join(texts)}):"


def with_fewer_rows(parts: Mapping[str, Comparison], most: int | None) -> tuple[dict[str, Comparison], str]:
    """`parts` with no more than `most` rows together (None: all of them), and what was left out.

    Room is shared evenly, what a set-up does not need going to the others. A set-up keeps its baselines and the rows
    that are best in its first column, in their order.
    """
    if most is None:
        return dict(parts), ""
    room, left = most, dict(sorted(parts.items(), key=lambda item: len(item[1].groups)))
    kept: dict[str, Comparison] = {}
    for number, (words, part) in enumerate(left.items()):
        share = max(1, room // (len(left) - number))
        kept[words] = _best(part, share)
        room -= len(kept[words].groups)
    hidden = sum(len(part.groups) - len(kept[words].groups) for words, part in parts.items())
    names = {
        part.columns[0].metric for words, part in parts.items() if len(part.groups) > len(kept[words].groups)
    }
    said = (
        f"{hidden} more rows, of their set-up not the best in {' or '.join(sorted(names))}" if hidden else ""
    )
    return {words: kept[words] for words in parts}, said


def each_setup(comparison: Comparison, view: Callable[[Comparison], Table]) -> list[Table]:
    """`view` of each set-up, below its words where there are several; a set-up that has no such view is left out.

    Raises the first one's UserError where none has one.
    """
    parts = comparison.parts()
    if len(parts) == 1:
        return [view(comparison)]
    found, refused = [], []
    for words, part in parts.items():
        try:
            table = view(part)
        except UserError as error:
            refused.append(error)
            continue
        records = tuple({"setup": words, **record} for record in table.records)
        found.append(replace(table, title=f"{words or OWN}:", records=records))
    if not found:
        raise refused[0]
    return found


def _best(part: Comparison, most: int) -> Comparison:
    if len(part.groups) <= most or not part.columns:
        return part
    column = part.columns[0]
    sign = -1 if column.direction == UP else 1

    def rank(group: str) -> tuple[bool, bool, float]:
        cell = part.cells.get((group, column))
        value = sign * settled(cell.summary.mean) if cell else 0.0
        return part.baselines.get(group) != group, cell is None, value

    chosen = set(sorted(part.groups, key=rank)[:most])
    return replace(part, groups=[group for group in part.groups if group in chosen])


def _metric(lane: Lane) -> str:
    return next(iter(lane.values())).metric
