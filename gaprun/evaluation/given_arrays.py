"""The arrays of a file of embeddings: `.npz`, a folder of `.npy` files, or a `.parquet` table; no pickle is read."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from gaprun.errors import UserError
from gaprun.evaluation.embeddings import Array


def arrays_of(path: Path) -> dict[str, Array]:
    """Every array by its name. Raises UserError for what cannot be read."""
    if path.suffix.lower() not in ("", ".npz", ".parquet") and path.is_file():
        raise UserError(
            f"{path}: {path.suffix} is not read: save the arrays (images, texts, ...) by numpy.savez as .npz, or as "
            ".npy files in a folder"
        )
    try:
        if path.is_dir():
            return {file.stem: np.load(file, allow_pickle=False) for file in sorted(path.glob("*.npy"))}
        if path.suffix == ".parquet":
            return _table(path)
        with np.load(path, allow_pickle=False) as found:
            return {name: found[name] for name in found.files}
    except FileNotFoundError:
        raise UserError(f"--embeddings {path}: no such file") from None
    except (OSError, ValueError, zipfile.BadZipFile, AttributeError, EOFError, zlib.error) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        if "pickle" in reason:
            reason = "it is no numpy file, or holds Python objects (pickles are never read)"
        raise UserError(f"{path} cannot be read as embeddings (.npz, .npy, .parquet): {reason}") from None


def _table(path: Path) -> dict[str, Array]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise UserError(f"{path}: parquet needs an extra: pip install 'gaprun[parquet]'") from None
    try:
        table = pyarrow.parquet.read_table(path).to_pydict()
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(str(error)) from None
    if not {"modality", "embedding"} <= table.keys():
        raise ValueError("it lacks the columns modality and embedding")
    places: dict[str, list[int]] = {"image": [], "text": [], "class": []}
    for row, modality in enumerate(table["modality"]):
        if modality not in places:
            raise ValueError(f"row {row}: modality {modality!r} is none of image, text, class")
        places[modality].append(row)

    def column(name: str, rows: list[int]) -> list[Any] | None:
        values = [table[name][row] for row in rows] if name in table else []
        return None if not values or all(value is None for value in values) else values

    found = {
        "images": column("embedding", places["image"]),
        "texts": column("embedding", places["text"]),
        "owner": _whole(column("owner", places["text"])),
        "labels": _whole(column("label", places["image"])),
        "class_texts": column("embedding", places["class"]),
        "class_names": column("name", places["class"]),
    }
    return {name: np.array(values) for name, values in found.items() if values is not None}


def _whole(values: list[Any] | None) -> list[Any] | None:
    """Whole numbers as such, which pandas keeps as floats beside empty cells; those as -1, for no class."""
    if values is None:
        return None
    empty = [value is None or value != value for value in values]
    whole = all(none or float(value).is_integer() for none, value in zip(empty, values, strict=True))
    return (
        [-1 if none else int(value) for none, value in zip(empty, values, strict=True)] if whole else values
    )
