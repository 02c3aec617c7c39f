"""Many metrics as one: interquartile mean, probability of improvement and performance profile (Agarwal et al. 2021).

The point values are rliable's. Its runs of different tasks are different trainings, so it draws every task's runs by
themselves; here one training is measured by all metrics, so a seed is drawn with all of them together, and its
percentiles are replaced by Student's t, because three seeds have too few percentiles (docs/statistics.md has rates).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaprun.comparison.statistics import Interval, t_quantile

Array = NDArray[Any]
THRESHOLDS = (-2.0, -1.0, 0.0, 1.0, 2.0)  # of the profile, in standard deviations of one run
DRAWS, SEED = 2000, 2412_07909


@dataclass(frozen=True)
class OverTasks:
    """One row over K metrics: `iqm` and `profile` are of scores, `improvement` is P(better than the baseline)."""

    seeds: int
    iqm: float
    improvement: float
    profile: tuple[float, ...]
    iqm_ci95: Interval | None
    improvement_ci95: Interval | None
    profile_ci95: tuple[Interval | None, ...]


def over_tasks(ours: Array, theirs: Array, paired: bool) -> OverTasks:
    """ours (n, K), theirs (m, K): values of runs on metrics, higher is better, in units that may be pooled.

    A score is a value less the baseline's: of the same row where `paired` (n = m), else its mean. The interval is
    Student's t with the variance over stratified bootstrap draws of n - 1 and m - 1 runs (so few that it has no bias
    for a mean; every draw that there is with five runs or fewer, else 2,000), each side in turn where they are not
    paired, with Welch's degrees of freedom; None where all agree.
    """
    found = _values(ours[None], theirs[None], paired)[0]
    n, m = len(ours), len(theirs)
    intervals: list[Interval | None] = [None] * len(found)
    if min(n, m) > 1:
        generator = np.random.default_rng(SEED)
        first, second = (_draws(size, generator) for size in (n, m))
        drawn = (
            [_values(ours[first], theirs[first], paired)]
            if paired
            else [_values(ours[first], theirs[None], False), _values(ours[None], theirs[second], False)]
        )
        parts = [values.var(axis=0) for values in drawn]
        for index, value in enumerate(map(float, found)):
            own = [float(part[index]) for part in parts]
            if (variance := sum(own)) > 1e-24:
                df = variance**2 / sum(v**2 / (k - 1) for v, k in zip(own, (n, m), strict=False))
                half = t_quantile(0.975, df) * variance**0.5
                intervals[index] = value - half, value + half
    iqm, improvement, *profile = map(float, found)
    first_share, *others = (
        None if one is None else (max(0.0, one[0]), min(1.0, one[1])) for one in intervals[1:]
    )
    return OverTasks(n, iqm, improvement, tuple(profile), intervals[0], first_share, tuple(others))


def _draws(size: int, generator: np.random.Generator) -> Array:
    """(draws, size - 1) indices of runs, drawn with replacement: each way once where these are few."""
    if size ** (size - 1) <= DRAWS:
        return np.array(list(product(range(size), repeat=size - 1)))
    return generator.integers(0, size, (DRAWS, size - 1))


def interquartile_mean(scores: Array) -> Array:
    """(..., N) -> (...): the mean without the lowest and the highest quarter (rounded down to whole scores)."""
    cut = int(0.25 * scores.shape[-1])
    middle: Array = np.sort(scores, axis=-1)[..., cut : scores.shape[-1] - cut].mean(axis=-1)
    return middle


def probability_of_improvement(ours: Array, theirs: Array) -> Array:
    """(..., n, K), (..., m, K) -> (...): P(ours > theirs) + P(equal) / 2 over all pairs of runs, mean over metrics."""
    first, second = ours[..., :, None, :], theirs[..., None, :, :]
    chance: Array = ((first > second) + 0.5 * (first == second)).mean(axis=(-3, -2, -1))
    return chance


def _values(ours: Array, theirs: Array, paired: bool) -> Array:
    """(B, n, K), (B, m, K) -> (B, 2 + thresholds): interquartile mean, probability, profile."""
    scores = ours - (theirs if paired else theirs.mean(axis=1, keepdims=True))
    flat = np.round(scores.reshape(len(scores), -1), 9)  # what differs by rounding only is equal
    columns = [
        interquartile_mean(flat),
        probability_of_improvement(ours, theirs),
        *((flat > threshold).mean(axis=-1) for threshold in THRESHOLDS),
    ]
    return np.stack(columns, axis=-1)
