"""Plans for labelled sets: CIFAR from torchvision, an npz file, class folders, scikit-learn's digits.

Each becomes splits with class names; a set that has no splits is divided by seeded draws within each class.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from gaprun.data.classnames import count_classes
from gaprun.data.division import check_split_name, split_word
from gaprun.data.drawing import encode_png
from gaprun.data.folders import Folders, is_hidden
from gaprun.data.pictures import Picture, file_size, newest, picture_outcome
from gaprun.data.shards import Sample, safe_key
from gaprun.data.tally import Tally
from gaprun.data.text import names_of, printable
from gaprun.data.write import ItemOutcome, SplitPlan, digest
from gaprun.errors import Failure, UserError

# OpenAI's prompts for CIFAR (notebook data/prompts.md of its CLIP repository); each also with "the".
_CIFAR_KINDS = ("", "blurry ", "black and white ", "low contrast ", "high contrast ", "bad ", "good ")
CIFAR_TEMPLATES = [f"a {kind}photo of {article} {{}}." for article in ("a", "the") for kind in _CIFAR_KINDS]
CIFAR_TEMPLATES += [f"a photo of {size} {{}}." for size in ("a small", "a big", "the small", "the big")]
TEST_SHARE = 0.2
MOST_NUMBERED = 2**16  # classes that may go without names
DIGIT_TEMPLATES = ['a photo of the number: "{}".']  # OpenAI's for MNIST


def class_plans(
    source: str,
    out: Path,
    test_share: float | None = None,
    seed: int = 0,
    root: Path | None = None,
    download: bool = False,
) -> list[SplitPlan]:
    """Plans for the labelled set `source`: `cifar10`, `cifar100`, `digits`, an .npz file, or a folder.

    `test_share` (0..1, exclusive; default 0.2) and `seed` divide sets without splits; `root` is where torchvision keeps
    CIFAR, which is fetched only with `download`. Raises UserError, also for an option that the source has no use for,
    or Failure where a download fails.
    """
    if test_share is not None and not 0 < test_share < 1:
        raise UserError(f"--test-share {test_share:g} is not between 0 and 1")
    if source in ("cifar10", "cifar100"):
        if test_share is not None:
            raise UserError(f"{source} has its own splits: leave --test-share out")
        return _cifar_plans(source, out, root or out / "download", download)
    if root is not None or download:
        raise UserError("--root and --download are for cifar10 and cifar100")
    if source == "digits":
        return _digits_plans(out, test_share, seed)
    path = Path(source)
    if path.suffix == ".npz":
        return _npz_plans(path, out, test_share, seed)
    if path.is_dir():
        return _folder_plans(path, out, test_share, seed)
    raise UserError(f"'{source}' is not cifar10, cifar100, digits, an .npz file or a folder")


def _cifar_plans(name: str, out: Path, root: Path, download: bool) -> list[SplitPlan]:
    import torchvision

    kind = torchvision.datasets.CIFAR10 if name == "cifar10" else torchvision.datasets.CIFAR100
    made = [folder for folder in (root, out) if not folder.exists()]
    plans = []
    for split in ("train", "test"):
        try:
            data = kind(str(root), train=split == "train", download=download)
        except OSError as error:  # urllib's errors are OSErrors
            for folder in made:  # torchvision makes them before it has anything to put there
                if folder.is_dir() and not any(folder.iterdir()):
                    folder.rmdir()
            raise Failure(f"{name} could not be downloaded to {root}: {error}") from None
        except RuntimeError:
            raise UserError(
                f"{name} is not in {root}: pass --root where torchvision keeps it, or --download to fetch it"
            ) from None
        classes = [one.replace("_", " ") for one in data.classes]
        labels = np.array(data.targets, dtype=np.int64)
        rows = np.arange(len(labels))
        plans.append(_array_plan(name, out, split, data.data, labels, classes, CIFAR_TEMPLATES, rows))
    return plans


def _digits_plans(out: Path, share: float | None, seed: int) -> list[SplitPlan]:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)
    labels = digits.target.astype(np.int64)
    classes = [str(name) for name in digits.target_names]
    splits = _draw_splits(labels, share or TEST_SHARE, seed)
    return [
        _array_plan("digits", out, split, images[rows], labels[rows], classes, DIGIT_TEMPLATES, rows)
        for split, rows in splits.items()
    ]


def _npz_plans(path: Path, out: Path, share: float | None, seed: int) -> list[SplitPlan]:
    """From arrays `images` uint8 (N, H, W[, 1|3]), `labels` (N,), optionally `split`, `class_names` and `templates`."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except Exception as error:  # zipfile, zlib and numpy each have their own
        raise UserError(f"{path} cannot be read as npz: {str(error).splitlines()[0]}") from None
    tally = Tally()
    for name in sorted(arrays.keys() - {"images", "labels", "split", "class_names", "templates"}):
        tally.add("unknown_array", name)
    missing = {"images", "labels"} - arrays.keys()
    if missing:
        found = ", ".join(sorted(arrays)) or "nothing"
        raise UserError(f"{path} has no array '{sorted(missing)[0]}' (it has: {found})")
    images, labels = arrays["images"], arrays["labels"]
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or images.shape[3:] not in ((), (1,), (3,)):
        found = f"{images.dtype} {images.shape}"
        raise UserError(f"{path}: 'images' is {found}, expected uint8 (N, H, W[, 1 or 3])")
    if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu" or not len(labels):
        found = f"{labels.dtype} {labels.shape}"
        raise UserError(f"{path}: 'labels' is {found}, expected {len(images)} whole numbers")
    if labels.min() < 0:
        raise UserError(f"{path}: 'labels' has {labels.min()}; classes are counted from 0")
    if "class_names" in arrays:
        names = _names(path, arrays, "class_names")
    elif labels.max() >= MOST_NUMBERED:
        raise UserError(f"{path}: label {labels.max()} without 'class_names': count from 0, or add them")
    else:
        names = [str(number) for number in range(int(labels.max()) + 1)]
        tally.add("numbered_classes", path.name)
    own = _names(path, arrays, "templates") if "templates" in arrays else []
    templates = [text.replace("{c}", "{}") for text in own] or None
    if templates and any(template.count("{}") != 1 for template in templates):
        raise UserError(f"{path}: each of `templates` must hold {{}} once, for the class name")
    if labels.max() >= len(names):
        raise UserError(f"{path}: label {labels.max()} has no name among {len(names)} 'class_names'")
    labels = labels.astype(np.int64)
    if "split" in arrays:
        if share is not None:
            raise UserError(f"{path} has its own splits: leave --test-share out")
        if arrays["split"].shape != labels.shape:
            raise UserError(f"{path}: 'split' has shape {arrays['split'].shape}, expected {labels.shape}")
        marks = np.array(_names(path, arrays, "split"))
        splits = {str(mark): np.flatnonzero(marks == mark) for mark in sorted(set(marks), reverse=True)}
    else:
        splits = _draw_splits(labels, share or TEST_SHARE, seed)
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    plans: list[SplitPlan] = []
    for split, rows in splits.items():
        check_split_name(split)
        given = images[rows], labels[rows], names, templates
        plan = _array_plan(path.stem, out, split, *given, rows, Tally() if plans else tally)
        plans.append(replace(plan, source=plan.source | ({"templates": templates} if templates else {})))
    return plans


