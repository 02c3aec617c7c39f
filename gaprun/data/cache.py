"""The decoded cache: every training picture as uint8 at training size plus margin, decoded once and then only read.

It lives in memory or in a file of the runs' folder, is shared by all loader processes of a run, and fills as
pictures are first asked for, that is during the first epoch. A file is found again by later runs on the same data.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gaprun.errors import UserError

HEADROOM = 0.8  # share of the free memory or disk that the cache may take
FORMAT = "decoded-2"


class DecodedCache:
    """`count` pictures of (side, side, 3), with a byte for each that says whether it is there.

    The byte is set only after the picture is written, so a process killed in between leaves a picture that is
    decoded again. Two processes may decode the same picture; both write the same bytes.
    """

    def __init__(self, count: int, side: int, path: Path | None, memory: int | None = None) -> None:
        """In memory if `path` is None, else in the file `path`. Raises UserError when it will not fit.

        `memory`: the descriptor of an anonymous memory file, for processes that share one cache in memory.
        """
        self.shape = (count, side, side, 3)
        pictures = count * side * side * 3
        self._check_room(pictures + count, path)
        if memory is not None:
            os.ftruncate(memory, pictures + count)
        anonymous = -1 if memory is None else memory
        buffer = mmap.mmap(anonymous, pictures + count) if path is None else self._map(path, pictures + count)
        self._buffer = buffer
        self.ready = np.frombuffer(buffer, dtype=np.uint8, count=count)
        self.pictures = np.frombuffer(buffer, dtype=np.uint8, offset=count).reshape(self.shape)

    def get(self, index: int) -> npt.NDArray[np.uint8] | None:
        """Picture `index`, or None where it was not put yet."""
        return self.pictures[index] if self.ready[index] else None

    def put(self, index: int, picture: npt.NDArray[np.uint8]) -> None:
        """Keep `picture`, uint8 (side, side, 3)."""
        self.pictures[index] = picture
        self.ready[index] = 1

    def batch(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8] | None:
        """(len(indices), side, side, 3) when all are there, else None."""
        return self.pictures[indices] if self.ready[indices].all() else None

    def _map(self, path: Path, size: int) -> mmap.mmap:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if file.seek(0, os.SEEK_END) != size:
                file.truncate(0)
                file.truncate(size)
            try:
                return mmap.mmap(file.fileno(), size)
            finally:
                fcntl.flock(file, fcntl.LOCK_UN)  # the mapping keeps the file open, and with it a lock

    def _check_room(self, size: int, path: Path | None) -> None:
        if path is None:
            free, where, other = free_memory(), "memory", "disk"
        else:
            folder = next(parent for parent in path.parents if parent.exists())
            have = path.stat().st_blocks * 512 if path.exists() else 0
            free, where, other = shutil.disk_usage(folder).free + have, "disk", "none"
        if size > HEADROOM * free:
            raise UserError(
                f"data.cache: {where}: {size / 2**30:.1f} GiB of decoded pictures do not fit into the "
                f"{free / 2**30:.1f} GiB that are free; set data.cache to {other}"
            )


def free_memory() -> int:
    """Bytes of memory that can be taken without swapping."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
