"""Correlations with intervals, and the slope of a straight line, on a handful of plain numbers (no scipy).

Intervals are of Fisher's z: standard error 1/sqrt(n-3) for Pearson's r, sqrt((1 + r^2/2)/(n-3)) for Spearman's
(Bonett and Wright 2000). What is not defined (fewer than four points, no spread) is None, never NaN.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from statistics import NormalDist
from typing import Literal

from gaprun.comparison.statistics import Interval, settled, t_quantile, t_two_sided

Kind = Literal["pearson", "spearman"]
Z = NormalDist().inv_cdf(0.975)
EXACT = {"spearman": 10, "pearson": 7}  # up to so many points every order is counted


@dataclass(frozen=True)
class Correlation:
    """r of n pairs, its 95 % interval and its two-sided p-value against 0.

    p is the share of all n! orders with as large an |r| for few points (`EXACT`), else from t with n - 2 degrees of
    freedom; never less than 2 / n!, the share of the perfect orders.
    """

    kind: Kind
    n: int
    r: float
    ci95: Interval | None
    p_value: float | None


@dataclass(frozen=True)
class Slope:
    """Least squares y = intercept + slope x: the slope's standard error and 95 % Student-t interval (n - 2 degrees of
    freedom)."""

    n: int
    slope: float
    intercept: float
    ci95: Interval | None
    error: float | None = None


def correlate(x: Sequence[float], y: Sequence[float], kind: Kind = "spearman") -> Correlation | None:
    """The correlation of x and y, both (n,); None for fewer than three points or no spread.

    A perfect rank correlation has no finite z; its interval is that of the next lower value that n ranks can
    take, 1 - 12 / (n (n^2 - 1)), so that five points in order do not look certain.
    """
    n = len(x)
    if n != len(y):
        raise ValueError("a correlation needs as many x as y")
    if n < 3:
        return None
    if kind == "spearman":
        x, y = ranks(x), ranks(y)
    sums = _sums(x, y)
    if sums[0] <= 0 or sums[1] <= 0:
        return None
    r = max(-1.0, min(1.0, sums[2] / math.sqrt(sums[0] * sums[1])))
    if 1 - abs(r) < 1e-12:
        r = math.copysign(1.0, r)
    if n <= EXACT[kind]:
        p_value = _exact_p(x, y, kind)
    else:
        p_value = 0.0 if abs(r) == 1 else t_two_sided(r * math.sqrt((n - 2) / (1 - r * r)), n - 2)
        p_value = max(p_value, 2 * math.exp(-math.lgamma(n + 1)))
    interval = None
    if n > 3:
        limit = 1 - 12 / (n * (n * n - 1)) if kind == "spearman" else 1 - 1e-15
        inner = max(-limit, min(limit, r))
        error = math.sqrt((1 + inner**2 / 2 if kind == "spearman" else 1) / (n - 3))
        low, high = (math.tanh(math.atanh(inner) + side * Z * error) for side in (-1, 1))
        interval = (-1.0 if r == -1 else low, 1.0 if r == 1 else high)
    return Correlation(kind, n, r, interval, p_value)


def slope(x: Sequence[float], y: Sequence[float]) -> Slope | None:
    """The straight line through (x, y) by least squares; None for fewer than two points or x without spread."""
    n = len(x)
    xx, yy, xy = _sums(x, y) if n > 1 else (0.0, 0.0, 0.0)
    if xx <= 0:
        return None
    steep = xy / xx
    intercept = math.fsum(y) / n - steep * math.fsum(x) / n
    if n < 3:
        return Slope(n, steep, intercept, None)
    error = math.sqrt(max(yy - steep * xy, 0.0) / (n - 2) / xx)
    half = t_quantile(0.975, n - 2) * error
    return Slope(n, steep, intercept, (steep - half, steep + half), error)


def ranks(values: Sequence[float]) -> list[float]:
    """Ranks from 1; equal values, to twelve digits, share the mean of theirs."""
    values = [settled(value) for value in values]
    order = sorted(range(len(values)), key=lambda i: values[i])
    result = [0.0] * len(values)
    start = 0
    while start < len(order):
        stop = start
        while stop < len(order) and values[order[stop]] == values[order[start]]:
            stop += 1
        for index in order[start:stop]:
            result[index] = (start + 1 + stop) / 2
        start = stop
    return result


def _exact_p(x: Sequence[float], y: Sequence[float], kind: Kind) -> float:
    """The share of the orders of y whose sum of x y is at least as far from its mean over all orders as this one."""
    n = len(x)
    if kind == "pearson":
        x, y = ([value - math.fsum(side) / n for value in side] for side in (x, y))  # so the mean is 0
        # Equal sums, 0 among them, differ by rounding, which is measured by the largest sum there could be.
        rounding = 1e-9 * math.sqrt(math.fsum(a * a for a in x) * math.fsum(b * b for b in y))
        least = abs(math.fsum(a * b for a, b in zip(x, y, strict=True))) - rounding
        sums = (sum(a * b for a, b in zip(x, order, strict=True)) for order in permutations(y))
        return sum(abs(value) >= least for value in sums) / math.factorial(n)
    # Doubled ranks are whole numbers. A polynomial whose coefficient at s counts the orders with that sum is kept as
    # one integer, WIDTH bits a coefficient, for each set of the y that are given to the first x.
    width = 32
    a, b = ([round(2 * value) for value in side] for side in (x, y))
    ways = [0] * (1 << n)
    ways[0] = 1
    for chosen in range(1, 1 << n):
        place = chosen.bit_count() - 1
        ways[chosen] = sum(
            ways[chosen & ~(1 << j)] << (width * a[place] * b[j]) for j in range(n) if chosen >> j & 1
        )
    total = sum(a) * sum(b)  # n times the mean
    seen = abs(n * sum(p * q for p, q in zip(a, b, strict=True)) - total)
    found, polynomial, value = 0, ways[-1], 0
    while polynomial:
        if abs(n * value - total) >= seen:
            found += polynomial & ((1 << width) - 1)
        polynomial >>= width
        value += 1
    return found / math.factorial(n)


def _sums(x: Sequence[float], y: Sequence[float]) -> tuple[float, float, float]:
    mx, my = math.fsum(x) / len(x), math.fsum(y) / len(y)
    return (
        math.fsum((a - mx) ** 2 for a in x),
        math.fsum((b - my) ** 2 for b in y),
        math.fsum((a - mx) * (b - my) for a, b in zip(x, y, strict=True)),
    )
