"""A comparison in sentences: which row closes the gap most, what that buys, and how sure it is.

Differences, intervals and p-values are the table's own, of the same protocol.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from gaprun.comparison.margins import SURE
from gaprun.comparison.shown import places_of, usual
from gaprun.comparison.statistics import settled
from gaprun.comparison.values import Column, Comparison, Reached
from gaprun.metrics import UP
from gaprun.tables.numbers import bracketed, counted, fixed, p_value, signed

# Of each kind the first names that were measured speak for it.
BOUGHT = {
    "retrieval": (
        ("image_recall@5", "text_recall@5"),
        ("image_recall@1", "text_recall@1"),
        ("image_recall@10", "text_recall@10"),
    ),
    "classification": (("zeroshot_top1", "probe_top1"), ("zeroshot_top1",), ("probe_top1",)),
}
BETTER, WORSE, ALIKE, OPEN = "better", "worse", "alike", "open"
FEW = 2  # seeds


def sentences(comparison: Comparison) -> list[str]:
    """Three sentences about each set-up, the first of which names it where there are several; none where no row's gap
    is compared with a baseline's. Rows that `--top` hides count: no number depends on it.
    """
    found = []
    for words, part in comparison.parts().items():
        own = _of_setup(part)
        found += [f"{words}: {own[0]}", *own[1:]] if words and own else own
    return found


def _of_setup(comparison: Comparison) -> list[str]:
    """The sentences of one set-up; of several baselines (rows by a key) the one with most rows speaks."""
    shown = usual(comparison)
    gap = next((column for column in shown.columns if column.metric == "gap"), None)
    if gap is None:
        return []
    found = {
        group: cell
        for (group, column), cell in shown.cells.items()
        if column == gap and cell.difference is not None
    }
    if not found:
        return []
    baseline = Counter(shown.baselines[group] for group in found).most_common(1)[0][0]
    rows = {group: cell for group, cell in found.items() if shown.baselines[group] == baseline}
    closing = [group for group, cell in rows.items() if _closes(cell)]
    first = min(closing or rows, key=lambda group: (settled(_delta(rows[group])), group))
    return [
        _closing(shown, gap, rows, first, baseline),
        _buying(shown, first),
        _sureness(shown, gap, rows, first),
    ]


def _closing(comparison: Comparison, gap: Column, rows: dict[str, Reached], first: str, baseline: str) -> str:
    """Which row is shown to close the gap most, against the baseline's; of few shared seeds also what each saw.

    Both gaps are of the seeds that their difference is of: means over other seeds would not differ by it.
    """
    places, cell, base = places_of(comparison, gap), rows[first], comparison.cells[baseline, gap]
    assert cell.difference is not None
    shared = [unit for unit in cell.by_unit if unit in base.by_unit] if cell.difference.pairs else []
    before, after = (
        math.fsum(one.by_unit[unit] for unit in shared) / len(shared) if shared else one.summary.mean
        for one in (base, cell)
    )
    numbers = (
        f"from {fixed(before, places)} ({baseline}) to {fixed(after, places)}: {_difference(cell, places)}"
    )
    each, unit = cell.difference.each, comparison.unit
    own = len(each) == len(cell.by_unit)  # the row has no other seeds than those
    if len(each) == FEW:
        seen = f"in its two {unit}s" if own else f"in the two {unit}s that both have"
        numbers += f", {' and '.join(signed(one, places) for one in sorted(each))} {seen}"
    if comparison.unpaired(first, gap):
        numbers += f" over the {counted(cell.difference.pairs, unit)} that both have"
    if _closes(cell):
        return f"{first} closes the gap{' most' if len(rows) > 1 else ''}, {numbers}."
    if (
        1 <= len(each) <= FEW and own and max(*each, cell.difference.delta) < 0
    ):  # too few for more than was seen
        return f"{first} has the smaller gap in {f'its one {unit}' if len(each) == 1 else f'both {unit}s'}, {numbers}."
    none = "No row closes the gap" if cell.difference.delta >= 0 else "No row is shown to close the gap"
    return f"{none}; {first} comes nearest, {numbers}."


def _buying(comparison: Comparison, group: str) -> str:
    """What that row has beside its smaller gap, a clause a kind of metric."""
    clauses: dict[str, list[str]] = {}
    for kind, choices in BOUGHT.items():
        found = [
            (c, cell) for c in _columns(comparison, choices) if (cell := comparison.cells.get((group, c)))
        ]
        texts = [
            (
                f"{_where(comparison, column)} {_difference(cell, places_of(comparison, column))}",
                _verdict(column, cell),
            )
            for column, cell in found
            if cell.difference
        ]
        if texts:
            margins = {comparison.margins[c.metric] for c, _ in found if c.metric in comparison.margins}
            word = _bought([_verdict(column, cell) for column, cell in found], margins)
            clauses.setdefault(word, []).append(f"{kind}{_in_what(texts)}")
    if not clauses:
        return "Neither retrieval nor classification was measured beside it."
    text = "; ".join(f"{word} {' and '.join(kinds)}" for word, kinds in clauses.items())
    return f"{text[0].upper()}{text[1:]}."


def _sureness(comparison: Comparison, gap: Column, rows: dict[str, Reached], first: str) -> str:
    """How many rows close the gap beyond doubt, what those buy, on how many seeds all this rests, and where."""
    closing = [group for group, cell in rows.items() if _closes(cell)]
    counts = sorted({cell.summary.n for cell in rows.values()})
    basis = f"{counts[0]} to " * (len(counts) > 1) + counted(counts[-1], comparison.one_value) + " a row"
    basis += ": no interval" * (counts[-1] == 1) + ": a direction, no proof" * (counts[-1] == FEW)
    basis += f"; gap of {gap.dataset}/{gap.split}, {gap.protocol}"
    if len(rows) == 1:
        return f"How sure: {p_value(rows[first].p_shown) or 'no p-value'} for the gap ({basis})."
    parts = [f"of {counted(len(rows), 'row')} {len(closing)} close the gap with p < .05"]
    for kind, choices in BOUGHT.items() if closing else ():
        columns = _columns(comparison, choices)
        found = [
            {_verdict(c, cell) for c in columns if (cell := comparison.cells.get((g, c)))} for g in closing
        ]
        if any(found):
            gain, lose, alike = (
                sum(BETTER in one and WORSE not in one for one in found),
                sum(WORSE in one for one in found),
                sum(one == {ALIKE} for one in found),
            )
            asked = any(column.metric in comparison.margins for column in columns)
            within = f" and {alike} differ by less than the margin" if asked else ""
            joined = "," if asked else " and"
            parts.append(f"of these {gain} gain{joined} {lose} lose{within} in {kind}")
    return f"How sure: {'; '.join(parts)} ({basis})."


def _bought(verdicts: Sequence[str], margins: set[float]) -> str:
    """What became of a kind of metric, all of them in percent."""
    if BETTER in verdicts and WORSE in verdicts:
        return "it gains and loses in"
    if BETTER in verdicts or WORSE in verdicts:
        return "it gains in" if BETTER in verdicts else "it loses in"
    if all(one == ALIKE for one in verdicts):
        return f"no difference of {max(margins):g} points or more in"
    return "no difference is shown in"


def _in_what(texts: Sequence[tuple[str, str]]) -> str:
    """The differences of a kind, from (text, verdict): what is shown of some of them is said of these alone."""
    shown, others = (
        ", ".join(text for text, verdict in texts if (verdict in (BETTER, WORSE)) == wanted)
        for wanted in (True, False)
    )
    return f" by {shown} alone ({others})" if shown and others else f" ({shown or others})"


def _verdict(column: Column, cell: Reached) -> str:
    if cell.equivalent:
        return ALIKE
    if _sure(cell):
        return BETTER if (_delta(cell) > 0) == (column.direction == UP) else WORSE
    return OPEN


def _delta(cell: Reached) -> float:
    return cell.difference.delta if cell.difference else 0.0


def _sure(cell: Reached) -> bool:
    return cell.p_shown is not None and cell.p_shown < SURE


def _closes(cell: Reached) -> bool:
    """Whether a row's gap is shown to be smaller than the baseline's."""
    return _sure(cell) and _delta(cell) < 0


def _difference(cell: Reached, places: int | None) -> str:
    """A difference with its interval, and with its p where the interval excludes 0 and the corrected p does not."""
    assert cell.difference is not None
    ends = cell.difference.ci95
    apart = ends is not None and ends[0] * ends[1] > 0 and cell.p_shown is not None and not _sure(cell)
    corrected = f" {p_value(cell.p_shown)} corrected" if apart else ""
    interval = bracketed(cell.difference.ci95, places, sign=True) or f"[{cell.difference.lacks}]"
    return f"{signed(cell.difference.delta, places)} {interval}{corrected}"


def _columns(comparison: Comparison, choices: Sequence[Sequence[str]]) -> list[Column]:
    """The first column of each name of the first choice of which any was measured."""
    for names in choices:
        own = [next((c for c in comparison.columns if c.metric == name), None) for name in names]
        if any(own):
            return [column for column in own if column]
    return []


def _where(comparison: Comparison, column: Column) -> str:
    """The metric, with its split where it was measured on several."""
    several = sum(c.metric == column.metric for c in comparison.columns) > 1
    return f"{column.metric} on {column.dataset}/{column.split}" if several else column.metric
