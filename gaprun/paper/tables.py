"""A published table with ours beside it, cell by cell, and what differs in size above it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from gaprun.comparison.legend import sentences
from gaprun.comparison.statistics import Summary, summarise
from gaprun.paper.published import SETTING, SOURCE, TABLES, Measure, PublishedTable, Row
from gaprun.paper.settings import WORDS, MethodSetting, SetupResults
from gaprun.tables import Cell, Heading, Table
from gaprun.tables.numbers import fixed

WAY_OUT = "--where chooses another, e.g. --where schedule.steps=1000."


@dataclass(frozen=True)
class Line:
    """One line of the table: the published row (if there is one), our setting (if it was run), our summaries."""

    row: Row | None
    setting: MethodSetting | None
    ours: dict[str, Summary]
    runs: tuple[str, ...]


@dataclass(frozen=True)
class Beside:
    """A published table and our lines; `study` is None without any run of ours."""

    table: PublishedTable
    lines: tuple[Line, ...]
    study: SetupResults | None


def beside(name: str, study: SetupResults | None, all_settings: bool = False) -> Beside:
    """Table `name` with our runs beside it.

    A sweep (Tables 3 and 5) takes only the same values and appends our others; Table 2 takes for each method the
    published value or else the nearest that was run, and its others too if `all_settings`.
    """
    table = TABLES[name]
    methods = {row.method for row in table.rows}
    sweep = len(methods) == 1
    ours = [s for s in study.settings if s.method in methods] if study else []
    taken: set[MethodSetting] = set()
    lines = []
    for row in table.rows:
        setting = _match(row, ours, exact=sweep)
        taken |= {setting} if setting else set()
        lines.append(_line(row, setting, table, study))
    if sweep or all_settings:
        lines += [_line(None, setting, table, study) for setting in ours if setting not in taken]
        lines.sort(key=_order)
    return Beside(table, tuple(lines), study)


def document(found: Beside) -> dict[str, Any]:
    """What `--json` prints: source, both sizes, and one object a cell."""
    study = found.study
    return {
        "table": found.table.name,
        "title": found.table.title,
        "source": SOURCE,
        "published_size": SETTING,
        "our_size": study.size() if study else None,
        "setup": (study.words or None) if study else None,
        "other_setups": study.others if study else 0,
        "notes": notes(found),
        "cells": records(found),
    }


def records(found: Beside) -> list[dict[str, Any]]:
    """One object a cell."""
    cells = []
    for line in found.lines:
        setting = line.setting or (MethodSetting(line.row.method, line.row.value) if line.row else None)
        assert setting is not None
        for measure in found.table.measures:
            summary = line.ours.get(measure.label)
            cells.append(
                {
                    "method": setting.method,
                    "published_value": line.row.value if line.row else None,
                    "our_value": line.setting.value if line.setting else None,
                    "metric": measure.metric,
                    "label": measure.label,
                    "published": _published(line, measure, found.table),
                    "mean": summary.mean if summary else None,
                    "std": summary.std if summary else None,
                    "n": summary.n if summary else 0,
                    "ci95": list(summary.ci95) if summary and summary.ci95 else None,
                    "runs": list(line.runs),
                }
            )
    return cells


def notes(found: Beside) -> list[str]:
    """What a reader must know to read the cells."""
    lines = [f"{m.label}: {m.metric}, {m.note}" for m in found.table.measures if m.note]
    moved = [
        f"{line.setting} (paper {line.row.value:g})"
        for line in found.lines
        if line.row
        and line.setting
        and line.row.value is not None
        and not _same(line.row.value, line.setting.value)
    ]
    if moved:
        lines.append(f"other values than the paper's: {', '.join(moved)}")
    if found.study:
        lines += found.study.left_out
    if found.study and found.study.chosen:
        lines.append(found.study.chosen)
    return lines


def cells_table(found: Beside, digits: int | None = None) -> Table:
    """In each cell the published value and below it ours: mean ± standard deviation (n seeds), to the same decimals."""
    measures = found.table.measures
    heads: list[Heading | str] = [
        "method",
        *(Heading(m.label, ("paper", "ours"), right=True) for m in measures),
    ]
    rows: list[list[Cell | str]] = [
        [label(line), *(Cell(cell_texts(line, measure, found.table, digits)) for measure in measures)]
        for line in found.lines
    ]
    legend = [
        "Paper: published means of 3 seeds. Ours: mean ± standard deviation (n seeds).",
        *sentences(notes(found)),
    ]
    made = Table.of(found.table.name, heads, rows, records(found), f"{found.table.title} ({SOURCE})", legend)
    return replace(made, hints=(WAY_OUT,) if found.study and found.study.chosen else ())


def sizes_table(ours: Mapping[str, str]) -> Table:
    """What differs in size between the paper and the runs whose sizes are `ours`."""
    heads = ("size", Heading("paper", wrap=True), Heading("ours", wrap=True))
    return Table.of(
        "sizes", heads, [(name, said, ours.get(name, "no runs")) for name, said in SETTING.items()]
    )


def cell_texts(
    line: Line, measure: Measure, table: PublishedTable, digits: int | None = None
) -> tuple[str, str]:
    """The published value as it was published, and ours to as many decimals (or `digits`); `-` where there is none."""
    published, summary = _published(line, measure, table), line.ours.get(measure.label)
    places = _places(measure, table)
    theirs = "-" if published is None else fixed(published, places)
    if summary is None:
        return theirs, "-"
    places = places if digits is None else digits
    spread = "" if summary.std is None else f" ± {fixed(summary.std, places)}"
    return theirs, f"{fixed(summary.mean, places)}{spread} ({summary.n})"


def _places(measure: Measure, table: PublishedTable) -> int:
    """The decimals of the published column."""
    own = [row.published[table.measures.index(measure)] for row in table.rows]
    return max(len(str(value).partition(".")[2]) for value in own if value is not None)


def label(line: Line) -> str:
    """The setting's name in the paper's terms, and what the method is called."""
    setting = line.setting or (MethodSetting(line.row.method, line.row.value) if line.row else None)
    assert setting is not None
    return f"{setting}, {WORDS[setting.method]}"


def _line(
    row: Row | None, setting: MethodSetting | None, table: PublishedTable, study: SetupResults | None
) -> Line:
    results = list(study.of(setting).values()) if study and setting else []
    summaries = {}
    for measure in table.measures:
        values = [r.values[measure.metric] for r in results if measure.metric in r.values]
        if values:
            summaries[measure.label] = summarise(values)
    return Line(row, setting, summaries, tuple(r.run for r in results))


def _match(row: Row, ours: list[MethodSetting], exact: bool) -> MethodSetting | None:
    candidates = [s for s in ours if s.method == row.method]
    same = [s for s in candidates if _same(row.value, s.value) and not s.variant]
    if same or exact or not candidates:
        return same[0] if same else None
    return min(candidates, key=lambda s: (abs(math.log((s.value or 1.0) / (row.value or 1.0))), s.variant))


def _same(published: float | None, ours: float | None) -> bool:
    if published is None or ours is None:
        return published is ours
    return math.isclose(published, ours, rel_tol=1e-6)


def _published(line: Line, measure: Measure, table: PublishedTable) -> float | None:
    return line.row.published[table.measures.index(measure)] if line.row else None


def _order(line: Line) -> tuple[int, float, str]:
    if line.setting:
        return line.setting.key
    assert line.row is not None
    return MethodSetting(line.row.method, line.row.value).key
