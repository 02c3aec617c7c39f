"""Embeddings that somebody else's model made, as a data set of its own: read, checked, and measured like any split.

A file `NAME.npz`, a folder of `.npy` files, or a `.parquet` table. Arrays: `images` (N, D), needed; `texts` (M, D),
needed where there are no `class_texts`; `owner` (M,), the image that each text describes (default: row i of one belongs
to row i of the other, M = N); `labels` (N,), whole numbers, -1 for none; `class_texts` (K, D), one row a class, and
`class_names` (K,); `image_norms` (N,), the lengths that the image rows had before they were brought to 1. Rows are
brought to length 1; float32 rows that have it already are kept to the last bit. A parquet table has a row an embedding:
`modality` (image, text or class), `embedding` (a list), and where they apply `owner`, `label` and `name`. No
torch here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from gaprun.data.split import INDEX, data_root, open_split
from gaprun.data.text import names_of
from gaprun.errors import UserError
from gaprun.evaluation.embeddings import Array, Embeddings, unit_rows
from gaprun.evaluation.given_arrays import arrays_of
from gaprun.evaluation.given_layout import order_remarks, refuse_repeated, refuse_transposed
from gaprun.files import content_hash

ARRAYS = ("images", "texts", "owner", "labels", "class_texts", "class_names", "image_norms")
_UNIT = 4 * np.finfo(np.float32).eps  # how far a row of length 1 may be from it in float32


@dataclass(frozen=True)
class Given:
    """Embeddings as a source of measurements: what a `Split` is to a model, without pictures and without words.

    dataset, split: what was embedded, by the file's name or as the user says. classes: names or None; class_texts:
    float32 (K, D) or None. content: sha256 of every array as it is used. fingerprint: of the data, see `read_given`.
    remarks: what was assumed.
    """

    path: Path
    rows: Embeddings
    class_texts: Array | None
    classes: list[str] | None
    dataset: str
    split: str
    content: str
    fingerprint: str
    remarks: tuple[str, ...] = ()

    templates = ("{}",)  # a class's text is what stands in the file

    @property
    def samples(self) -> int:
        """Number of images."""
        return len(self.rows.images)

    @property
    def labels(self) -> Array:
        """Class of each image, -1 where it has none."""
        return self.rows.labels if self.rows.labels is not None else np.full(self.samples, -1)

    @cached_property
    def captions(self) -> list[list[str]]:
        """As many texts an image as it has rows, numbered; the words are not known."""
        counts = np.bincount(self.rows.owner, minlength=self.samples)
        return [[f"text {i}.{k}" for k in range(count)] for i, count in enumerate(counts)]

    @property
    def keys(self) -> list[str]:
        """Numbers of the images."""
        return [str(i) for i in range(self.samples)]

    def read_image(self, i: int) -> bytes:
        """There are no pictures. Raises UserError."""
        raise UserError(f"{self.path} holds embeddings and no pictures")


@dataclass(frozen=True)
class GivenIdentity:
    """In the place of a model's identity: the content of what it made."""

    model_hash: str
    ran_on: str = "elsewhere"
    device: str = "elsewhere"


class GivenEmbedder:
    """Hands out the rows of `given`, and of other files that a task fits on; nothing is encoded."""

    device = "cpu"

    def __init__(self, given: Given) -> None:
        self.given = given
        self.checkpoint_hash = given.content
        self.identity = GivenIdentity(given.content)

    def embeddings(self, source: Any) -> Embeddings:
        """The rows of a `Given`. Raises UserError for pictures, which need an encoder."""
        if not isinstance(source, Given):
            raise UserError(
                f"{source.dataset}/{source.split}: pictures need a model; beside --embeddings name another such file"
            )
        return source.rows

    def prompts(self, texts: list[str]) -> Array:
        """The class texts of the file, by class name. Raises UserError for other texts."""
        given = self.given
        if given.class_texts is None or given.classes is None:
            raise UserError(f"{given.path} has no class_texts (K, D), which this task needs")
        rows = dict(zip(given.classes, given.class_texts, strict=True))
        if any(text not in rows for text in texts):
            raise UserError(
                f"{given.path}: prompts need an encoder; only its class_texts can be used, without templates"
            )
        return np.array([rows[text] for text in texts], dtype=np.float32)


