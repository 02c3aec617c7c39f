"""Means over seeds, Student-t intervals and tests, and Holm's correction, on a handful of plain numbers.

Student's t is computed here from the regularised incomplete beta function (continued fraction, to about
1e-12): scipy.special and the numpy under it would add 0.35 s of CPU to a `compare` that takes 1.2; the tests compare
with scipy. Where a quantity is not defined (one value, no spread) the answer is None, never NaN.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple

Interval = tuple[float, float]
FEWEST_PAIRS = 3
MOST_DF = 2  # times those of the side with few values, in Welch's test of sides that differ in number
NO_SPREAD, ONE_VALUE = "no spread", "one value"


class Summary(NamedTuple):
    """n values: their mean, sample standard deviation (n - 1) and 95 % Student-t interval of the mean."""

    n: int
    mean: float
    std: float | None
    ci95: Interval | None


@dataclass(frozen=True)
class Difference:
    """A group's difference from the baseline, with its 95 % interval, its p-value, and how both were found.

    `test` is 'paired t' (over `pairs` shared units), 'Welch t' (fewer than three shared), or None where no test is
    possible, and `lacks` says for want of what; `error` is the standard error of `delta` and `df` the test's degrees
    of freedom. `each`: the differences of shared units where these are too few for a paired test.
    """

    delta: float
    ci95: Interval | None
    p_value: float | None
    test: str | None
    pairs: int
    error: float | None = None
    df: float | None = None
    lacks: str = ""
    each: tuple[float, ...] = ()


def summarise(values: Sequence[float]) -> Summary:
    """The Summary of at least one finite value. Raises ValueError for none."""
    n = len(values)
    if n == 0:
        raise ValueError("no values to summarise")
    mean = math.fsum(values) / n
    if n == 1:
        return Summary(1, mean, None, None)
    std = math.sqrt(math.fsum([(value - mean) ** 2 for value in values]) / (n - 1))
    half = t_quantile(0.975, n - 1) * std / math.sqrt(n)
    return Summary(n, mean, std, (mean - half, mean + half))


def settled(value: float) -> float:
    """`value` to twelve digits, for comparing means: what differs by rounding only is equal."""
    return float(f"{value:.12g}")


def difference(group: Mapping[Any, Sequence[float]], baseline: Mapping[Any, Sequence[float]]) -> Difference:
    """Group minus baseline; both map a unit (a seed) to its values, None being values without one.

    Three or more shared units: mean of the paired differences, paired t-test. Otherwise the difference of means
    with Welch's test if both have two values; otherwise one paired difference, or the difference of means,
    without a test. Two pairs leave a paired test one degree of freedom: Welch's intervals are a third shorter there
    and cover in 94 % or more, whatever the correlation and the spreads (docs/statistics.md).
    """
    shared = [unit for unit in group if unit is not None and unit in baseline]
    sides = [[math.fsum(side[unit]) / len(side[unit]) for unit in shared] for side in (group, baseline)]
    pairs = [own - other for own, other in zip(*sides, strict=True)]
    if len(pairs) >= FEWEST_PAIRS:
        return paired_t(pairs, max(map(abs, chain(*sides))))
    ours = [value for values in group.values() for value in values]
    theirs = [value for values in baseline.values() for value in values]
    if len(ours) >= 2 and len(theirs) >= 2:
        return replace(welch_t(ours, theirs), each=tuple(pairs))
    if pairs:
        return Difference(pairs[0], None, None, None, 1, lacks=ONE_VALUE, each=tuple(pairs))
    delta = math.fsum(ours) / len(ours) - math.fsum(theirs) / len(theirs)
    return Difference(delta, None, None, None, 0, lacks=ONE_VALUE)


def paired_t(differences: Sequence[float], largest: float = 0.0) -> Difference:
    """The paired t-test of at least two differences; differences without spread have no p-value.

    largest: of the values that were subtracted. A spread so small beside it is that of their rounding.
    """
    summary = summarise(differences)
    assert summary.std is not None
    error = summary.std / math.sqrt(summary.n)
    if error <= 1e-12 * max(largest, *map(abs, differences)):
        return Difference(summary.mean, None, None, None, summary.n, lacks=NO_SPREAD)
    p_value = t_two_sided(summary.mean / error, summary.n - 1)
    return Difference(summary.mean, summary.ci95, p_value, "paired t", summary.n, error, summary.n - 1)


def welch_t(group: Sequence[float], baseline: Sequence[float]) -> Difference:
    """Welch's t-test (unequal variances) of at least two values a side; no spread at all, no p-value.

    Where the sides differ in number and one has three or fewer, the degrees of freedom are at most twice those of that
    side, the most that there could be with as few on the other: Welch's own estimate of them rests on two or three
    values there, and intervals with it cover in as little as 88 % (docs/statistics.md).
    """
    ours, theirs = summarise(group), summarise(baseline)
    assert ours.std is not None and theirs.std is not None
    delta = ours.mean - theirs.mean
    parts = ours.std**2 / ours.n, theirs.std**2 / theirs.n
    error = math.sqrt(sum(parts))
    if error <= 1e-12 * max(abs(ours.mean), abs(theirs.mean)):
        return Difference(delta, None, None, None, 0, lacks=NO_SPREAD)
    df = sum(parts) ** 2 / (parts[0] ** 2 / (ours.n - 1) + parts[1] ** 2 / (theirs.n - 1))
    fewer = min(ours.n, theirs.n)
    if ours.n != theirs.n and fewer <= FEWEST_PAIRS:
        df = min(df, MOST_DF * (fewer - 1))
    half = t_quantile(0.975, df) * error
    p_value = t_two_sided(delta / error, df)
    return Difference(delta, (delta - half, delta + half), p_value, "Welch t", 0, error, df)


def equivalence(found: Difference, margin: float) -> float | None:
    """The p-value of "the true difference is `margin` (> 0) or more, in either direction": two one-sided t-tests.

    The larger of the two counts (Schuirmann 1987). None where the difference has no test.
    """
    if found.error is None or found.df is None:
        return None
    return within_p(found.delta, found.error, found.df, margin)


def within_p(estimate: float, error: float, df: float, margin: float) -> float:
    """The same of any estimate with its standard error (above 0) and degrees of freedom."""
    t = (margin - abs(estimate)) / error
    tail = t_two_sided(t, df) / 2
    return tail if t > 0 else 1 - tail


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down correction of a family of p-values (Holm 1979); None stays None and is no member."""
    order = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    running = 0.0
    for rank, (p, index) in enumerate(order):
        running = max(running, min(1.0, p * (len(order) - rank)))
        corrected[index] = running
    return corrected


