"""The reduced flow: the paper's system in (gamma, nu), integrated in log time over very long horizons.

Parallel modalities x_i = (sqrt(1-gamma^2) u_i, gamma), y_i = (sqrt(1-gamma^2) v_i, -gamma) with fixed unit
u, v have x_i.y_j = (1-gamma^2) u_i.v_j - gamma^2. The shift cancels in the softmax, so the loss is l(s) with
s = beta (1 - gamma^2), and gradient flow reads (our algebra, equal to the paper's Lemma 3.1)

    d ln gamma / dt = 2 beta l'(s),    d nu / dt = -beta'(nu) (1 - gamma^2) l'(s).

The clock is tau = ln(1 + t), which starts at t = 0 and turns t = 1e300 into tau = 691; ln gamma is
integrated because gamma itself underflows, and l' is handled as sign and logarithm for the same reason.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gaprun.errors import Failure, UserError
from gaprun.theory.rules import FixedFlow, Rule

Array = NDArray[np.float64]
FLOOR = -1e9  # ln gamma at which an integration stops: under a fixed beta it falls linearly in t without end
RTOL = 1e-11


class Landscape(Protocol):
    """The loss as a function of s = beta (1 - gamma^2), for directions u and v that do not move."""

    @property
    def margin(self) -> float:
        """Smallest lead of a right pair over a wrong one; negative when some pair is mismatched."""

    def slope(self, s: float) -> tuple[float, float]:
        """l'(s) as (sign, ln |l'(s)|)."""

    def ln_delta(self, ln_gamma: float) -> float:
        """ln of the modality gap, the distance of the two clouds' means, at gamma = exp(`ln_gamma`)."""


@dataclass(frozen=True)
class FixedMargin:
    """Every wrong pair trails its right pair by the same `margin`: l(s) = ln(1 + (n-1) e^(-s margin)), Delta
    = 2 gamma.

    A negative margin is the paper's mismatched case, in which the gap grows.
    """

    margin: float = 1.0
    pairs: int = 512

    def __post_init__(self) -> None:
        if not 0 < abs(self.margin) <= 2:
            raise UserError(f"the margin must be in [-2, 2] and not 0, not {self.margin}")
        if self.pairs < 2:
            raise UserError(f"a contrastive loss needs at least 2 pairs, not {self.pairs}")

    def slope(self, s: float) -> tuple[float, float]:
        z = math.log(self.pairs - 1) - s * self.margin
        log_share = -math.log1p(math.exp(-z)) if z > 0 else z - math.log1p(math.exp(z))
        return -math.copysign(1.0, self.margin), math.log(abs(self.margin)) + log_share

    def ln_delta(self, ln_gamma: float) -> float:
        return math.log(2) + ln_gamma


class GivenFeatures:
    """The symmetric cross-entropy of given unit directions u, v, both (n, d); row i of each is a pair."""

    def __init__(self, u: Array, v: Array) -> None:
        if u.ndim != 2 or u.shape != v.shape or len(u) < 2:
            raise UserError(f"u and v must both be (n, d) with n >= 2, not {u.shape} and {v.shape}")
        u, v = (a / np.linalg.norm(a, axis=1, keepdims=True) for a in (u.astype(float), v.astype(float)))
        cosines = u @ v.T
        own = np.diag(cosines)
        # Rows: an image among texts; columns: a text among images. Both as differences from the right pair.
        self._differences = np.concatenate([cosines - own[:, None], cosines.T - own[:, None]])
        wrong = ~np.eye(len(u), dtype=bool)
        self._wrong = np.concatenate([wrong, wrong])
        self.margin = float(-(cosines - own[:, None])[wrong].max())
        self._centroids = float(np.linalg.norm(u.mean(0) - v.mean(0)))

    def slope(self, s: float) -> tuple[float, float]:
        scores = s * self._differences
        top = scores.max(axis=1, keepdims=True)
        log_p = scores - top - np.log(np.exp(scores - top).sum(axis=1, keepdims=True))
        shift = float(log_p[self._wrong].max())
        weights = np.exp(np.where(self._wrong, log_p - shift, -np.inf))
        total = float((weights * self._differences).sum()) / len(scores)
        return math.copysign(1.0, total), math.log(max(abs(total), 1e-300)) + shift

    def ln_delta(self, ln_gamma: float) -> float:
        """Delta^2 = (1 - gamma^2) |mean u - mean v|^2 + 4 gamma^2: a floor when the means differ."""
        centroids = math.sqrt(max(-math.expm1(2 * ln_gamma), 0.0)) * self._centroids
        if centroids == 0:
            return math.log(2) + ln_gamma
        return math.log(math.hypot(centroids, 2 * math.exp(ln_gamma)))


