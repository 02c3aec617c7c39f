"""Which images, captions and crops make up each step: a pure function of (seed, step).

Every random choice - the order, the caption of each image, its crop, the mismatched pairs - is drawn from a generator
keyed by (seed, purpose, epoch or step). So the batches do not depend on the number of workers, and a resumed run
starts at any step without replaying what came before.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from gaprun.data.crops import Crop, central_boxes, in_pixels, random_crops
from gaprun.data.pool import Pool
from gaprun.errors import UserError

ORDER, CAPTION, CROP, MISMATCH = range(4)
MIX = 5  # 4 is SUBSET of members.py
CaptionRule = Literal["random", "cycle", "first", "pairs"]
Remainder = Literal["drop", "keep"]
Indices = npt.NDArray[np.int64]


def keyed(seed: int, purpose: int, *counters: int) -> np.random.Generator:
    """An independent generator for (seed, purpose, counters)."""
    return np.random.default_rng([seed, purpose, *counters])


def steps_per_epoch(rows: int, batch_size: int, remainder: Remainder) -> int:
    """Batches that `rows` make: whole ones, and with `keep` a smaller last one for what is left over."""
    return -(-rows // batch_size) if remainder == "keep" else rows // batch_size


def rows_passed(rows: npt.NDArray[np.integer], weights: tuple[float, ...]) -> Indices:
    """How many of each set's `rows` an epoch passes through: its weight's share, at least one where there are any."""
    shares = np.round(np.array(weights) * rows)
    return np.where(rows > 0, np.maximum(shares, 1), 0).astype(np.int64)


def exchanged(share: float, images: int) -> int:
    """How many of `images` are shown with another's captions, for the recipe's `data.mismatched`.

    Raises UserError where a share above 0 gives fewer than two: one alone has nobody to exchange captions with.
    """
    count = round(share * images)
    if share and count < 2:
        raise UserError(
            f"data.mismatched: {share:g} of {images} images is {count}, and captions are exchanged between two at "
            f"least: give 0, or {2 / images:.3g} or more"
        )
    return count


@dataclass(frozen=True)
class Plan:
    """The batches of a training; `rule` says which caption an image is shown with (the recipe's `data.captions`).

    weights: of each of the pool's splits (None: an epoch is one pass through all). The rows of a set come in passes,
    each a permutation of its own; an epoch takes the next `rows_passed` of every set, wherever that begins and ends,
    and mixes them. With `random` and `cycle` a new pass is what an epoch is without weights: a new draw of captions.
    """

    pool: Pool
    seed: int
    batch_size: int
    crop_scale: tuple[float, float]
    mismatched: float = 0.0
    rule: CaptionRule = "random"
    crop: Crop = "random"
    remainder: Remainder = "drop"
    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.batch_size > self.rows:
            what = "pairs" if self.rule == "pairs" else "images"
            raise UserError(
                f"schedule.batch_size: {self.batch_size} is more than the {self.rows} training {what}"
            )

    @property
    def rows(self) -> int:
        """What an epoch passes through: the images, or with `pairs` the captions, each with its image; with weights so
        many of each set."""
        if self.weights is not None:
            return int(rows_passed(np.array([len(own) for own in self._sets()]), self.weights).sum())
        return len(self.pool.texts) if self.rule == "pairs" else len(self.pool)

    @property
    def steps_per_epoch(self) -> int:
        """Batches in one pass: whole ones, what remains of an epoch left out (another part each epoch), or with
        remainder `keep` one smaller batch more."""
        return steps_per_epoch(self.rows, self.batch_size, self.remainder)

    def images(self, step: int) -> Indices:
        """Pool indices of a step, (batch_size,) or fewer in a last batch: parts of the epoch's permutation in turn."""
        rows = self._rows(step)
        return self._pair_images()[rows] if self.rule == "pairs" else rows

    def captions(self, step: int, images: Indices) -> Indices:
        """Indices into `pool.texts`: the caption of each of `images` (batch_size,), which stand where the plan's own
        images of this step do and may differ from them where one was damaged."""
        pool, owners = self.pool, self._caption_owner()[images]
        counts = pool.caption_counts[owners]
        if self.rule == "pairs":
            rows = self._rows(step)
            number = (rows - pool.caption_starts[self._pair_images()[rows]]) % counts
        elif self.rule == "first":
            return pool.caption_starts[owners]
        else:
            number, passes = np.zeros(len(images), dtype=np.int64), self._passes(step)
            for one in np.unique(passes).tolist():
                now = passes == one
                if self.rule == "cycle":
                    number[now] = self._caption_turns(one)[owners[now]]
                else:
                    number[now] = self._caption_draws(one)[owners[now]] * counts[now]
        return pool.caption_starts[owners] + number

    def boxes(self, step: int, images: Indices) -> Indices:
        """What is shown of each kept picture, (len(images), 4): left, top, right, bottom in pixels."""
        kept = self.pool.kept[images]
        if self.crop == "centre":
            return central_boxes(kept)
        crops = random_crops(self.pool.sizes[images], self.crop_scale, keyed(self.seed, CROP, step))
        return in_pixels(crops, kept)

    def _rows(self, step: int) -> Indices:
        return self._order(step // self.steps_per_epoch)[self._part(step)]

    def _passes(self, step: int) -> Indices:
        """Which pass through its set each row of a step belongs to."""
        epoch, rows = step // self.steps_per_epoch, self._rows(step)
        return np.full(len(rows), epoch) if self.weights is None else self._mixed(epoch)[1][self._part(step)]

    def _part(self, step: int) -> slice:
        position = step % self.steps_per_epoch
        return slice(position * self.batch_size, (position + 1) * self.batch_size)

    @lru_cache(maxsize=2)  # noqa: B019 - a plan lives as long as its process
    def _order(self, epoch: int) -> Indices:
        if self.weights is not None:
            return self._mixed(epoch)[0]
        return keyed(self.seed, ORDER, epoch).permutation(self.rows)

    @lru_cache(maxsize=2)  # noqa: B019
    def _mixed(self, epoch: int) -> tuple[Indices, Indices]:
        """The rows of an epoch in order, and the pass through its set that each belongs to."""
        assert self.weights is not None
        sets, parts = self._sets(), []
        counts = rows_passed(np.array([len(own) for own in sets]), self.weights)
        for number, (own, count) in enumerate(zip(sets, counts.tolist(), strict=True)):
            for turn in range(epoch * count // max(1, len(own)), -(-(epoch + 1) * count // max(1, len(own)))):
                order = own[keyed(self.seed, MIX, number, turn).permutation(len(own))]
                begun = turn * len(own)
                order = order[max(0, epoch * count - begun) : (epoch + 1) * count - begun]
                parts.append(np.stack([order, np.full(len(order), turn)]))
        rows, passes = np.concatenate(parts, 1)[:, keyed(self.seed, ORDER, epoch).permutation(self.rows)]
        return rows, passes

    @lru_cache(maxsize=1)  # noqa: B019
    def _sets(self) -> list[Indices]:
        """The rows of each split."""
        of_images = self.pool.members[:, 0]
        of_rows = of_images[self._pair_images()] if self.rule == "pairs" else of_images
        return [np.flatnonzero(of_rows == number) for number in range(len(self.pool.splits))]

    @lru_cache(maxsize=4)  # noqa: B019
    def _caption_draws(self, turn: int) -> npt.NDArray[np.float64]:
        return keyed(self.seed, CAPTION, turn).random(len(self.pool))

    @lru_cache(maxsize=4)  # noqa: B019
    def _caption_turns(self, epoch: int) -> Indices:
        """Each image's caption number in this pass: its captions in a random order, another one every round."""
        turns = np.zeros(len(self.pool), dtype=np.int64)
        for count in np.unique(self.pool.caption_counts):
            members = np.flatnonzero(self.pool.caption_counts == count)
            round_, turn = divmod(epoch, int(count))
            draws = keyed(self.seed, CAPTION, int(count), round_).random((len(members), int(count)))
            turns[members] = draws.argsort(1)[:, turn]
        return turns

    @lru_cache(maxsize=1)  # noqa: B019
    def _pair_images(self) -> Indices:
        return np.repeat(np.arange(len(self.pool)), self.pool.caption_counts)

    @lru_cache(maxsize=1)  # noqa: B019
    def _caption_owner(self) -> Indices:
        """The image whose captions each image is shown with: itself, but for the mismatched share."""
        owner = np.arange(len(self.pool))
        chosen = keyed(self.seed, MISMATCH).permutation(len(self.pool))
        chosen = chosen[: exchanged(self.mismatched, len(self.pool))]
        owner[chosen] = np.roll(chosen, 1)
        return owner
