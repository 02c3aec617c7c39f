"""Embeddings on disk: written whole with a checksum of every file, and read only if they still are what was written."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np

from gaprun.errors import Failure
from gaprun.evaluation.embeddings import Embeddings
from gaprun.files import file_sha256

ARRAYS = ("images", "texts", "owner", "labels", "image_norms")
CHECKSUMS = "checksums.json"


class DamagedEmbeddings(Exception):
    """What lies in the folder is not what was written there; the text says which file."""


def write_embeddings(folder: Path, embeddings: Embeddings) -> None:
    """All arrays of `embeddings` under `folder`, which appears only when it is complete. Raises Failure."""
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        temporary.mkdir(parents=True)
        sums = {}
        for name in ARRAYS:
            if (array := getattr(embeddings, name)) is not None:
                path = temporary / f"{name}.npy"
                np.save(path, array)
                sums[path.name] = file_sha256(path)
        (temporary / CHECKSUMS).write_text(json.dumps(sums, indent=1), encoding="utf-8")
        temporary.rename(folder)
    except OSError as error:
        if not folder.is_dir():  # another process may have finished the same embeddings first
            raise Failure(f"{folder}: embeddings could not be written ({error}); free some space") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def read_embeddings(folder: Path) -> Embeddings | None:
    """What `write_embeddings` put there, memory-mapped; None where there is no such folder.

    Every file is read once to compare its checksum. Raises DamagedEmbeddings where one differs.
    """
    if not folder.is_dir():
        return None
    try:
        sums = json.loads((folder / CHECKSUMS).read_text(encoding="utf-8"))
        for name, expected in sums.items():
            if name.removesuffix(".npy") not in ARRAYS or file_sha256(folder / name) != expected:
                raise DamagedEmbeddings(f"{folder / name} is damaged")
        # Copy on write: torch warns of arrays that it could not write to.
        found = {
            name: np.load(folder / f"{name}.npy", mmap_mode="c") for name in ARRAYS if f"{name}.npy" in sums
        }
        return Embeddings(**found)
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise DamagedEmbeddings(f"{folder} is damaged ({error})") from None


def remove_embeddings(folder: Path) -> bool:
    """Take damaged embeddings away; False where something else lies there too, which stays."""
    try:
        for name in (*(f"{array}.npy" for array in ARRAYS), CHECKSUMS):
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()
    except OSError:
        return False
    return True
