"""What settings do to a value: differences from a reference by seed, and settings' means, for the claims."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from gaprun.comparison.dunnett import family_p
from gaprun.comparison.statistics import Difference, difference, summarise
from gaprun.paper.settings import MethodSetting, Result, SetupResults
from gaprun.tables.numbers import bracketed, p_value, signed

Value = str | Callable[[Result], float | None]
FEWEST_SEEDS = 3
ALPHA, UNCHANGED = 0.05, 0.1


@dataclass(frozen=True)
class Effect:
    """A setting against a reference: `kind` is shrinks, grows, unchanged or open (docs/claims.md)."""

    setting: MethodSetting
    kind: str
    difference: Difference
    seeds: int
    p_corrected: float | None
    runs: tuple[str, ...]

    def __str__(self) -> str:
        found = self.difference
        numbers = f"{signed(found.delta, 3)} {bracketed(found.ci95, 3, sign=True)}".rstrip()
        tested = f", {p_value(self.p_corrected)}" if self.p_corrected is not None else ""
        return f"{self.setting} {self.kind} ({numbers}, {self.seeds} seeds{tested})"


def effects(
    study: SetupResults, value: Value, settings: Sequence[MethodSetting], reference: MethodSetting
) -> list[Effect]:
    """The effect of each of `settings` that shares a seed with `reference`.

    p-values are corrected over all settings of the study as `compare` does over its rows (`dunnett.family_p`), which
    may be more: other methods than the paper's are no settings.
    """
    theirs = study.of(reference)
    base = {seed: v for seed, r in theirs.items() if (v := read(r, value)) is not None}
    found: dict[MethodSetting, Effect] = {}
    by_seed: dict[MethodSetting, dict[int, float]] = {}
    for setting in study.settings:
        ours = {seed: v for seed, r in study.of(setting).items() if (v := read(r, value)) is not None}
        if setting == reference or not ours or not base:
            continue
        by_seed[setting] = ours
        tested = difference({s: [v] for s, v in ours.items()}, {s: [v] for s, v in base.items()})
        shared = [seed for seed in ours if seed in base]
        runs = tuple(run for seed in shared for run in (study.of(setting)[seed].run, theirs[seed].run))
        found[setting] = Effect(setting, "open", tested, len(shared), None, runs)
    own = {
        s: effect.difference.p_value for s, effect in found.items() if effect.difference.p_value is not None
    }
    corrected = family_p(own, by_seed, base) if own else {}
    usual = abs(summarise(list(base.values())).mean) if base else 0.0
    return [
        replace(effect, p_corrected=(p := corrected.get(setting)), kind=_kind(effect, p, usual))
        for setting in settings
        if (effect := found.get(setting)) and effect.seeds
    ]


def setting_means(study: SetupResults, values: Sequence[Value]) -> dict[MethodSetting, tuple[float, ...]]:
    """The mean of each value over the seeds of every setting that has all of them."""
    means: dict[MethodSetting, tuple[float, ...]] = {}
    for setting in study.settings:
        rows = [[read(r, value) for value in values] for r in study.of(setting).values()]
        whole = [[v for v in row if v is not None] for row in rows if None not in row]
        if whole:
            means[setting] = tuple(sum(column) / len(whole) for column in zip(*whole, strict=True))
    return means


def read(result: Result, value: Value) -> float | None:
    """A metric's value by name, or what a function makes of the result."""
    return result.values.get(value) if isinstance(value, str) else value(result)


def retrieval(result: Result) -> float | None:
    """The mean of image and text recall@1, in percent; None where one is missing."""
    values = [result.values.get(name) for name in ("image_recall@1", "text_recall@1")]
    return None if None in values else sum(v for v in values if v is not None) / 2


def _kind(effect: Effect, p_corrected: float | None, usual: float) -> str:
    found = effect.difference
    if effect.seeds < FEWEST_SEEDS:
        return "open"
    if p_corrected is not None and p_corrected < ALPHA:
        return "shrinks" if found.delta < 0 else "grows"
    if found.ci95 and max(abs(end) for end in found.ci95) <= UNCHANGED * usual:
        return "unchanged"
    return "open"
