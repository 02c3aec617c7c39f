"""Which images a training is made of: those with a caption, or a part of them drawn by the seed. No torch here."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gaprun.data.split import Split
from gaprun.errors import UserError

SUBSET = 4  # purpose of the generator, beside those of plan.py
Member = tuple[int, int]


def captioned(splits: Sequence[Split], subset: int | None = None, seed: int = 0) -> list[Member]:
    """(number of the split, number of the sample) of every image with a caption, in order; with `subset` of so many of
    them, drawn by `seed`, no two with a caption in common. Raises UserError where there are none, or not so many."""
    found = [(s, i) for s, split in enumerate(splits) for i, texts in enumerate(split.captions) if texts]
    names = ", ".join(f"{split.dataset}/{split.split}" for split in splits)
    if not found:
        raise UserError(f"data.train: {names}: no image there has a caption")
    if subset is None:
        return found
    chosen: list[Member] = []
    seen: set[str] = set()
    for k in np.random.default_rng([seed, SUBSET]).permutation(len(found)).tolist():
        split, sample = found[k]
        captions = splits[split].captions[sample]
        if seen.isdisjoint(captions):
            chosen.append(found[k])
            seen.update(captions)
        if len(chosen) == subset:
            return sorted(chosen)
    raise UserError(
        f"data.subset: {subset} is more than the {len(chosen)} of {len(found)} captioned images of {names} that have "
        "no caption in common"
    )
