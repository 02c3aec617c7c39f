"""The particle flow: n image-text pairs as points on a sphere, moved by the contrastive loss and its
temperature.

Everything is float64 with analytic gradients (a few n x n matrix products a step), so that thousands of
pairs fit two cores. Two ways forward: `flow`, gradient flow in log time by an adaptive solver, and
`descend`, plain gradient descent, which also knows the paper's two swaps (they are random at every step, so
no differential equation has them).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaprun.errors import Failure, UserError
from gaprun.theory.features import FeatureMap, Parameters
from gaprun.theory.loss import ParticleSwap, contrastive_loss, draw_mix, swapped_gradients
from gaprun.theory.rules import Rule

Array = NDArray[np.float64]
STIFF_SIZE = 600  # up to this many unknowns a dense Jacobian is affordable and the solver is LSODA
SERIES = ("t", "gap", "gamma", "beta", "margin", "loss", "alignment", "uniformity", "mismatched_share")


@dataclass(frozen=True)
class System:
    """What is simulated: a feature map, a temperature rule, an optional swap, nu's rate factor (SLRT)."""

    features: FeatureMap
    rule: Rule
    swap: ParticleSwap | None = None
    nu_rate: float = 1.0


@dataclass
class State:
    """Where the system is: the feature map's parameters and the temperature's nu."""

    parameters: Parameters
    nu: float


@dataclass
class Path:
    """A recorded simulation: one list a quantity of SERIES, and the clouds (t, X, Y) at chosen times."""

    series: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in SERIES})
    snapshots: list[tuple[float, Array, Array]] = field(default_factory=list)
    stopped: str | None = None

    def __getitem__(self, name: str) -> Array:
        return np.array(self.series[name])


def velocity(
    system: System, state: State, t: float, rng: np.random.Generator | None = None
) -> tuple[Parameters, float]:
    """d parameters / dt and d nu / dt at `state`; with `rng`, of the loss after one random swap."""
    x, y, cache = system.features.features(state.parameters)
    beta = system.rule.beta(state.nu, t)
    mixed = draw_mix(system.swap, x, y, rng)
    if mixed is None:
        _, dx, dy, dbeta = contrastive_loss(x, y, beta)
    else:
        dx, dy, dbeta = swapped_gradients(mixed, x, y, beta, bool(system.swap and system.swap.renormalise))
    moved = system.features.velocity(state.parameters, cache, dx, dy)
    return moved, -system.nu_rate * system.rule.slope(state.nu) * dbeta


def flow(
    system: System,
    state: State,
    *,
    horizon: float,
    points: int = 60,
    rtol: float = 1e-8,
    budget: int = 20_000,
) -> Path:
    """Gradient flow from t = 0 to `horizon` in the clock ln(1 + t); `points` records, three snapshots.

    LSODA for small systems, an explicit Runge-Kutta pair for large ones; after `budget` evaluations of the
    gradient the path ends early and says so. Raises UserError for a system with a swap and Failure when the
    solver gives up.
    """
    from scipy.integrate import DOP853, LSODA

    if system.swap is not None:
        raise UserError("a swap needs steps of gradient descent (--steps 300), not the flow")
    shapes = [p.shape for p in state.parameters]

    def rates(tau: float, flat: Array) -> Array:
        moved, dnu = velocity(system, _unpack(flat, shapes), math.expm1(tau))
        return _pack(moved, dnu) * math.exp(tau)

    start = _pack(state.parameters, state.nu)
    times = np.linspace(0.0, math.log1p(horizon), points)
    method = LSODA if len(start) <= STIFF_SIZE else DOP853
    solver = method(rates, 0.0, start, float(times[-1]), rtol=rtol, atol=rtol * 1e-2)
    path = Path()
    record(path, system, state, 0.0, snapshot=True)
    due = 1
    while due < points:
        message = solver.step()
        if solver.status == "failed":
            raise Failure(f"the particle flow did not integrate: {message}")
        between = solver.dense_output()
        while due < points and times[due] <= solver.t:
            now = float(times[due])
            snapshot = due in (points // 2, points - 1)
            record(path, system, _unpack(between(now), shapes), math.expm1(now), snapshot=snapshot)
            due += 1
        if solver.nfev > budget and due < points:
            path.stopped = f"the budget of {budget} gradients ran out at t = {math.expm1(solver.t):.3g}"
            break
    return path


def descend(
    system: System,
    state: State,
    *,
    steps: int,
    rate: float,
    rng: np.random.Generator,
    every: int = 1,
) -> Path:
    """Plain gradient descent at learning rate `rate`; time is steps * rate; a record every `every` steps."""
    path = Path()
    record(path, system, state, 0.0, snapshot=True)
    for step in range(1, steps + 1):
        try:
            moved, dnu = velocity(system, state, (step - 1) * rate, rng)
            state = State(system.features.step(state.parameters, moved, rate), state.nu + rate * dnu)
            if step % every == 0 or step == steps:
                record(path, system, state, step * rate, snapshot=step in (steps // 2, steps))
        except OverflowError as error:  # the features stay on the sphere, so only beta can run away
            raise Failure(f"beta diverged at step {step}; lower the learning rate of {rate:g}") from error
    return path


def record(path: Path, system: System, state: State, t: float, *, snapshot: bool) -> None:
    """Append every quantity of SERIES at `state` to `path`; uniformity is Wang and Isola's joint one."""
    x, y, _ = system.features.features(state.parameters)
    beta = system.rule.beta(state.nu, t)
    cosines = x @ y.T
    own = cosines.diagonal().copy()
    loss = contrastive_loss(x, y, beta)[0]
    np.fill_diagonal(cosines, -np.inf)
    margins = own - cosines.max(axis=1)
    gap = float(np.linalg.norm(x.mean(0) - y.mean(0)))
    values = {
        "t": t,
        "gap": gap,
        "gamma": system.features.gamma(state.parameters, gap),
        "beta": beta,
        "margin": float(margins.min()),
        "loss": loss,
        "alignment": float(2 - 2 * own.mean()),
        "uniformity": _uniformity(np.concatenate([x, y])),
        "mismatched_share": float((margins <= 0).mean()),
    }
    for name, value in values.items():
        path.series[name].append(value)
    if snapshot:
        path.snapshots.append((t, x, y))


def _uniformity(z: Array) -> float:
    similar = np.exp(4 * (z @ z.T) - 4)  # exp(-2 |a - b|^2) for unit rows
    n = len(z)
    return float(np.log((similar.sum() - np.trace(similar)) / (n * (n - 1))))


def _pack(parameters: Parameters, nu: float) -> Array:
    return np.concatenate([*(p.ravel() for p in parameters), [nu]])


def _unpack(flat: Array, shapes: list[Any]) -> State:
    parameters, start = [], 0
    for shape in shapes:
        size = int(np.prod(shape))
        parameters.append(flat[start : start + size].reshape(shape))
        start += size
    return State(parameters, float(flat[-1]))
