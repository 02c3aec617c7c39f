"""The rules of the claims C1 to C9, in words and as code; docs/claims.md has them in full.

Each claim is one function from a set-up's results (and recorded paths) to verdict, evidence and runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gaprun.comparison.correlation import correlate, slope
from gaprun.comparison.statistics import summarise, within_p
from gaprun.paper.effects import ALPHA, effects, retrieval, setting_means
from gaprun.paper.evidence import (
    BASELINE,
    FEWEST_SEEDS,
    FEWEST_SETTINGS,
    LITTLE,
    NOT_SUPPORTED,
    SUPPORTED,
    UNDECIDED,
    all_shrink,
    baseline_runs,
    both,
    by_sign,
    closing_rate,
    columns,
    gaps_of,
    matched_part,
    spread,
    tells_nothing,
    within,
)
from gaprun.paper.one_curve import flt_curves, log_ratio
from gaprun.paper.settings import MethodSetting, SetupResults
from gaprun.tables.numbers import bracketed, fixed, p_value, signed

STRONGER = 1.5  # C3: how far above the learned temperature an intervention must lie
EXPECTED_SWAPS = 10.0  # C8
INSIDE = (0.03, 0.30)  # C5
WIDTH = 0.2  # C6: a change of the gap
WEAK = 0.3  # C7
SAME_RATE = 0.1  # C4
BAND = math.log(1.25)  # C9: how far from FLT's gap is the same gap
Paths = Mapping[str, Sequence[Mapping[str, Any]]]


@dataclass(frozen=True)
class Claim:
    """What the paper says, the rule in short (docs/claims.md has it in full), and the function that applies it."""

    name: str
    statement: str
    rule: str
    judge: Callable[[SetupResults, Paths], tuple[str, str, list[str]]]


def _rate_law(study: SetupResults, paths: Paths) -> tuple[str, str, list[str]]:
    from gaprun.theory.fits import judge

    recorded = [r.run for r in baseline_runs(study) if gaps_of(paths.get(r.run, ()))]
    matched = {run: path for run in recorded if (path := gaps_of(matched_part(paths[run])))}
    if not matched:
        return UNDECIDED, (
            f"none of {len(recorded)} baseline paths ends with a positive margin (every pair matched), which Theorem "
            "3.2 needs; recipes/paper/small/fig4a.yaml makes such runs, and --where recipe=fig4a-small judges them"
        ), recorded  # fmt: skip
    runs = list(matched)
    found = [judge(*zip(*path, strict=True)) for path in matched.values()]
    named = [verdict.law for verdict in found if verdict.law != UNDECIDED]
    text = (
        f"{len(matched)} of {len(recorded)} baseline paths reach a positive margin, from step "
        f"{min(path[0][0] for path in matched.values())} on at the earliest; {len(named)} of them follow a law that "
        "can be told"
    )
    if named:
        text += ": " + ", ".join(f"{named.count(law)} x {law}" for law in sorted(set(named)))
    elif found:
        text += f" (first: {found[0].reason})"
    if len(named) < 2:
        return UNDECIDED, text, runs
    for verdict, count in (
        (SUPPORTED, named.count("log2")),
        (NOT_SUPPORTED, len(named) - named.count("log2")),
    ):
        if 3 * count >= 2 * len(named):
            return verdict, text, runs
    return UNDECIDED, text, runs


def _early_growth(study: SetupResults, paths: Paths) -> tuple[str, str, list[str]]:
    changes: dict[str, float] = {}
    for result in baseline_runs(study):
        gaps = dict(gaps_of(paths.get(result.run, ())))
        if 0 in gaps and 10 in gaps:
            changes[result.run] = gaps[10] - gaps[0]
    if not changes:
        return UNDECIDED, "no baseline run recorded the gap at steps 0 and 10", []
    found = summarise(list(changes.values()))
    grown = sum(change > 0 for change in changes.values())
    text = f"the gap grows in {grown} of {found.n} seeds, by {spread(found, 3)} over ten steps"
    return by_sign(found), text, list(changes)


def _fixing(study: SetupResults, paths: Paths) -> tuple[str, str, list[str]]:
    final = [r.values["temperature"] for r in baseline_runs(study) if "temperature" in r.values]
    if not final:
        return UNDECIDED, "the baseline's final temperature is not recorded", []
    learned = sum(final) / len(final)
    counting = [
        s for s in study.settings if s.method in ("FLT", "TS") and (s.value or 0) >= STRONGER * learned
    ]
    found = effects(study, "gap", counting, BASELINE)
    return all_shrink(found, ("FLT", "TS"), f"the baseline learns tau {learned:.3f}; ")


def _softplus(study: SetupResults, paths: Paths) -> tuple[str, str, list[str]]:
    ours, theirs = study.of(MethodSetting("TR")), study.of(BASELINE)
    pairs, runs, reference = [], [], []
    for seed in sorted(ours.keys() & theirs.keys()):
        rates = [closing_rate(gaps_of(paths.get(r.run, ()))) for r in (ours[seed], theirs[seed])]
        if rates[0] is not None and rates[1] is not None:
            pairs.append(rates[0] - rates[1])
            reference.append(rates[1])
            runs += [ours[seed].run, theirs[seed].run]
    if not pairs:
        return UNDECIDED, "no seed with recorded paths of both softplus and baseline", []
    found, usual = summarise(pairs), sum(reference) / len(reference)
    text = f"rate of closing, softplus minus baseline: {spread(found, 3)} (baseline: {usual:.3f})"
    verdict = by_sign(found)
    if verdict != UNDECIDED or found.ci95 is None or found.n < FEWEST_SEEDS:
        return verdict, text, runs
    if usual == 0:
        return UNDECIDED, text + "; the baseline's gap never closed, and nothing is within a tenth of 0", runs
    if within(found.ci95, -SAME_RATE * abs(usual), SAME_RATE * abs(usual)):
        return NOT_SUPPORTED, text + ", within a tenth of it", runs
    return UNDECIDED, text, runs


def _retrieval(study: SetupResults, paths: Paths) -> tuple[str, str, list[str]]:
    points = setting_means(study, ("gap", retrieval))
    inside = {s: p for s, p in points.items() if INSIDE[0] <= p[0] <= INSIDE[1]}
    below = [s for s, p in points.items() if p[0] < INSIDE[0]]
    whole = correlate(*columns(points)) if points else None
    text = f"{len(inside)} of {len(points)} settings have a gap within {INSIDE[0]:g} and {INSIDE[1]:g}"
    first = UNDECIDED
    if len(inside) >= FEWEST_SETTINGS and (found := correlate(*columns(inside))) and found.ci95:
        first = SUPPORTED if found.ci95[1] < 0 else NOT_SUPPORTED if found.ci95[0] > 0 else UNDECIDED
        text += f", correlation there {fixed(found.r, 2)} {bracketed(found.ci95, 2)}"
    second = UNDECIDED
    if inside and below:
        best = max(inside, key=lambda s: inside[s][1])
        compared = effects(study, retrieval, below, best)
        worse = [e for e in compared if e.kind == "shrinks"]
        better = [e for e in compared if e.kind == "grows"]
        second = NOT_SUPPORTED if better else SUPPORTED if len(worse) == len(below) else UNDECIDED
        text += f"; {len(worse)} of {len(below)} settings below it retrieve worse than {best}"
    else:
        text += "; none lies below it" if not below else ""
    if whole and whole.ci95:
        text += f"; over all settings the correlation is {fixed(whole.r, 2)} {bracketed(whole.ci95, 2)}"
    runs = [r.run for r in study.results if r.setting in points]
    if NOT_SUPPORTED in (first, second):
        return NOT_SUPPORTED, text, runs
    return (SUPPORTED if first == second == SUPPORTED else UNDECIDED), text, runs


def _little_effect(study: SetupResults, paths: Paths) -> tuple[str, str, list[str]]:
    parts, verdicts, runs = [], [], set()
    for metric, words in (("zeroshot_top1", "zero-shot"), ("probe_top1", "probe")):
        points = setting_means(study, ("gap", metric))
        nothing = tells_nothing(study, points, metric)
        line = slope(*columns(points))
        if nothing or line is None or line.ci95 is None:
            parts.append(f"{words}: {nothing}")
            verdicts.append(UNDECIDED)
            continue
        low, high = (WIDTH * end for end in line.ci95)
        effect, error = WIDTH * line.slope, WIDTH * (line.error or 0.0)
        p = within_p(effect, error, line.n - 2, LITTLE) if error else float(abs(effect) >= LITTLE)
        much = low > LITTLE or high < -LITTLE
        verdicts.append(SUPPORTED if p < ALPHA else NOT_SUPPORTED if much else UNDECIDED)
        parts.append(
            f"{words}: {signed(effect, 2)} points {bracketed((low, high), 2, sign=True)} for {WIDTH:g} of gap "
            f"({line.n} settings), {p_value(p)} against {LITTLE:g} points or more"
        )
        runs |= {r.run for r in study.results if r.setting in points}
    return both(verdicts), "; ".join(parts), sorted(runs)


def _uniformity(study: SetupResults, paths: Paths) -> tuple[str, str, list[str]]:
    parts, verdicts, runs = [], [], set()
    for metric, words in (("zeroshot_top1", "zero-shot"), ("probe_top1", "probe")):
        points = setting_means(study, ("uniformity_w2_joint", metric))
        nothing = tells_nothing(study, points, metric)
        found = correlate(*columns(points))
        if nothing or found is None or found.ci95 is None:
            parts.append(f"{words}: {nothing}")
            verdicts.append(UNDECIDED)
            continue
        low, high = found.ci95
        verdicts.append(SUPPORTED if low > 0 else NOT_SUPPORTED if high < WEAK else UNDECIDED)
        parts.append(
            f"{words}: correlation {fixed(found.r, 2)} {bracketed(found.ci95, 2)} ({found.n} settings)"
        )
        runs |= {r.run for r in study.results if r.setting in points}
    return both(verdicts), "; ".join(parts), sorted(runs)


def _swapping(study: SetupResults, paths: Paths) -> tuple[str, str, list[str]]:
    counting = [
        s
        for s in study.settings
        if s.method in ("HS", "SS") and (s.value or 0) * study.total_steps >= EXPECTED_SWAPS
    ]
    return all_shrink(effects(study, "gap", counting, BASELINE), ("HS", "SS"), "")


def _one_curve(study: SetupResults, paths: Paths) -> tuple[str, str, list[str]]:
    curves = flt_curves(study)
    if not curves:
        return UNDECIDED, f"no seed has FLT at {FEWEST_SETTINGS} temperatures", []
    parts, verdicts, complete = [], [], []
    runs: list[str] = []
    for setting in study.settings:
        if setting.method not in ("baseline", "TS", "TR", "SLRT"):
            continue
        ratios = {
            r.run: ratio for r in study.of(setting).values() if (ratio := log_ratio(r, curves)) is not None
        }
        if not ratios:
            parts.append(f"{setting}: ends where no FLT was run beside it")
            continue
        found = summarise(list(ratios.values()))
        runs += ratios
        low, high = found.ci95 or (-math.inf, math.inf)
        decides = found.n >= FEWEST_SEEDS
        inside, outside = (
            decides and within((low, high), -BAND, BAND),
            decides and (low > BAND or high < -BAND),
        )
        verdicts.append(SUPPORTED if inside else NOT_SUPPORTED if outside else UNDECIDED)
        complete.append(setting.method)
        ends = f" [{math.exp(low):.2f}, {math.exp(high):.2f}]" if found.ci95 else ""
        parts.append(f"{setting}: {math.exp(found.mean):.2f} times FLT's gap{ends}, {found.n} seeds")
    missing = [name for name in ("baseline", "TS", "TR", "SLRT") if name not in complete]
    text = "; ".join(parts) or "nothing was run beside FLT"
    if missing:
        text += f"; nothing to judge of {', '.join(missing)}"
    runs += [run for curve in curves.values() for _, _, run in curve]
    verdict = both(verdicts) if verdicts else UNDECIDED
    return (UNDECIDED if missing and verdict == SUPPORTED else verdict), text, runs


CLAIMS = (
    Claim(
        "C1",
        "The gap closes like 1/log(t)^2 under exp.",
        "from where their margin stays positive, at least two baseline paths follow a law that can be told; two thirds "
        "of those 1/log(t)^2 (or another)",
        _rate_law,
    ),
    Claim(
        "C2",
        "The gap grows in the first steps.",
        "95 % interval of the mean change from step 0 to 10 over at least three seeds above 0 (or below)",
        _early_growth,
    ),
    Claim(
        "C3",
        "The learned temperature stabilises the gap: fixing or scheduling it shrinks the gap.",
        "every FLT and TS that ends at 1.5 times the learned tau or more, one of each at least, shrinks the gap "
        "(or one grows it or leaves it unchanged)",
        _fixing,
    ),
    Claim(
        "C4",
        "Softplus closes the gap faster.",
        "95 % interval of the paired difference in the rate of closing over at least three seeds above 0 (or below, "
        "or within a tenth of the baseline's rate)",
        _softplus,
    ),
    Claim(
        "C5",
        "A smaller gap goes with better retrieval for gaps of roughly 0.03 to 0.30, and with worse below.",
        "over at least five settings inside, the correlation's interval lies below 0, and every setting below 0.03 "
        "retrieves worse than the best inside (or one of the two is contradicted)",
        _retrieval,
    ),
    Claim(
        "C6",
        "The gap has little effect on zero-shot and linear probe.",
        "two one-sided tests at 5 % rule out that 0.2 of gap moves either by 3 points or more (or the interval lies "
        "outside for one)",
        _little_effect,
    ),
    Claim(
        "C7",
        "Uniformity tracks classification.",
        "the correlation's interval over at least five settings lies above 0 for both (or below 0.3 for one)",
        _uniformity,
    ),
    Claim(
        "C8",
        "Swapping shrinks the gap.",
        "every HS and SS with at least ten expected swap steps, one of each at least, shrinks the gap "
        "(or one grows it or leaves it unchanged)",
        _swapping,
    ),
    Claim(
        "C9",
        "(Ours.) The gap is a function of the final temperature, whatever rule led there.",
        "for baseline, TS, TR and SLRT alike, the 95 % interval of the mean log ratio of the gap to FLT's at the "
        "same temperature lies within a factor of 1.25 (or one setting's outside)",
        _one_curve,
    ),
)
