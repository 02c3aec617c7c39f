"""Folders of arrays: written whole with a checksum of every file, and read only if they still are what was written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from gaprun.errors import Failure
from gaprun.files import beside, file_sha256, is_refused, what_to_do

CHECKSUMS = "checksums.json"


class RefusedArrays(Failure):
    """This user may not read what lies in the folder, or not put it there."""


class DamagedArrays(Exception):
    """What lies in the folder is not what was written there; the text says which file."""


@contextmanager
def new_arrays(folder: Path, what: str) -> Iterator[Path]:
    """A place to put `NAME.npy` files in; `folder` appears with them, complete, at the block's end.

    Raises Failure, naming `what` they are, where they cannot be written; RefusedArrays where this user may not.
    """
    temporary = beside(folder)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        sums = {path.name: file_sha256(path) for path in sorted(temporary.glob("*.npy"))}
        (temporary / CHECKSUMS).write_text(json.dumps(sums, indent=1), encoding="utf-8")
        temporary.rename(folder)
    except OSError as error:
        if not folder.is_dir():  # another process may have finished the same first
            kind = RefusedArrays if is_refused(error) else Failure
            reason = error.strerror or error
            raise kind(f"{folder}: {what} could not be written ({reason}); {what_to_do(error)}") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def read_arrays(folder: Path, names: Collection[str]) -> dict[str, Any] | None:
    """The arrays in `folder` by name, memory-mapped; None where there is no such folder.

    Every file is read once to compare its checksum. Raises DamagedArrays where one differs, or is none of `names`, and
    RefusedArrays where this user may not read them.
    """
    if not folder.is_dir():
        return None
    try:
        sums = json.loads((folder / CHECKSUMS).read_text(encoding="utf-8"))
        for name, expected in sums.items():
            if name.removesuffix(".npy") not in names or file_sha256(folder / name) != expected:
                raise DamagedArrays(f"{folder / name} is damaged")
        # Copy on write: torch warns of arrays that it could not write to.
        return {
            name: np.load(folder / f"{name}.npy", mmap_mode="c") for name in names if f"{name}.npy" in sums
        }
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        if isinstance(error, OSError) and is_refused(error):
            raise RefusedArrays(
                f"{folder} cannot be read ({error.strerror}): ask its owner for the right to read it"
            ) from None
        raise DamagedArrays(f"{folder} is damaged ({error})") from None


def remove_arrays(folder: Path, names: Collection[str]) -> bool:
    """Take damaged arrays away; False where something else lies there too, which stays."""
    try:
        for name in (*(f"{array}.npy" for array in names), CHECKSUMS):
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()
    except OSError:
        return False
    return True
