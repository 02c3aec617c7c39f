"""Which baseline each row of a comparison has, and in what order the rows stand."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from gaprun.comparison.recipes import RowName
from gaprun.comparison.statistics import settled
from gaprun.errors import UserError
from gaprun.evaluation.catalogue import expand_metric
from gaprun.metrics import UP
from gaprun.store.queries import nearest
from gaprun.tables.numbers import counted

if TYPE_CHECKING:
    from gaprun.comparison.table import Comparison


def baselines_of(
    wanted: str | None, setups: dict[str, str], names: Mapping[str, RowName], by: str, across: bool
) -> dict[str, str]:
    """Each group's baseline: of the groups called so the one of its own set-up; the only one for all if `across`."""
    name = wanted if wanted is not None else "baseline"
    if wanted is None and by != "recipe":
        return {}
    called = [name] if name in setups else [g for g in setups if name in (names[g].called, names[g].short)]
    if wanted is not None and not called:
        close = nearest(wanted, list(setups)) or list(setups)[:8]
        raise UserError(f"--baseline {wanted!r} is none of the groups compared; there are {', '.join(close)}")
    if across and wanted is not None and len(called) == 1:
        return dict.fromkeys(setups, name)
    of_setup: dict[str, list[str]] = {}
    for group in called:
        of_setup.setdefault(setups[group], []).append(group)
    if wanted is not None and all(len(several) > 1 for several in of_setup.values()):
        raise UserError(
            f"--baseline {wanted!r} is several groups of one set-up: {', '.join(called)}; name one"
        )
    return {group: of_setup[s][0] for group, s in setups.items() if len(of_setup.get(s, ())) == 1}


def about_baselines(
    baselines: dict[str, str], setups: dict[str, str], names: dict[str, RowName]
) -> list[str]:
    """What a reader must know of rows without a baseline, and of baselines of another set-up."""
    alone = sum(group not in baselines for group in setups)
    foreign = sum(setups[group] != setups[one] for group, one in baselines.items())
    notes = []
    if baselines and alone:
        notes.append(
            f"no difference is shown of {counted(alone, 'row')} of another set-up than "
            f"{' or '.join(dict.fromkeys(names[one].called for one in baselines.values()))}"
        )
    if foreign:
        notes.append(
            f"mixed on request (--allow-mixed): {counted(foreign, 'row')} compared with a baseline of another set-up"
        )
    return notes


def in_order(comparison: Comparison, sort: str | None) -> list[str]:
    names, baselines = comparison.names, comparison.baselines
    sizes = Counter(name.setup for name in names.values())
    own = {names[baseline].setup for baseline in baselines.values()}

    def setup(group: str) -> tuple[Any, ...]:
        words = names[group].setup
        return words not in own, -sizes[words], natural(words)

    if sort is None:

        def place(group: str) -> tuple[Any, ...]:
            baseline = baselines.get(group)
            inside = (baseline is None, natural(baseline or ""), group != baseline, natural(group))
            return (*setup(group), *inside)

        return sorted(comparison.groups, key=place)
    metrics = [sort] if any(c.metric == sort for c in comparison.columns) else expand_metric(sort)
    columns = [c for c in comparison.columns if c.metric in metrics]
    if not columns:
        raise UserError(f"--sort {sort}: not among the metrics compared; add --metric {sort}")
    first = {}  # by set-up: the column that it was measured in
    for column in reversed(columns):
        first.update({name.setup: column for g, name in names.items() if (g, column) in comparison.cells})

    def key(group: str) -> tuple[Any, ...]:
        column = first.get(names[group].setup)
        cell = comparison.cells.get((group, column)) if column else None
        sign = -1 if column and column.direction == UP else 1
        return (
            *setup(group),
            cell is None,
            sign * settled(cell.summary.mean) if cell else 0.0,
            natural(group),
        )

    return sorted(comparison.groups, key=key)


@lru_cache(maxsize=1 << 16)
def natural(text: str) -> tuple[Any, ...]:
    """A sort key that puts `s2` before `s10`, 0.04 before 0.1 and 600 before 6,000."""
    parts = re.split(r"(\d+(?:,\d{3})*(?:\.\d+)?(?:e-?\d+)?)", text)
    return tuple(
        (0, float(part.replace(",", "")), "") if index % 2 else (1, 0.0, part)
        for index, part in enumerate(parts)
    )
