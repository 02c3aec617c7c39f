"""Indexing tar shards that others wrote (img2dataset, open_clip, CLIP_benchmark): pictures with a txt, json or cls.

The shards stay as they are; `samples.jsonl` and `index.json` are put beside them, after which the folder is a
split like any other. A broken shard gives what lies before the break, counted and named.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from gaprun.data.classnames import check_labels, read_class_names
from gaprun.data.decode import MAX_BYTES, is_sixteen_bit, open_image, to_rgb
from gaprun.data.errors import DamagedSample
from gaprun.data.folder import disk_errors, publish
from gaprun.data.identity import SAMPLES, file_state
from gaprun.data.parallel import Progress, ordered_map
from gaprun.data.split import INDEX, read_index
from gaprun.data.tally import Tally
from gaprun.data.tars import Group, read_structure
from gaprun.data.words import sample_words
from gaprun.errors import UserError
from gaprun.files import file_sha256

PICTURES = ("jpg", "jpeg", "png", "webp")


def index_folder(
    folder: Path, force: bool = False, workers: int = 1, progress: Progress | None = None
) -> dict[str, Any]:
    """Write the index of `folder`'s tars and return it. `progress(shards done, shards)`.

    A sample is WebDataset's: the members of one key. What is left out or assumed is counted (`tally.REASONS`). Class
    names and templates are those that lie beside the shards. Raises UserError where there is nothing to index, or an
    index is there already (unless `force`; one that `gaprun data` wrote together with its shards is never replaced).
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder")
    tars = sorted(path for path in folder.iterdir() if path.suffix == ".tar" and path.is_file())
    if not tars:
        packed = " (compressed tars must be unpacked to .tar first)" if any(folder.glob("*.tar.*")) else ""
        raise UserError(f"{folder} holds no .tar shards{packed}")
    may_index(folder, force)
    words = read_class_names(folder, tars)
    tally = Tally()
    shards: list[dict[str, Any]] = []
    lines: list[dict[str, Any]] = []
    states: dict[str, list[int]] = {}
    seen: set[str] = set()
    for done, tar in enumerate(tars):
        states[tar.name] = file_state(tar)
        own = _index_shard(tar, len(shards), seen, workers, tally)
        if own:
            size = tar.stat().st_size
            shards.append({"file": tar.name, "samples": len(own), "bytes": size, "sha256": file_sha256(tar)})
            lines += own
        if progress is not None:
            progress(done + 1, len(tars))
    if not lines:
        raise UserError(f"no usable picture in the shards of {folder} ({tally or 'all are empty'})")
    classes = check_labels(words, lines, tally)
    with disk_errors(folder):
        return publish(
            folder,
            source={"kind": "index"},
            shards=shards,
            lines=lines,
            report=tally.counts,
            examples=tally.examples,
            states=states,
            classes=classes,
            templates=words.templates if classes is not None else None,
        )


def may_index(folder: Path, force: bool) -> None:
    """Raise UserError where `folder` has an index, or a file of the index's name, that must stay."""
    samples = folder / SAMPLES
    if not (folder / INDEX).is_file():
        if samples.exists() and not samples.read_bytes()[:8].startswith(b'{"key":'):
            raise UserError(f"{samples} was not written by gaprun: choose another --out")
        return
    if not force:
        raise UserError(f"{folder} has an {INDEX} already: make a new one with --force")
    if (read_index(folder).get("source") or {}).get("kind") != "index":
        raise UserError(f"{folder} was written by `gaprun data`: its {INDEX} belongs to it and is kept")


def _index_shard(tar: Path, number: int, seen: set[str], workers: int, tally: Tally) -> list[dict[str, Any]]:
    """The sample lines of one shard."""
    structure = read_structure(tar)
    if structure.broken:
        tally.add("truncated_shard", f"{tar.name}: {structure.broken}")
    for reason, names in (("stray_member", structure.strays), ("duplicate_member", structure.duplicates)):
        for name in names:
            tally.add(reason, f"{tar.name}: {name}")
    lines: list[dict[str, Any]] = []
    if not structure.groups:
        return lines
    descriptor = os.open(tar, os.O_RDONLY)
    try:
        read = ordered_map(partial(_read_sample, descriptor, number), structure.groups, workers)
        for group, sample in zip(structure.groups, read, strict=True):
            for reason, name in sample.reasons:
                tally.add(reason, f"{tar.name}: {name}")
            if sample.line is None:
                continue
            if group.key in seen:  # shards that each count from 0 are common
                tally.add("repeated_key", f"{tar.name}: {group.key}")
            sample.line["key"] = _free_key(group.key, tar.stem, seen)
            seen.add(sample.line["key"])
            lines.append(sample.line)
    finally:
        os.close(descriptor)
    return lines


def _free_key(key: str, stem: str, seen: set[str]) -> str:
    """`key`, else `stem/key`, else `stem/2/key` and so on: the first that is not in `seen`."""
    free, count = key, 1
    while free in seen:
        free = f"{stem}/{key}" if count == 1 else f"{stem}/{count}/{key}"
        count += 1
    return free


@dataclass
class _Sample:
    """One sample's line, or None, and the pairs (reason, name) to count."""

    line: dict[str, Any] | None
    reasons: list[tuple[str, str]]


def _read_sample(descriptor: int, number: int, group: Group) -> _Sample:
    extension, reasons = _picture_of(group)
    if extension is None:
        return _Sample(None, reasons or [("caption_without_image", group.key)])
    offset, size = group.members[extension]
    try:
        if size > MAX_BYTES:
            raise DamagedSample(None, None, f"{size} bytes", "too_large")
        image = open_image(os.pread(descriptor, size, offset))
        width, height = image.size
        if is_sixteen_bit(image):
            reasons.append(("sixteen_bit", group.key))
        image.draft("RGB", (1, 1))
        to_rgb(image)
    except DamagedSample as error:
        return _Sample(None, [*reasons, (error.kind, group.key)])
    stem = extension.rpartition(".")[0]
    texts = {}
    for one in ("json", "txt", "cls"):
        place = group.members.get(f"{stem}.{one}" if stem else one) or group.members.get(one)
        if place is not None:
            texts[one] = os.pread(descriptor, place[1], place[0])
    words = sample_words(texts)
    reasons += [(reason, group.key) for reason in words.reasons]
    if not words.captions and words.label is None:
        reasons.append(("no_caption", group.key))
    line = {
        "key": group.key,
        "shard": number,
        "offset": offset,
        "size": size,
        "width": width,
        "height": height,
        "captions": words.captions,
        "label": words.label,
    }
    return _Sample(line, reasons)


def _picture_of(group: Group) -> tuple[str | None, list[tuple[str, str]]]:
    """The extension of the sample's picture, and what is counted of the other pictures that share its key.

    The first of jpg, jpeg, png and webp; where there is none, a picture whose name has more dots, if it is the only one
    (`my.photo.jpg` has the key `my` and the extension `photo.jpg`).
    """
    plain = [one for one in PICTURES if one in group.members]
    dotted = [one for one in group.members if "." in one and one.rpartition(".")[2] in PICTURES]
    if plain:
        return plain[0], [("further_picture", f"{group.key}.{one}") for one in [*plain[1:], *dotted]]
    if len(dotted) > 1:
        return None, [("dotted_name", f"{group.key}.{one}") for one in dotted]
    return (dotted[0] if dotted else None), []
