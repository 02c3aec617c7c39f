"""A comparison as a table: its differences alone, as they answer the question, or everything that is known of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from gaprun.comparison.lanes import MOST_ROWS, is_alone, lanes_of, line_above, place_of, with_fewer_rows
from gaprun.comparison.legend import STARRED, Detail, about, about_differences, hints_of
from gaprun.comparison.margins import SURE
from gaprun.comparison.values import Column, Comparison, Reached
from gaprun.tables import Cell, Heading, Table, layout, terminal
from gaprun.tables.numbers import bracketed, fixed, p_value, places_for, signed

DETAILS: tuple[Detail, ...] = ("mean", "p", "interval", "half")  # the richest first

WHOLE_OR_HALF: tuple[Detail, ...] = ("interval", "half")


@dataclass(frozen=True)
class Look:
    """How the reader wants it: decimals of all numbers (None: the metrics' own), other names of rows and metrics."""

    digits: int | None = None
    names: Mapping[str, str] = field(default_factory=dict)

    def name(self, name: str) -> str:
        """What a row or a metric is called."""
        return self.names.get(name, name)


PLAIN = Look()


def fitting(comparison: Comparison, width: int, look: Look = PLAIN, every: bool = False) -> Table:
    """The differences with as much beside them as costs no second block of columns at `width` characters.

    Each set-up's rows stand together below a line that names it, in columns that they share (`lanes`).
    """
    found = [
        _of_differences(comparison, comparison.parts(), detail, look, every, MOST_ROWS) for detail in DETAILS
    ]
    blocks = [terminal.blocks(table, width) for table in found]
    return _with_records(comparison, found[blocks.index(min(blocks))])


def on_paper(comparison: Comparison, look: Look = PLAIN, every: bool = False) -> Table:
    """The same for LaTeX, of all rows: whole intervals, or half of them where only so fewer columns stand below."""
    found = [
        _of_differences(comparison, comparison.parts(), detail, look, every, None) for detail in WHOLE_OR_HALF
    ]
    blocks = [layout.blocks(table) for table in found]
    return _with_records(comparison, found[blocks.index(min(blocks))])


def differences(
    comparison: Comparison, detail: Detail = "p", look: Look = PLAIN, every: bool = False
) -> Table:
    """A column a metric: the difference from the baseline with its 95 % interval, of a row without one its mean.

    `detail` p adds the p-value (without it a star marks p < .05), `mean` the mean too; `half` is narrow: half of the
    interval (it is symmetric) behind ±, and no deviations. One protocol a metric and split,
    that of the pools where there are any: the legend names the others; `every`: all protocols.
    """
    return _with_records(comparison, _of_differences(comparison, {"": comparison}, detail, look, every, None))


def _of_differences(
    comparison: Comparison,
    parts: Mapping[str, Comparison],
    detail: Detail,
    look: Look,
    every: bool,
    most: int | None,
) -> Table:
    """The differences of `parts`, by the words of their set-ups, one below the other; `most` rows of several."""
    whole = comparison if every else usual(comparison)
    parts = {words: part if every else usual(part) for words, part in parts.items()}
    lanes = lanes_of(parts, comparison.columns)
    several = len({place_of(column) for lane in lanes for column in lane.values()}) > 1
    hidden, above = "", []
    if len(parts) > 1:
        parts, hidden = with_fewer_rows(parts, most)
        number = 0
        for words, part in parts.items():
            above.append((number, line_above(words, lanes, several)))
            number += len(part.groups)
    asked = [(words, part, group) for words, part in parts.items() for group in part.groups]
    heads = [Heading(comparison.by, wrap=True), Heading(f"{comparison.one_value}s", right=True)]
    columns = []
    for lane in lanes:
        column = next(iter(lane.values()))
        name, *place = _heads(column, several and not (above and is_alone(lane, lanes)), look)
        narrow = name.replace("_", "_\n", 1) if detail == "half" else name
        heads.append(Heading("\n".join((narrow, *place)), right=True))
        columns.append(_differences([(part, lane.get(words), g) for words, part, g in asked], detail, look))
    full = {(name.setup, name.short): group for group, name in comparison.names.items()}
    rows = []
    for (words, part, group), *cells in zip(asked, *columns, strict=True):
        label = full.get((words, group), group)
        name = look.name(label if label in look.names else group)
        rows.append((Cell((name,)), Cell((_counts(part, group),)), *cells))
    legend, hints = about_differences(whole, detail), hints_of(comparison, whole, hidden)
    return Table("comparison", tuple(heads), tuple(rows), (), "", tuple(legend), tuple(hints), tuple(above))


def bare(comparison: Comparison) -> Table:
    """The records alone, for formats without text."""
    return _with_records(comparison, Table("comparison", (), (), ()))


def _with_records(comparison: Comparison, table: Table) -> Table:
    return replace(table, records=tuple(comparison.records()))


def whole(comparison: Comparison, brief: bool = False, look: Look = PLAIN) -> Table:
    """Everything: mean and spread, difference with its interval, interval of the mean, tests over queries.

    All of a metric stands in one cell; `brief`: the mean alone.
    """
    heads = [Heading(comparison.by, wrap=True), Heading(f"{comparison.one_value}s", right=True)]
    several = len({place_of(column) for column in comparison.columns}) > 1
    for column in comparison.columns:
        text = "\n".join(_heads(column, several, look))
        heads.append(Heading(text, () if brief else ("", "Δ", "95 % CI", "Q"), right=True))
    rows = []
    places = {column: places_of(comparison, column, look) for column in comparison.columns}
    for group in comparison.groups:
        flags = comparison.marks.get(group, "")
        name = f"{look.name(group)} †" if flags else look.name(group)
        cells = [_whole(comparison, group, column, places[column], brief) for column in comparison.columns]
        rows.append(
            (
                Cell((name,), sort=group, hint=flags),
                Cell((_counts(comparison, group),), sort=_most(comparison, group)),
                *cells,
            )
        )
    legend = about(comparison, brief)
    return _with_records(comparison, Table("comparison", tuple(heads), tuple(rows), (), legend=tuple(legend)))


def places_of(comparison: Comparison, column: Column, look: Look = PLAIN) -> int | None:
    """Decimals for a column: those of its metric, more where its means are small."""
    if look.digits is not None:
        return look.digits
    found = (comparison.cells.get((group, column)) for group in comparison.groups)
    means = [abs(cell.summary.mean) for cell in found if cell]
    return places_for(column.about.places, max(means, default=0.0))


def mean_text(cell: Reached, places: int | None) -> str:
    """`0.600 ± 0.141`, without the spread for one value."""
    mean = fixed(cell.summary.mean, places)
    return mean if cell.summary.std is None else f"{mean} ± {fixed(cell.summary.std, places)}"


def usual(comparison: Comparison) -> Comparison:
    """One protocol a metric and split in each set-up: as the model is, then of most rows, then the pool's."""
    chosen = {column for part in comparison.parts().values() for column in _usual(part)}
    return replace(comparison, columns=[column for column in comparison.columns if column in chosen])


def _usual(comparison: Comparison) -> list[Column]:
    several: dict[tuple[str, str, str], list[Column]] = {}
    for column in comparison.columns:
        several.setdefault((column.metric, column.dataset, column.split), []).append(column)

    rows = Counter(column for _, column in comparison.cells)

    def rank(column: Column) -> tuple[bool, int, bool, str]:
        return column.transform != "", -rows[column], column.pool is None, column.protocol

    return [min(own, key=rank) for own in several.values()]


def _differences(
    asked: Sequence[tuple[Comparison, Column | None, str]], detail: Detail, look: Look
) -> list[Cell]:
    """The cells of a column, each of a group's column in a comparison; the parts of each stand below each other."""
    parts = []
    for comparison, column, group in asked:
        cell = comparison.cells.get((group, column)) if column else None
        parts.append(_parts(cell, detail, places_of(comparison, column, look) if column else 0))
    wide = [max(len(row[part]) for row in parts) for part in range(3)]
    starred = any(row[3] for row in parts)
    found = []
    for (comparison, column, group), row in zip(asked, parts, strict=True):
        cell = comparison.cells.get((group, column)) if column else None
        if cell is None:
            found.append(Cell((_no_value(comparison, group, column),), "faint"))
            continue
        texts = [text.rjust(width) for text, width in zip(row[:3], wide, strict=True) if width]
        text = "  ".join(texts) + (row[3] or " " if starred else "")
        found.append(Cell((text,), "" if cell.difference else "strong", cell.summary.mean))
    return found


def _parts(cell: Reached | None, detail: Detail, places: int | None) -> tuple[str, str, str, str]:
    """Mean, difference, p-value and star of one cell, each "" where it is not shown."""
    if cell is None:
        return "", "", "", ""
    if cell.difference is None:
        mean = fixed(cell.summary.mean, places) if detail == "half" else mean_text(cell, places)
        return (mean, "", "", "") if detail == "mean" else ("", mean, "", "")
    delta = _delta(cell, places, halved=detail == "half")
    sure = cell.p_shown is not None and cell.p_shown < SURE
    p_text = p_value(cell.p_shown) if detail not in STARRED else ""
    star = "*" if sure and detail in STARRED else ""
    return mean_text(cell, places) if detail == "mean" else "", delta, p_text, star


def _delta(cell: Reached, places: int | None, halved: bool = False) -> str:
    if cell.difference is None:
        return ""
    ci95 = cell.difference.ci95
    interval = bracketed(ci95, places, sign=True) or f"[{cell.difference.lacks}]"
    if halved:
        interval = f"±{fixed((ci95[1] - ci95[0]) / 2, places)}" if ci95 else ""
    return " ".join(
        filter(None, (signed(cell.difference.delta, places), interval, "≈" if cell.equivalent else ""))
    )


def _whole(comparison: Comparison, group: str, column: Column, places: int | None, brief: bool) -> Cell:
    cell = comparison.cells.get((group, column))
    if cell is None:
        return Cell((_no_value(comparison, group, column),))
    lines = [mean_text(cell, places)]
    if not brief:
        delta = " ".join(filter(None, (_delta(cell, places), p_value(cell.p_shown))))
        lines += [
            f"Δ {delta}" if delta else "",
            bracketed(cell.summary.ci95, places),
            _queries(comparison, group, column),
        ]
    return Cell(tuple(lines), "best" if cell.best else "", cell.summary.mean)


def _heads(column: Column, placed: bool, look: Look) -> list[str]:
    name = look.name(column.metric) + column.about.arrow
    return [name, f"{column.dataset}/{column.split}", column.protocol] if placed else [name]


def _most(comparison: Comparison, group: str) -> int:
    found = (comparison.cells.get((group, column)) for column in comparison.columns)
    return max((cell.summary.n for cell in found if cell), default=0)


def _counts(comparison: Comparison, group: str) -> str:
    found = (comparison.cells.get((group, column)) for column in comparison.columns)
    counts = {cell.summary.n for cell in found if cell}
    return "-".join(map(str, sorted(counts))) or "0"


def _no_value(comparison: Comparison, group: str, column: Column | None) -> str:
    """What stands where nothing was measured, and where nothing that was is defined (NaN)."""
    return "n/a" if column and (group, column) in comparison.undefined else "-"


def _queries(comparison: Comparison, group: str, column: Column) -> str:
    found = comparison.queries.get((group, column))
    if found is None:
        return ""
    interval = bracketed(found.ci95, 1, sign=True) or f"[{found.lacks}]"
    tested = p_value(comparison.query_p.get((group, column)))
    return " ".join(filter(None, (f"Q {signed(found.delta, 1)}", interval, tested)))