def is_given(ref: str | Path) -> bool:
    """Whether `ref` names embeddings: an .npz or .parquet file, or a folder with images.npy."""
    path = Path(ref)
    return (path.suffix in (".npz", ".parquet") and path.is_file()) or (path / "images.npy").is_file()


def read_given(path: Path, data: str | None = None) -> Given:
    """The embeddings in `path`. Raises UserError naming the array and the row at fault.

    `data` (`coco/test`) says what was embedded: other embeddings of the same pairs then share its columns. Where a
    split of that name lies here, each image's number of texts and its label must agree, and its fingerprint is taken;
    else the fingerprint is of the name, the owners and the labels. Without `data` the file is a data set of its own.
    """
    arrays = arrays_of(path)
    needed = ["images"] if "class_texts" in arrays else ["images", "texts"]
    for name in needed:
        if name not in arrays:
            raise UserError(
                f"{path} has no array `{name}`; it holds {', '.join(sorted(arrays)) or 'nothing'}"
            )
    unknown = sorted(set(arrays) - set(ARRAYS))
    if unknown:
        raise UserError(f"{path}: unknown arrays {', '.join(unknown)}; known are {', '.join(ARRAYS)}")
    images, norms = _unit(path, "images", arrays["images"]), _norms(path, arrays)
    texts = _unit(path, "texts", arrays["texts"]) if "texts" in arrays else images[:0]
    if "owner" in arrays:
        owner = _whole(path, "owner", arrays["owner"], len(texts))
    elif len(texts) in (0, len(images)):
        owner = np.arange(len(texts), dtype=np.int64)
    else:
        raise UserError(
            f"{path}: {len(images)} images and {len(texts)} texts need an `owner`: the image of each text"
        )
    labels = _whole(path, "labels", arrays["labels"], len(images)) if "labels" in arrays else None
    class_texts = _unit(path, "class_texts", arrays["class_texts"]) if "class_texts" in arrays else None
    try:
        rows = Embeddings(images, texts, owner, labels, norms)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    refuse_repeated(path, rows)
    classes = _classes(path, arrays, labels, class_texts)
    if class_texts is not None and class_texts.shape[1] != images.shape[1]:
        raise UserError(
            f"{path}: class_texts have {class_texts.shape[1]} dimensions and images {images.shape[1]}"
        )
    content = content_hash(
        [
            *map(_digest, (images, texts, owner, labels, class_texts)),
            classes,
            *([] if norms is None else [_digest(norms)]),
        ]
    )
    remarks = (
        *order_remarks(path, rows),
        *(
            f"{path}: `{name}` holds {array.dtype}, measured as it stands: a quantisation's scales and offsets "
            "are not in the file"
            for name, array in arrays.items()
            if name in ("images", "texts", "class_texts") and array.dtype.kind in "iu"
        ),
    )
    if data is None:
        name = path.name.removesuffix(path.suffix)
        return Given(path, rows, class_texts, classes, name, "embeddings", content, content, remarks)
    dataset, sign, split = data.rpartition("/")
    if not sign or not dataset or not split:
        raise UserError(f"--data {data}: say what was embedded as DATASET/SPLIT, such as coco/test")
    fingerprint = _fingerprint(path, data, rows) or content_hash(
        [data, _digest(owner), _digest(labels), classes]
    )
    return Given(path, rows, class_texts, classes, dataset, split, content, fingerprint, remarks)


def _digest(array: Array | None) -> list[Any] | None:
    if array is None:
        return None
    return [
        str(array.dtype),
        list(array.shape),
        hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest(),
    ]


def _fingerprint(path: Path, data: str, rows: Embeddings) -> str | None:
    """That of the split `data`, if it lies here. Raises UserError where it has other numbers of images and texts."""
    if not (data_root() / data / INDEX).is_file():
        return None
    split = open_split(data)
    counts = [len(own) for own in split.captions]
    if split.samples != len(rows.images) or sum(counts) not in (0, len(rows.texts)):
        raise UserError(
            f"{path} holds {len(rows.images)} images and {len(rows.texts)} texts, and {data} has {split.samples} and "
            f"{sum(counts)}: name what was embedded with --data, or leave it out"
        )
    _check_order(path, data, rows, np.array(counts), split)
    return split.fingerprint


