"""What the rules of the claims share: words of verdicts, parts of recorded paths, verdicts of effects and intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from gaprun.comparison.statistics import Summary, settled
from gaprun.paper.effects import Effect
from gaprun.paper.settings import MethodSetting, Result, SetupResults
from gaprun.tables.numbers import bracketed, fixed, signed

SUPPORTED, NOT_SUPPORTED, UNDECIDED = "supported", "not supported", "undecided"
BASELINE = MethodSetting("baseline")
FEWEST_SEEDS = 3
FEWEST_SETTINGS = 5
LITTLE = 3.0  # C6: points of accuracy


def baseline_runs(study: SetupResults) -> list[Result]:
    """The baseline's runs."""
    return list(study.of(BASELINE).values())


def gaps_of(path: Sequence[Mapping[str, Any]]) -> list[tuple[int, float]]:
    """(step, gap) where a gap was recorded."""
    return [(row["step"], row["gap"]) for row in path if row.get("gap") is not None]


def matched_part(path: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """The part of a path from the record on from which no recorded batch has a mismatched pair (positive margin)."""
    start = len(path)
    while start and path[start - 1].get("mismatched_share") == 0:
        start -= 1
    return path[start:]


def closing_rate(path: Sequence[tuple[int, float]]) -> float | None:
    """ln(peak / last) / ln(last step / peak step), from running medians of five; 0 for a path highest at its end."""
    if len(path) < 10:
        return None
    gaps = [gap for _, gap in path]
    smooth = [median(gaps[max(0, i - 2) : i + 3]) for i in range(len(gaps))]
    peak = max(range(len(smooth)), key=lambda i: smooth[i])
    last, start, end = median(gaps[-5:]), max(path[peak][0], 1), path[-1][0]
    if last >= smooth[peak] or end <= start:
        return 0.0
    return math.log(smooth[peak] / max(last, 1e-9)) / math.log(end / start)


def by_sign(found: Summary) -> str:
    """Supported where the interval of the mean over enough seeds lies above 0, not supported where below."""
    if found.n < FEWEST_SEEDS or found.ci95 is None:
        return UNDECIDED
    return SUPPORTED if found.ci95[0] > 0 else NOT_SUPPORTED if found.ci95[1] < 0 else UNDECIDED


def all_shrink(found: list[Effect], methods: Sequence[str], before: str) -> tuple[str, str, list[str]]:
    """Verdict, evidence (begun by `before`) and runs of "each effect shrinks the gap, one of each method at least"."""
    runs = [run for effect in found for run in effect.runs]
    if not found:
        return UNDECIDED, before + "no setting that counts was run beside the baseline", runs
    text = before + "; ".join(str(effect) for effect in found)
    if any(effect.kind in ("grows", "unchanged") for effect in found):
        return NOT_SUPPORTED, text, runs
    complete = all(any(e.setting.method == method for e in found) for method in methods)
    if complete and all(effect.kind == "shrinks" for effect in found):
        return SUPPORTED, text, runs
    missing = [m for m in methods if all(e.setting.method != m for e in found)]
    return UNDECIDED, text + (f"; no {' or '.join(missing)} that counts" if missing else ""), runs


def both(verdicts: Sequence[str]) -> str:
    """Supported where all are, not supported where one is not."""
    if NOT_SUPPORTED in verdicts:
        return NOT_SUPPORTED
    return SUPPORTED if all(v == SUPPORTED for v in verdicts) else UNDECIDED


def columns(points: Mapping[MethodSetting, tuple[float, ...]]) -> tuple[list[float], list[float]]:
    """The points' first and second coordinates."""
    return [p[0] for p in points.values()], [p[1] for p in points.values()]


def tells_nothing(study: SetupResults, points: Mapping[MethodSetting, tuple[float, ...]], metric: str) -> str:
    """Why accuracies (the second of each setting's `points`) tell nothing of what moves them, or "" where they do.

    There are few settings; all have one value; or none is LITTLE points above what one answer for all images gets,
    where that was recorded with the accuracy: so near to chance no effect of that size could be seen.
    """
    if len(points) < FEWEST_SETTINGS:
        return f"only {len(points)} settings"
    if any(len(set(map(settled, column))) < 2 for column in columns(points)):
        return f"the same in all {len(points)} settings, which tells nothing"
    named = f"{metric.partition('_')[0]}_chance"
    known = {r.values[named] for r in study.results if r.setting in points and named in r.values}
    if known and study.places[named] == study.places[metric]:
        highest = max(columns(points)[1])
        if highest < max(known) + LITTLE:
            return (
                f"at chance in all {len(points)} settings, {fixed(highest, 1)} % at most where one answer for all "
                f"images gets {fixed(max(known), 1)} %, which tells nothing"
            )
    return ""


def within(interval: tuple[float, float], low: float, high: float) -> bool:
    """Whether all of `interval` lies between the two."""
    return low <= interval[0] and interval[1] <= high


def spread(found: Summary, places: int) -> str:
    """Mean and interval as evidence says them."""
    return f"{signed(found.mean, places)} {bracketed(found.ci95, places, sign=True) or '(one seed)'}"
