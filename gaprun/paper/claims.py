"""The paper's claims C1 to C8, one of our own (C9), and their verdicts from the store, by the rules of docs/claims.md.

Each claim is one function from a set-up's results (and recorded paths) to a Verdict; the rule's words stand beside its
code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from gaprun.comparison.correlation import correlate, slope
from gaprun.comparison.statistics import Summary, summarise, within_p
from gaprun.paper.effects import ALPHA, Effect, effects, retrieval, setting_means
from gaprun.paper.one_curve import flt_curves, log_ratio
from gaprun.paper.settings import MethodSetting, Result, SetupResults
from gaprun.tables import Cell, Heading, Style, Table
from gaprun.tables.numbers import bracketed, counted, fixed, p_value, signed

if TYPE_CHECKING:
    from gaprun.store import Store

SUPPORTED, NOT_SUPPORTED, UNDECIDED = "supported", "not supported", "undecided"
BASELINE = MethodSetting("baseline")
FEWEST_SEEDS, FEWEST_SETTINGS = 3, 5
STRONGER = 1.5  # C3: how far above the learned temperature an intervention must lie
EXPECTED_SWAPS = 10.0  # C8
INSIDE = (0.03, 0.30)  # C5
WIDTH, LITTLE = 0.2, 3.0  # C6: a change of the gap, and points of accuracy
WEAK = 0.3  # C7
SAME_RATE = 0.1  # C4
BAND = math.log(1.25)  # C9: how far from FLT's gap is the same gap
Paths = Mapping[str, Sequence[Mapping[str, Any]]]


@dataclass(frozen=True)
class Verdict:
    """One claim judged: `evidence` in words with its numbers, the `rule` that decided, the `runs` behind it."""

    claim: str
    statement: str
    verdict: str
    evidence: str
    rule: str
    runs: tuple[str, ...]

    def record(self) -> dict[str, Any]:
        return asdict(self) | {"runs": list(self.runs)}


@dataclass(frozen=True)
class Claim:
    """What the paper says, the rule in short (docs/claims.md has it in full), and the function that applies it."""

    name: str
    statement: str
    rule: str
    judge: Callable[[SetupResults, Paths], tuple[str, str, list[str]]]


def judge_claims(store: Store, study: SetupResults) -> list[Verdict]:
    """Every claim in order, from `study` and the recorded paths of its baseline and softplus runs."""
    wanted = [r.run for r in study.results if r.setting in (BASELINE, MethodSetting("TR"))]
    return judge_study(study, store.trajectories(wanted))


def judge_study(study: SetupResults, paths: Paths) -> list[Verdict]:
    """The same from values alone."""
    verdicts = []
    for claim in CLAIMS:
        verdict, evidence, runs = claim.judge(study, paths)
        verdicts.append(Verdict(claim.name, claim.statement, verdict, evidence, claim.rule, tuple(runs)))
    return verdicts


def claims_table(verdicts: Sequence[Verdict], study: SetupResults, sized: bool = False) -> Table:
    """A row a claim: the verdict, and in one column statement, evidence, rule, runs; `sized` records say the size."""
    styles: dict[str, Style] = {SUPPORTED: "good", NOT_SUPPORTED: "bad", UNDECIDED: "warn"}
    rows = []
    for one in verdicts:
        texts = (one.statement, one.evidence, f"rule: {one.rule}", f"runs: {_named(one.runs)}")
        rows.append((Cell((one.claim,), "strong"), Cell((one.verdict,), styles[one.verdict]), Cell(texts)))
    heads = ("claim", "verdict", Heading("what is claimed", ("", "evidence", "rule", "runs"), wrap=True))
    size = ", ".join(f"{name} {value}" for name, value in study.size().items())
    legend = [f"{line[0].upper()}{line[1:]}." for line in study.left_out]
    if study.others and not sized:
        others = f"The database holds {counted(study.others, 'other set-up')}"
        legend.append(f"{others}: --where chooses, --every-size judges all.")
    title = f"Judged at this size: {size}."
    records = [one.record() | ({"size": study.size()} if sized else {}) for one in verdicts]
    return Table.of("claims", heads, rows, records, title, legend)


def _named(runs: Sequence[str]) -> str:
    distinct = list(dict.fromkeys(runs))
    more = ", ..." if len(distinct) > 4 else ""
    return f"{len(distinct)}: {', '.join(distinct[:4])}{more}" if distinct else "none"


def _rate_law(study: SetupResults, paths: Paths) -> tuple[str, str, list[str]]:
    from gaprun.theory.fits import judge

    recorded = [r.run for r in _baseline(study) if _gaps(paths.get(r.run, ()))]
    matched = {run: path for run in recorded if (path := _gaps(_matched(paths[run])))}
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
    for result in _baseline(study):
        gaps = dict(_gaps(paths.get(result.run, ())))
        if 0 in gaps and 10 in gaps:
            changes[result.run] = gaps[10] - gaps[0]
    if not changes:
        return UNDECIDED, "no baseline run recorded the gap at steps 0 and 10", []
    found = summarise(list(changes.values()))
    grown = sum(change > 0 for change in changes.values())
    text = f"the gap grows in {grown} of {found.n} seeds, by {_spread(found, 3)} over ten steps"
    return _by_sign(found), text, list(changes)


def _fixing(study: SetupResults, paths: Paths) -> tuple[str, str, list[str]]:
    final = [r.values["temperature"] for r in _baseline(study) if "temperature" in r.values]
    if not final:
        return UNDECIDED, "the baseline's final temperature is not recorded", []
    learned = sum(final) / len(final)
    counting = [
        s for s in study.settings if s.method in ("FLT", "TS") and (s.value or 0) >= STRONGER * learned
    ]
    found = effects(study, "gap", counting, BASELINE)
    return _all_shrink(found, ("FLT", "TS"), f"the baseline learns tau {learned:.3f}; ")


def _softplus(study: SetupResults, paths: Paths) -> tuple[str, str, list[str]]:
    ours, theirs = study.of(MethodSetting("TR")), study.of(BASELINE)
    pairs, runs, reference = [], [], []
    for seed in sorted(ours.keys() & theirs.keys()):
        rates = [_closing_rate(_gaps(paths.get(r.run, ()))) for r in (ours[seed], theirs[seed])]
        if rates[0] is not None and rates[1] is not None:
            pairs.append(rates[0] - rates[1])
            reference.append(rates[1])
            runs += [ours[seed].run, theirs[seed].run]
    if not pairs:
        return UNDECIDED, "no seed with recorded paths of both softplus and baseline", []
    found, usual = summarise(pairs), sum(reference) / len(reference)
    text = f"rate of closing, softplus minus baseline: {_spread(found, 3)} (baseline: {usual:.3f})"
    verdict = _by_sign(found)
    margin = SAME_RATE * abs(usual)
    if (
        verdict == UNDECIDED
        and found.ci95
        and found.n >= FEWEST_SEEDS
        and _within(found.ci95, -margin, margin)
    ):
        return NOT_SUPPORTED, text + ", within a tenth of it", runs
    return verdict, text, runs


def _retrieval(study: SetupResults, paths: Paths) -> tuple[str, str, list[str]]:
    points = setting_means(study, ("gap", retrieval))
    inside = {s: p for s, p in points.items() if INSIDE[0] <= p[0] <= INSIDE[1]}
    below = [s for s, p in points.items() if p[0] < INSIDE[0]]
    whole = correlate(*_columns(points)) if points else None
    text = f"{len(inside)} of {len(points)} settings have a gap within {INSIDE[0]:g} and {INSIDE[1]:g}"
    first = UNDECIDED
    if len(inside) >= FEWEST_SETTINGS and (found := correlate(*_columns(inside))) and found.ci95:
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
        line = slope(*_columns(points)) if len(points) >= FEWEST_SETTINGS else None
        if line is None or line.ci95 is None:
            parts.append(f"{words}: only {len(points)} settings")
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
    return _both(verdicts), "; ".join(parts), sorted(runs)


def _uniformity(study: SetupResults, paths: Paths) -> tuple[str, str, list[str]]:
    parts, verdicts, runs = [], [], set()
    for metric, words in (("zeroshot_top1", "zero-shot"), ("probe_top1", "probe")):
        points = setting_means(study, ("uniformity_w2_joint", metric))
        found = correlate(*_columns(points)) if len(points) >= FEWEST_SETTINGS else None
        if found is None or found.ci95 is None:
            parts.append(f"{words}: only {len(points)} settings")
            verdicts.append(UNDECIDED)
            continue
        low, high = found.ci95
        verdicts.append(SUPPORTED if low > 0 else NOT_SUPPORTED if high < WEAK else UNDECIDED)
        parts.append(
            f"{words}: correlation {fixed(found.r, 2)} {bracketed(found.ci95, 2)} ({found.n} settings)"
        )
        runs |= {r.run for r in study.results if r.setting in points}
    return _both(verdicts), "; ".join(parts), sorted(runs)


def _swapping(study: SetupResults, paths: Paths) -> tuple[str, str, list[str]]:
    counting = [
        s
        for s in study.settings
        if s.method in ("HS", "SS") and (s.value or 0) * study.total_steps >= EXPECTED_SWAPS
    ]
    return _all_shrink(effects(study, "gap", counting, BASELINE), ("HS", "SS"), "")


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
            decides and _within((low, high), -BAND, BAND),
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
    verdict = _both(verdicts) if verdicts else UNDECIDED
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


def _baseline(study: SetupResults) -> list[Result]:
    return list(study.of(BASELINE).values())


def _gaps(path: Sequence[Mapping[str, Any]]) -> list[tuple[int, float]]:
    return [(row["step"], row["gap"]) for row in path if row.get("gap") is not None]


def _matched(path: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """The part of a path from the record on from which no recorded batch has a mismatched pair (positive margin)."""
    start = len(path)
    while start and path[start - 1].get("mismatched_share") == 0:
        start -= 1
    return path[start:]


def _closing_rate(path: Sequence[tuple[int, float]]) -> float | None:
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


def _by_sign(found: Summary) -> str:
    if found.n < FEWEST_SEEDS or found.ci95 is None:
        return UNDECIDED
    return SUPPORTED if found.ci95[0] > 0 else NOT_SUPPORTED if found.ci95[1] < 0 else UNDECIDED


def _all_shrink(found: list[Effect], methods: Sequence[str], before: str) -> tuple[str, str, list[str]]:
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


def _both(verdicts: Sequence[str]) -> str:
    if NOT_SUPPORTED in verdicts:
        return NOT_SUPPORTED
    return SUPPORTED if all(v == SUPPORTED for v in verdicts) else UNDECIDED


def _columns(points: Mapping[MethodSetting, tuple[float, ...]]) -> tuple[list[float], list[float]]:
    return [p[0] for p in points.values()], [p[1] for p in points.values()]


def _within(interval: tuple[float, float], low: float, high: float) -> bool:
    return low <= interval[0] and interval[1] <= high


def _spread(found: Summary, places: int) -> str:
    return f"{signed(found.mean, places)} {bracketed(found.ci95, places, sign=True) or '(one seed)'}"
