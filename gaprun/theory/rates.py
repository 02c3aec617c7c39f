"""Rates measured on a reduced flow: slopes with intervals, local slopes by window, published values beside.

An interval here is about a deterministic curve: it combines how much the slope varies inside the window
(batch means, 95 % Student) with how much the integration could be off. A published value is said to agree
when it lies inside the interval or within 0.1 % of the measured slope.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaprun.theory.reduced import Flow
from gaprun.theory.rules import ExponentialFlow, FixedFlow, ScheduledFlow, SoftplusFlow

Array = NDArray[np.float64]
EDGES = (1e1, 1e3, 1e6, 1e12, 1e30, 1e100, 1e300)
TOLERANCE = 1e-3
BATCHES = 6
FAR = 0.5  # a window this far from a limit says nothing about it
LEMMA_FORM = "(ln gamma - gamma^2/2)"  # its slope has the Lemma's factor 1 - gamma^2 in it


@dataclass(frozen=True)
class Rate:
    """A measured slope dy/dx over a window of time, its 95 % interval, and what theory says it should be."""

    y: str
    x: str
    value: float
    low: float
    high: float
    window: tuple[float, float]  # in t
    expected: float | None = None
    source: str | None = None  # "published: ..." or "derived: ..."
    bound: bool = False  # the published statement is "no faster than": a lower bound for a negative slope
    remains: float = 0.0  # how far, relatively, the window still is from the limit that `expected` is

    @property
    def name(self) -> str:
        return f"d {self.y} / d {self.x}"

    @property
    def verdict(self) -> str | None:
        """(dis)agrees, within or outside the bound; None where nothing is expected or could be measured."""
        if self.expected is None or math.isnan(self.value) or self.remains > FAR:
            return None
        slack = max(self.high - self.value, (TOLERANCE + self.remains) * abs(self.expected))
        if self.bound:
            return "within the bound" if self.value >= self.expected - slack else "outside the bound"
        return "agrees" if abs(self.value - self.expected) <= slack else "disagrees"

    def row(self) -> dict[str, Any]:
        return asdict(self) | {"name": self.name, "verdict": self.verdict}


def slope(x: Array, y: Array, uncertainty: float = 0.0) -> tuple[float, float]:
    """Least-squares slope of y on x and the half-width of its 95 % interval.

    x, y: (N,) with N >= 4, x monotone; `uncertainty` is the largest numerical error of y. The half-width is
    Student's over the slopes of consecutive batches (they see curvature, which ordinary residuals
    understate), plus 2 * uncertainty / span. Returns (nan, nan) for an x without span.
    """
    from scipy.stats import linregress
    from scipy.stats import t as student

    span = float(np.ptp(x)) if len(x) >= 4 else 0.0
    if span == 0:
        return math.nan, math.nan
    value = float(linregress(x, y).slope)
    batches = min(BATCHES, len(x) // 2)
    parts = [linregress(a, b).slope for a, b in zip(_split(x, batches), _split(y, batches), strict=True)]
    spread = float(np.std(parts, ddof=1)) / math.sqrt(batches)
    return value, float(student.ppf(0.975, batches - 1)) * spread + 2 * uncertainty / span


def measure(flow: Flow, y: str, x: str, start: float, end: float, **theory: Any) -> Rate:
    """The slope of quantity `y` against `x` (names of `quantities`) for start <= t <= end."""
    table = quantities(flow)
    inside = (flow.t >= start) & (flow.t <= end) & np.isfinite(table[x]) & np.isfinite(table[y])
    uncertainty = float(flow.uncertainty[inside].max(initial=0.0))
    value, half = slope(table[x][inside], table[y][inside], uncertainty)
    return Rate(y, x, value, value - half, value + half, (start, end), **theory)


def quantities(flow: Flow) -> dict[str, Array]:
    """The columns between which slopes are taken, each of the flow's length; undefined entries: nan, inf."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ln_t = np.log(flow.t)
        return {
            "t": flow.t,
            "ln t": ln_t,
            "ln ln t": np.log(ln_t),
            "ln gamma": flow.ln_gamma,
            LEMMA_FORM: flow.ln_gamma - flow.gamma**2 / 2,
            "ln Delta": flow.ln_delta,
            "ln beta": np.log(flow.beta),
            "beta^2": flow.beta**2,
        }


def windows(flow: Flow, y: str = "ln gamma", x: str = "ln ln t") -> list[Rate]:
    """Local slopes of `y` against `x` in the windows of EDGES that the flow covers; [] but for exponential rules.

    Only those fall like a power of log t; for the others the slope has no limit.
    """
    if not isinstance(flow.rule, ExponentialFlow):
        return []
    reached = [edge for edge in EDGES if edge <= flow.t[-1] * (1 + 1e-9)]
    return [measure(flow, y, x, a, b) for a, b in zip(reached[:-1], reached[1:], strict=True)]


