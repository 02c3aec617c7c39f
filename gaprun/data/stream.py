"""The training stream: shards to batches, loaded by worker processes in the plan's order."""

from __future__ import annotations

import itertools
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset

from gaprun.data.errors import DamagedSample
from gaprun.data.loading import HandedOver, loader_context
from gaprun.data.plan import Plan
from gaprun.data.resample import Pictures
from gaprun.errors import Failure, GaprunError

REPLACEMENTS = 100
IN_FLIGHT = 4 * 2**30  # bytes of batches that all loaders may have ready: in /dev/shm, and pinned on a GPU
NO_PIXELS = torch.zeros(0, dtype=torch.uint8)
Trim = Callable[[npt.NDArray[Any]], npt.NDArray[Any]]


@dataclass(frozen=True)
class Travel:
    """How pictures that several processes hold come to the one that shows them.

    sent: how many of this process's pictures go to each, in their order; received: how many come from each; places:
    int64 (B,), where the picture of each row is among all that is received.
    """

    sent: list[int]
    received: list[int]
    places: torch.Tensor


@dataclass
class Batch:
    """One step's input: B pictures and tokens int64 (B, L), L the longest caption's length rounded up.

    In the place of either stand features float32 (B, d) where a frozen tower has made them already. `images`: the
    pictures' numbers in the pool, int64 (B,), where one that is damaged has given way to another.
    travel: None where the pictures are this process's own rows, else what makes them so.
    """

    step: int
    pictures: Pictures | torch.Tensor
    tokens: torch.Tensor
    damaged: list[str]
    images: npt.NDArray[np.int64] | None = None
    travel: Travel | None = None

    def pin_memory(self) -> Batch:
        """The same in memory that a GPU copies from by itself; torch's loader calls it."""
        return replace(self, pictures=self.pictures.pin_memory(), tokens=self.tokens.pin_memory())


