"""The training pictures and captions of all splits as one numbered list, and their decoded form."""

from __future__ import annotations

import hashlib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gaprun.data.cache import FORMAT, DecodedCache
from gaprun.data.crops import Crop, kept_sizes
from gaprun.data.decode import Pixels, stage
from gaprun.data.errors import DamagedSample
from gaprun.data.members import MemberCaptions, Members, captioned, counts_of, sizes_of
from gaprun.data.split import Split

DECODERS = ("pillow", "simplejpeg", "torch")


class Pool:
    """The training images of one or more splits as one numbered list, each with a caption at least."""

    def __init__(
        self,
        splits: list[Split],
        image_size: int,
        crop_scale: tuple[float, float] = (0.9, 1.0),
        margin: float = 1.125,
        crop: Crop = "random",
        members: Members | None = None,
    ) -> None:
        """`members`: which images, in order (default: all with a caption). Decoded pictures are kept at `kept_sizes` of
        the other arguments. Raises UserError when nothing is left."""
        self.splits = splits
        self.members = captioned(splits) if members is None else members
        self.texts = MemberCaptions(splits, self.members)
        self.caption_counts = counts_of(splits, self.members)
        self.caption_starts = np.concatenate([[0], np.cumsum(self.caption_counts)[:-1]])
        self.sizes = sizes_of(splits, self.members)
        self.kept = kept_sizes(self.sizes, image_size, crop_scale, margin, crop)
        self.cache: DecodedCache | None = None

    def __len__(self) -> int:
        """Number of images with at least one caption."""
        return len(self.members)

    def use_cache(self, folder: Path | None, memory: int | None = None) -> None:
        """Keep decoded pictures in memory, or in a file of `folder` named by all that decides their bytes.

        Raises UserError (no room). `memory`: descriptor of a memory file that several processes share.
        """
        path = None if folder is None else folder / f"{self.content[:32]}.u8"
        self.cache = DecodedCache(self.kept, path, memory)

    @property
    def content(self) -> str:
        """sha256 (hex) of all that decides the decoded pictures' bytes: data, which of it, sizes, decoders."""
        parts = [FORMAT, *(f"{name} {_version(name)}" for name in DECODERS)]
        parts += [split.fingerprint for split in self.splits]
        digest = hashlib.sha256(" ".join(parts).encode())
        digest.update(self.members.astype("<i8").tobytes() + self.kept.astype("<i8").tobytes())
        return digest.hexdigest()

    def picture(self, index: int) -> npt.NDArray[np.uint8]:
        """The decoded picture at its kept size, (height, width, 3). Raises DamagedSample."""
        if self.cache is not None:
            kept = self.cache.get(index)
            if kept is not None:
                return kept
        picture = self._decoded(index)
        if self.cache is not None:
            self.cache.put(index, picture)
        return picture

    def _decoded(self, index: int) -> Pixels:
        split, sample = self.members[index]
        owner = self.splits[split]
        data = owner.read_image(sample)
        width, height = self.kept[index]
        try:
            return stage(data, int(width), int(height))
        except DamagedSample as error:
            shard = owner.shards[int(owner.places[sample][0])]
            raise DamagedSample(owner.keys[sample], str(shard), error.reason) from None


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"
