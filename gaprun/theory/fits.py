"""Which law does a recorded gap path follow? Fits of 1/log(t)^2, 1/(t log t), a power and an exponential,
compared.

The record is averaged in bins even in log t, from just after the gap's peak (it may grow at first, Theorem
3.3), and every law f is fitted as floor + scale * f(t) with floor, scale >= 0. Two judges: the error on the
last part of the record when only the part before it was fitted, and Akaike's criterion (corrected for small
samples and for the autocorrelation of the best fit's residuals; one sample size for all laws, or their criteria
would depend on the gap's unit). Only where both name the same law, clearly, is there a
verdict; else it is "undecided" and why.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gaprun.errors import UserError

Array = NDArray[np.float64]
START = 3.0  # steps before which log(t) is too close to 0 for a law of log(t) to mean anything
BINS_PER_DECADE = 16
SHORTEST_DECADES = 1.5
FEWEST_BINS = 16
HELD_OUT = 0.3
CLEAR = 4.0  # in units of Akaike's criterion: about e^2 in likelihood
FALLING = 20.0  # how far the best law must be ahead of a constant: early bins are the noisier ones
SMALLEST_FALL = 0.05  # of the gap, from the first five bins to the last five
REOPENED = 0.2  # a rise after the minimum, in parts of the fall before it, that ends the search for a law
UNDECIDED = "undecided"


@dataclass(frozen=True)
class Law:
    """A family floor + scale * f(t; shape); `shapes`: the searched range, if it has one."""

    name: str
    text: str
    basis: Callable[[Array, float], Array]
    shapes: tuple[float, float] | None = None


def _exponential(t: Array, decay: float) -> Array:
    return np.exp(-decay * (t - t[0]) / (t[-1] - t[0]))


LAWS = (
    Law("constant", "constant", lambda t, _: np.zeros_like(t)),
    Law("log2", "1/log(t)^2", lambda t, _: 1 / np.log(t) ** 2),
    Law("t_log_t", "1/(t log t)", lambda t, _: 1 / (t * np.log(t))),
    Law("power", "t^-p", lambda t, p: (t / t[0]) ** -p, (0.02, 6.0)),
    Law("exponential", "exp(-r t)", _exponential, (0.3, 300.0)),
)


@dataclass(frozen=True)
class Fit:
    """One law on one path: parameters, root mean square errors in sample and held out, criterion."""

    law: str
    text: str
    floor: float
    scale: float
    shape: float | None  # p of t^-p, r of exp(-r t) in 1/steps; None for laws without one
    shape_interval: tuple[float, float] | None
    rmse: float
    held_out: float
    aicc: float


@dataclass(frozen=True)
class LawVerdict:
    """The chosen law's name or "undecided", the reason in words, and every fit, best criterion first."""

    law: str
    reason: str
    points: int
    decades: float
    start: float
    fits: tuple[Fit, ...]

    def row(self) -> dict[str, Any]:
        return asdict(self)