def _names(path: Path, arrays: dict[str, Any], name: str) -> list[str]:
    try:
        return names_of(arrays[name])
    except ValueError as error:
        raise UserError(f"{path}: '{name}' {error}") from None


def _folder_plans(folder: Path, out: Path, share: float | None, seed: int) -> list[SplitPlan]:
    """From `folder/CLASS/*` divided by draws, or from `folder/SPLIT/CLASS/*` as they are.

    SPLIT is train, val or test, or a usual other word for one (`training`, `validation`).
    """
    below = sorted(path.name for path in folder.iterdir() if path.is_dir() and not is_hidden(path.name))
    if not below:
        raise UserError(f"{folder} holds no class folders")
    found = _split_folders(folder, below)
    if found and share is not None:
        raise UserError(f"{folder} has its own splits ({', '.join(found)}): leave --test-share out")
    tally = Tally()
    files = {split: _class_files(folder / name, tally) for split, name in (found or {"": "."}).items()}
    names = sorted({name for some in files.values() for name, _ in some})
    if len(names) < 2:
        raise UserError(
            f"{folder} holds pictures of one class only ({names[0] if names else 'none'}): name the "
            "folder that holds the class folders"
        )
    numbers = {name: number for number, name in enumerate(names)}
    keys: set[str] = set()
    plans: list[SplitPlan] = []
    for split, some in files.items():
        pictures = [
            Picture(path, safe_key(f"{name}-{Path(path).stem}", keys), (), numbers[name])
            for name, path in some
        ]
        labels = np.array([one.label for one in pictures], dtype=np.int64)
        parts = {split: np.arange(len(some))} if found else _draw_splits(labels, share or TEST_SHARE, seed)
        for part, rows in parts.items():
            chosen = [pictures[row] for row in rows]
            words = [name.replace("_", " ") for name in names]
            counted = Tally() if plans else tally
            count_classes(words, labels[rows].tolist(), counted)
            content = digest([[one.key, file_size(one.path), one.label] for one in chosen])
            plans.append(
                SplitPlan(
                    folder=out / part,
                    items=chosen,
                    make=partial(picture_outcome, size=None, quality=95),
                    source={"kind": "folder", "split": part, "classes": names, "content": content},
                    classes=words,
                    report=dict(counted.counts),
                    examples=counted.examples,
                    newest=newest(one.path for one in chosen),
                )
            )
    return plans