def untrimmed(rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """All of `rows`: what is not tokens, or has no padding that can go."""
    return rows


@dataclass(frozen=True)
class ImageFeatures:
    """What a frozen image tower makes of a pool's pictures: float32 (n, d), of the length that it gives them.

    `shown`, int64 (n,): whose picture each row is of, which is another one's where its own is damaged.
    """

    rows: npt.NDArray[np.float32]
    shown: npt.NDArray[np.int64]


class LoadBatch(Dataset[Any]):
    """Turns a step's number into its Batch; picklable, so that it runs in any worker."""

    def __init__(
        self,
        plan: Plan,
        tokens: npt.NDArray[Any],
        trim: Trim = untrimmed,
        rows: slice | None = None,
        in_place: bool = False,
        features: ImageFeatures | None = None,
    ) -> None:
        """`tokens`: (len(pool.texts), context) ids of every caption, or (., d) features; `trim` cuts a batch's common
        padding; `rows`: the part of every step to load, where several processes share it (None: all); `in_place`:
        cached pictures are not copied, a batch says where they lie in the cache (for the CPU); `features`: what stands
        for the pictures, which are then not read."""
        self.plan, self.tokens, self.trim = plan, tokens, trim
        self.rows = rows or slice(0, plan.batch_size)
        self.in_place = in_place and plan.pool.cache is not None and features is None
        self.features = features

    def __getstate__(self) -> dict[str, Any]:
        """For a loader process that is not forked: large arrays are not copied."""
        features, rows = self.features, None
        if features is not None:
            features, rows = replace(features, rows=features.rows[:0]), HandedOver(features.rows)
        own = {"tokens": HandedOver(self.tokens), "features": features, "rows_of_features": rows}
        state = {name: value for name, value in self.__dict__.items() if name != "_handed_over"} | own
        self._handed_over = own  # the other process opens shared memory only after this object is pickled
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore from `__getstate__`."""
        rows = state.pop("rows_of_features")
        self.__dict__.update(state)
        self.tokens = state["tokens"].array()
        if self.features is not None:
            self.features = replace(self.features, rows=rows.array())

    def __getitem__(self, step: int) -> Batch | GaprunError:
        """`load(step)`, or the error that it ended with: raised in a worker it would come back as a traceback."""
        try:
            return self._with_pixels(self.load(step), NO_PIXELS)
        except GaprunError as error:
            return error

    @property
    def bytes_a_batch(self) -> int:
        """What the pictures of one batch take on the way from a loader, on average."""
        return (
            1
            if self.in_place or self.features is not None
            else int(3 * self.plan.pool.kept.prod(1).mean() * (self.rows.stop - self.rows.start)) + 1
        )

    def completed(self, batch: Batch) -> Batch:
        """What `load` gave, from what this object gave in another process that has the same cache."""
        cache = self.plan.pool.cache
        return batch if cache is None else self._with_pixels(batch, torch.from_numpy(cache.pixels))

    def _with_pixels(self, batch: Batch, pixels: torch.Tensor) -> Batch:
        if not self.in_place or isinstance(batch.pictures, torch.Tensor):
            return batch
        return replace(batch, pictures=replace(batch.pictures, pixels=pixels))

    def load(self, step: int) -> Batch:
        """Load its rows of step `step`; a damaged pair gives way to the next readable one and is named in `damaged`."""
        plan, pool, rows = self.plan, self.plan.pool, self.rows
        images = plan.images(step).copy()
        damaged: list[str] = []
        if self.features is not None:
            images = self.features.shown[images]
            of_pictures = torch.from_numpy(self.features.rows[images[rows]])
            return Batch(step, of_pictures, self.texts(step, images), damaged, images[rows])
        pixels = [self._readable(images, k, damaged).reshape(-1) for k in range(len(images))[rows]]
        kept = pool.kept[images[rows]]
        # Of the whole batch, since one generator draws the crops row by row.
        boxes = plan.boxes(step, images)[rows]
        shapes = torch.from_numpy(kept), torch.from_numpy(boxes)
        if self.in_place and pool.cache is not None:
            starts = torch.from_numpy(pool.cache.starts[images[rows]])
            pictures = Pictures(torch.from_numpy(pool.cache.pixels), starts, *shapes)
        else:
            pictures = Pictures.joined(torch.from_numpy(np.concatenate(pixels)), *shapes)
        return Batch(step, pictures, self.texts(step, images), damaged, images[rows])

    def texts(self, step: int, images: npt.NDArray[np.int64]) -> torch.Tensor:
        """Tokens, or features, of the captions that its rows of `images` (those of the whole batch) are shown with."""
        return self.texts_at(self.plan.captions(step, images)[self.rows])

    def texts_at(self, captions: npt.NDArray[np.int64]) -> torch.Tensor:
        """int64 tokens (n, L), or features (n, d), of `captions` (n,)."""
        chosen = self.tokens[captions]
        return torch.from_numpy(self.trim(chosen.astype(np.int64) if chosen.dtype.kind in "iu" else chosen))

    def _readable(self, images: npt.NDArray[np.int64], k: int, damaged: list[str]) -> npt.NDArray[np.uint8]:
        for _ in range(REPLACEMENTS):
            try:
                return self.plan.pool.picture(int(images[k]))
            except DamagedSample as error:
                damaged.append(str(error))
                images[k] = (images[k] + 1) % len(self.plan.pool)
        raise Failure(f"{REPLACEMENTS} damaged pictures in a row, the last: {damaged[-1]}")


def batches_ahead(bytes_a_batch: int, workers: int) -> int:
    """How many batches each of `workers` loads before they are asked for."""
    return max(1, min(4, IN_FLIGHT // (bytes_a_batch * workers)))


def stream(load: LoadBatch, start: int, stop: int, workers: int, pin: bool = False) -> Iterator[Batch]:
    """Batches of steps start..stop-1 in order, loaded by `workers` processes (0: in this one)."""
    options: dict[str, Any] = {}
    if workers:
        ahead = batches_ahead(load.bytes_a_batch, workers)
        options = {"num_workers": workers, "prefetch_factor": ahead}
        options["multiprocessing_context"] = loader_context()
    loader = iter(DataLoader(load, batch_size=None, sampler=range(start, stop), pin_memory=pin, **options))
    first = list(itertools.islice(loader, 1))  # the workers start here, and with them torch's handler
    if workers and threading.current_thread() is threading.main_thread():
        # torch's handler raises wherever the process happens to be, even halfway through an optimiser step; without
        # it a worker's death is noticed when the next batch is asked for, when the state is whole.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for item in itertools.chain(first, loader):
        if isinstance(item, GaprunError):
            raise item
        yield load.completed(item)