def judge(t: Sequence[float] | Array, gap: Sequence[float] | Array) -> LawVerdict:
    """Fit every law to a gap path and choose, or say why it cannot be chosen.

    t: (N,) steps or times, increasing (those below 3 are left out); gap: (N,) >= 0. Raises UserError for
    arrays of different lengths.
    """
    from scipy.ndimage import median_filter

    times, values = np.asarray(t, dtype=float), np.asarray(gap, dtype=float)
    if times.shape != values.shape or times.ndim != 1:
        raise UserError("a gap path needs as many gaps as times")
    keep = np.isfinite(times) & np.isfinite(values) & (times >= START)
    bin_t, bin_gap = log_bins(times[keep], values[keep])
    recorded = len(bin_t)
    if recorded:
        # A median of five bins, and none of the peak's: after its highest bin, noise alone looks like a fall.
        peak = int(np.argmax(median_filter(bin_gap, 5, mode="mirror")))
        start_bin = peak + 2 if peak else 0
        bin_t, bin_gap = bin_t[start_bin:], bin_gap[start_bin:]
    points = len(bin_t)
    decades = math.log10(bin_t[-1] / bin_t[0]) if points else 0.0
    start = float(bin_t[0]) if points else math.nan

    def verdict(law: str, reason: str, fits: Sequence[Fit] = ()) -> LawVerdict:
        return LawVerdict(law, reason, points, decades, start, tuple(fits))

    if points < FEWEST_BINS or decades < SHORTEST_DECADES:
        if points < 4 and recorded >= FEWEST_BINS:
            return verdict(UNDECIDED, "the gap is highest at the end of the record: it is not closing yet")
        return verdict(
            UNDECIDED,
            f"too short to tell: after its peak the record has {points} log-spaced points over {decades:.1f} "
            f"decades; at least {FEWEST_BINS} over {SHORTEST_DECADES} are needed",
        )
    searched = [_search(law, bin_t, bin_gap) for law in LAWS]
    sample = _independent(min((found.residuals for found in searched), key=lambda own: float(own @ own)))
    fits = sorted(
        (_fit(law, bin_t, bin_gap, found, sample) for law, found in zip(LAWS, searched, strict=True)),
        key=lambda fit: fit.aicc,
    )
    smooth = median_filter(bin_gap, 5, mode="mirror")
    low = int(np.argmin(smooth))
    rise = float(smooth[low:].max() - smooth[low])
    if rise > max(REOPENED * float(smooth[0] - smooth[low]), SMALLEST_FALL * float(smooth[low])):
        reason = f"the gap falls to {smooth[low]:.3g} near step {bin_t[low]:.0f} and opens again: no law of closing"
        return verdict(UNDECIDED, reason, fits)
    fall = 1 - float(np.median(bin_gap[-5:]) / np.median(bin_gap[:5]))
    return verdict(*_choose(fits, fall), fits)


def log_bins(t: Array, values: Array) -> tuple[Array, Array]:
    """Means of t and values in bins even in log t (BINS_PER_DECADE a decade); empty bins are left out."""
    if not len(t):
        return t, values
    index = np.floor(np.log10(t / t.min()) * BINS_PER_DECADE + 1e-9).astype(int)
    counts = np.bincount(index)
    filled = counts > 0
    sums = [np.bincount(index, weights=column)[filled] / counts[filled] for column in (np.log(t), values)]
    return np.exp(sums[0]), sums[1]


def _choose(fits: Sequence[Fit], fall: float) -> tuple[str, str]:
    best, runner = fits[0], fits[1]
    held_out = min(fits, key=lambda fit: fit.held_out)
    constant = next(fit for fit in fits if fit.law == "constant")
    ahead = constant.aicc - next(fit for fit in fits if fit.law != "constant").aicc
    if fall < SMALLEST_FALL:
        how = f"falls by {100 * fall:.1f} % only" if fall > 0 else "does not fall"
        return UNDECIDED, (
            f"the gap {how} over the record: no rate of closing can be told (from {100 * SMALLEST_FALL:g} % on)"
        )
    if ahead < FALLING:
        return UNDECIDED, (
            f"the gap falls by {100 * fall:.0f} %, but no law of closing describes the record clearly better than a "
            f"constant (criteria {ahead:.1f} apart, {FALLING:g} needed): it is too noisy or too short"
        )
    if best.law != held_out.law and held_out.held_out < 0.9 * best.held_out:
        return UNDECIDED, (
            f"the criterion prefers {best.text} and the held-out error {held_out.text}: no law fits both ways"
        )
    if runner.aicc - best.aicc < CLEAR:
        return UNDECIDED, (
            f"{best.text} and {runner.text} cannot be told apart (criteria {runner.aicc - best.aicc:.1f} "
            f"apart, {CLEAR:g} needed): a longer record would tell"
        )
    if best.shape is not None and best.shape_interval is None:
        return UNDECIDED, f"{best.text} fits best, but the record is too short to pin its shape down"
    return best.law, (
        f"{best.text} is best by criterion ({runner.aicc - best.aicc:.1f} ahead of {runner.text}) "
        f"and by held-out error ({best.held_out:.2g})"
    )


