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
    a recipe with little spread is not drowned by others with much. Groups that Dunnett's test leaves out (they share no
    two units with the baseline) have their part of the error by their number, with Holm's correction among themselves.
    Where it cannot be used at all, Holm's alone.
    """
    pooled = pooled_p({name: values[name] for name in own if name in values}, baseline)
    found: dict[Group, float] = {}
    for names in ([name for name in own if name in pooled], [name for name in own if name not in pooled]):
        corrected = holm([own[name] for name in names])
        for name, alone in zip(names, corrected, strict=True):
            assert alone is not None
            p = alone
            if name in pooled:
                p = min(max(own[name], pooled[name]) / POOLED_SHARE, alone / (1 - POOLED_SHARE))
            found[name] = min(1.0, p * (len(own) / len(names)))  # by 1.0 exactly where all are of a kind
    return {name: found[name] for name in own}


def pooled_p(
    values: Mapping[Group, Mapping[Any, float]], baseline: Mapping[Any, float]
) -> dict[Group, float]:
    """Dunnett's two-sided p-values with the residual variance of the additive model setting + seed, by least squares.

    Of the groups that share two units or more with the baseline, each over all that it shares; a unit that some groups
    lack counts for the others. Empty where there are fewer than two such groups, no residual, or where the baseline's
    residuals are larger than the others' (F test at 30 %): every contrast has the baseline in it, and a pooled variance
    would then be too small for all of them.
    """
    able = {name: own for name, own in values.items() if len(own.keys() & baseline.keys()) >= 2}
    units = [unit for unit in baseline if any(unit in own for own in able.values())]
    if len(able) < 2 or len(units) < 2:
        return {}
    import numpy as np  # with scipy a third of the time of a `compare`: only where several recipes share seeds

    table = np.array([[one.get(unit, np.nan) for unit in units] for one in (baseline, *able.values())])
    there = ~np.isnan(table)
    squares, df, own_df = _residuals(table, there)
    variance = squares.sum() / df
    if variance <= (1e-12 * np.nanmax(np.abs(table))) ** 2 or _noisier(squares, df, own_df):
        return {}
    pairs = there[1:].sum(1)
    t = np.abs(np.nanmean(table[1:] - table[0], axis=1)) / np.sqrt(2 * variance / pairs)
    return dict(
        zip(able, map(float, dunnett_p(t, len(able), df, _least_correlation(there[1:]))), strict=True)
    )


def dunnett_p(t: Sequence[float] | Array, contrasts: int, df: float, correlation: float = 0.5) -> Array:
    """P(max |T_i| >= t) for each t: `contrasts` Student-t variables with one denominator of `df` degrees of freedom
    and one `correlation`: 1/2, as equally large groups have with one control (Dunnett 1955), or less.

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
    common, limit = np.sqrt(correlation) * nodes, t[:, None, None] * denominator[:, None]
    scale = np.sqrt(1 - correlation)
    inside = ndtr((limit + common) / scale) - ndtr((common - limit) / scale)
    outside = -np.expm1(contrasts * np.log(np.maximum(inside, 1e-300)))
    single = 2 * stdtr(df, -t)
    return np.clip(outside @ (weights / weights.sum()) @ shares, single, np.minimum(1.0, contrasts * single))


def _residuals(table: Array, there: NDArray[np.bool_]) -> tuple[Array, float, float]:
    """Of least squares on setting + unit over (groups, units), NaN where there is no value.

    Returns each group's sum of squares, the degrees of freedom of all, and those of the first group.
    """
    import numpy as np

    count = there.sum(1, keepdims=True)
    centred = np.where(there, table - np.nanmean(table, axis=1, keepdims=True), 0.0)
    inverse = np.linalg.pinv(np.diag(there.sum(0)) - (there / count).T @ there, rcond=1e-10, hermitian=True)
    effect = np.where(there, inverse @ centred.sum(0), 0.0)
    residual = np.where(there, centred - effect + effect.sum(1, keepdims=True) / count, 0.0)
    groups, units = there.shape
    first = np.diag(there[0].astype(float)) - np.outer(there[0], there[0]) / count[0]
    own = float(np.trace(first) - np.trace(first @ inverse))
    return (residual**2).sum(1), float(there.sum() - groups - units + 1), own


def _least_correlation(there: NDArray[np.bool_]) -> float:
    """The smallest correlation of two groups' differences from the baseline: 1/2 where all have the same units."""
    import numpy as np

    kinds = np.unique(there, axis=0)
    both = kinds.astype(float) @ kinds.T
    size = np.sqrt(np.diag(both))
    found = both / np.outer(size, size) / 2
    return float(found.min())


def _noisier(squares: Array, df: float, own: float) -> bool:
    """Whether the first group's residuals look larger than the others'."""
    from scipy.special import fdtrc

    others = squares[1:].sum() / (df - own)
    return bool(others <= 0 or fdtrc(own, df - own, squares[0] / own / others) < NOISIER)
