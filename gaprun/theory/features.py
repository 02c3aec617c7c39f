"""What moves in the particle flow: how parameters become two clouds of unit features, and gradients their
motion.

A feature map turns a list of float64 parameter arrays into unit rows X (images) and Y (texts), and turns the
loss's gradients with respect to X and Y into the velocity of the parameters under gradient flow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gaprun.errors import UserError

Array = NDArray[np.float64]
Parameters = list[Array]
SMALLEST = -600.0  # ln gamma below which features are drawn with e^-600: gamma^2 is 0 in float64 long before


class FeatureMap(Protocol):
    """Parameters to features and back; `cache` is what `features` hands on to `velocity`."""

    def features(self, parameters: Parameters) -> tuple[Array, Array, Any]:
        """Unit rows X, Y, each (n, d), and a cache."""

    def velocity(self, parameters: Parameters, cache: Any, dx: Array, dy: Array) -> Parameters:
        """d parameters / dt = -gradient, for loss gradients dx, dy with respect to X, Y."""

    def step(self, parameters: Parameters, velocity: Parameters, rate: float) -> Parameters:
        """One step of gradient descent with learning rate `rate`."""

    def gamma(self, parameters: Parameters, gap: float) -> float:
        """The paper's gamma: half of the gap between parallel modalities."""


class Free:
    """Every feature is its own parameter, free on the sphere: parameters [A, B], X = A / |A| row by row."""

    def features(self, parameters: Parameters) -> tuple[Array, Array, Any]:
        (x, x_norm), (y, y_norm) = (_unit(p) for p in parameters)
        return x, y, (x, x_norm, y, y_norm)

    def velocity(self, parameters: Parameters, cache: Any, dx: Array, dy: Array) -> Parameters:
        x, x_norm, y, y_norm = cache
        return [-_through_unit(x, x_norm, dx), -_through_unit(y, y_norm, dy)]

    def step(self, parameters: Parameters, velocity: Parameters, rate: float) -> Parameters:
        return [p + rate * v for p, v in zip(parameters, velocity, strict=True)]

    def gamma(self, parameters: Parameters, gap: float) -> float:
        return gap / 2


class Parallel:
    """Parallel modalities: parameters [A, B, ln gamma], x_i = (sqrt(1-gamma^2) u_i, gamma), y_i = (.. v_i,
    -gamma).

    u = A / |A| and v = B / |B| row by row. The flow is the Euclidean one in gamma, as in the paper, written
    for ln gamma, which stays exact when gamma is tiny. With `frozen` directions it is the reduced flow of
    given u, v.
    """

    def __init__(self, frozen: bool = False, gamma_rate: float = 1.0) -> None:
        self._free = Free()
        self.frozen = frozen
        self.gamma_rate = gamma_rate  # gamma's learning rate over the directions'

    def features(self, parameters: Parameters) -> tuple[Array, Array, Any]:
        u, v, cache = self._free.features(parameters[:2])
        gamma = math.exp(min(max(float(parameters[2][0]), SMALLEST), 0.0))
        flat = math.sqrt(max(1 - gamma**2, 0.0))
        side = np.full((len(u), 1), gamma)
        return np.hstack([flat * u, side]), np.hstack([flat * v, -side]), (cache, gamma, flat)

    def velocity(self, parameters: Parameters, cache: Any, dx: Array, dy: Array) -> Parameters:
        free_cache, gamma, flat = cache
        u, v = free_cache[0], free_cache[2]
        inner = float((dx[:, :-1] * u).sum() + (dy[:, :-1] * v).sum())
        across = float(dx[:, -1].sum() - dy[:, -1].sum())
        pull = -inner / max(flat, 1e-12) + across / gamma  # dL/dgamma over gamma
        if self.frozen:
            still = [np.zeros_like(p) for p in parameters[:2]]
        else:
            still = self._free.velocity(parameters[:2], free_cache, flat * dx[:, :-1], flat * dy[:, :-1])
        return [*still, np.array([-self.gamma_rate * pull])]

    def step(self, parameters: Parameters, velocity: Parameters, rate: float) -> Parameters:
        gamma = math.exp(float(parameters[2][0]))
        moved = abs(gamma + rate * gamma * float(velocity[2][0]))  # gamma and -gamma are the same picture
        ln_gamma = math.log(min(max(moved, 1e-300), 1 - 1e-12))
        return [*self._free.step(parameters[:2], velocity[:2], rate), np.array([ln_gamma])]

    def gamma(self, parameters: Parameters, gap: float) -> float:
        return math.exp(float(parameters[2][0]))


