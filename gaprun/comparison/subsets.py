"""Alignment of one run by data set, caption length and class: computed when asked, from its checkpoint and the data.

Embeddings are those that evaluations kept on disk; what is missing there is encoded once and kept. Loads torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gaprun.comparison.health import ALIGNMENT_SPREAD, CLEAR, FLAGGED, NOT_RECORDED, Finding
from gaprun.comparison.statistics import Interval, summarise
from gaprun.data.split import Split, open_split
from gaprun.evaluation.embed import StoredEmbedder
from gaprun.evaluation.tasks.zeroshot import class_embeddings
from gaprun.jobs.load import load_model

if TYPE_CHECKING:
    from gaprun.store import Store

FEWEST = 20  # pairs; smaller groups are shown and flag nothing
PARTS = 3
Array = np.ndarray


@dataclass(frozen=True)
class Subset:
    """Mean squared distance of `n` matched pairs (0..4) of one group, with its 95 % interval over pairs."""

    place: str
    by: str
    group: str
    n: int
    alignment: float
    ci95: Interval | None


def alignment_subsets(store: Store, run: str) -> list[Subset]:
    """The subsets of every split that the run's recipe measures with gap, retrieval, zero-shot or probe.

    Captioned splits: all pairs (first captions), and thirds by caption length in words. Labelled splits: each image
    against its class's prompts, all and by class. Raises UserError without a usable checkpoint or the data.
    """
    loaded = load_model(store, run, None, None)
    folder = store.artifacts / "embeddings"
    embedder = StoredEmbedder(loaded.towers, loaded.checkpoint_hash, folder, torch.device("cpu"))
    found: list[Subset] = []
    for ref in _splits(loaded.resolved):
        split = open_split(ref)
        embeddings, place = embedder.embeddings(split), f"{split.dataset}/{split.split}"
        if any(split.captions):
            image, text = embeddings.pair_index()
            values = _distances(embeddings.images[image], embeddings.texts[text])
            words = np.array([len(split.captions[i][0].split()) for i in image])
            found.append(_subset(place, "data set", "all", values))
            found += [_subset(place, "caption length", name, values[mask]) for name, mask in thirds(words)]
        if split.classes is not None and embeddings.labels is not None:
            vectors, labels = class_embeddings(embedder, split, None), np.asarray(embeddings.labels)
            known = labels >= 0
            values = _distances(embeddings.images[known], vectors[labels[known]])
            found.append(_subset(place, "data set (class prompts)", "all", values))
            found += _by_class(place, split, values, labels[known])
    return found


def thirds(words: Array) -> list[tuple[str, Array]]:
    """Masks of about equal thirds of captions by their number of words, named by their range; fewer where they tie."""
    edges = np.unique(np.quantile(words, np.arange(1, PARTS) / PARTS, method="lower"))
    part = np.searchsorted(edges, words, side="left")
    named = []
    for index in np.unique(part):
        mask = part == index
        low, high = int(words[mask].min()), int(words[mask].max())
        named.append((f"{low} words" if low == high else f"{low} to {high} words", mask))
    return named


def judge(subsets: Sequence[Subset]) -> Finding:
    """The health signature over these subsets: the largest spread within one way of dividing."""
    ways: dict[str, list[Subset]] = {}
    for subset in subsets:
        if subset.n >= FEWEST:
            way = subset.by if subset.by.startswith("data set") else f"{subset.by} of {subset.place}"
            ways.setdefault(way, []).append(subset)
    spreads = {way: _spread(groups) for way, groups in ways.items() if len(groups) > 1}
    if not spreads:
        return Finding("alignment-differs", NOT_RECORDED, f"no two subsets of at least {FEWEST} pairs")
    way = max(spreads, key=lambda name: spreads[name])
    low = min(ways[way], key=lambda s: s.alignment)
    high = max(ways[way], key=lambda s: s.alignment)
    names = [s.place if s.by.startswith("data set") else s.group for s in (low, high)]
    text = f"by {way}: alignment {low.alignment:.3f} for {names[0]}, {high.alignment:.3f} for {names[1]}"
    return Finding("alignment-differs", FLAGGED if spreads[way] > ALIGNMENT_SPREAD else CLEAR, text)


def _by_class(place: str, split: Split, values: Array, labels: Array) -> Iterable[Subset]:
    for label, name in enumerate(split.classes or ()):
        if (labels == label).any():
            yield _subset(place, "class", name, values[labels == label])


def _splits(recipe: Mapping[str, Any]) -> list[str]:
    tasks = ("gap", "retrieval", "zeroshot", "probe")
    return list(dict.fromkeys(ref for t in recipe.get("eval", []) if t["task"] in tasks for ref in t["data"]))


def _distances(a: Array, b: Array) -> Array:
    return ((a.astype(np.float64) - b.astype(np.float64)) ** 2).sum(axis=1)


def _subset(place: str, by: str, group: str, values: Array) -> Subset:
    found = summarise(values.tolist())
    return Subset(place, by, group, found.n, found.mean, found.ci95)


def _spread(groups: Sequence[Subset]) -> float:
    return max(s.alignment for s in groups) - min(s.alignment for s in groups)
