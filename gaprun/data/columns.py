"""A split's sample lines by column: one flat block of bytes that is mapped into memory, not read.

A large `samples.jsonl` is read to its end once; what it says is then kept in `.samples.columns` beside it (or in the
user's cache folder, where the split's cannot be written), with a note of the lines' sha256 and of the file's own size,
times and inode. A file that is not the one noted was not made here, and is made again. Opening costs the same for any
number of samples, and all processes of a machine share the pages that they look at.

The block, little endian: 8 int64 (mark, samples N, captions M, bytes of keys K, bytes of captions, lowest and highest
shard, 0), then int64 numbers (N, 6), first captions (N + 1,), key starts (N + 1,), caption starts (M + 1,), then the
keys and the captions in UTF-8.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import time
from array import array
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import accumulate, islice
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from gaprun.data.identity import SAMPLES, SETTLED, file_state
from gaprun.files import user_cache, write_atomically

COLUMNS = ".samples.columns"
COLUMN_FILES = (COLUMNS, f"{COLUMNS}.json")
SMALL = 2**20  # bytes of samples.jsonl that are read anew as fast as a file of columns is looked up
_MARK, _HEAD, _CHUNK = 0x31_4C_4F_43_50_52_41_47, 8, 4096
Int64s = npt.NDArray[np.int64]


class Texts(Sequence[str]):
    """Texts that lie one after the other in a block of UTF-8: text k is its bytes starts[k] to starts[k + 1]."""

    def __init__(self, starts: Int64s, block: memoryview) -> None:
        self.starts, self.block = starts, block

    def __len__(self) -> int:
        """Number of texts."""
        return len(self.starts) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        """One text, or a list of some."""
        if isinstance(index, slice):
            chosen = range(*index.indices(len(self)))
            if chosen.step != 1:
                return [self[k] for k in chosen]
            starts = self.starts[chosen.start : max(chosen.stop, chosen.start) + 1].tolist()
            return [self._text(a, b) for a, b in zip(starts, starts[1:], strict=False)]
        start, end = self.starts[range(len(self))[index] :][:2].tolist()
        return self._text(start, end)

    def __iter__(self) -> Iterator[str]:
        """All texts in order."""
        for first in range(0, len(self), _CHUNK):
            yield from self[first : first + _CHUNK]

    def __eq__(self, other: object) -> bool:
        """Whether the texts are those of another sequence."""
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def _text(self, start: int, end: int) -> str:
        return str(self.block[start:end], "utf-8", "surrogatepass")


class CaptionLists(Sequence[list[str]]):
    """The captions of each sample: those of sample i are `texts` firsts[i] to firsts[i + 1]."""

    def __init__(self, firsts: Int64s, texts: Texts) -> None:
        self.firsts, self.texts = firsts, texts

    @property
    def counts(self) -> Int64s:
        """How many captions each sample has; int64 (N,)."""
        return np.diff(self.firsts)

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.firsts) - 1

    @overload
    def __getitem__(self, index: int) -> list[str]: ...
    @overload
    def __getitem__(self, index: slice) -> list[list[str]]: ...
    def __getitem__(self, index: int | slice) -> list[str] | list[list[str]]:
        """The captions of one sample, or a list of those of some."""
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        first, end = self.firsts[range(len(self))[index] :][:2].tolist()
        return self.texts[first:end]

    def __iter__(self) -> Iterator[list[str]]:
        """Each sample's captions in order."""
        for first in range(0, len(self), _CHUNK):
            firsts = self.firsts[first : first + _CHUNK + 1].tolist()
            texts = self.texts[firsts[0] : firsts[-1]]
            yield from (
                texts[a - firsts[0] : b - firsts[0]] for a, b in zip(firsts, firsts[1:], strict=False)
            )

    def __eq__(self, other: object) -> bool:
        """Whether the captions are those of another sequence."""
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


