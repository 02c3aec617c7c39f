"""The decoded cache: every training picture as uint8 at its kept size, decoded once and then only read.

It lives in memory or in a file of the runs' folder, is shared by all loader processes of a run, and fills as
pictures are first asked for, that is during the first epoch. A file is found again by later runs on the same data;
each picture's checksum is compared when a run first reads it there, and what does not agree is decoded again.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import shutil
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gaprun.errors import UserError
from gaprun.files import what_to_do

HEADROOM = 0.8  # share of the free memory or disk that the cache may take
FORMAT = "decoded-3"
Pixels = npt.NDArray[np.uint8]


class DecodedCache:
    """Pictures of the given sizes, one after the other, behind a checksum for each (0: not there).

    A checksum is set only after its picture is written, so a process killed in between leaves a picture that is
    decoded again. Two processes may decode the same picture; both write the same bytes.
    """

    def __init__(self, sizes: npt.NDArray[np.int64], path: Path | None, memory: int | None = None) -> None:
        """In memory if `path` is None, else in the file `path`. Raises UserError when it will not fit.

        `sizes`: (n, 2) width and height. `memory`: the descriptor of an anonymous memory file, for processes that
        share one cache in memory.
        """
        self.sizes, count = sizes, len(sizes)
        self.starts = np.concatenate([[0], np.cumsum(3 * sizes.prod(1))])
        size = 4 * count + int(self.starts[-1])
        self._check_room(size, path)
        self._path, self._memory = path, -1
        if path is not None:
            self._use(self._map(path, size))
            return
        create = getattr(os, "memfd_create", None)
        if memory is not None:
            self._memory = os.dup(memory)
        elif create is not None:
            self._memory = create("gaprun-cache")
        if self._memory >= 0:
            os.ftruncate(self._memory, size)
        self._use(mmap.mmap(self._memory, size))

    def _use(self, buffer: mmap.mmap) -> None:
        count = len(self.sizes)
        self.sums = np.frombuffer(buffer, dtype="<u4", count=count)
        self.pixels = np.frombuffer(buffer, dtype=np.uint8, offset=4 * count)
        # Pictures of a file that this run has put there or found sound, for all loader processes forked from here.
        self.sound = self.sums if self._path is None else np.frombuffer(mmap.mmap(-1, count), dtype=np.uint8)

    def __getstate__(self) -> dict[str, Any]:
        """For a process that is not forked: it opens the same file, or the same memory by way of this process."""
        if self._path is None and self._memory < 0:
            raise TypeError("this system has no memory files: only forked processes share the cache")
        place = self._path or Path(f"/proc/{os.getpid()}/fd/{self._memory}")
        return {"sizes": self.sizes, "starts": self.starts, "_path": self._path, "place": place}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Map what `__getstate__` names, while the process that did is there."""
        place = state.pop("place")
        self.__dict__.update(state)
        self._memory = -1
        with open(place, "r+b") as file:
            self._use(mmap.mmap(file.fileno(), 0))

    def __del__(self) -> None:
        """The memory goes with the last process that maps it."""
        if self.__dict__.get("_memory", -1) >= 0:
            os.close(self._memory)

    def get(self, index: int) -> Pixels | None:
        """Picture `index`, uint8 (height, width, 3), or None where it was not put yet or is damaged."""
        width, height = self.sizes[index]
        picture = self.pixels[self.starts[index] : self.starts[index + 1]]
        if not self.sound[index]:
            if not self.sums[index] or self.sums[index] != _checksum(picture):
                return None
            self.sound[index] = 1
        return picture.reshape(height, width, 3)

    def put(self, index: int, picture: Pixels) -> None:
        """Keep `picture`, uint8 (height, width, 3)."""
        self.pixels[self.starts[index] : self.starts[index + 1]] = picture.reshape(-1)
        if self.sound is not self.sums:
            self.sums[index] = _checksum(picture)
        self.sound[index] = 1

    def _map(self, path: Path, size: int) -> mmap.mmap:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("a+b")
        except OSError as error:
            raise UserError(
                f"data.cache: disk: {path} cannot be written ({error.strerror}): set data.cache to memory or none, or "
                f"{what_to_do(error)}"
            ) from None
        with file:
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


def _checksum(picture: Pixels) -> int:
    return zlib.crc32(np.ascontiguousarray(picture).data) or 1


def free_memory() -> int:
    """Bytes of memory that can be taken without swapping."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
