"""The arrays of a file of embeddings: `.npz`, a folder of `.npy` files, or a `.parquet` table; no pickle is read."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from gaprun.errors import UserError
from gaprun.evaluation.embeddings import Array

COLUMNS = ("modality", "embedding", "owner", "label", "name")  # of a table


def arrays_of(path: Path) -> dict[str, Array]:
    """Every array by its name. Raises UserError for what cannot be read."""
    if path.suffix.lower() not in ("", ".npz", ".parquet") and path.is_file():
        raise UserError(
            f"{path}: {path.suffix} is not read: save the arrays (images, texts, ...) by numpy.savez as .npz, or as "
            ".npy files in a folder"
        )
    try:
        if path.is_dir():
            return {file.stem: np.load(file, allow_pickle=False) for file in sorted(path.glob("[!.]*.npy"))}
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
    _check_table(table, places)

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
    """Whole numbers as such, which pandas keeps as floats beside empty cells; those as -1, for none."""
    if values is None:
        return None
    filled = [-1 if value is None or value != value else value for value in values]
    whole = all(isinstance(value, int | float) and float(value).is_integer() for value in filled)
    return [int(value) for value in filled] if whole else values


def _check_table(table: dict[str, list[Any]], places: dict[str, list[int]]) -> None:
    """Raise ValueError for columns that would be passed over in silence, and rows of different lengths."""
    unknown = sorted(name for name in table if name not in COLUMNS and not name.startswith("__index_level_"))
    if unknown:
        raise ValueError(
            f"unknown columns {', '.join(unknown)}; known are {', '.join(COLUMNS)}: leave them out"
        )
    lengths = [len(one) if isinstance(one, list) else None for one in table["embedding"]]
    odd = next((row for row, length in enumerate(lengths) if length != lengths[0] or not length), None)
    if odd is not None:
        raise ValueError(f"row {odd}: its embedding has {lengths[odd]} numbers, row 0 has {lengths[0]}")
    owners = [table["owner"][row] for row in places["image"]] if "owner" in table else []
    for number, owner in enumerate(owners):
        if owner is not None and owner == owner and owner != number:
            raise ValueError(
                f"row {places['image'][number]}: image {number} has owner {owner}; owner is a text's, the number of "
                "its image from 0 in the order of the rows"
            )
