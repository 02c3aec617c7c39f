"""The training stream: WebDataset shards to batches in an order that is a pure function of (seed, step).

Every random choice - the order of images, the caption of each, its crop, the mismatched pairs - is drawn from
a generator keyed by (seed, purpose, epoch or step). So the batches do not depend on the number of workers, and
a resumed run starts at any step without replaying what came before.
"""

from __future__ import annotations

import hashlib
import itertools
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import webdataset as wds
from torch.utils.data import IterableDataset, get_worker_info

from gaprun.data.cache import FORMAT, DecodedCache
from gaprun.data.decode import stage
from gaprun.data.errors import DamagedSample
from gaprun.data.split import Split
from gaprun.errors import Failure, GaprunError, UserError

ORDER, CAPTION, CROP, MISMATCH = range(4)
CROP_ATTEMPTS = 10
REPLACEMENTS = 100
Trim = Callable[[npt.NDArray[np.int64]], npt.NDArray[np.int64]]
LOG_RATIO = float(np.log(4 / 3))


def keyed(seed: int, purpose: int, *counters: int) -> np.random.Generator:
    """An independent generator for (seed, purpose, counters)."""
    return np.random.default_rng([seed, purpose, *counters])


class Pool:
    """The training images of one or more splits as one numbered list; only images with a caption take part."""

    def __init__(self, splits: list[Split], margin_size: int) -> None:
        """`margin_size`: side in pixels at which decoded pictures are kept. Raises UserError when nothing is left."""
        self.splits, self.margin_size = splits, margin_size
        self.members = [(s, i) for s, split in enumerate(splits) for i, c in enumerate(split.captions) if c]
        if not self.members:
            names = ", ".join(f"{split.dataset}/{split.split}" for split in splits)
            raise UserError(f"data.train: {names}: no image there has a caption")
        captions = [splits[s].captions[i] for s, i in self.members]
        self.texts = [text for texts in captions for text in texts]
        self.caption_counts = np.array([len(texts) for texts in captions])
        self.caption_starts = np.concatenate([[0], np.cumsum(self.caption_counts)[:-1]])
        self.sizes = np.array([splits[s].sizes[i] for s, i in self.members], dtype=np.float64)
        self.cache: DecodedCache | None = None

    def __len__(self) -> int:
        """Number of images with at least one caption."""
        return len(self.members)

    def use_cache(self, folder: Path | None, memory: int | None = None) -> None:
        """Keep decoded pictures in memory, or in a file of `folder` named by the data. Raises UserError (no room).

        `memory`: descriptor of a memory file that several processes share.
        """
        path = None
        if folder is not None:
            content = " ".join([FORMAT, *(split.fingerprint for split in self.splits), str(self.margin_size)])
            path = folder / f"{hashlib.sha256(content.encode()).hexdigest()[:32]}.u8"
        self.cache = DecodedCache(len(self), self.margin_size, path, memory)

    def picture(self, index: int) -> npt.NDArray[np.uint8]:
        """The decoded picture, squashed to (margin_size, margin_size, 3). Raises DamagedSample."""
        if self.cache is not None:
            kept = self.cache.get(index)
            if kept is not None:
                return kept
        split, sample = self.members[index]
        owner = self.splits[split]
        data = owner.read_image(sample)
        try:
            picture = stage(data, self.margin_size)
        except DamagedSample as error:
            shard = owner.shards[int(owner.places[sample][0])]
            raise DamagedSample(owner.keys[sample], str(shard), error.reason) from None
        if self.cache is not None:
            self.cache.put(index, picture)
        return picture