def t_two_sided(t: float, df: float) -> float:
    """P(|T| >= |t|) of Student's t with `df` > 0 degrees of freedom: I_x(df/2, 1/2), x = df / (df + t^2)."""
    return _beta_inc(df / 2, 0.5, df / (df + t * t), t * t / (df + t * t))


@lru_cache(maxsize=1024)
def t_quantile(p: float, df: float) -> float:
    """The `p` quantile of Student's t, 0.5 < p < 1, by bisection of `t_two_sided` to the last bits."""
    low, high, tail = 0.0, 1.0, 2 * (1 - p)
    while t_two_sided(high, df) > tail:
        low, high = high, high * 2
    while True:
        middle = (low + high) / 2
        if middle in (low, high):
            return middle
        low, high = (middle, high) if t_two_sided(middle, df) > tail else (low, middle)


def _beta_inc(a: float, b: float, x: float, complement: float) -> float:
    """I_x(a, b) with `complement` = 1 - x, given apart because it may be tiny."""
    if x <= 0:
        return 0.0
    if complement <= 0:
        return 1.0
    log_front = (
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log(complement)
    )
    if x < (a + 1) / (a + b + 2):
        return math.exp(log_front) * _fraction(a, b, x) / a
    return 1 - math.exp(log_front) * _fraction(b, a, complement) / b


def _fraction(a: float, b: float, x: float) -> float:
    """The continued fraction of the incomplete beta function, by Lentz's method (Numerical Recipes, 6.4)."""
    tiny = 1e-300
    c, d = 1.0, 1 - (a + b) * x / (a + 1)
    d = 1 / (d if abs(d) > tiny else tiny)
    result = d
    for m in range(1, 10_000):
        for step in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 + step * d
            c = 1 + step / c
            d = 1 / (d if abs(d) > tiny else tiny)
            c = c if abs(c) > tiny else tiny
            result *= d * c
        if abs(d * c - 1) < 1e-15:
            break
    return result