@dataclass(frozen=True)
class Flow:
    """One integrated trajectory: arrays of one length over `t`, and how far it may be trusted."""

    rule: Rule
    landscape: Landscape
    t: Array
    ln_gamma: Array
    beta: Array
    ln_delta: Array
    crossings: dict[float, float | None]  # gamma threshold -> time at which it is crossed
    stopped: str | None  # why it ended before the horizon
    rtol: float
    error: float  # relative; see `error_kind`
    error_kind: str
    drift: Array = field(repr=False)  # the conserved quantity minus its first value; zeros without one
    uncertainty: Array = field(repr=False)  # of ln gamma: largest of drift, change under 10 rtol, 10 rtol

    @property
    def gamma(self) -> Array:
        """exp(ln gamma); 0 where that underflows."""
        return np.exp(self.ln_gamma)

    @property
    def delta(self) -> Array:
        """The modality gap, 0..2."""
        return np.exp(self.ln_delta)

    def rows(self) -> list[dict[str, float]]:
        """The trajectory as the JSON contract writes it: t, gamma, ln_gamma, beta, delta."""
        names = ("t", "gamma", "ln_gamma", "beta", "delta")
        columns = [getattr(self, name).tolist() for name in names]
        return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def integrate(
    rule: Rule,
    landscape: Landscape,
    *,
    beta: float,
    gamma: float = 0.3,
    horizon: float = 1e300,
    points: int = 600,
    rtol: float = RTOL,
    thresholds: Sequence[float] = (),
) -> Flow:
    """Integrate the reduced flow from (`gamma`, `beta`) at t = 0 to t = `horizon` and say how exact it is.

    `gamma` in (0, 1); `horizon` in (0, 1e300]; `points` records, spread over ln(1 + t); `thresholds` are
    gammas whose crossing times are wanted. The error is the drift of the rule's conserved quantity relative
    to its value; where none exists it is the exact time by quadrature (fixed beta) or the change under a ten
    times looser tolerance. Raises UserError for values outside these ranges and Failure when the solver
    gives up.
    """
    if not 0 < gamma < 1:
        raise UserError(f"gamma must lie between 0 and 1, not {gamma}")
    if not 0 < horizon <= 1e300:
        raise UserError(f"the horizon must lie between 0 and 1e300, not {horizon}")
    if not 1e-13 <= rtol <= 1e-3:
        raise UserError(f"the tolerance must lie between 1e-13 and 1e-3, not {rtol}")
    if wrong := [one for one in thresholds if not 0 < one < 1]:
        raise UserError(f"a threshold is a gamma, between 0 and 1, not {wrong[0]}")
    if points < 10:
        raise UserError(f"at least 10 points are needed to measure a rate, not {points}")
    solution = _solve(rule, landscape, gamma, beta, horizon, points, rtol, thresholds)
    t = np.expm1(solution.t)
    t[-1] = min(t[-1], horizon) if solution.status else horizon
    ln_gamma = solution.y[0]
    betas = np.array([rule.beta(nu, time) for nu, time in zip(solution.y[1], t, strict=True)])
    looser = _solve(rule, landscape, gamma, beta, horizon, points, rtol * 10, ()).y[0]
    change = np.abs(np.interp(t, t[: len(looser)], looser[: len(t)]) - ln_gamma)
    drift = np.zeros_like(t)
    values = [rule.invariant(g, b) for g, b in zip(ln_gamma, betas, strict=True)]
    first = values[0]
    if first is not None:
        drift = np.array(values, dtype=float) - first
        error, kind = float(np.abs(drift).max() / max(abs(first), 1.0)), "conserved quantity"
    elif isinstance(rule, FixedFlow):
        error, kind = _quadrature_error(rule, landscape, t, ln_gamma), "exact time by quadrature"
    else:
        error, kind = float((change / np.maximum(np.abs(ln_gamma), 1)).max()), "ten times looser tolerance"
    return Flow(
        rule=rule,
        landscape=landscape,
        t=t,
        ln_gamma=ln_gamma,
        beta=betas,
        ln_delta=np.array([landscape.ln_delta(g) for g in ln_gamma]),
        crossings={
            level: (float(np.expm1(hits[0])) if len(hits) else None)
            for level, hits in zip(thresholds, solution.t_events[2:], strict=True)
        },
        stopped=_why(solution),
        rtol=rtol,
        error=error,
        error_kind=kind,
        drift=drift,
        uncertainty=np.maximum.reduce([change, np.abs(drift), 10 * rtol * np.abs(ln_gamma)]),
    )


