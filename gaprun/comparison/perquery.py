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

from gaprun.comparison.statistics import NO_SPREAD, ONE_VALUE, Difference, t_quantile

Array = NDArray[Any]


@dataclass(frozen=True)
class QueryTest(Difference):
    """A Difference in points of percent over `queries` queries in `pairs` independent units."""

    queries: int = 0


def compare_queries(ours: Sequence[Array], theirs: Sequence[Array], owner: Array | None = None) -> QueryTest:
    """Ours minus theirs. Each entry: (Q,) outcomes 0 or 1 of one seed's run, on the same queries in the same order.

    owner: (Q,) the image of each query where several belong together. The p-value is the exact sign-flip test's over
    units, which with one seed a side and independent queries is McNemar's. The interval is Student's t of the ratio of
    the units' sums to their sizes (`ratio`); one unit has none, and neither have units that all differ alike, or not
    at all, since they say nothing of how others would. Raises ValueError for unequal lengths.
    """
    scale = math.lcm(len(ours), len(theirs))
    a, b = (
        scale // len(side) * np.sum([np.asarray(row, dtype=np.int64) for row in side], axis=0)
        for side in (ours, theirs)
    )
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise ValueError("paired tests need the same queries on both sides")
    sums, sizes = _units(a - b, owner)
    delta, error, df = ratio(100 / scale * sums, sizes)
    lacks = ONE_VALUE if df <= 0 else NO_SPREAD if error <= 1e-10 else ""  # points: of rounding alone
    half = None if lacks else t_quantile(0.975, df) * error
    return QueryTest(
        delta,
        None if half is None else (max(-100.0, delta - half), min(100.0, delta + half)),
        sign_flip(sums),
        "exact McNemar" if scale == 1 and len(sums) == len(a) else "exact sign-flip",
        len(sums),
        None if lacks else error,
        None if lacks else df,
        lacks,
        queries=len(a),
    )


def sign_flip(sums: Array) -> float:
    """Two-sided p-value of whole numbers (n,) that are as likely negative: over all 2^n ways to flip their signs.

    The sum of the flipped numbers has the characteristic function prod cos(t sums_i); one Fourier transform of it gives
    the probability of each sum, to about 1e-13.
    """
    moved = np.abs(sums[sums != 0])
    if not len(moved):
        return 1.0
    divisor = int(np.gcd.reduce(moved))
    moved, observed = moved // divisor, abs(int(sums.sum())) // divisor
    length = 2 ** int(2 * moved.sum() + 1).bit_length()
    angles = 2 * np.pi / length * np.arange(length // 2 + 1)
    function = np.ones(len(angles))
    for value, count in zip(*np.unique(moved, return_counts=True), strict=True):
        function *= np.cos(value * angles) ** int(count)
    chances = np.fft.irfft(function, length)[
        : length // 2
    ]  # of the sums 0, 1, 2, ...; those of -1, -2, ... are equal
    tail = 1.0 if observed == 0 else 2 * float(chances[observed:].sum())
    return min(1.0, max(tail, 2.0 ** (1 - len(moved))))


def ratio(sums: Array, sizes: Array) -> tuple[float, float, float]:
    """sum(sums) / sum(sizes) over independent units (n,), its standard error, and the degrees of freedom.

    The error is the jackknife's; a unit counts for the degrees of freedom by its share of all queries, so that a few
    images with most of the captions do not look like many (1 / sum of squared shares, less 1; n - 1 for equal sizes).
    """
    whole = sizes.sum()
    delta = float(sums.sum() / whole)
    share = sizes / whole
    df = max(0.0, 1 / float((share**2).sum()) - 1)
    if len(sums) < 2:
        return delta, 0.0, 0.0
    left = (sums - delta * sizes) / whole / (1 - share)
    return delta, math.sqrt((1 - 1 / len(sums)) * float((left**2).sum())), df


def _units(difference: Array, owner: Array | None) -> tuple[Array, Array]:
    if owner is None:
        return difference, np.ones(len(difference))
    _, index = np.unique(owner, return_inverse=True)
    sums = np.rint(np.bincount(index, weights=difference)).astype(np.int64)
    return sums, np.bincount(index).astype(np.float64)