def _fit(law: Law, t: Array, gap: Array, found: Searched, sample: float) -> Fit:
    shape, floor, scale, residuals = found
    cut = round(len(t) * (1 - HELD_OUT))
    early_shape, early_floor, early_scale, _ = _search(law, t[:cut], gap[:cut])
    # The exponential's shape is per length of the fitted record.
    stretch = (t[-1] - t[0]) / (t[cut - 1] - t[0]) if law.name == "exponential" else 1.0
    predicted = early_floor + early_scale * law.basis(t, early_shape * stretch)
    natural = 1 / float(t[-1] - t[0]) if law.name == "exponential" else 1.0
    interval = _shape_interval(law, t, gap, shape, residuals, sample) if law.shapes else None
    parameters = 1 + (law.name != "constant") + (law.shapes is not None)
    return Fit(
        law=law.name,
        text=law.text,
        floor=floor,
        scale=scale * (float(t[0]) ** shape if law.name == "power" else 1.0),
        shape=shape * natural if law.shapes else None,
        shape_interval=(interval[0] * natural, interval[1] * natural) if interval else None,
        rmse=float(np.sqrt((residuals**2).mean())),
        held_out=float(np.sqrt(((predicted - gap)[cut:] ** 2).mean())),
        aicc=_aicc(residuals, parameters, sample),
    )


class Searched(NamedTuple):
    """Least squares of one law: the best shape (0 for laws without one), floor, scale, and (N,) residuals."""

    shape: float
    floor: float
    scale: float
    residuals: Array


def _search(law: Law, t: Array, gap: Array) -> Searched:
    """Best shape on a grid in its logarithm, then refined."""
    from scipy.optimize import minimize_scalar

    if law.shapes is None:
        floor, scale, residuals = _linear(law.basis(t, 0.0), gap)
        return Searched(0.0, floor, scale, residuals)

    def cost(log_shape: float) -> float:
        return float((_linear(law.basis(t, math.exp(log_shape)), gap)[2] ** 2).sum())

    grid = np.linspace(math.log(law.shapes[0]), math.log(law.shapes[1]), 60)
    low = int(np.argmin([cost(x) for x in grid]))
    bounds = (grid[max(low - 1, 0)], grid[min(low + 1, len(grid) - 1)])
    shape = math.exp(minimize_scalar(cost, bounds=bounds, method="bounded").x)
    return Searched(shape, *_linear(law.basis(t, shape), gap))


def _linear(basis: Array, gap: Array) -> tuple[float, float, Array]:
    """Least squares of gap on floor + scale * basis with floor, scale >= 0 (both bounds tried in turn)."""
    from scipy.stats import linregress

    scale = max(float(linregress(basis, gap).slope), 0.0) if np.ptp(basis) > 0 else 0.0
    floor = float(gap.mean() - scale * basis.mean())
    if floor < 0:
        floor, scale = 0.0, max(float(basis @ gap) / float(basis @ basis), 0.0)
    return floor, scale, floor + scale * basis - gap


def _independent(residuals: Array) -> float:
    """How many of N residuals count as independent: N (1-r)/(1+r) for lag-1 r, and enough for three parameters."""
    n, energy = len(residuals), float(residuals @ residuals)
    r = float(residuals[1:] @ residuals[:-1]) / energy if energy > 0 else 0.0
    return max(n * (1 - r) / (1 + r), 6.0) if r > 0 else float(n)


def _aicc(residuals: Array, parameters: int, sample: float) -> float:
    """Akaike's corrected criterion of so many independent residuals; the gap's unit adds the same to every law's."""
    k = parameters + 1  # and the variance
    variance = max(float(residuals @ residuals) / len(residuals), 1e-24)
    return sample * math.log(variance) + 2 * k + 2 * k * (k + 1) / (sample - k - 1)


def _shape_interval(
    law: Law, t: Array, gap: Array, shape: float, residuals: Array, sample: float
) -> tuple[float, float] | None:
    """Shapes within the 95 % likelihood-ratio bound of so many independent residuals; None at an edge of the range."""
    from scipy.optimize import brentq
    from scipy.stats import chi2

    assert law.shapes is not None
    allowed = float(residuals @ residuals) * math.exp(float(chi2.ppf(0.95, 1)) / sample)

    def excess(log_shape: float) -> float:
        return float((_linear(law.basis(t, math.exp(log_shape)), gap)[2] ** 2).sum()) - allowed

    best, ends = math.log(shape), [math.log(edge) for edge in law.shapes]
    if min(excess(end) for end in ends) < 0 or excess(best) >= 0:
        return None
    low, high = (math.exp(float(brentq(excess, *sorted((best, end))))) for end in ends)
    return low, high
