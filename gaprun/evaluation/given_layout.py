"""Embeddings of others whose rows are not what they seem: transposed, an image once a caption, another order."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gaprun.errors import UserError
from gaprun.evaluation.embeddings import Array, Embeddings

_MOST_COPIES = (
    50  # beyond it a model is broken that gives few rows, and not an image repeated for its captions
)
_FEWEST, _ERRORS = 20, 3.0  # texts, and standard errors, from which on the order of rows can be judged


def refuse_transposed(path: Path, name: str, array: Array) -> None:
    """Raise UserError where not the rows of `array`, but its columns have length 1."""
    if array.dtype.kind != "f" or min(array.shape) < 2:
        return
    near = max(1e-3, 4 * float(np.finfo(array.dtype).eps))
    squares = np.square(array, dtype=np.float64)
    columns, rows = (np.abs(np.sqrt(squares.sum(axis=axis)) - 1).max() < near for axis in (0, 1))
    if columns and not rows:
        raise UserError(
            f"{path}: the columns of `{name}` {array.shape} have length 1, not its rows: it lies on its side, save "
            f"{name}.T"
        )


def refuse_repeated(path: Path, rows: Embeddings) -> None:
    """Raise UserError where each image stands once a caption: no text would find the one that counts as its own."""
    count = len(rows.images)
    if not len(rows.texts):
        return
    first: dict[bytes, int] = {}
    places = [first.setdefault(row.tobytes(), i) for i, row in enumerate(np.ascontiguousarray(rows.images))]
    if len(first) > 1 and 2 <= count / len(first) <= _MOST_COPIES:
        i = next(i for i, place in enumerate(places) if place < i)
        raise UserError(
            f"{path}: {count} rows of `images` are {len(first)} different ones (rows {places[i]} and {i} are equal): "
            "keep each image once, and give `owner`, the image of each text"
        )


def order_remarks(path: Path, rows: Embeddings) -> list[str]:
    """A line where texts are no more like their own image than like the others: chance, or another order of rows."""
    images, texts = (array.astype(np.float64) for array in (rows.images, rows.texts))
    if len(texts) < _FEWEST or len(images) < 2:
        return []
    own = np.einsum("td,td->t", images[rows.owner], texts)
    others = (images.sum(axis=0) @ texts.sum(axis=0) - own.sum()) / (len(texts) * (len(images) - 1))
    if own.mean() - others > _ERRORS * own.std() / len(own) ** 0.5:
        return []
    return [
        f"{path}: texts are no more like their own image (mean cosine {own.mean():.3f}) than like others "
        f"({others:.3f}): chance, unless rows stand in another order than "
        "`owner` says (without it: row i of texts belongs to row i of images)"
    ]
