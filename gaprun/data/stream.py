"""The training stream: WebDataset shards to batches, loaded by worker processes in the plan's order."""

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
import webdataset as wds
from torch.utils.data import IterableDataset, get_worker_info

from gaprun.data.crops import in_pixels
from gaprun.data.errors import DamagedSample
from gaprun.data.plan import Plan
from gaprun.data.resample import Pictures
from gaprun.errors import Failure, GaprunError

REPLACEMENTS = 100
IN_FLIGHT = (
    4 * 2**30
)  # bytes of batches that all loader processes may have ready: in /dev/shm, and pinned on a GPU
Trim = Callable[[npt.NDArray[np.int64]], npt.NDArray[np.int64]]


@dataclass
class Batch:
    """One step's input: B pictures and tokens int64 (B, L), L the longest caption's length rounded up."""

    step: int
    pictures: Pictures
    tokens: torch.Tensor
    damaged: list[str]

    def pin_memory(self) -> Batch:
        """The same in memory that a GPU copies from by itself; torch's loader calls it."""
        pictures = replace(self.pictures, pixels=self.pictures.pixels.pin_memory())
        return replace(self, pictures=pictures, tokens=self.tokens.pin_memory())


class _Steps(IterableDataset):
    """The steps of this worker: worker w of W takes every W-th, so that the loader's turn order is the plan's."""

    def __init__(self, start: int, stop: int) -> None:
        self.start, self.stop = start, stop

    def __iter__(self) -> Iterator[int]:
        worker = get_worker_info()
        first, stride = (worker.id, worker.num_workers) if worker else (0, 1)
        return iter(range(self.start + first, self.stop, stride))


class LoadBatch:
    """Turns a step's number into its Batch; picklable, so that it runs in any worker."""

    def __init__(
        self,
        plan: Plan,
        tokens: npt.NDArray[np.int64],
        trim: Trim = lambda tokens: tokens,
        rows: slice | None = None,
    ) -> None:
        """`tokens`: (len(pool.texts), context) ids of every caption; `trim` cuts a batch's common padding; `rows`:
        the part of every step to load, where several processes share it (None: all)."""
        self.plan, self.tokens, self.trim = plan, tokens, trim
        self.rows = rows or slice(0, plan.batch_size)

    def __call__(self, step: int) -> Batch | GaprunError:
        """`load(step)`, or the error that it ended with: raised in a worker it would come back as a traceback."""
        try:
            return self.load(step)
        except GaprunError as error:
            return error

    @property
    def bytes_a_batch(self) -> int:
        """What the pictures of one batch take, on average."""
        return int(3 * self.plan.pool.kept.prod(1).mean() * (self.rows.stop - self.rows.start)) + 1

    def load(self, step: int) -> Batch:
        """Load its rows of step `step`; a damaged pair gives way to the next readable one and is named in `damaged`."""
        plan, pool, rows = self.plan, self.plan.pool, self.rows
        images = plan.images(step).copy()
        damaged: list[str] = []
        pixels = [self._readable(images, k, damaged).reshape(-1) for k in range(rows.start, rows.stop)]
        kept = pool.kept[images[rows]]
        # Of the whole batch, since one generator draws the crops row by row.
        boxes = in_pixels(plan.crops(step, images)[rows], kept)
        tensors = (torch.from_numpy(array) for array in (np.concatenate(pixels), kept, boxes))
        tokens = self.trim(self.tokens[plan.captions(step, images)[rows]])
        return Batch(step, Pictures(*tensors), torch.from_numpy(tokens), damaged)

    def _readable(self, images: npt.NDArray[np.int64], k: int, damaged: list[str]) -> npt.NDArray[np.uint8]:
        for _ in range(REPLACEMENTS):
            try:
                return self.plan.pool.picture(int(images[k]))
            except DamagedSample as error:
                damaged.append(str(error))
                images[k] = (images[k] + 1) % len(self.plan.pool)
        raise Failure(f"{REPLACEMENTS} damaged pictures in a row, the last: {damaged[-1]}")


def stream(load: LoadBatch, start: int, stop: int, workers: int, pin: bool = False) -> Iterator[Batch]:
    """Batches of steps start..stop-1 in order, loaded by `workers` processes (0: in this one)."""
    pipeline = wds.DataPipeline(_Steps(start, stop), wds.map(load, handler=wds.reraise_exception))
    options: dict[str, Any] = {}
    if workers:
        ahead = max(1, min(4, IN_FLIGHT // (load.bytes_a_batch * workers)))
        options = {"num_workers": workers, "prefetch_factor": ahead, "multiprocessing_context": "fork"}
    loader = iter(wds.WebLoader(pipeline, batch_size=None, pin_memory=pin, **options))
    first = list(itertools.islice(loader, 1))  # the workers start here, and with them torch's handler
    if workers and threading.current_thread() is threading.main_thread():
        # torch's handler raises wherever the process happens to be, even halfway through an optimiser step; without
        # it a worker's death is noticed when the next batch is asked for, when the state is whole.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for item in itertools.chain(first, loader):
        if isinstance(item, GaprunError):
            raise item
        yield item
