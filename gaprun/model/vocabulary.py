"""Token ids of the `used` vocabulary: only the ids that training captions hold, so that a tiny text tower's
embedding is tiny too. The end token stays the largest id, because CLIP pools where the id is largest."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

PAD, UNKNOWN = 0, 1
Tokens = npt.NDArray[np.int64]
AnyTokens = npt.NDArray[np.integer[Any]]


class Vocabulary:
    """A map from a tokenizer's ids to 0..size-1: 0 padding, 1 any id not seen in training, then the ids seen."""

    def __init__(self, ids: list[int], full_size: int) -> None:
        """`ids`: the kept original ids, padding (0) excluded, sorted; `full_size`: the tokenizer's size."""
        self.ids, self.full_size = ids, full_size
        self._map = np.full(full_size, UNKNOWN, dtype=np.int64)
        self._map[PAD] = PAD
        self._map[np.array(ids, dtype=np.int64)] = np.arange(len(ids)) + 2

    @classmethod
    def used_in(cls, tokens: AnyTokens, full_size: int) -> Vocabulary:
        """The vocabulary of the (n, context) original ids in `tokens`."""
        return cls([int(i) for i in np.unique(tokens) if i != PAD], full_size)

    @property
    def size(self) -> int:
        """Rows of the token embedding."""
        return len(self.ids) + 2

    def __call__(self, tokens: AnyTokens) -> Tokens:
        """`tokens` (any shape, original ids) in this vocabulary's ids."""
        return self._map[tokens]