def _check_order(path: Path, data: str, rows: Embeddings, counts: Array, split: Any) -> None:
    """Raise UserError where an image has other numbers of texts, or another label, than its like in the split."""
    pairs = []
    if len(rows.texts) and counts.sum():
        pairs.append(("texts", np.bincount(rows.owner, minlength=len(counts)), counts))
    if rows.labels is not None and split.classes is not None:
        pairs.append(("label", rows.labels, np.asarray(split.labels)))
    for what, ours, theirs in pairs:
        for i in np.flatnonzero(ours != theirs)[:1]:
            said = [
                f"{count} {what}" if what == "texts" else f"{what} {count}" for count in (ours[i], theirs[i])
            ]
            raise UserError(
                f"{path}: image {i} has {said[0]} and in {data} {said[1]}: other data, or in another order; set "
                "`owner`, or leave --data out"
            )


def _classes(
    path: Path, arrays: Mapping[str, Array], labels: Array | None, class_texts: Array | None
) -> list[str] | None:
    if labels is None:
        if class_texts is not None:
            raise UserError(f"{path}: class_texts without labels of the images mean nothing")
        return None
    known = int(labels.max(initial=-1)) + 1
    if "class_names" in arrays:
        try:
            names = names_of(arrays["class_names"])
        except ValueError as error:
            raise UserError(f"{path}: `class_names` {error}") from None
    else:
        names = [str(k) for k in range(len(class_texts) if class_texts is not None else known)]
    if len(set(names)) < len(names):
        raise UserError(f"{path}: class_names holds a name twice")
    if class_texts is not None and len(class_texts) != len(names):
        raise UserError(f"{path}: {len(class_texts)} class_texts and {len(names)} class_names")
    if known > len(names):
        raise UserError(f"{path}: labels reach {known - 1} and there are {len(names)} classes")
    return names


def _unit(path: Path, name: str, array: Array) -> Array:
    if array.ndim != 2 or array.dtype.kind not in "fiu" or len(array) == 0:
        raise UserError(
            f"{path}: `{name}` must be numbers of shape (rows, dimensions), it is {array.dtype} {array.shape}"
        )
    refuse_transposed(path, name, array)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            unit = unit_rows(array, name).astype(np.float32)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return array if array.dtype == np.float32 and _is_unit(array) else unit


def _is_unit(rows: Array) -> bool:
    """Whether all rows have length 1, as far as their type can hold that."""
    if rows.dtype.kind != "f":
        return False
    far = max(_UNIT, 4 * float(np.finfo(rows.dtype).eps))
    return bool(np.abs(_lengths(rows) - 1).max() < far)


def _lengths(rows: Array) -> Array:
    return np.linalg.norm(rows.astype(np.float64), axis=1)


def _norms(path: Path, arrays: Mapping[str, Array]) -> Array | None:
    """float32 (N,): the lengths of the image rows as the file says, else of the rows as they stand there; None where
    those have length 1, since that is not the model's."""
    images = arrays["images"]
    if "image_norms" not in arrays:
        return None if _is_unit(images) else _lengths(images).astype(np.float32)
    norms = arrays["image_norms"]
    if (
        norms.shape != (len(images),)
        or norms.dtype.kind != "f"
        or not (np.isfinite(norms) & (norms > 0)).all()
    ):
        raise UserError(
            f"{path}: `image_norms` must be {len(images)} lengths above 0, it is {norms.dtype} {norms.shape}"
        )
    return norms.astype(np.float32)


def _whole(path: Path, name: str, array: Array, count: int) -> Array:
    if array.shape != (count,) or array.dtype.kind not in "iu":
        raise UserError(f"{path}: `{name}` must be {count} whole numbers, it is {array.dtype} {array.shape}")
    lowest = -1 if name == "labels" else 0
    wrong = np.flatnonzero((array < lowest) | (array >= 2**31))
    if len(wrong):
        none = ", or -1 for none" if lowest else ""
        raise UserError(
            f"{path}: `{name}` are whole numbers from 0{none}; number {wrong[0]} is {array[wrong[0]]}"
        )
    return array.astype(np.int64)