def flow_rates(flow: Flow) -> dict[str, Rate]:
    """Every rate that has a meaning for the flow's rule, over the last third of log time, by name.

    The Lemma's form, with its factor 1 - gamma^2, holds along the whole path and is measured along all of
    it.
    """
    end = float(flow.t[-1])
    start = math.expm1(math.log1p(end) * 2 / 3)
    rule, positive = flow.rule, flow.landscape.margin > 0
    tail = flow.t >= start
    flat = 1 / (1 - float(flow.gamma[tail].max()) ** 2)  # how far the window still is from gamma = 0
    rates = []
    of_log_t: dict[str, Any] = {}
    of_t: dict[str, Any] = {}
    if isinstance(rule, ExponentialFlow):
        limit = -2.0 * rule.k**2
        lemma = {"expected": limit, "source": "published: Lemma 3.1" if rule.k == 1 else "derived: -2 k^2"}
        rates.append(measure(flow, "ln gamma", "ln beta", start, end, remains=flat - 1, **lemma))
        rates.append(measure(flow, LEMMA_FORM, "ln beta", 0.0, end, **lemma))
        if positive:
            source = "published: Theorem 3.2, a bound" if rule.k == 1 else "derived: a bound"
            of_log_t = {"expected": limit, "source": source, "bound": True}
    if isinstance(rule, SoftplusFlow):
        remains = flat / math.expm1(-float(flow.beta[tail].min())) ** 2 - 1
        derived = {"expected": -1.0, "source": "derived: at large beta", "remains": remains}
        rates.append(measure(flow, "ln gamma", "beta^2", start, end, **derived))
        if positive:
            of_t = {"expected": -1.0, "source": "published: App. C, as reported"}
    for y in ("ln gamma", "ln Delta"):
        gamma_only = y == "ln gamma"
        if isinstance(rule, FixedFlow | ScheduledFlow):
            theory = _fixed_rate(flow, float(flow.beta[-1])) if gamma_only else {}
            rates.append(measure(flow, y, "t", start, end, **theory))
            continue
        if isinstance(rule, ExponentialFlow):
            rates.append(measure(flow, y, "ln ln t", start, end, **of_log_t))
        rates.append(measure(flow, y, "ln t", start, end, **(of_t if gamma_only else {})))
    return {rate.name: rate for rate in rates}


def _fixed_rate(flow: Flow, beta: float) -> dict[str, Any]:
    """At a constant beta, d ln gamma/dt tends to 2 beta l'(beta)."""
    sign, log_slope = flow.landscape.slope(beta)
    remains = (
        2 * beta * float(flow.gamma[-1]) ** 2
    )  # first order of l'(beta (1 - gamma^2)) in gamma^2, loosely
    limit = 2 * beta * sign * math.exp(log_slope)
    return {"expected": limit, "source": "derived: 2 beta l'(beta)", "remains": remains}


@dataclass(frozen=True)
class AppendixC:
    """What the softplus claim gamma = Theta(1/(t log t)) looks like on measured flows; arrays over `t`."""

    t: Array
    softplus_slope: Array  # d ln gamma / d ln t under softplus
    claimed_slope: Array  # -(1 + 1/ln t), the slope of 1/(t log t)
    exp_rate: Array  # -(1/2) t ln t d ln gamma/dt under exp; 1 in the limit
    softplus_rate: Array  # -(1/2) (t / ln t) d ln gamma/dt under softplus; 1/margin^2 in the limit

    @property
    def holds(self) -> bool:
        """Whether softplus's measured slope comes within 10 % of the claimed one at the end."""
        return bool(abs(self.softplus_slope[-1] / self.claimed_slope[-1] - 1) < 0.1)


ASSUMPTIONS = "parallel modalities; u and v fixed; positive margin; gradient flow in gamma and nu at one rate"


def appendix_c(softplus: Flow, exponential: Flow, start: float = 1e3) -> AppendixC | None:
    """Compare both flows (of the same records) with the claim for t >= `start`; None when that is too short."""
    shared = min(len(softplus.t), len(exponential.t))
    keep = softplus.t[:shared] >= start
    if keep.sum() < 4:
        return None
    t = softplus.t[:shared][keep]
    ln_t = np.log(t)
    slopes = [
        np.gradient(flow.ln_gamma[:shared], np.log1p(flow.t[:shared]))[keep]
        for flow in (softplus, exponential)
    ]
    return AppendixC(
        t=t,
        softplus_slope=slopes[0],
        claimed_slope=-(1 + 1 / ln_t),
        exp_rate=-slopes[1] * ln_t / 2,
        softplus_rate=-slopes[0] / ln_t / 2,
    )


def _split(values: Array, parts: int) -> list[Array]:
    """Consecutive parts that share their end points, so that each has at least two values."""
    edges = np.linspace(0, len(values) - 1, parts + 1).round().astype(int)
    return [values[a : b + 1] for a, b in zip(edges[:-1], edges[1:], strict=True)]
