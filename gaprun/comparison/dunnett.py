"""Many recipes against one baseline in a blocked analysis: setting and seed as factors, one residual variance.

With three seeds a recipe's own paired test has two degrees of freedom and sees almost nothing; the residuals of seven
recipes together have twelve. Pooling is right only where spreads are alike, and three seeds cannot show that they are,
so a family's p-value here rests on both: Dunnett's test with the pooled variance and the recipe's own test without any
pooling. docs/statistics.md has the error rates and the power, `benchmarks/error_rates.py` makes them.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from gaprun.comparison.statistics import holm

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
Group = TypeVar("Group", bound=Hashable)
NOISIER = 0.3  # level of the test that the baseline's variance is above the others': one-sided, so cautious
POOLED_SHARE = (
    0.8  # of the 5 % that a family may err: the rest is for the recipes' own tests, corrected by Holm
)


def family_p(
    own: Mapping[Group, float], values: Mapping[Group, Mapping[Any, float]], baseline: Mapping[Any, float]
) -> dict[Group, float]:
    """The corrected p-value of each group's difference from the baseline, all groups being one family.

    own: p-values of the groups' own tests. values, baseline: by unit (seed). The larger of the own and of Dunnett's
    p-value has 4/5 of the family's error and Holm's correction of the own ones 1/5 (Bonferroni's inequality), so that
    a recipe with little spread is not drowned by others with much. Where Dunnett's test cannot be used, Holm's alone.
    """
    names = list(own)
    alone = dict(zip(names, holm([own[name] for name in names]), strict=True))
    pooled = pooled_p({name: values[name] for name in names if name in values}, baseline)
    return {
        name: min(
            1.0,
            max(own[name], pooled[name]) / POOLED_SHARE if name in pooled else 1.0,
            alone[name] / (1 - POOLED_SHARE if name in pooled else 1.0),  # type: ignore[operator]
        )
        for name in names
    }


def pooled_p(
    values: Mapping[Group, Mapping[Any, float]], baseline: Mapping[Any, float]
) -> dict[Group, float]:
    """Dunnett's two-sided p-values with the residual variance of the additive model setting + seed.

    Over the units that all groups share with the baseline. Empty where there are fewer than two of either, no
    residual, or where the baseline's residuals are larger than the others' (F test at 30 %): every contrast has the
    baseline in it, and a pooled variance would then be too small for all of them.
    """
    able = {name: own for name, own in values.items() if len(own.keys() & baseline.keys()) >= 2}
    units = [unit for unit in baseline if all(unit in own for own in able.values())]
    if len(able) < 2 or len(units) < 2:
        return {}
    import numpy as np  # with scipy a third of the time of a `compare`: only where several recipes share seeds

    table = np.array([[one[unit] for unit in units] for one in (baseline, *able.values())])
    residual = table - table.mean(1, keepdims=True) - table.mean(0) + table.mean()
    groups, n = table.shape
    df = (groups - 1) * (n - 1)
    squares = (residual**2).sum(1)
    variance = squares.sum() / df
    if variance <= (1e-12 * np.abs(table).max()) ** 2 or _noisier(squares, n):
        return {}
    t = np.abs(table[1:].mean(1) - table[0].mean()) / np.sqrt(2 * variance / n)
    return dict(zip(able, map(float, dunnett_p(t, groups - 1, df)), strict=True))


def dunnett_p(t: Sequence[float] | Array, contrasts: int, df: float) -> Array:
    """P(max |T_i| >= t) for each t: `contrasts` Student-t variables with one denominator of `df` degrees of freedom
    and correlation 1/2, as equally large groups have with one control (Dunnett 1955).

    By Gauss's rules over the common normal part and the common denominator, closer together where that is small.
    """
    import numpy as np
    from scipy.special import gammaincinv, ndtr, stdtr

    t = np.asarray(t, dtype=np.float64)
    nodes, weights = np.polynomial.hermite_e.hermegauss(48)
    levels, shares = np.polynomial.legendre.leggauss(64)
    levels, shares = (1 + levels) / 2, shares / 2
    shares = shares * 4 * levels**3  # the denominator's distribution function is levels**4
    denominator = np.sqrt(2 * gammaincinv(df / 2, levels**4) / df)
    common, limit = np.sqrt(0.5) * nodes, t[:, None, None] * denominator[:, None]
    inside = ndtr(np.sqrt(2) * (limit + common)) - ndtr(np.sqrt(2) * (common - limit))
    outside = -np.expm1(contrasts * np.log(np.maximum(inside, 1e-300)))
    single = 2 * stdtr(df, -t)
    return np.clip(outside @ (weights / weights.sum()) @ shares, single, np.minimum(1.0, contrasts * single))


def _noisier(squares: Array, n: int) -> bool:
    from scipy.special import fdtrc

    groups = len(squares)
    df = (n - 1) * (groups - 1) / groups
    others = squares[1:].mean()
    return bool(others <= 0 or fdtrc(df, df * (groups - 1), squares[0] / others) < NOISIER)
