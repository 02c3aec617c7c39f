"""Embeddings on disk: a folder of arrays (gaprun/arrays.py), read only if they still are what was written."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gaprun.arrays import DamagedArrays, new_arrays, read_arrays, remove_arrays
from gaprun.evaluation.embeddings import Embeddings

ARRAYS = ("images", "texts", "owner", "labels", "image_norms")


def write_embeddings(folder: Path, embeddings: Embeddings) -> None:
    """All arrays of `embeddings` under `folder`, which appears only when it is complete. Raises Failure."""
    with new_arrays(folder, "embeddings") as place:
        for name in ARRAYS:
            if (array := getattr(embeddings, name)) is not None:
                np.save(place / f"{name}.npy", array)


def read_embeddings(folder: Path) -> Embeddings | None:
    """What `write_embeddings` put there, memory-mapped; None where there is no such folder. Raises DamagedArrays."""
    found = read_arrays(folder, ARRAYS)
    try:
        return None if found is None else Embeddings(**found)
    except (ValueError, AttributeError, TypeError) as error:
        raise DamagedArrays(f"{folder} is damaged ({error})") from None


def remove_embeddings(folder: Path) -> bool:
    """Take damaged embeddings away; False where something else lies there too, which stays."""
    return remove_arrays(folder, ARRAYS)