class Columns:
    """The columns of a block: `keys`, `captions`, `numbers` (int64 (N, 6): label or -1, width, height, shard, offset,
    size), and the lowest and highest shard (0 and -1 where there is no sample)."""

    def __init__(self, block: mmap.mmap | bytes) -> None:
        mark, count, texts, keys, _, self.lowest, self.highest, _ = self._ints(block, 0, _HEAD).tolist()
        if mark != _MARK:
            raise ValueError("not a block of columns")
        place = 8 * _HEAD
        parts = []
        for length in (6 * count, count + 1, count + 1, texts + 1):
            parts.append(self._ints(block, place, length))
            place += 8 * length
        whole = memoryview(block)
        self.numbers = parts[0].reshape(-1, 6)
        self.keys = Texts(parts[2], whole[place : place + keys])
        self.captions = CaptionLists(parts[1], Texts(parts[3], whole[place + keys :]))

    @staticmethod
    def _ints(block: mmap.mmap | bytes, place: int, count: int) -> Int64s:
        return np.frombuffer(block, dtype="<i8", count=count, offset=place)


def columns_of(folder: Path, samples_sha256: str) -> Columns:
    """The columns of the split in `folder`, whose sample lines have that sha256; kept there where they are many.

    Raises OSError, and ValueError, KeyError, TypeError, AttributeError or OverflowError for lines that are no samples.
    """
    samples = folder / SAMPLES
    if samples.stat().st_size < SMALL:
        return Columns(b"".join(read_lines(samples)))
    found = _kept(folder, samples_sha256)
    if found is None:
        parts = read_lines(samples)
        _keep(folder, samples_sha256, parts)
        found = _kept(folder, samples_sha256) or Columns(b"".join(parts))
    return found


def read_lines(samples: Path) -> list[Any]:
    """The block of a samples.jsonl, in the parts that it is made of. Raises as `columns_of`."""
    numbers, firsts, key_starts, text_starts = (array("q", given) for given in ((), (0,), (0,), (0,)))
    keys, texts = bytearray(), bytearray()
    with samples.open(encoding="utf-8") as file:
        while chunk := list(islice(file, _CHUNK)):
            lines = json.loads(f"[{','.join(chunk)}]")  # several times as fast as one by one
            if len(lines) != len(chunk):
                raise ValueError("a line that is not one sample")
            for line in lines:
                label = -1 if line["label"] is None else line["label"]
                place = (line["width"], line["height"], line["shard"], line["offset"], line["size"])
                numbers.extend((label, *place))
                firsts.append(firsts[-1] + len(line["captions"]))
            _append(keys, key_starts, [line["key"] for line in lines])
            _append(texts, text_starts, [caption for line in lines for caption in line["captions"]])
    shards = np.frombuffer(numbers, dtype="<i8")[3::6]
    edges = (int(shards.min()), int(shards.max())) if len(shards) else (0, -1)
    head = array("q", (_MARK, len(firsts) - 1, len(text_starts) - 1, len(keys), len(texts), *edges, 0))
    return [head, numbers, firsts, key_starts, text_starts, keys, texts]


def _append(block: bytearray, starts: array[int], texts: list[str]) -> None:
    encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
    starts.extend([starts[-1] + end for end in accumulate(map(len, encoded))])
    block += b"".join(encoded)


def _kept(folder: Path, samples_sha256: str) -> Columns | None:
    for path in _places(folder):
        try:
            if json.loads(_note(path).read_text(encoding="utf-8")) != _noted(path, samples_sha256):
                continue
            with path.open("rb") as file:
                return Columns(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except (OSError, ValueError):
            continue
    return None


def _keep(folder: Path, samples_sha256: str, parts: list[Any]) -> None:
    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            for part in parts:
                file.write(part)

    for path in _places(folder):
        try:
            write_atomically(path, write)
            made = _noted(path, samples_sha256)
            time.sleep(2 * SETTLED / 1e9)  # from now on another content would have other times
            write_atomically(_note(path), partial(Path.write_text, data=json.dumps(made)))
            return
        except OSError:
            continue


def _noted(path: Path, samples_sha256: str) -> dict[str, Any]:
    return {"samples": samples_sha256, "state": file_state(path)}


def _note(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _places(folder: Path) -> list[Path]:
    name = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:32]
    cache = user_cache()
    return [folder / COLUMNS, *([cache / "gaprun" / "columns" / name] if cache else [])]
