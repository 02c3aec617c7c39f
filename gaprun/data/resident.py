"""The device cache: training pictures decoded before the first step, as bytes in the training device's own memory.

No loader runs: a step's batch says where its pictures lie, and which part of each is shown. Several processes hold a
contiguous part of the pictures each; what another process shows of them is cropped where they lie and then travels.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gaprun.data.errors import DamagedSample
from gaprun.data.parallel import Progress, ordered_map
from gaprun.data.pool import Pool
from gaprun.data.resample import Pictures
from gaprun.data.stream import REPLACEMENTS, Batch, LoadBatch, Travel
from gaprun.errors import Failure

CHUNK = 1024  # pictures that go to the device in one copy
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Holding:
    """Which pictures of a pool each process holds, and where: contiguous parts, nearly equal in number.

    bounds: int64 (processes + 1,), the first picture of each part; starts: int64 (n,), the byte at which a picture
    begins in its part; lengths: int64 (n,), its bytes.
    """

    bounds: Indices
    starts: Indices
    lengths: Indices

    @classmethod
    def of(cls, kept: Indices, processes: int) -> Holding:
        """The parts of pictures that are kept at `kept` (n, 2) width and height."""
        bounds, lengths = np.arange(processes + 1) * len(kept) // processes, 3 * kept.prod(1)
        ends = np.concatenate([[0], lengths.cumsum()])
        return cls(bounds, ends[:-1] - np.repeat(ends[bounds[:-1]], np.diff(bounds)), lengths)

    def part(self, process: int) -> range:
        """The pictures that `process` holds."""
        return range(int(self.bounds[process]), int(self.bounds[process + 1]))

    def size(self, process: int) -> int:
        """Their bytes."""
        part = self.part(process)
        return int(self.lengths[part.start : part.stop].sum())

    def holders(self, images: Indices) -> Indices:
        """The process that holds each of `images`."""
        return np.searchsorted(self.bounds, images, "right") - 1


def decode_into(
    pixels: Tensor, pool: Pool, part: range, threads: int, progress: Progress | None = None
) -> dict[int, str]:
    """Fill `pixels`, uint8 on any device, with the decoded pictures `part` of `pool`, one after the other.

    Returns what is wrong with the damaged ones, by number. `progress(pictures done, pictures)`.
    """
    damage: dict[int, str] = {}

    def picture(index: int) -> npt.NDArray[np.uint8]:
        try:
            return pool.picture(index).reshape(-1)
        except DamagedSample as error:
            damage[index] = str(error)
            return np.zeros(3 * int(pool.kept[index].prod()), dtype=np.uint8)

    place = 0
    for first in range(part.start, part.stop, CHUNK):
        chunk = range(first, min(first + CHUNK, part.stop))
        together = torch.from_numpy(np.concatenate(list(ordered_map(picture, chunk, threads))))
        pixels[place : place + len(together)].copy_(together)
        place += len(together)
        if progress is not None:
            progress(chunk.stop - part.start, len(part))
    return damage


@dataclass
class ResidentBatches:
    """Turns a step's number into its Batch as `LoadBatch` does, with the pictures where `pixels` has them.

    process: this one's number, whose rows are `load.rows`; damage: what is wrong with a picture, by number, of all
    processes' parts. With several processes the batch has the pictures that this one holds, in the order of the rows
    of the whole batch, and their `travel`.
    """

    load: LoadBatch
    holding: Holding
    pixels: Tensor
    process: int = 0
    damage: dict[int, str] = field(default_factory=dict)

    def batch(self, step: int) -> Batch:
        """The input of `step`; damaged pairs give way as in `LoadBatch.load`. Raises Failure for too many in a row."""
        plan, load = self.load.plan, self.load
        images = plan.images(step).copy()
        damaged = self._make_readable(images)
        kept, boxes, texts = plan.pool.kept[images], plan.boxes(step, images), load.texts(step, images)
        holders, travel = self.holding.holders(images), None
        if len(self.holding.bounds) > 2:
            travel = self._travel(holders)
        mine = holders == self.process
        shown = (torch.from_numpy(part[mine]) for part in (self.holding.starts[images], kept, boxes))
        pictures = Pictures(self.pixels, *shown)
        return Batch(step, pictures, texts, damaged, images[load.rows], travel)

    def _travel(self, holders: Indices) -> Travel:
        processes, rows = len(self.holding.bounds) - 1, self.load.rows
        # A process has a contiguous part of the rows, so what goes to each lies together already.
        of_rows = np.arange(len(holders)) * processes // len(holders)
        sent = np.bincount(of_rows[holders == self.process], minlength=processes)
        own = holders[rows]
        places = np.argsort(np.argsort(own, kind="stable"), kind="stable")
        received = np.bincount(own, minlength=processes)
        return Travel(sent.tolist(), received.tolist(), torch.from_numpy(places))

    def _make_readable(self, images: Indices) -> list[str]:
        """Put the next readable picture in the place of each damaged one; what was wrong."""
        damaged: list[str] = []
        if not self.damage:
            return damaged
        for k in np.flatnonzero(np.isin(images, list(self.damage))).tolist():
            for _ in range(REPLACEMENTS):
                if images[k] not in self.damage:
                    break
                damaged.append(self.damage[int(images[k])])
                images[k] = (images[k] + 1) % len(self.load.plan.pool)
            else:
                raise Failure(f"{REPLACEMENTS} damaged pictures in a row, the last: {damaged[-1]}")
        return damaged
