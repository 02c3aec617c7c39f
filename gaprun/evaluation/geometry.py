"""The geometry of two embedding clouds: centroid gap, relative gap, alignment, spread, rank, overlap.

Everything here is a closed form of `Moments`, so it is exact and linear in the number of pairs; the measures
that compare rows one by one are in `pairwise.py`, the classifier in `separability.py`.
Notation: unit rows x_i (image), y_i (text), N matched pairs, means mu, covariances S (dividing by N).
"""

from __future__ import annotations

import math

import numpy as np

from gaprun.evaluation.embeddings import Array
from gaprun.evaluation.moments import Moments, pair_moments
from gaprun.evaluation.pairwise import pairwise_measures
from gaprun.evaluation.separability import separability

PAIRWISE_LIMIT = 10_000
"""Pairs up to which the pairwise measures are exact; past it they use a seeded subsample of this many."""

NO_SPREAD = 1e-12
"""Total variance below which a cloud of unit float32 rows is a single point: rounding, not geometry."""


def gap(m: Moments) -> float:
    """`||mu_x - mu_y||` (Liang et al. 2022), 0..2. The means are not normalised."""
    return min(2.0, float(np.linalg.norm(m.mean_x - m.mean_y)))


def matched_cosine(m: Moments) -> float:
    """mean of x_i . y_i, -1..1."""
    return m.matched / m.count


def alignment(m: Moments) -> float:
    """mean of `||x_i - y_i||^2` (Wang & Isola 2020) = 2 (1 - matched_cosine), 0..4."""
    return 2.0 * (1.0 - matched_cosine(m))


def distribution_gap(m: Moments) -> float:
    """mean of `||(x_i - mu_x) - (y_i - mu_y)||^2`: what is left of alignment once the centroids coincide.

    Computed from the centred scatters, not as a difference, so `alignment = gap^2 + distribution_gap` is a
    check and not a definition.
    """
    spread = np.trace(m.scatter_xx) + np.trace(m.scatter_yy) - 2.0 * np.trace(m.scatter_xy)
    return max(0.0, float(spread) / m.count)


def mismatched_cosine(m: Moments) -> float:
    """mean of x_i . y_j over i != j, -1..1; from the sums, in O(N D). NaN below two pairs."""
    if m.count < 2:
        return math.nan
    everything = m.count**2 * float(m.mean_x @ m.mean_y)
    return (everything - m.matched) / (m.count * (m.count - 1))


def rmg(m: Moments) -> float:
    """Relative modality gap (Schrodi et al. 2025), `D / (D + (I_x + I_y) / 2)`, 0..1, with d(a, b) = (1 -
    a.b) / 2, D the mean of d(x_i, y_i) and I_x the mean of d(x_i, x_j) over i != j. NaN below two pairs.

    Opposite collapsed clouds give 1, independent uniform ones 0.5, matched spread ones 0; all points equal
    is 0 / 0 and answers 0, there being no gap.
    """
    if m.count < 2:
        return math.nan
    between = (1.0 - matched_cosine(m)) / 2.0
    # The rows are unit, so the mean cosine within a cloud follows from its variance alone.
    within = sum(float(np.trace(s)) / (m.count - 1) for s in (m.scatter_xx, m.scatter_yy)) / 4.0
    if between + within < NO_SPREAD:
        return 0.0
    return max(0.0, between) / (max(0.0, between) + within)


def _spectrum(covariance: Array) -> Array:
    """Eigenvalues, with the negative ones that rounding leaves set to 0."""
    return np.clip(np.linalg.eigvalsh(covariance), 0.0, None)


def uniformity_w2(mean: Array, covariance: Array) -> float:
    """`-sqrt(||mu||^2 + 1 + tr S - (2 / sqrt D) tr S^(1/2))`: minus the Wasserstein distance to an isotropic
    Gaussian of unit length (Fang et al. 2024), higher is more uniform; a collapsed cloud gives -sqrt 2."""
    spectrum = _spectrum(covariance)
    square = float(mean @ mean) + 1.0 + float(np.trace(covariance))
    square -= 2.0 / math.sqrt(len(mean)) * float(np.sqrt(spectrum).sum())
    return -math.sqrt(max(0.0, square))