@dataclass(frozen=True)
class Plan:
    """Which images, captions and crops make up each step."""

    pool: Pool
    seed: int
    batch_size: int
    crop_scale: tuple[float, float]
    mismatched: float = 0.0

    def __post_init__(self) -> None:
        if self.batch_size > len(self.pool):
            raise UserError(
                f"schedule.batch_size: {self.batch_size} is more than the {len(self.pool)} training images"
            )

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in one pass; the remainder of an epoch is dropped (another one each epoch)."""
        return len(self.pool) // self.batch_size

    def images(self, step: int) -> npt.NDArray[np.int64]:
        """Pool indices (batch_size,) of a step: consecutive parts of the epoch's permutation."""
        epoch, position = divmod(step, self.steps_per_epoch)
        order = self._order(epoch)
        return order[position * self.batch_size : (position + 1) * self.batch_size]

    def captions(self, step: int, images: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Indices into `pool.texts`: one caption for each of `images`, chosen by (seed, epoch, image)."""
        epoch = step // self.steps_per_epoch
        owners = self._caption_owner()[images]
        draws = self._caption_draws(epoch)[owners]
        return self.pool.caption_starts[owners] + (draws * self.pool.caption_counts[owners]).astype(np.int64)

    def crops(self, step: int, images: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Crop boxes (len(images), 4) as fractions of the picture: left, top, width, height."""
        return random_crops(self.pool.sizes[images], self.crop_scale, keyed(self.seed, CROP, step))

    @lru_cache(maxsize=2)  # noqa: B019 - a plan lives as long as its process
    def _order(self, epoch: int) -> npt.NDArray[np.int64]:
        return keyed(self.seed, ORDER, epoch).permutation(len(self.pool))

    @lru_cache(maxsize=2)  # noqa: B019
    def _caption_draws(self, epoch: int) -> npt.NDArray[np.float64]:
        return keyed(self.seed, CAPTION, epoch).random(len(self.pool))

    @lru_cache(maxsize=1)  # noqa: B019
    def _caption_owner(self) -> npt.NDArray[np.int64]:
        """The image whose captions each image is shown with: itself, but for the mismatched share."""
        owner = np.arange(len(self.pool))
        chosen = keyed(self.seed, MISMATCH).permutation(len(self.pool))
        chosen = chosen[: round(self.mismatched * len(self.pool))]
        owner[chosen] = np.roll(chosen, 1)
        return owner


def random_crops(
    sizes: npt.NDArray[np.float64], scale: tuple[float, float], random: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Random resized crops by torchvision's rule, for a batch at once: (n, 4) fractions left, top, width, height.

    Area uniform in `scale`, log aspect ratio uniform in [log 3/4, log 4/3], at most ten attempts, then the largest
    central crop whose ratio is within those bounds. `sizes`: (n, 2) width and height of the original pictures.
    """
    n = len(sizes)
    width, height = sizes[:, :1], sizes[:, 1:]
    area = random.uniform(*scale, size=(n, CROP_ATTEMPTS)) * width * height
    ratio = np.exp(random.uniform(-LOG_RATIO, LOG_RATIO, size=(n, CROP_ATTEMPTS)))
    corner = random.random((n, 2))
    w, h = np.round(np.sqrt(area * ratio)), np.round(np.sqrt(area / ratio))
    fits = (w > 0) & (h > 0) & (w <= width) & (h <= height)
    first = fits.argmax(1)
    rows = np.arange(n)
    w, h = w[rows, first], h[rows, first]
    none = np.asarray(~fits.any(1))
    w = np.where(none, np.minimum(sizes[:, 0], np.round(sizes[:, 1] * 4 / 3)), w)
    h = np.where(none, np.minimum(sizes[:, 1], np.round(sizes[:, 0] * 4 / 3)), h)
    room = np.stack([sizes[:, 0] - w, sizes[:, 1] - h], 1)
    left_top = np.where(none[:, None], room / 2, np.floor(corner * (room + 1)))
    return np.concatenate([left_top, w[:, None], h[:, None]], 1) / np.tile(sizes, 2)


@dataclass
class Batch:
    """One step's input: pictures uint8 (B, M, M, 3), crops float32 (B, 4), tokens int64 (B, L), L the
    longest caption's length rounded up."""

    step: int
    pictures: torch.Tensor
    crops: torch.Tensor
    tokens: torch.Tensor
    damaged: list[str]


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

    def load(self, step: int) -> Batch:
        """Load its rows of step `step`; a damaged pair gives way to the next readable one and is named in `damaged`."""
        plan, pool, rows = self.plan, self.plan.pool, self.rows
        images = plan.images(step)
        damaged: list[str] = []
        pictures = pool.cache.batch(images[rows]) if pool.cache is not None else None
        if pictures is None:
            images = images.copy()
            pictures = np.stack([self._readable(images, k, damaged) for k in range(rows.start, rows.stop)])
        return Batch(
            step,
            torch.from_numpy(pictures),
            # Of the whole batch, since one generator draws them row by row.
            torch.from_numpy(plan.crops(step, images)[rows].astype(np.float32)),
            torch.from_numpy(self.trim(self.tokens[plan.captions(step, images[rows])])),
            damaged,
        )

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
        options = {"num_workers": workers, "prefetch_factor": 4, "multiprocessing_context": "fork"}
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


def crop_and_normalise(
    pictures: torch.Tensor, crops: torch.Tensor, size: int, mean: torch.Tensor, std: torch.Tensor
) -> torch.Tensor:
    """Crop each picture to its box and scale it to size x size on the pictures' device (bilinear).

    pictures uint8 (B, M, M, 3); crops float (B, 4) as fractions left, top, width, height, taken to the nearest whole
    pixels; result float32 (B, 3, size, size), normalised by mean and std (3,) given in 0..1 units. The CPU scales
    bytes picture by picture (its fastest way; whole grey levels), a GPU the whole batch at once in float32.
    """
    side = pictures.shape[1]
    first = crops[:, :2].mul(side).round().clamp(0, side - 1)
    last = (crops[:, :2] + crops[:, 2:]).mul(side).round().clamp(max=side).maximum(first + 1)
    scale, shift = (1 / (255 * std)).view(3, 1, 1), (mean / std).view(3, 1, 1)
    cropped = _crop_bytes if pictures.device.type == "cpu" else _crop_batch
    return cropped(pictures, first, last, size).mul_(scale).sub_(shift)


def _crop_bytes(pictures: torch.Tensor, first: torch.Tensor, last: torch.Tensor, size: int) -> torch.Tensor:
    planes = pictures.permute(0, 3, 1, 2)
    out = torch.empty(len(pictures), 3, size, size)
    corners = zip(first.long().tolist(), last.long().tolist(), strict=True)
    for i, ((left, top), (right, bottom)) in enumerate(corners):
        box = planes[i : i + 1, :, top:bottom, left:right]
        out[i] = torch.nn.functional.interpolate(box, (size, size), mode="bilinear")[0]
    return out


def _crop_batch(pictures: torch.Tensor, first: torch.Tensor, last: torch.Tensor, size: int) -> torch.Tensor:
    first, last = first[:, :, None], last[:, :, None]
    place = (torch.arange(size, device=pictures.device) + 0.5) / size
    # As interpolate does it: outside the outermost pixel centres the crop's own edge goes on.
    centres = (first + place * (last - first)).clamp(first + 0.5, last - 0.5)
    # From -1 to 1 of the whole picture, as grid_sample counts.
    x, y = (2 * centres / pictures.shape[1] - 1).unbind(1)
    grid = torch.stack([x[:, None, :].expand(-1, size, -1), y[:, :, None].expand(-1, -1, size)], 3)
    return torch.nn.functional.grid_sample(pictures.permute(0, 3, 1, 2).float(), grid, align_corners=False)