@dataclass(frozen=True)
class Encoders:
    """One encoder a modality over given inputs (n, p) and (n, q), linear or with one tanh layer.

    Parameters: [W] or [W1, W2] of the images, then of the texts; X = rows of inputs @ W1, tanh, @ W2,
    normalised. Constant `shifts`, one row a modality, come off before normalisation (they make the first gap
    small).
    """

    images: Array
    texts: Array
    layers: int = 1
    shifts: tuple[Array, Array] | None = None

    def __post_init__(self) -> None:
        if self.layers not in (1, 2):
            raise UserError(f"an encoder has 1 or 2 layers, not {self.layers}")
        if len(self.images) != len(self.texts):
            raise UserError("both modalities need the same number of inputs")

    def draw(self, rng: np.random.Generator, dimension: int, hidden: int = 64) -> Parameters:
        """Gaussian weights of variance 1 / fan-in for features of `dimension`."""
        parameters = []
        for inputs in (self.images, self.texts):
            sizes = [inputs.shape[1], dimension] if self.layers == 1 else [inputs.shape[1], hidden, dimension]
            for fan_in, fan_out in zip(sizes[:-1], sizes[1:], strict=True):
                parameters.append(rng.standard_normal((fan_in, fan_out)) / math.sqrt(fan_in))
        return parameters

    def features(self, parameters: Parameters) -> tuple[Array, Array, Any]:
        outputs, caches = [], []
        for side, (inputs, weights) in enumerate(self._sides(parameters)):
            hidden = np.tanh(inputs @ weights[0]) if self.layers == 2 else inputs
            raw = hidden @ weights[-1]
            unit, norm = _unit(raw if self.shifts is None else raw - self.shifts[side])
            outputs.append(unit)
            caches.append((hidden, unit, norm))
        return outputs[0], outputs[1], caches

    def velocity(self, parameters: Parameters, cache: Any, dx: Array, dy: Array) -> Parameters:
        velocities: Parameters = []
        for (inputs, weights), (hidden, unit, norm), gradient in zip(
            self._sides(parameters), cache, (dx, dy), strict=True
        ):
            raw = _through_unit(unit, norm, gradient)
            if self.layers == 2:
                velocities.append(-inputs.T @ (raw @ weights[1].T * (1 - hidden**2)))
            velocities.append(-hidden.T @ raw)
        return velocities

    def step(self, parameters: Parameters, velocity: Parameters, rate: float) -> Parameters:
        return [p + rate * v for p, v in zip(parameters, velocity, strict=True)]

    def gamma(self, parameters: Parameters, gap: float) -> float:
        return gap / 2

    def _sides(self, parameters: Parameters) -> list[tuple[Array, Parameters]]:
        return [(self.images, parameters[: self.layers]), (self.texts, parameters[self.layers :])]


def centre(rows: Array, rounds: int = 100) -> Array:
    """The shift c, a row, for which the unit rows of `rows` - c have mean 0 (to about 1e-12)."""
    shift = np.zeros(rows.shape[1])
    for _ in range(rounds):
        unit, norms = _unit(rows - shift)
        shift = shift + unit.mean(axis=0) * norms.mean()
    return shift


def _unit(rows: Array) -> tuple[Array, Array]:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / norms, norms


def _through_unit(unit: Array, norm: Array, gradient: Array) -> Array:
    """The gradient with respect to a row before it was normalised: the tangent part over the row's length."""
    return (gradient - (gradient * unit).sum(axis=1, keepdims=True) * unit) / norm