def _solve(
    rule: Rule,
    landscape: Landscape,
    gamma: float,
    beta: float,
    horizon: float,
    points: int,
    rtol: float,
    thresholds: Sequence[float],
) -> Any:
    from scipy.integrate import solve_ivp

    def rates(tau: float, state: Array) -> list[float]:
        ln_gamma, nu = float(state[0]), float(state[1])
        rest = -math.expm1(2 * min(ln_gamma, 0.0))
        b = rule.beta(nu, math.expm1(tau))
        sign, log_slope = landscape.slope(b * rest)
        pull = sign * math.exp(min(log_slope + tau, 700.0))  # l'(s) dt/dtau
        return [2 * b * pull, -rule.slope(nu) * rest * pull]

    def event(level: float, stop: bool) -> Any:
        def crossing(tau: float, state: Array) -> float:
            return float(state[0]) - level

        crossing.terminal = stop  # type: ignore[attr-defined]
        return crossing

    events = [event(FLOOR, True), event(-1e-9, True)]
    events += [event(math.log(level), False) for level in thresholds]
    end = math.log1p(horizon)
    solution = solve_ivp(
        rates,
        (0.0, end),
        [math.log(gamma), rule.nu(beta)],
        method="LSODA",
        t_eval=_records(end, points),
        events=events,
        rtol=rtol,
        atol=rtol,
        max_step=end / 50,  # so that no threshold and no late start of the motion is stepped over
    )
    if solution.status < 0 or not np.isfinite(solution.y).all():
        raise Failure(f"the reduced flow under {rule.name} did not integrate: {solution.message}")
    return solution


def _records(end: float, points: int) -> Array:
    """Times in [0, `end`], half of them even and half crowded to the start, where windows are short."""
    even, early = points // 2, points - points // 2
    crowded = np.expm1(np.linspace(0.0, math.log1p(end), early + 2))[1:-1]
    return np.unique(np.concatenate([np.linspace(0.0, end, even), crowded]))


def _why(solution: Any) -> str | None:
    if solution.status == 0:
        return None
    if len(solution.t_events[0]):
        return f"ln gamma fell below {FLOOR:g}"
    return "gamma reached 1: the two modalities have collapsed to opposite points"


def _quadrature_error(rule: FixedFlow, landscape: Landscape, t: Array, ln_gamma: Array) -> float:
    """Largest relative error of t against t(gamma), the integral of d ln gamma / (2 beta l'(s)), on each
    record.

    Once gamma^2 is below float64's resolution the integrand is constant, so the integral stops being stiff
    there.
    """
    from scipy.integrate import quad

    def time_per_log(x: float) -> float:
        sign, log_slope = landscape.slope(-rule.value * math.expm1(2 * x))
        return sign / (2 * rule.value) * math.exp(-log_slope)

    edge = -20.0
    exact, total = [0.0], 0.0
    for start, end in zip(ln_gamma[:-1], ln_gamma[1:], strict=True):
        turn = min(max(edge, end), start)
        total += quad(time_per_log, start, turn, epsrel=1e-12)[0] + time_per_log(edge) * (end - turn)
        exact.append(total)
    return float(np.max(np.abs(np.array(exact) - t)[1:] / t[1:]))
