"""Which images a training is made of: those with a caption, or a part of them drawn by the seed. No torch here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np
import numpy.typing as npt

from gaprun.data.split import Split
from gaprun.errors import UserError

SUBSET = 4  # purpose of the generator, beside those of plan.py
Members = npt.NDArray[np.int64]
_CHUNK = 4096


def captioned(splits: Sequence[Split], subset: int | None = None, seed: int = 0) -> Members:
    """int64 (n, 2), the number of the split and the number of the sample, of every image with a caption, in order.

    With `subset` so many of them, drawn by `seed`, no two with a caption in common. Raises UserError where there are
    none, or not so many.
    """
    with_captions = [np.flatnonzero(split.caption_counts) for split in splits]
    parts = [np.stack([np.full(len(i), s), i], 1) for s, i in enumerate(with_captions)]
    found = np.concatenate(parts).astype(np.int64)
    names = ", ".join(f"{split.dataset}/{split.split}" for split in splits)
    if not len(found):
        raise UserError(f"data.train: {names}: no image there has a caption")
    if subset is None:
        return found
    chosen: list[int] = []
    seen: set[str] = set()
    for k in np.random.default_rng([seed, SUBSET]).permutation(len(found)).tolist():
        split, sample = found[k]
        captions = splits[split].captions[sample]
        if seen.isdisjoint(captions):
            chosen.append(k)
            seen.update(captions)
        if len(chosen) == subset:
            return found[sorted(chosen)]
    raise UserError(
        f"data.subset: {subset} is more than the {len(chosen)} of {len(found)} captioned images of {names} that have "
        "no caption in common"
    )


def counts_of(splits: Sequence[Split], members: Members) -> npt.NDArray[np.int64]:
    """How many captions each of `members` has; int64 (n,)."""
    return _gathered([split.caption_counts for split in splits], members)


def sizes_of(splits: Sequence[Split], members: Members) -> npt.NDArray[np.float64]:
    """Width and height in pixels of the pictures of `members`; float64 (n, 2)."""
    return _gathered([split.sizes for split in splits], members).astype(np.float64)


def _gathered(columns: list[npt.NDArray[np.int64]], members: Members) -> npt.NDArray[np.int64]:
    found = np.zeros((len(members), *columns[0].shape[1:]), dtype=np.int64)
    for number, column in enumerate(columns):
        own = members[:, 0] == number
        found[own] = column[members[own, 1]]
    return found


class MemberCaptions(Sequence[str]):
    """All captions of some members in order, read as they are asked for."""

    def __init__(self, splits: Sequence[Split], members: Members) -> None:
        """`members`: int64 (n, 2) of `splits`."""
        self._splits, self._members = splits, members
        self._starts = np.concatenate([[0], counts_of(splits, members).cumsum()])

    def __len__(self) -> int:
        """Number of captions."""
        return int(self._starts[-1])

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        """One caption, or a list of some."""
        if isinstance(index, int):
            return self[index : index + 1 or None][0]
        chosen = range(*index.indices(len(self)))
        if chosen.step != 1 or not chosen:
            return [self[k] for k in chosen]
        first, last = np.searchsorted(self._starts, [chosen.start, chosen.stop - 1], "right") - 1
        captions = [split.captions for split in self._splits]
        texts = [text for s, i in self._members[first : last + 1].tolist() for text in captions[s][i]]
        skipped = chosen.start - int(self._starts[first])
        return texts[skipped : skipped + len(chosen)]

    def __iter__(self) -> Iterator[str]:
        """All captions in order."""
        for first in range(0, len(self), _CHUNK):
            yield from self[first : first + _CHUNK]
