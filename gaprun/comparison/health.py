"""The four failure signatures of this field, looked for in what a run recorded; docs/health.md has the rules."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, median
from typing import TYPE_CHECKING, Any

from gaprun.tables.numbers import signed

if TYPE_CHECKING:
    from gaprun.store import Store

FLAGGED, CLEAR, NOT_RECORDED = "flagged", "clear", "not recorded"
SIGNS = {
    "gap-persists": "the gap stays as it was at its largest though the recipe acts on it and the loss has converged",
    "temperature": "the temperature sits at its clamp or runs away",
    "retrieval-poor": "retrieval is poor though unimodal classification is good",
    "alignment-differs": "alignment differs between data sets",
}
TAIL, BEFORE = 0.85, 0.70  # windows of training that are compared: the last 15 %, and the 15 % before
FLAT = 0.05  # of the whole fall of the loss, or of the gap's peak
FEWEST_RECORDS = 3
PART = 500  # runs asked for at a time
LARGE_GAP, AT_PEAK = 0.1, 0.95
AT_CLAMP = 0.99
RISE, FALL = 5.0, 10.0  # tau against its start
TIMES_CHANCE, GOOD_PROBE = 10.0, 30.0  # recall@1 against chance; probe accuracy in percent
ALIGNMENT_SPREAD = 0.2
Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Finding:
    """One signature in one run: `status` flagged, clear or not recorded, and the numbers behind it."""

    sign: str
    status: str
    text: str


def check(recipe: Mapping[str, Any], trajectory: Rows, metrics: Rows) -> list[Finding]:
    """Every signature, in the order of SIGNS.

    recipe: the resolved recipe; trajectory: rows with step, temperature, loss, gap; metrics: rows with metric,
    dataset, split, protocol, pool, transform, value, n.
    """
    values = [row for row in metrics if row["value"] is not None]
    return [
        Finding(sign, *found)
        for sign, found in zip(
            SIGNS,
            (
                _gap(recipe, trajectory),
                _temperature(recipe, trajectory),
                _retrieval(values),
                _alignment(values),
            ),
            strict=True,
        )
    ]


def flagged(store: Store, run_ids: Sequence[str]) -> dict[str, list[Finding]]:
    """The flagged signatures of each of these runs (runs without any are left out)."""
    names = ("image_recall@1", "text_recall@1", "probe_top1", "alignment")
    metrics: dict[str, list[dict[str, Any]]] = {}
    for start in range(0, len(run_ids), PART):
        for row in store.metric_rows(names, run_ids=run_ids[start : start + PART]):
            metrics.setdefault(row["id"], []).append(row)
    recipes, paths = store.resolved_recipes(list(run_ids)), store.trajectories(list(run_ids))
    found = {
        run: [f for f in check(recipes[run], paths[run], metrics.get(run, ())) if f.status == FLAGGED]
        for run in run_ids
    }
    return {run: findings for run, findings in found.items() if findings}


def mark(store: Store, groups: Mapping[str, str]) -> dict[str, str]:
    """For each group (by run) with flagged runs: which signatures, and in how many of its runs."""
    found = flagged(store, list(groups))
    marks: dict[str, str] = {}
    for group in dict.fromkeys(groups.values()):
        runs = [run for run in groups if groups[run] == group]
        signs = [finding.sign for run in runs for finding in found.get(run, ())]
        if signs:
            counts = (f"{sign} in {signs.count(sign)} of {len(runs)}" for sign in SIGNS if sign in signs)
            marks[group] = ", ".join(counts)
    return marks


def _acts_on_the_gap(recipe: Mapping[str, Any]) -> bool:
    """Whether anything but CLIP's own loss and temperature is at work: with those the gap persists in health too."""
    swap, terms = recipe.get("swap", {}), recipe.get("loss", {}).get("terms", ())
    rule = recipe.get("temperature", {}).get("rule", "exp")
    return rule != "exp" or bool(terms) or swap.get("rule", "none") != "none"


