"""What must be read beside a comparison's numbers: legends, hints and notes, in sentences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from gaprun.comparison.lanes import place_of
from gaprun.comparison.margins import MOST_NAMED, sentence
from gaprun.comparison.values import Comparison
from gaprun.tables.numbers import counted

Detail = Literal["half", "interval", "p", "mean"]
STARRED = ("interval", "half")


def about(comparison: Comparison, brief: bool = False) -> list[str]:
    """What the numbers of `whole` are, in sentences: data if all columns share it, spread, interval, tests, notes."""
    unit = comparison.one_value
    lines = _about_place(comparison)
    words = f"Mean ± standard deviation over {unit}s"
    if not brief and any(cell.summary.ci95 for cell in comparison.cells.values()):
        words += ", [95 % Student-t interval of the mean]"
    marked = "is marked in each set-up" if len(comparison.parts()) > 1 else "is marked"
    lines.append(f"{words}; ↑ higher is better, ↓ lower is better; the best mean of a column {marked}.")
    if _differs(comparison) and not brief:
        lines += [_about_delta(comparison) + ".", *_verdicts(comparison)]
    if comparison.queries and not brief:
        tests = sorted({str(found.test) for found in comparison.queries.values()})
        lines.append(
            f"Q: difference in points over the same queries, of the {comparison.unit}s that both have (of all where "
            "there is none), [95 % Student-t interval over images]; p: "
            f"{' or '.join(tests)} test, corrected likewise; says nothing about another training run."
        )
    if comparison.marks:
        flags = "; ".join(f"{group}: {text}" for group, text in comparison.marks.items())
        lines.append(f"† Health (docs/health.md): {flags}.")
    return lines + sentences(comparison.notes)


def _differs(comparison: Comparison) -> bool:
    """Whether any cell shows a difference: a baseline alone has none."""
    return any(cell.difference for cell in comparison.cells.values())


def about_family(comparison: Comparison) -> str:
    """What the p-values are corrected over."""
    if comparison.family == "none":
        return "not corrected for their number"
    what = "all contrasts of the comparison, one protocol of each metric and split at a time"
    if comparison.family == "metric":
        what = "each metric on each split under one protocol"
    sizes = comparison.sizes
    counts = f"{sizes[0]} to {sizes[-1]}" if len(sizes) > 1 else "".join(map(str, sizes)) or "0"
    return f"corrected (Dunnett, Holm) within {what} (family of {counts})"


def sentences(notes: Sequence[str]) -> list[str]:
    """Notes with a capital letter and a full stop."""
    return [f"{note[0].upper()}{note[1:]}." for note in notes]


def about_differences(comparison: Comparison, detail: Detail) -> list[str]:
    """The legend of `differences`."""
    lines = _about_place(comparison)
    means = f"mean ± standard deviation over {comparison.one_value}s"
    if _differs(comparison):
        words = _about_delta(comparison, detail)
        means = f"means over {comparison.one_value}s" if detail == "half" else means
        first = f"Left of it: {means}." if detail == "mean" else f"Rows without a sign: {means}."
        lines += [f"{words}. {first}", *_verdicts(comparison)]
    else:
        lines.append(f"{means[0].upper()}{means[1:]}.")
    return lines + sentences(comparison.notes)


def hints_of(comparison: Comparison, shown: Comparison, rows: str = "") -> list[str]:
    """What `differences` leaves out (`rows` among it), and how to see it."""
    hidden = list(dict.fromkeys(c.protocol for c in comparison.columns if c not in shown.columns))
    hints = [f"--wide or --where: {rows}."] if rows else []
    if hidden:
        more = f" and {len(hidden) - MOST_NAMED} more" if len(hidden) > MOST_NAMED else ""
        hints.append(f"--protocol or --wide: also measured by {', '.join(hidden[:MOST_NAMED])}{more}.")
    if comparison.marks:
        hints.append(f"--wide: {counted(len(comparison.marks), 'row')} with health flags.")
    return hints


def _about_place(comparison: Comparison) -> list[str]:
    columns = comparison.columns
    if len({place_of(column) for column in columns}) != 1:
        return []
    return [f"{columns[0].dataset}/{columns[0].split}, protocol {columns[0].protocol}."]


def _about_delta(comparison: Comparison, detail: Detail = "p") -> str:
    tests = sorted({d.test for cell in comparison.cells.values() if (d := cell.difference) and d.test})
    baselines = list(dict.fromkeys(comparison.baselines.values()))
    several = len(comparison.parts()) > 1
    names = dict.fromkeys(comparison.names[one].called if several else one for one in baselines)
    delta = f"Δ: difference from {' or '.join(names)}"
    if several:
        delta += " of the row's set-up (all but temperature, swap and loss)"
    elif len(baselines) > 1:
        delta += ", whichever shares the row's set-up"
    delta += _about_pairs(comparison)
    if tests:
        interval = (
            "± half of its 95 % interval (if it has one)" if detail == "half" else "with its 95 % interval"
        )
        star = "*: p < .05" if detail in STARRED else "p"
        delta += f", {interval}; {star}: {' or '.join(tests)}-test, "
        delta += about_family(comparison)
    if comparison.margins:
        delta += "; ≈: no difference of the margin or more (two one-sided t-tests at 5 %, corrected likewise)"
    return delta


def _about_pairs(comparison: Comparison) -> str:
    """That differences are of pairs, whether all are, and whether units that one side lacks do not count in them."""
    found = [
        (cell.difference.pairs, comparison.unpaired(group, column))
        for (group, column), cell in comparison.cells.items()
        if cell.difference
    ]
    if not any(pairs for pairs, _ in found):
        return ""
    words = f", paired by {comparison.unit}"
    words += "" if all(pairs for pairs, _ in found) else " where enough are shared"
    return words + (
        f" (of the {comparison.unit}s that both have)" if any(alone for _, alone in found) else ""
    )


def _verdicts(comparison: Comparison) -> list[str]:
    """A sentence for each column with a margin, of each set-up."""
    lines = []
    several = len({place_of(column) for column in comparison.columns}) > 1
    for words, part in comparison.parts().items():
        for column in part.columns:
            found = {
                group: cell.verdict
                for group in part.groups
                if (cell := part.cells.get((group, column))) and cell.verdict
            }
            if found:
                where = f" ({column.dataset}/{column.split}, {column.protocol})" if several else ""
                said = f"{words}: {column.metric}{where}" if words else f"{column.metric}{where}"
                lines.append(sentence(said, comparison.margins[column.metric], found))
    return lines
