"""The first steps: how the gap changes from random initialisations, as the paper's Theorem 3.3 and Fig. 4b
ask.

An experiment draws many inits, takes a few steps of gradient descent from each, and counts how often the gap
grew, with an exact (Clopper-Pearson) interval. An init is either fully random (every pair is as good as
mismatched) or built from matched pairs of which a chosen share is shuffled; with `centred`, both clouds
first get a common centre, so that the gap starts at 0 (Fig. 2b).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaprun.errors import UserError
from gaprun.theory.features import Encoders, FeatureMap, Free, Parallel, Parameters, centre
from gaprun.theory.particles import State, System, descend
from gaprun.theory.rules import make_rule

Array = NDArray[np.float64]
KINDS = ("free", "parallel", "linear", "two-layer")
_LIMITS = (
    ("pairs", 2, 1e5),
    ("dimension", 2, 1e5),
    ("temperature", 1e-4, 100),
    ("gamma", 1e-6, 0.999),
    ("rate", 1e-9, 1e3),
    ("noise", 0, 1e3),
)
SMALL_GAMMA = 1e-3  # the centred start of parallel modalities, whose gamma cannot be 0


@dataclass(frozen=True)
class StartSetting:
    """One kind of initialisation. `mismatched` None: both clouds independent; else the share of shuffled
    pairs.

    `gamma` is half of the offset between the two clouds (of features, or of the encoders' inputs). `rate` is
    the learning rate of gamma, nu and encoder weights, and of one particle (whose gradient in a mean loss is
    1/`pairs` of its own). `noise` is how far apart a matched pair's halves start.
    """

    kind: str = "free"
    pairs: int = 128
    dimension: int = 32
    temperature: float = 0.07
    rule: str = "exp"
    mismatched: float | None = None
    centred: bool = False
    noise: float = 0.5
    gamma: float = 0.1
    rate: float = 0.01

    def __post_init__(self) -> None:
        for name, low, high in _LIMITS:
            if not low <= getattr(self, name) <= high:
                raise UserError(f"{name} must lie between {low:g} and {high:g}, not {getattr(self, name)}")
        if self.kind not in KINDS:
            raise UserError(f"unknown features {self.kind!r}; choose one of {', '.join(KINDS)}")
        if self.mismatched is not None and not 0 <= self.mismatched <= 1:
            raise UserError(f"the share of mismatched pairs lies between 0 and 1, not {self.mismatched}")

    @property
    def descent_rate(self) -> float:
        """The learning rate that gives each particle `rate`; gamma's and nu's are divided by `pairs` in turn."""
        return self.rate * (self.pairs if self.kind in ("free", "parallel") else 1)


@dataclass(frozen=True)
class StartOutcome:
    """The gap before and after the first steps, one entry an init, and how often it grew."""

    before: Array
    after: Array
    steps: int

    @property
    def changes(self) -> Array:
        return self.after - self.before

    @property
    def increases(self) -> int:
        return int((self.changes > 0).sum())

    @property
    def share(self) -> float:
        return self.increases / len(self.changes)

    @property
    def interval(self) -> tuple[float, float]:
        return clopper_pearson(self.increases, len(self.changes))

    def row(self) -> dict[str, Any]:
        low, high = self.interval
        return {
            "inits": len(self.changes),
            "steps": self.steps,
            "increases": self.increases,
            "share": self.share,
            "low": low,
            "high": high,
            "mean_change": float(self.changes.mean()),
            "mean_before": float(self.before.mean()),
            "mean_after": float(self.after.mean()),
            "changes": self.changes.tolist(),
        }


def first_steps(setting: StartSetting, *, inits: int = 100, steps: int = 10, seed: int = 0) -> StartOutcome:
    """Take `steps` steps of gradient descent from each of `inits` random initialisations of `setting`."""

    def one(rng: np.random.Generator) -> tuple[float, float]:
        system, state = draw(setting, rng)
        gaps = descend(system, state, steps=steps, rate=setting.descent_rate, rng=rng, every=steps)["gap"]
        return float(gaps[0]), float(gaps[-1])

    return repeat(one, inits=inits, steps=steps, seed=seed)


def repeat(
    one: Callable[[np.random.Generator], tuple[float, float]], *, inits: int, steps: int, seed: int
) -> StartOutcome:
    """Run `one` (gap before, gap after) from `inits` independent random streams."""
    if inits < 1 or steps < 1:
        raise UserError("at least one init and one step are needed")
    streams = np.random.SeedSequence(seed).spawn(inits)
    gaps = np.array([one(np.random.default_rng(stream)) for stream in streams])
    return StartOutcome(gaps[:, 0], gaps[:, 1], steps)


def by_mismatch(
    setting: StartSetting, shares: Sequence[float], *, inits: int = 100, steps: int = 10, seed: int = 0
) -> dict[float, StartOutcome]:
    """The same experiment for each share of mismatched pairs."""
    return {
        share: first_steps(replace(setting, mismatched=share), inits=inits, steps=steps, seed=seed)
        for share in shares
    }


def draw(setting: StartSetting, rng: np.random.Generator) -> tuple[System, State]:
    """A random system and state of `setting`."""
    rule, beta = make_rule(setting.rule, temperature=setting.temperature)
    images, texts = _pairs(setting, rng)
    features: FeatureMap
    parameters: Parameters
    nu_rate = 1 / setting.pairs
    if setting.kind == "free":
        features, parameters = Free(), [images, texts]
        if setting.centred:
            parameters = [cloud - centre(cloud) for cloud in parameters]
    elif setting.kind == "parallel":
        gamma = SMALL_GAMMA if setting.centred else setting.gamma
        if setting.centred:
            images, texts = images - centre(images), texts - centre(texts)
        features, parameters = (
            Parallel(gamma_rate=1 / setting.pairs),
            [images, texts, np.array([math.log(gamma)])],
        )
    else:
        encoders = Encoders(images, texts, layers=1 if setting.kind == "linear" else 2)
        parameters = encoders.draw(rng, setting.dimension)
        if setting.centred:
            encoders = replace(encoders, shifts=_shifts(encoders, parameters))
        features, nu_rate = encoders, 1.0
    return System(features, rule, nu_rate=nu_rate), State(parameters, rule.nu(beta))


def shuffle_pairs(texts: Array, share: float, rng: np.random.Generator) -> Array:
    """`texts` with a share of its rows moved on to one another, so that exactly those pairs are wrong."""
    count = round(share * len(texts))
    if count < 2:
        return texts
    chosen = rng.choice(len(texts), count, replace=False)
    shuffled = texts.copy()
    shuffled[chosen] = texts[np.roll(chosen, 1)]
    return shuffled


def clopper_pearson(successes: int, trials: int, level: float = 0.95) -> tuple[float, float]:
    """The exact binomial interval of a share, from quantiles of the beta distribution."""
    from scipy.stats import beta

    tail = (1 - level) / 2
    low = 0.0 if successes == 0 else float(beta.ppf(tail, successes, trials - successes + 1))
    high = 1.0 if successes == trials else float(beta.ppf(1 - tail, successes + 1, trials - successes))
    return low, high


def _pairs(setting: StartSetting, rng: np.random.Generator) -> tuple[Array, Array]:
    """Directions of both clouds; but for parallel modalities with their offset as one more column."""
    shape = (setting.pairs, setting.dimension)
    images = rng.standard_normal(shape)
    if setting.mismatched is None:
        texts = rng.standard_normal(shape)
    else:
        texts = images + setting.noise * rng.standard_normal(shape)
        texts = shuffle_pairs(texts, setting.mismatched, rng)
    if setting.kind == "parallel":
        return images, texts
    x, y, _ = Parallel().features([images, texts, np.array([math.log(setting.gamma)])])
    return math.sqrt(setting.dimension) * x, math.sqrt(setting.dimension) * y


def _shifts(encoders: Encoders, parameters: Parameters) -> tuple[Array, Array]:
    x, y, caches = encoders.features(parameters)
    return centre(x * caches[0][2]), centre(y * caches[1][2])
