"""The laboratory's standard tour: every simulation behind the page of `gaprun theory flow`, in one value.

A quarter of a minute on one core. The particle parts are small on purpose: they are there to be looked at, and each
has a test that ties it to the reduced flow or to autograd.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from gaprun.theory.features import Parallel
from gaprun.theory.loss import ParticleSwap
from gaprun.theory.particles import Path, State, System, descend, flow
from gaprun.theory.rates import AppendixC, Rate, appendix_c, flow_rates, windows
from gaprun.theory.reduced import FixedMargin, Flow, Landscape, integrate
from gaprun.theory.rules import make_rule
from gaprun.theory.start import StartOutcome, StartSetting, by_mismatch, draw, first_steps

RULES = ("exp", "scaled-exp", "softplus", "fixed", "schedule")
SCHEDULE_START = 0.01  # the paper's TS starts here, whatever the learned rules start from
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
PAGE_SHARES = (0.0, 0.5, 1.0)


@dataclass(frozen=True)
class FlowSetting:
    """What `theory flow` integrates; see `reduced.integrate` and `rules.make_rule` for the fields."""

    gamma: float = 0.3
    temperature: float = 0.07
    k: float = 2.0
    schedule_end: float = 0.05
    duration: float = 1e4
    margin: float = 1.0
    pairs: int = 512
    horizon: float = 1e300
    points: int = 800
    rtol: float = 1e-11

    def run(
        self, rule_name: str, landscape: Landscape | None = None, thresholds: Sequence[float] = ()
    ) -> Flow:
        """The reduced flow under the rule called `rule_name`; `landscape` replaces the fixed margin."""
        temperature = SCHEDULE_START if rule_name == "schedule" else self.temperature
        rule, beta = make_rule(
            rule_name,
            temperature=temperature,
            k=self.k,
            schedule_end=self.schedule_end,
            duration=self.duration,
        )
        return integrate(
            rule,
            landscape or FixedMargin(self.margin, self.pairs),
            beta=beta,
            gamma=self.gamma,
            horizon=self.horizon,
            points=self.points,
            rtol=self.rtol,
            thresholds=thresholds,
        )


@dataclass(frozen=True)
class Study:
    """Everything the page shows."""

    setting: FlowSetting
    flows: dict[str, Flow]  # to the setting's horizon
    near: dict[str, Flow]  # to t = 1e12, where curves can be told apart by eye
    rates: dict[str, dict[str, Rate]]
    local_slopes: list[Rate]  # of exp, against log log t
    claim: AppendixC | None
    particles: dict[str, Path]  # parallel modalities in 3D, by rule
    particle_reduced: Flow  # the reduced flow of the simplex, and
    particle_simplex: Path  # particles that start on it
    swaps: dict[str, Path]
    starts: dict[str, dict[str, StartOutcome]]  # features -> start -> outcome


def run_study(
    setting: FlowSetting, *, landscape: Landscape | None = None, inits: int = 100, seed: int = 0
) -> Study:
    """Run every simulation of the page; `inits` random starts of each kind for the first-steps part."""
    flows = {name: setting.run(name, landscape) for name in RULES}
    near = replace(setting, horizon=min(setting.horizon, 1e12), points=300)
    simplex, reduced = simplex_pair()
    return Study(
        setting=setting,
        flows=flows,
        near={name: near.run(name, landscape) for name in RULES},
        rates={name: flow_rates(found) for name, found in flows.items()},
        local_slopes=windows(flows["exp"]),
        claim=appendix_c(flows["softplus"], flows["exp"], start=1e3),
        particles={name: circles(name, seed) for name in ("exp", "softplus", "fixed")},
        particle_reduced=reduced,
        particle_simplex=simplex,
        swaps=swap_paths(seed),
        starts={
            kind: start_outcomes(StartSetting(kind), inits=inits, seed=seed, shares=PAGE_SHARES)
            for kind in ("parallel", "free", "two-layer")
        },
    )


def circles(rule_name: str, seed: int = 0, pairs: int = 6, horizon: float = 500) -> Path:
    """Parallel modalities in three dimensions (two circles on the sphere): the paper's Fig. 1, moving."""
    rng = np.random.default_rng(seed)
    rule, beta = make_rule(rule_name, temperature=0.07)
    angles = rng.permutation(np.linspace(0, 2 * math.pi, pairs, endpoint=False))
    images = np.column_stack([np.cos(angles), np.sin(angles)])
    texts = images + 0.3 * rng.standard_normal(images.shape)
    start = State([images, texts, np.array([math.log(0.5)])], rule.nu(beta))
    return flow(System(Parallel(), rule), start, horizon=horizon, points=61, budget=6000)


