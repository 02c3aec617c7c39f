"""Per-query outcomes from the files that evaluations kept, and the paired tests that a comparison makes of them."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gaprun.comparison.families import corrected
from gaprun.comparison.perquery import compare_queries
from gaprun.comparison.values import Column, Comparison
from gaprun.errors import Failure, GaprunError
from gaprun.evaluation.catalogue import metric
from gaprun.files import refusal
from gaprun.metrics import Outcomes
from gaprun.tables.numbers import counted

if TYPE_CHECKING:
    from gaprun.store import Store


def add_query_tests(store: Store, comparison: Comparison, rows: Sequence[Mapping[str, Any]]) -> None:
    """Fill in `comparison.queries` for every cell whose runs and the baseline's kept per-query results.

    rows: those the comparison was built from. Runs are paired as its differences are, by seed (or, where the groups
    are seeds, by recipe) where they share some. What could not be tested, and why, is added to the comparison's notes.
    """
    if not comparison.baselines:
        comparison.notes.append("no tests over queries without a baseline: name one with --baseline")
        return
    places = {d["evaluation"]: d["details"] for d in store.details(sorted({row["id"] for row in rows}))}
    root, gone, other = store.artifacts.parent, 0, 0
    damaged: list[GaprunError] = []
    outcomes: dict[tuple[str, Column], dict[Any, list[Outcomes]]] = {}
    for row in rows:
        place = places.get(row["evaluation"])
        if place is None or row["value"] is None:
            continue
        try:
            found = read_outcomes(root / place, row["metric"])
        except GaprunError as error:
            damaged.append(error)
            continue
        gone += found is None and not (root / place).is_file()
        if found is not None:
            column = Column.of(row)
            unit = row["id"] if row["unit"] is None else row["unit"]
            outcomes.setdefault((row["group"], column), {}).setdefault(unit, []).append(found)
    for (group, column), ours in outcomes.items():
        baseline = comparison.baselines.get(group, group)
        theirs = outcomes.get((baseline, column))
        if group == baseline or theirs is None:
            continue
        shared = [unit for unit in ours if unit in theirs]
        first, second = ([one for u in shared or side for one in side[u]] for side in (ours, theirs))
        queries = first[0].queries
        if all(np.array_equal(one.queries, queries) for one in (*first, *second)):
            comparison.queries[group, column] = compare_queries(
                [one.right for one in first], [one.right for one in second], first[0].owner
            )
        else:
            other += 1
    found_p = {key: test.p_value for key, test in comparison.queries.items()}
    tested = corrected(found_p, comparison.baselines, comparison.family)
    comparison.query_p = {
        key: found_p[key] if comparison.family == "none" else p for key, (p, _) in tested.items()
    }
    if gone:
        comparison.notes.append(f"the per-query results of {counted(gone, 'evaluation')} are not at {root}")
    if damaged:
        comparison.notes.append(
            f"no per-query results of {counted(len(damaged), 'evaluation')}: {damaged[0]}"
        )
    if other:
        comparison.notes.append(
            f"no test of {counted(other, 'cell')}: not asked the same queries as the baseline"
        )
    if not comparison.queries:
        comparison.notes.append(
            "no per-query results to test: recall (protocol full), zero-shot and probe keep them in the runs' folders"
        )


def read_outcomes(path: Path, name: str) -> Outcomes | None:
    """Right or wrong for each query of the metric `name`, as it is declared to be read.

    None for a metric that is no share of right queries, a missing file, or a file that does not say whose queries they
    are. Raises Failure for a damaged file.
    """
    read = metric(name).outcome
    if read is None or not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            return read(file)
    except PermissionError as error:
        raise Failure(refusal(error) or str(error)) from None
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise Failure(f"{path} cannot be read, so it is damaged ({error})") from None