def _split_folders(folder: Path, below: Sequence[str]) -> dict[str, str]:
    """Folder names by split where `below` are splits, {} where they are classes. Raises UserError where unclear.

    A folder of a split's name is a split if it holds class folders; a class of such a name holds pictures.
    """
    found: dict[str, str] = {}
    classes = []
    for name in below:
        split = split_word(name)
        if split is None or not _holds_folders(folder / name):
            classes.append(name)
        elif split in found:
            raise UserError(f"{folder} has two folders for {split}: {found[split]} and {name}")
        else:
            found[split] = name
    if found and classes:
        extra = ", ".join(classes[:3])
        raise UserError(f"{folder} mixes the splits {', '.join(found.values())} with other folders ({extra})")
    if not found and all(split_word(name) for name in classes):
        named = ", ".join(classes)
        raise UserError(f"{folder}: {named} hold pictures and no class folders: splits or classes?")
    return dict(sorted(found.items(), key=lambda item: ("train", "val", "test").index(item[0])))


def _holds_folders(folder: Path) -> bool:
    return any(path.is_dir() and not is_hidden(path.name) for path in folder.iterdir())


def _class_files(folder: Path, tally: Tally) -> list[tuple[str, str]]:
    """Pairs (class folder, picture file) below `folder`, sorted; what lies in no class folder is counted."""
    folders = Folders([folder])
    tally.join(folders.tally.counts, folders.tally.examples)
    files = []
    for file in folders.files:
        name, below, _ = file.relative.partition("/")
        if below and printable(name) != name:
            raise UserError(
                f"{folder}: the name of the class folder {printable(name)} is no UTF-8: rename it"
            )
        if below:
            files.append((name, file.path))
        else:
            tally.add("no_class", file.relative)
    return sorted(files)


def _array_plan(
    kind: str,
    out: Path,
    split: str,
    images: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.int64],
    classes: list[str],
    templates: list[str] | None,
    rows: npt.NDArray[np.int64],
    tally: Tally | None = None,
) -> SplitPlan:
    """A plan for pictures in memory, written as PNG; `rows` are their numbers in the whole set: their ids."""
    tally = Tally() if tally is None else tally
    count_classes(classes, labels.tolist(), tally)

    def make(i: int) -> ItemOutcome:
        picture = Image.fromarray(images[i])
        reasons = ("greyscale",) if picture.mode == "L" else ()
        key, label, row = f"{split}-{rows[i]:06d}", int(labels[i]), int(rows[i])
        sample = Sample(key, encode_png(picture), "png", picture.width, picture.height, [], label, row)
        return ItemOutcome(sample, reasons, key)

    content = hashlib.sha256(np.ascontiguousarray(images).tobytes() + labels.tobytes()).hexdigest()
    height, width = images.shape[1:3]
    return SplitPlan(
        folder=out / split,
        items=range(len(images)),
        make=make,
        source={"kind": kind, "split": split, "classes": classes, "content": content},
        classes=classes,
        templates=templates,
        image_size=width if width == height else None,
        report=dict(tally.counts),
        examples=tally.examples,
    )


def _draw_splits(labels: npt.NDArray[np.int64], share: float, seed: int) -> dict[str, npt.NDArray[np.int64]]:
    """Rows of `train` and `test`: in each class a seeded draw of `share`, at least one, never all."""
    rng = np.random.default_rng(seed)
    test: list[int] = []
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        count = min(max(1, round(share * len(rows))), len(rows) - 1)
        test.extend(rows[:count].tolist())
    if not test:
        raise UserError("every class has a single picture: none can be held out; give splits of your own")
    marked = np.zeros(len(labels), dtype=bool)
    marked[test] = True
    return {"train": np.flatnonzero(~marked), "test": np.flatnonzero(marked)}
