"""Image-text retrieval: the exact rank of every query in both directions, in bounded memory.

The score matrix is visited in tiles and each score is computed once. A rank needs the score of the query's
own match first, so captions are taken in their images' order and the tiles on the diagonal, which hold every
match, come before the others; counting what lies above is then one comparison a score and direction.

Ties. `pessimistic` (the default) puts the match below everything it ties with, so a model that gives all
pairs one score finds nothing, `optimistic` above, which would give that model 100 %, and `expected` in the
middle, the mean rank under random tie-breaking. Published numbers break ties by index order, which is none
of these; on real embeddings exact ties are rare and all agree. A candidate whose row equals that of the match ties
with it by its content, not by what rounding makes of the two scores.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from gaprun.errors import UserError
from gaprun.evaluation.embeddings import Array, Embeddings, check_owner
from gaprun.evaluation.equal import equal_groups, sizes_of

TIES = ("pessimistic", "optimistic", "expected")
KS = (1, 5, 10)
POOL = 512
DRAWS = 10

_EDGE = 64  # below this many rows matrix products take other kernels, whose last bit differs
_CPU_TILE = 2**20  # scores a tile; more leaves the cache and takes twice as long


@dataclass(frozen=True)
class Ranks:
    """Ranks from 1, int64 (float64 for `expected` ties).

    image_rank: (M,), of its image for each caption. text_rank: (N,), of its best caption for each image, 0
    for an image without captions (it is a candidate, not a query). worst_text: the last rank that some image's best
    caption could have, 1 + the captions of the others; an image's is N.
    """

    image_rank: Array
    text_rank: Array
    worst_text: int

    def metrics(self) -> dict[str, float]:
        """image_recall@k (a caption finds its image) and text_recall@k (an image finds any of its
        captions), both in percent, and the two median ranks. What is 100 or 1 by definition, in a gallery of k
        candidates or fewer, is left out. Raises UserError for one image, which every query would find."""
        if len(self.text_rank) < 2:
            raise UserError("retrieval needs two images or more: with one every query finds its match")
        queries = self.text_rank[self.text_rank > 0]
        found: dict[str, float] = {}
        sides = (("image", self.image_rank, len(self.text_rank)), ("text", queries, self.worst_text))
        for side, rank, worst in sides:
            found |= {f"{side}_recall@{k}": 100.0 * float((rank <= k).mean()) for k in KS if k < worst}
            found |= {f"{side}_median_rank": float(np.median(rank))} if worst > 1 else {}
        return found


def ranks(
    images: Array,
    texts: Array,
    owner: Array,
    *,
    ties: str = "pessimistic",
    memory_mb: int = 256,
    device: torch.device | str = "cpu",
) -> Ranks:
    """Exact ranks of all captions' images and all images' captions, scores in float32.

    images (N, D) and texts (M, D), unit rows, also memory-mapped; owner (M,) image of each caption, in any
    order. memory_mb bounds the working memory beside the inputs and results. A rank is 1 + the number of
    candidates above the query's best match, ties as the module says; an image's own other captions are
    never counted against it. Raises UserError for an unknown tie rule, no captions, owners out of range and
    rows that are not finite.
    """
    if ties not in TIES:
        raise UserError(f"unknown tie rule {ties!r}: choose one of {', '.join(TIES)}")
    check_owner(owner, len(images), len(texts))
    if len(texts) == 0:
        raise UserError("retrieval needs captions: the split has none")
    order = np.argsort(owner, kind="stable")
    in_order = bool((order == np.arange(len(order))).all())
    sorted_owner = owner if in_order else owner[order]
    tiles = _tiles(sorted_owner, images.shape, _budget(memory_mb, images.shape[1], device))

    def load_images(tile: _Tile) -> torch.Tensor:
        return _padded(images[tile.image_from : tile.image_to], "image", tile.image_from, device)

    def load_texts(tile: _Tile) -> torch.Tensor:
        rows = slice(tile.text_from, tile.text_to)
        return _padded(texts[rows] if in_order else texts[order[rows]], "caption", tile.text_from, device)

    image_group, text_group = equal_groups(images), equal_groups(texts)[order]
    counter = _Counter(ties, image_group, text_group, sorted_owner)
    for tile in tiles:
        local = torch.from_numpy(sorted_owner[tile.text_from : tile.text_to] - tile.image_from).to(device)
        counter.diagonal(tile, load_images(tile) @ load_texts(tile).T, local)
    if len(tiles) > 1:
        for row in tiles:
            left = load_images(row)
            for column in tiles:
                if column is not row and column.text_to > column.text_from:
                    counter.across(row, column, left @ load_texts(column).T)
    counter.add_equal_rows()
    image_rank = np.empty_like(counter.image_rank)
    image_rank[order] = counter.image_rank
    text_rank = counter.text_rank
    captions = np.bincount(owner, minlength=len(images))
    text_rank[captions == 0] = 0
    return Ranks(image_rank, text_rank, 1 + len(texts) - int(captions[captions > 0].min()))


def full_retrieval(
    embeddings: Embeddings,
    *,
    ties: str = "pessimistic",
    memory_mb: int = 256,
    device: torch.device | str = "cpu",
) -> Ranks:
    """Protocol `full`: every image and caption of the split."""
    images, texts, owner = embeddings.images, embeddings.texts, embeddings.owner
    return ranks(images, texts, owner, ties=ties, memory_mb=memory_mb, device=device)


@dataclass(frozen=True)
class PoolResult:
    """Metrics averaged over draws. protocol: `pool512`, or `pool{n}` where the split holds only n images."""

    protocol: str
    metrics: dict[str, float]
    draws: int


def pool_retrieval(
    embeddings: Embeddings,
    *,
    pool: int = POOL,
    draws: int = DRAWS,
    seed: int = 0,
    ties: str = "pessimistic",
    device: torch.device | str = "cpu",
) -> PoolResult:
    """Protocol `pool512`: `pool` random images, one random caption each, the mean over `draws` seeded draws.

    The draws depend on (seed, draw number) and the captions' owners only, so models are compared on the
    same pools. A split with fewer images is measured whole under its own name, `pool287`, because a smaller
    pool is an easier task whose numbers must not stand in pool512's column.
    """
    results = []
    for number in range(draws):
        drawn = embeddings.draw(pool, seed, number)
        results.append(ranks(drawn.images, drawn.texts, drawn.owner, ties=ties, device=device).metrics())
    mean = {name: float(np.mean([result[name] for result in results])) for name in results[0]}
    return PoolResult(f"pool{len(drawn.images)}", mean, draws)


@dataclass(frozen=True)
class _Tile:
    """A run of images and the run of (sorted) captions that belong to them."""

    image_from: int
    image_to: int
    text_from: int
    text_to: int


def _budget(memory_mb: int, dim: int, device: torch.device | str) -> int:
    """Scores a tile: two float32 tiles (scores and comparison) and its rows must fit in memory_mb."""
    if memory_mb < 1:
        raise UserError(f"memory_mb must be at least 1, got {memory_mb}")
    scores = memory_mb * 2**20 // 4
    side = max(_EDGE, int(math.sqrt(scores / 2 + (dim / 2) ** 2) - dim / 2))
    return side**2 if torch.device(device).type != "cpu" else min(side**2, _CPU_TILE)


def _tiles(sorted_owner: Array, shape: tuple[int, ...], budget: int) -> list[_Tile]:
    """Runs of images such that one run's images times another's captions are about `budget` scores.

    Runs are equal in the mean of images and captions, so that captions heaped on a few images stay within
    four times the budget; only a single image's captions cannot be divided.
    """
    n = shape[0]
    captions = max(1.0, len(sorted_owner) / n)
    side = max(1, int(math.sqrt(budget / captions)))
    weight = np.cumsum(0.5 + 0.5 * np.bincount(sorted_owner, minlength=n) / captions)
    inner = np.searchsorted(weight, np.linspace(0, weight[-1], math.ceil(weight[-1] / side) + 1)[1:-1]) + 1
    edges = np.unique([0, *inner, n])
    cuts = np.searchsorted(sorted_owner, edges)
    rows = zip(edges[:-1], edges[1:], cuts[:-1], cuts[1:], strict=True)
    return [_Tile(*(int(value) for value in row)) for row in rows]


def _padded(rows: Array, what: str, first: int, device: torch.device | str) -> torch.Tensor:
    """float32 rows on `device`, filled with zeros to at least _EDGE rows: scores of equal rows must be
    equal bits whichever tile they fall in, or duplicates would not tie."""
    block = torch.from_numpy(np.require(rows, np.float32, ["C", "W"])).to(device)
    if not bool(torch.isfinite(block.sum(1)).all()):
        bad = int(torch.nonzero(~torch.isfinite(block.sum(1)))[0])
        raise UserError(f"{what} embedding {first + bad} is not finite: the model is broken")
    if len(block) >= _EDGE:
        return block
    return torch.cat([block, block.new_zeros(_EDGE - len(block), block.shape[1])])


class _Counter:
    """Counts, for every query, the candidates that stand above its match.

    Where rows are repeated, candidates equal to the match are masked in the tiles and counted by `add_equal_rows`.
    """

    def __init__(self, ties: str, image_group: Array, text_group: Array, owner: Array) -> None:
        """Groups of equal rows of images (N,) and sorted captions (M,), and the captions' owners (M,)."""
        kind = np.float64 if ties == "expected" else np.int64
        # Counting with >= includes the match itself when it is not masked; `diagonal` masks it.
        above, level = torch.gt, torch.ge
        self.comparisons = {"pessimistic": [level], "optimistic": [above], "expected": [above, level]}[ties]
        self.tie = {"pessimistic": 1.0, "optimistic": 0.0, "expected": 0.5}[ties]
        images, texts = len(image_group), len(text_group)
        self.image_rank, self.text_rank = np.ones(texts, dtype=kind), np.ones(images, dtype=kind)
        self.image_match = np.full(texts, np.inf, dtype=np.float32)
        self.text_match = np.full(images, np.inf, dtype=np.float32)
        self.image_group, self.text_group, self.owner = image_group, text_group, owner
        self.image_repeats = len(np.unique(image_group)) < images
        self.text_repeats = len(np.unique(text_group)) < texts
        self.best_group = np.full(images, -1)  # of each image's best caption

    def diagonal(self, tile: _Tile, scores: torch.Tensor, local_owner: torch.Tensor) -> None:
        """Scores (images, captions) of a run with its own captions: read the matches, mask them, count."""
        n, m = tile.image_to - tile.image_from, tile.text_to - tile.text_from
        scores = scores[:n, :m]
        column = torch.arange(m, device=scores.device)
        match = scores[local_owner, column]
        best = scores.new_full((n,), -math.inf).scatter_reduce_(0, local_owner, match, "amax")
        if self.text_repeats:
            chosen = (match == best[local_owner]).cpu().numpy()
            group = self.text_group[tile.text_from : tile.text_to][chosen]
            self.best_group[tile.image_from + local_owner.cpu().numpy()[chosen]] = group
        # An image without captions is no query: nothing stands above +inf.
        best.masked_fill_(torch.isinf(best), math.inf)
        self.image_match[tile.text_from : tile.text_to] = match.cpu()
        self.text_match[tile.image_from : tile.image_to] = best.cpu()
        scores[local_owner, column] = -math.inf
        self._count(tile, tile, scores)

    def across(self, row: _Tile, column: _Tile, scores: torch.Tensor) -> None:
        """Scores of one run's images with another run's captions: no match among them."""
        self._count(row, column, scores[: row.image_to - row.image_from, : column.text_to - column.text_from])

    def add_equal_rows(self) -> None:
        """Count the candidates whose rows equal the match's: all but an image's own captions tie with it."""
        if self.image_repeats:
            equal = sizes_of(self.image_group)[self.owner] - 1
            self.image_rank += (self.tie * equal).astype(self.image_rank.dtype)
        if self.text_repeats:
            known, count = np.unique(self.text_group, return_counts=True)
            place = np.searchsorted(known, self.best_group)
            own = np.bincount(
                self.owner[self.text_group == self.best_group[self.owner]], minlength=len(self.best_group)
            )
            equal = np.where(self.best_group < 0, 0, count[np.minimum(place, len(known) - 1)] - own)
            self.text_rank += (self.tie * equal).astype(self.text_rank.dtype)

    def _count(self, row: _Tile, column: _Tile, scores: torch.Tensor) -> None:
        image_run, text_run = slice(row.image_from, row.image_to), slice(column.text_from, column.text_to)
        image_match = torch.from_numpy(self.image_match[text_run]).to(scores.device)
        text_match = torch.from_numpy(self.text_match[image_run]).to(scores.device)[:, None]
        for_image = for_text = scores
        if self.image_repeats:
            for_image = _masked(scores, self.image_group[image_run], self.image_group[self.owner[text_run]])
        if self.text_repeats:
            for_text = _masked(scores, self.best_group[image_run], self.text_group[text_run])
        flags = torch.empty_like(scores)
        # A comparison written as float32 and a product with ones counts about ten times faster than a bool
        # sum; the counts stay below 2^24, so they are exact.
        ones_n, ones_m = scores.new_ones(scores.shape[0]), scores.new_ones(scores.shape[1])
        for compare in self.comparisons:
            self._add(self.image_rank[text_run], ones_n @ compare(for_image, image_match, out=flags))
            self._add(self.text_rank[image_run], compare(for_text, text_match, out=flags) @ ones_m)

    def _add(self, rank: Array, count: torch.Tensor) -> None:
        counted = count.double().cpu().numpy() / len(self.comparisons)
        rank += counted.astype(rank.dtype)


def _masked(scores: torch.Tensor, rows: Array, columns: Array) -> torch.Tensor:
    """`scores` (n, m) with minus infinity where a row's number (n,) is a column's (m,)."""
    left, right = torch.from_numpy(rows).to(scores.device), torch.from_numpy(columns).to(scores.device)
    return scores.masked_fill(left[:, None] == right[None, :], -math.inf)
