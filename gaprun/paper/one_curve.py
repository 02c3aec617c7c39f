"""The gap that fixed temperatures give, as a curve of the temperature, for claim C9.

For each seed ln(gap) over ln(tau) through its FLT runs, a line between neighbours. Nothing is said beyond the smallest
and the largest tau, nor between neighbours further apart than a factor of APART: there a line may miss the curve.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

from gaprun.paper.settings import Result, SetupResults

FEWEST = 5  # temperatures that make a curve
APART = 2.5
Curve = Sequence[tuple[float, float, str]]  # ln(tau), ln(gap), run; tau rising


def flt_curves(study: SetupResults) -> dict[int, Curve]:
    """The curve of each seed that ran FLT at FEWEST temperatures or more; only FLT without other unusual options."""
    points: dict[int, list[tuple[float, float, str]]] = {}
    for setting in study.settings:
        if setting.method != "FLT" or setting.variant or not setting.value:
            continue
        for seed, result in study.of(setting).items():
            if (gap := result.values.get("gap", 0.0)) > 0:
                points.setdefault(seed, []).append((math.log(setting.value), math.log(gap), result.run))
    return {seed: sorted(curve) for seed, curve in points.items() if len(curve) >= FEWEST}


def log_ratio(result: Result, curves: Mapping[int, Curve]) -> float | None:
    """ln of a run's gap over what its seed's curve gives at its final temperature; None where not known."""
    gap, tau = result.values.get("gap", 0.0), result.values.get("temperature", 0.0)
    if gap <= 0 or tau <= 0:
        return None
    for (left, low, _), (right, high, _) in pairwise(curves.get(result.seed, ())):
        if left <= math.log(tau) <= right and right - left <= math.log(APART):
            share = (math.log(tau) - left) / (right - left)
            return math.log(gap) - (low + share * (high - low))
    return None