def simplex_pair(pairs: int = 9, horizon: float = 1e9) -> tuple[Path, Flow]:
    """The same case twice: u = v on a regular simplex, where directions feel no force, and its reduced flow."""
    rule, beta = make_rule("exp", temperature=0.2)
    corners = np.linalg.svd(np.eye(pairs) - 1 / pairs)[0][:, : pairs - 1]
    start = State([corners, corners, np.array([math.log(0.3)])], rule.nu(beta))
    path = flow(System(Parallel(), rule), start, horizon=horizon, points=40)
    margin = FixedMargin(1 + 1 / (pairs - 1), pairs)
    return path, integrate(rule, margin, beta=beta, gamma=0.3, horizon=horizon, points=300)


def simulate(
    setting: StartSetting,
    *,
    k: float = 2.0,
    swap: ParticleSwap | None = None,
    steps: int | None = None,
    horizon: float = 1e4,
    points: int = 60,
    seed: int = 0,
) -> Path:
    """One particle system from one random start: gradient flow to `horizon`, or `steps` of gradient descent.

    In the flow all parameters move at one rate, as in the paper; descent gives each particle the rate of the
    shared ones (see `Setting`). Raises UserError for a swap without `steps`.
    """
    rng = np.random.default_rng(seed)
    system, start = draw(setting, rng)
    rule, beta = make_rule(setting.rule, temperature=setting.temperature, k=k)
    state = State(start.parameters, rule.nu(beta))
    if steps is None:
        features = Parallel() if setting.kind == "parallel" else system.features
        return flow(System(features, rule, swap), state, horizon=horizon, points=points)
    rate = setting.descent_rate
    every = max(1, steps // points)
    moving = System(system.features, rule, swap, nu_rate=system.nu_rate)
    return descend(moving, state, steps=steps, rate=rate, rng=rng, every=every)


def swap_paths(seed: int = 0, steps: int = 300) -> dict[str, Path]:
    """Gradient descent from one start with a gap of 0.8: without swaps, and with hard and soft swaps."""
    swaps = {
        "no swap": None,
        "hard, every step": ParticleSwap(1.0),
        "hard, 1 in 20 steps": ParticleSwap(0.05),
    }
    swaps["soft, 1 in 20 steps"] = ParticleSwap(0.05, soft=True)
    paths = {}
    for name, swap in swaps.items():
        setting = StartSetting("free", pairs=64, dimension=16, mismatched=0.0, gamma=0.4, rate=0.05)
        paths[name] = simulate(setting, swap=swap, steps=steps, seed=seed)
    return paths


def start_outcomes(
    setting: StartSetting,
    *,
    inits: int = 100,
    steps: int = 10,
    seed: int = 0,
    shares: Sequence[float] = SHARES,
) -> dict[str, StartOutcome]:
    """First steps from every kind of start: random, matched with shares of mismatched pairs, and centred."""
    outcomes = {"random": first_steps(setting, inits=inits, steps=steps, seed=seed)}
    for share, outcome in by_mismatch(setting, shares, inits=inits, steps=steps, seed=seed).items():
        outcomes[f"{share:.0%} shuffled"] = outcome
    centred = replace(setting, centred=True)
    outcomes["centred"] = first_steps(centred, inits=inits, steps=steps, seed=seed)
    return outcomes