def effective_rank(covariance: Array) -> float:
    """exp of the entropy of the normalised spectrum of S (Roy & Vetterli 2007), 1..D; 0 for a single
    point."""
    spectrum = _spectrum(covariance)
    total = spectrum.sum()
    if total < NO_SPREAD:
        return 0.0
    share = spectrum[spectrum > 0] / total
    return float(np.exp(-(share * np.log(share)).sum()))


def cka(m: Moments) -> float:
    """Linear CKA (Kornblith et al. 2019), `||Xc'Yc||^2 / (||Xc'Xc|| ||Yc'Yc||)`, Frobenius, centred, 0..1;
    blind to shift and rotation. 0 where a cloud is a single point: it shares nothing."""
    if min(np.trace(m.cov_x), np.trace(m.cov_y)) < NO_SPREAD:
        return 0.0
    share = (m.cov_xy**2).sum() / (np.linalg.norm(m.cov_x) * np.linalg.norm(m.cov_y))
    return min(1.0, float(share))


def _root(covariance: Array) -> Array:
    """The symmetric square root, by eigh."""
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(np.clip(values, 0.0, None))) @ vectors.T


def frechet(m: Moments) -> float:
    """`||mu_x - mu_y||^2 + tr(S_x + S_y - 2 (S_x S_y)^(1/2))` (Heusel et al. 2017), >= 0.

    Strongly biased at small N: never compare values measured at different N.
    """
    # tr (S_x S_y)^(1/2) is the nuclear norm of S_x^(1/2) S_y^(1/2).
    overlap = np.linalg.svd(_root(m.cov_x) @ _root(m.cov_y), compute_uv=False).sum()
    value = gap(m) ** 2 + np.trace(m.cov_x) + np.trace(m.cov_y) - 2.0 * overlap
    return max(0.0, float(value))


def from_moments(m: Moments) -> dict[str, float]:
    """Every measure that the moments determine, by name; those undefined at this N (one pair) are NaN."""
    pooled_mean, pooled_cov = m.pooled()
    return {
        "gap": gap(m),
        "rmg": rmg(m),
        "alignment": alignment(m),
        "distribution_gap": distribution_gap(m),
        "matched_cosine": matched_cosine(m),
        "mismatched_cosine": mismatched_cosine(m),
        "uniformity_w2_image": uniformity_w2(m.mean_x, m.cov_x),
        "uniformity_w2_text": uniformity_w2(m.mean_y, m.cov_y),
        "uniformity_w2_joint": uniformity_w2(pooled_mean, pooled_cov),
        "effective_rank_image": effective_rank(m.cov_x),
        "effective_rank_text": effective_rank(m.cov_y),
        "cka": cka(m),
        "frechet": frechet(m),
    }


def measure_geometry(
    images: Array,
    texts: Array,
    *,
    seed: int = 0,
    pairwise_limit: int = PAIRWISE_LIMIT,
    chunk: int = 4096,
    separable: bool = True,
) -> dict[str, float]:
    """Every gap measure of matched unit rows images[i], texts[i], both (N, D), by the names of
    docs/metrics.md.

    Moments are exact over all N in one pass of `chunk` rows. Uniformity, mismatched_share and separability
    are exact up to `pairwise_limit` pairs and past it measured on that many pairs drawn by `seed`. A name
    that is undefined at this N is absent: with one pair the measures over i != j, below five pairs
    separability. `separable=False` leaves the classifier out. Raises UserError as `pair_moments` does.
    """
    values = from_moments(pair_moments(images, texts, chunk=chunk))
    if len(images) > pairwise_limit:
        chosen = np.sort(np.random.default_rng(seed).choice(len(images), pairwise_limit, replace=False))
        images, texts = images[chosen], texts[chosen]
    values |= pairwise_measures(images, texts)
    if separable:
        values |= separability(images, texts, seed=seed)
    return {name: value for name, value in values.items() if not math.isnan(value)}
