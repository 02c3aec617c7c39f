"""Slow float64 references, written from the definitions, loops and all; and the inputs that break
shortcuts."""

from __future__ import annotations

import math

import numpy as np
from scipy.linalg import sqrtm


def unit(rows):
    rows = np.asarray(rows, dtype=np.float64)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def clouds(kind, n=60, d=12, seed=0):
    """Matched float32 unit rows (images, texts) of a named shape."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d))
    if kind == "random":
        return unit(x), unit(rng.standard_normal((n, d)))
    if kind == "gapped":
        shift = 2.0 * np.eye(d)[0]
        return unit(x + shift), unit(x + 0.3 * rng.standard_normal((n, d)) - shift)
    if kind == "identical":
        return unit(x), unit(x)
    if kind == "opposite":
        return unit(x), unit(-x)
    if kind == "antipodal points":
        point = unit(x[:1])
        return np.repeat(point, n, 0), np.repeat(-point, n, 0)
    if kind == "collapsed":
        return np.repeat(unit(x[:1]), n, 0), np.repeat(unit(x[1:2]), n, 0)
    if kind == "duplicates":
        half = np.concatenate([x[: n // 2], x[: n - n // 2]])
        return unit(half), unit(half + 0.1)
    if kind == "one pair":
        return unit(x[:1]), unit(x[1:2])
    if kind == "fewer pairs than dimensions":
        return unit(x[:5]), unit(x[:5] + 0.5)
    raise KeyError(kind)


KINDS = (
    "random",
    "gapped",
    "identical",
    "opposite",
    "antipodal points",
    "collapsed",
    "duplicates",
    "fewer pairs than dimensions",
)


def geometry(images, texts):
    """Every gap measure but separability, in float64, straight from the formulas."""
    x, y = (np.asarray(rows, dtype=np.float64) for rows in (images, texts))
    x, y = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (x, y))
    n = len(x)
    off = ~np.eye(n, dtype=bool)
    mu_x, mu_y = x.mean(0), y.mean(0)

    def uniformity(rows):
        total, count = 0.0, 0
        for i in range(len(rows)):
            for j in range(i + 1, len(rows)):
                total += math.exp(-2 * ((rows[i] - rows[j]) ** 2).sum())
                count += 1
        return math.log(total / count)

    def covariance(rows):
        return np.cov(rows.T, bias=True)

    def w2(rows):
        mean, s = rows.mean(0), covariance(rows)
        root = np.sqrt(np.clip(np.linalg.eigvalsh(s), 0, None)).sum()
        return -math.sqrt(max(0.0, mean @ mean + 1 + np.trace(s) - 2 / math.sqrt(len(mean)) * root))

    def rank(rows):
        values = np.linalg.svd(rows - rows.mean(0), compute_uv=False) ** 2
        if values.sum() / n < 1e-12:
            return 0.0
        share = values[values > 0] / values.sum()
        return math.exp(-(share * np.log(share)).sum())

    xc, yc = x - mu_x, y - mu_y
    between = ((1 - (x * y).sum(1)) / 2).mean()
    within = (((1 - x @ x.T) / 2)[off].mean() + ((1 - y @ y.T) / 2)[off].mean()) / 2
    spread = min((xc**2).sum(), (yc**2).sum()) / n
    cka = (xc.T @ yc) ** 2
    scores = x @ y.T
    margins = np.array([min(scores[i, i] - scores[i, j] for j in range(n) if j != i) for i in range(n)])
    cross = np.real(np.trace(sqrtm(covariance(x) @ covariance(y) + 1e-15 * np.eye(x.shape[1]))))
    return {
        "gap": np.linalg.norm(mu_x - mu_y),
        "rmg": 0.0 if between + within < 1e-12 else between / (between + within),
        "alignment": ((x - y) ** 2).sum(1).mean(),
        "distribution_gap": ((xc - yc) ** 2).sum(1).mean(),
        "matched_cosine": (x * y).sum(1).mean(),
        "mismatched_cosine": scores[off].mean(),
        "uniformity_image": uniformity(x),
        "uniformity_text": uniformity(y),
        "uniformity_joint": uniformity(np.concatenate([x, y])),
        "uniformity_w2_image": w2(x),
        "uniformity_w2_text": w2(y),
        "uniformity_w2_joint": w2(np.concatenate([x, y])),
        "effective_rank_image": rank(x),
        "effective_rank_text": rank(y),
        "cka": 0.0 if spread < 1e-12 else cka.sum() / (np.linalg.norm(xc.T @ xc) * np.linalg.norm(yc.T @ yc)),
        "frechet": (
            ((mu_x - mu_y) ** 2).sum() + np.trace(covariance(x)) + np.trace(covariance(y)) - 2 * cross
        ),
        "mismatched_share": (margins <= 1e-7).mean(),
    }


def ranks(scores, owner, ties="pessimistic"):
    """(image_rank, text_rank) from a score matrix (images, captions), one query at a time."""
    images, texts = scores.shape
    extra = {"pessimistic": 1.0, "optimistic": 0.0, "expected": 0.5}[ties]
    image_rank, text_rank = [], []
    for t in range(texts):
        own = scores[owner[t], t]
        others = np.delete(scores[:, t], owner[t])
        image_rank.append(1 + (others > own).sum() + extra * (others == own).sum())
    for i in range(images):
        mine = owner == i
        if not mine.any():
            text_rank.append(0)
            continue
        best = scores[i, mine].max()
        others = scores[i, ~mine]
        text_rank.append(1 + (others > best).sum() + extra * (others == best).sum())
    return np.array(image_rank), np.array(text_rank)
