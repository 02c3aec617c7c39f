"""A published table with ours beside it, cell by cell, and what differs in size above it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gaprun.comparison.render import fixed
from gaprun.comparison.statistics import Summary, summarise
from gaprun.paper.published import SETTING, SOURCE, TABLES, Measure, PublishedTable, Row
from gaprun.paper.settings import WORDS, MethodSetting, SetupResults


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


def records(found: Beside) -> dict[str, Any]:
    """What `--json` prints: source, both sizes, and one object a cell."""
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
    study = found.study
    return {
        "table": found.table.name,
        "title": found.table.title,
        "source": SOURCE,
        "published_size": SETTING,
        "our_size": study.size() if study else None,
        "other_setups": study.others if study else 0,
        "notes": notes(found),
        "cells": cells,
    }


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
    if found.study and found.study.others:
        lines.append(
            f"{found.study.others} other set-up(s) in the database are not shown: choose with --where, "
            "e.g. --where schedule.steps=1000"
        )
    return lines


def render(found: Beside, width: int) -> RenderableType:
    """The table for a terminal: in each cell the published value over ours (mean ± standard deviation, n)."""
    head = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("", "paper", "ours"):
        head.add_column(column, overflow="fold")
    ours = found.study.size() if found.study else {}
    for name, value in SETTING.items():
        head.add_row(Text(name, style="bold"), Text(value), Text(ours.get(name, "no runs")))
    parts: list[RenderableType] = [Text(f"{found.table.title}  ({SOURCE})", style="bold"), head, ""]
    room = max(1, (width - 26) // 21)
    for start in range(0, len(found.table.measures), room):
        parts += [_part(found, found.table.measures[start : start + room]), ""]
    parts.append(
        Text(
            "Each cell: published mean of 3 seeds, below it ours: mean ± standard deviation (n seeds).",
            style="dim",
        )
    )
    parts += [Text(f"{line[0].upper()}{line[1:]}.", style="dim") for line in notes(found)]
    return Group(*parts)


def cell_texts(line: Line, measure: Measure, table: PublishedTable) -> tuple[str, str]:
    """The published value and ours as text; `-` where there is none."""
    places = 3 if measure.metric in ("gap", "uniformity_w2_joint") else 2
    published, summary = _published(line, measure, table), line.ours.get(measure.label)
    theirs = "-" if published is None else fixed(published, places)
    if summary is None:
        return theirs, "-"
    spread = "" if summary.std is None else f" ± {fixed(summary.std, places)}"
    return theirs, f"{fixed(summary.mean, places)}{spread} ({summary.n})"


def label(line: Line) -> tuple[str, str]:
    """The setting's name in the paper's terms, and what the method is called."""
    setting = line.setting or (MethodSetting(line.row.method, line.row.value) if line.row else None)
    assert setting is not None
    return str(setting), WORDS[setting.method]


def _part(found: Beside, measures: tuple[Measure, ...]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("method", no_wrap=True)
    for measure in measures:
        table.add_column(measure.label, justify="right", no_wrap=True)
    for line in found.lines:
        name, words = label(line)
        first = Text(name)
        first.append(f"\n{words}", style="dim")
        cells = []
        for measure in measures:
            theirs, ours = cell_texts(line, measure, found.table)
            text = Text(theirs, style="dim")
            text.append(f"\n{ours}", style="not dim")
            cells.append(text)
        table.add_row(first, *cells)
    return table


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
