"""Temperature rules of the theory: the inverse temperature beta as a function of its parameter nu and of t.

These are scalar, float64 twins of the training code's temperatures, with what only the theory needs: the
slope dbeta/dnu, its inverse, and the quantity that each rule's flow conserves. Derivation of the conserved
quantities (ours, from Lemma 3.1 of the paper): divide dgamma/dt by dbeta/dt and integrate, with u and v
fixed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from gaprun.errors import UserError


class Rule(Protocol):
    """One temperature rule; `learned` says whether nu moves by gradient flow."""

    @property
    def name(self) -> str:
        """The rule as a reader writes it, such as `exp(nu/2)`."""

    @property
    def learned(self) -> bool:
        """Whether nu follows the gradient (false: beta is a function of time alone)."""

    def nu(self, beta: float) -> float:
        """The parameter that gives `beta` (> 0)."""

    def beta(self, nu: float, t: float) -> float:
        """The inverse temperature at parameter `nu` and time `t` (>= 0)."""

    def slope(self, nu: float) -> float:
        """dbeta/dnu; 0 when the rule is not learned."""

    def invariant(self, ln_gamma: float, beta: float) -> float | None:
        """What the flow with fixed u, v conserves, in units of ln gamma, or None."""


@dataclass(frozen=True)
class ExponentialFlow:
    """beta = exp(nu / k): CLIP's rule for k = 1 and the paper's slower reparameterisation for k > 1.

    Conserved: ln gamma - gamma^2/2 + 2 k^2 ln beta.
    """

    k: float = 1.0
    learned: bool = True

    def __post_init__(self) -> None:
        if not self.k > 0:
            raise UserError(f"exp(nu/k) needs k > 0, not {self.k}")

    @property
    def name(self) -> str:
        return "exp" if self.k == 1 else f"exp(nu/{self.k:g})"

    def nu(self, beta: float) -> float:
        return self.k * math.log(beta)

    def beta(self, nu: float, t: float) -> float:
        return math.exp(nu / self.k)

    def slope(self, nu: float) -> float:
        return math.exp(nu / self.k) / self.k

    def invariant(self, ln_gamma: float, beta: float) -> float:
        return _gamma_part(ln_gamma) + 2 * self.k**2 * math.log(beta)


@dataclass(frozen=True)
class SoftplusFlow:
    """beta = log(1 + e^nu), the paper's TR. Conserved: ln gamma - gamma^2/2 + I(beta)."""

    name: str = "softplus"
    learned: bool = True

    def nu(self, beta: float) -> float:
        return beta + math.log(-math.expm1(-beta))

    def beta(self, nu: float, t: float) -> float:
        return max(nu, 0.0) + math.log1p(math.exp(-abs(nu)))

    def slope(self, nu: float) -> float:
        return 1 / (1 + math.exp(-nu)) if nu >= 0 else math.exp(nu) / (1 + math.exp(nu))

    def invariant(self, ln_gamma: float, beta: float) -> float:
        return _gamma_part(ln_gamma) + softplus_integral(beta)


@dataclass(frozen=True)
class FixedFlow:
    """beta held at its first value (the paper's FLT)."""

    value: float
    name: str = "fixed"
    learned: bool = False

    def nu(self, beta: float) -> float:
        return 0.0

    def beta(self, nu: float, t: float) -> float:
        return self.value

    def slope(self, nu: float) -> float:
        return 0.0

    def invariant(self, ln_gamma: float, beta: float) -> None:
        return None


@dataclass(frozen=True)
class ScheduledFlow:
    """Temperature rising linearly from `start` to `end` over `duration`, then held (the paper's TS)."""

    start: float = 0.01
    end: float = 0.05
    duration: float = 1e4
    name: str = "schedule"
    learned: bool = False

    def __post_init__(self) -> None:
        if not (self.start > 0 and self.end > 0 and self.duration > 0):
            raise UserError("a temperature schedule needs start, end and duration above 0")

    def nu(self, beta: float) -> float:
        return 0.0

    def beta(self, nu: float, t: float) -> float:
        return 1 / (self.start + (self.end - self.start) * min(t / self.duration, 1.0))

    def slope(self, nu: float) -> float:
        return 0.0

    def invariant(self, ln_gamma: float, beta: float) -> None:
        return None


def softplus_integral(beta: float) -> float:
    """I(beta) with I'(beta) = 2 beta / (1 - e^-beta)^2; I = beta^2 (1 + o(1)) for large beta.

    Closed form (ours): beta^2 + 2 (beta + 1) ln(1 - e^-beta) - 2 Li2(e^-beta) - 2 beta / (e^beta - 1).
    """
    from scipy.special import spence

    small = math.exp(-beta)
    log_rest = math.log(-math.expm1(-beta))
    tail = 2 * beta * small / -math.expm1(-beta)
    return beta**2 + 2 * (beta + 1) * log_rest - 2 * float(spence(1 - small)) - tail


def make_rule(
    name: str, *, temperature: float, k: float = 2.0, schedule_end: float = 0.05, duration: float = 1e4
) -> tuple[Rule, float]:
    """The rule called `name` and its beta at t = 0 for a first `temperature` (> 0).

    Names, as in recipes: exp, scaled-exp (needs `k`), softplus, fixed, schedule (from `temperature` to `schedule_end`).
    """
    if not temperature > 0:
        raise UserError(f"the temperature must be above 0, not {temperature}")
    beta = 1 / temperature
    rules: dict[str, Rule] = {
        "exp": ExponentialFlow(),
        "scaled-exp": ExponentialFlow(k),
        "softplus": SoftplusFlow(),
        "fixed": FixedFlow(beta),
        "schedule": ScheduledFlow(temperature, schedule_end, duration),
    }
    if name not in rules:
        raise UserError(f"unknown temperature rule {name!r}; choose one of {', '.join(rules)}")
    return rules[name], beta


def _gamma_part(ln_gamma: float) -> float:
    return ln_gamma - math.exp(2 * ln_gamma) / 2
