"""Paired tests over queries: does a recipe answer other queries right than the baseline, on the same queries?

Seeds say whether a difference survives another training run; queries say whether it survives another test set.
Both are needed, and this half works with one seed. A query's outcome is 1 (right) or 0; over several seeds it is
the share of seeds that get it right. Captions of one image are not independent, so they are one unit (a cluster).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaprun.comparison.statistics import Interval

Array = NDArray[Any]
RESAMPLES = 4000
SEED = 2412_07909
CHUNK = 1_000_000  # numbers held at once while resampling


@dataclass(frozen=True)
class QueryTest:
    """Difference (points of percent) over `queries` queries in `units` independent units, and how it was tested."""

    delta: float
    ci95: Interval | None
    p_value: float | None
    test: str
    queries: int
    units: int


def compare_queries(ours: Sequence[Array], theirs: Sequence[Array], owner: Array | None = None) -> QueryTest:
    """Ours minus theirs. Each entry: (Q,) outcomes 0 or 1 of one seed's run, on the same queries in the same order.

    owner: (Q,) the image of each query where several belong together. One seed a side and independent
    queries: exact McNemar test; else the sign-flip permutation test on the units' sums. The interval is a
    paired bootstrap over units (percentiles, 4,000 seeded resamples). Raises ValueError for unequal lengths.
    """
    a, b = (np.mean([np.asarray(row, dtype=np.float64) for row in side], axis=0) for side in (ours, theirs))
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise ValueError("paired tests need the same queries on both sides")
    difference = a - b
    sums, sizes = _units(difference, owner)
    delta = 100 * float(difference.mean())
    interval = bootstrap_interval(sums, sizes)
    if len(ours) == len(theirs) == 1 and len(sums) == len(difference):
        p_value, test = mcnemar(int((difference > 0).sum()), int((difference < 0).sum())), "exact McNemar"
    else:
        p_value, test = sign_flip(sums), "sign-flip permutation"
    return QueryTest(delta, interval, p_value, test, len(difference), len(sums))


def mcnemar(only_ours: int, only_theirs: int) -> float:
    """Two-sided exact McNemar test of discordant pairs: binomial with 1/2, twice the smaller tail, at most 1."""
    n, k = only_ours + only_theirs, min(only_ours, only_theirs)
    if n == 0:
        return 1.0
    logs = [math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) for i in range(k + 1)]
    return min(1.0, 2 * math.fsum(math.exp(value - n * math.log(2)) for value in logs))


def sign_flip(sums: Array, resamples: int = RESAMPLES, seed: int = SEED) -> float:
    """Two-sided permutation p-value of a mean of 0, by random flips of each unit's sign (exact for 12 or fewer).

    The observed assignment counts as one of the random ones, so p is never 0 (Phipson and Smyth 2010).
    """
    moved = np.asarray(sums, dtype=np.float64)
    moved = moved[moved != 0]
    n = len(moved)
    if n == 0:
        return 1.0
    observed = abs(moved.sum()) * (1 - 1e-12)
    if n <= 12:
        signs = 1.0 - 2.0 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
        return float((np.abs(signs @ moved) >= observed).mean())
    generator, extreme = np.random.default_rng(seed), 0
    for count in _chunks(resamples, n):
        flips = 1 - 2 * generator.integers(0, 2, (count, n), dtype=np.int8).astype(np.float64)
        extreme += int((np.abs(flips @ moved) >= observed).sum())
    return (extreme + 1) / (resamples + 1)


def bootstrap_interval(
    sums: Array, sizes: Array, resamples: int = RESAMPLES, seed: int = SEED
) -> Interval | None:
    """95 % percentile interval (points of percent) of sum(sums)/sum(sizes) under resampling of units; None for one."""
    n = len(sums)
    if n < 2:
        return None
    generator, ratios = np.random.default_rng(seed), []
    for count in _chunks(resamples, n):
        chosen = generator.integers(0, n, (count, n), dtype=np.int32)
        ratios.append(sums[chosen].sum(axis=1) / sizes[chosen].sum(axis=1))
    low, high = np.percentile(np.concatenate(ratios), [2.5, 97.5])
    return 100 * float(low), 100 * float(high)


def _units(difference: Array, owner: Array | None) -> tuple[Array, Array]:
    if owner is None:
        return difference, np.ones(len(difference))
    _, index = np.unique(owner, return_inverse=True)
    return np.bincount(index, weights=difference), np.bincount(index).astype(np.float64)


def _chunks(total: int, width: int) -> list[int]:
    size = max(1, min(total, CHUNK // max(width, 1)))
    return [size] * (total // size) + ([total % size] if total % size else [])