def _gap(recipe: Mapping[str, Any], path: Rows) -> tuple[str, str]:
    rows = [row for row in path if row.get("gap") is not None and row.get("loss") is not None]
    last = rows[-1]["step"] if rows else 0
    tail = [row for row in rows if row["step"] > TAIL * last]
    before = [row for row in rows if BEFORE * last < row["step"] <= TAIL * last]
    if min(len(tail), len(before)) < FEWEST_RECORDS:
        return NOT_RECORDED, "too few records of loss and gap in the last part of training"
    loss, loss_before = mean(row["loss"] for row in tail), mean(row["loss"] for row in before)
    gap, gap_before = (median(row["gap"] for row in part) for part in (tail, before))
    fall = max(mean(row["loss"] for row in rows[:5]) - loss, 1e-12)
    peak = max(gap, max(median(row["gap"] for row in rows[i : i + 5]) for i in range(len(rows) - 4)))
    text = (
        f"gap {gap:.3f} (peak {peak:.3f}, moved by {signed(gap - gap_before, 3)}), "
        f"loss moved by {signed(loss - loss_before, 3)} of a fall of {fall:.2f} over the last part of training"
    )
    converged = abs(loss - loss_before) <= FLAT * fall
    # Two clouds with one mean still show a gap of up to sqrt(2/B) in a batch of B pairs.
    sampling = 2 / recipe.get("schedule", {}).get("batch_size", math.inf)
    large = gap**2 - sampling >= LARGE_GAP**2 and min(gap, gap_before) >= AT_PEAK * peak
    if converged and large and not _acts_on_the_gap(recipe):
        return CLEAR, f"{text}; nothing in the recipe acts on the gap"
    return (FLAGGED if converged and large else CLEAR), text


def _temperature(recipe: Mapping[str, Any], path: Rows) -> tuple[str, str]:
    rule = recipe.get("temperature", {})
    if rule.get("rule") in ("fixed", "schedule"):
        return CLEAR, "the temperature is given, not learned"
    taus = [row["temperature"] for row in path if row.get("temperature")]
    if not taus:
        return NOT_RECORDED, "no recorded temperature"
    last, start, clamp = taus[-1], rule.get("init") or taus[0], rule.get("max_beta")
    steps = [row["step"] for row in path if row.get("temperature")]
    late = [tau for step, tau in zip(steps, taus, strict=True) if step > TAIL * steps[-1]] or [last]
    text = f"tau {last:.4g} from {start:.4g}"
    if clamp is not None and 1 / max(late) >= AT_CLAMP * clamp:
        return FLAGGED, f"{text}: at its clamp 1/{clamp:g}"
    if last >= RISE * start:
        return FLAGGED, f"{text}: it runs away upwards"
    if clamp is None and last <= start / FALL:
        return FLAGGED, f"{text}: it runs away downwards, without a clamp"
    return CLEAR, text


def _retrieval(metrics: Rows) -> tuple[str, str]:
    probes = [row["value"] for row in metrics if row["metric"] == "probe_top1"]
    recalls: dict[tuple[Any, ...], list[tuple[float, int]]] = {}
    for row in metrics:
        if row["metric"] in ("image_recall@1", "text_recall@1") and row["n"] and not row["transform"]:
            recalls.setdefault((row["dataset"], row["split"], row["protocol"]), []).append(
                (row["value"], row["n"])
            )
    whole = {place: pair for place, pair in recalls.items() if len(pair) == 2}
    if not probes or not whole:
        return NOT_RECORDED, "needs retrieval and a linear probe"
    times = {place: mean(v for v, _ in pair) / (100 / pair[0][1]) for place, pair in whole.items()}
    place, least = min(times.items(), key=lambda item: item[1])
    text = f"recall@1 is {least:.1f} times chance on {'/'.join(place[:2])} ({place[2]}), probe {max(probes):.1f} %"
    return (FLAGGED if least < TIMES_CHANCE and max(probes) >= GOOD_PROBE else CLEAR), text


def _alignment(metrics: Rows) -> tuple[str, str]:
    found: dict[str, dict[str, float]] = {}
    for row in metrics:
        if row["metric"] == "alignment" and not row["transform"]:
            kind = row["protocol"] if row["pool"] is None else "pool"
            found.setdefault(kind, {})[f"{row['dataset']}/{row['split']}"] = row["value"]
    several = {kind: places for kind, places in found.items() if len(places) > 1}
    if not several:
        return NOT_RECORDED, "alignment was measured on fewer than two data sets"
    kind = max(several, key=lambda k: max(several[k].values()) - min(several[k].values()))
    places = several[kind]
    low, high = min(places, key=lambda p: places[p]), max(places, key=lambda p: places[p])
    text = f"alignment {places[low]:.3f} on {low}, {places[high]:.3f} on {high} ({kind})"
    return (FLAGGED if places[high] - places[low] > ALIGNMENT_SPREAD else CLEAR), text
