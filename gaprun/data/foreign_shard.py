"""One tar shard that others wrote (img2dataset, open_clip, CLIP_benchmark), read to its end: its samples' lines."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from gaprun.data.decode import MAX_BYTES, is_sixteen_bit, open_image, to_rgb
from gaprun.data.errors import DamagedSample
from gaprun.data.parallel import ordered_map
from gaprun.data.tally import Tally
from gaprun.data.tars import Group, read_structure
from gaprun.data.words import sample_words

PICTURES = ("jpg", "jpeg", "png", "webp")
_TEXT = re.compile(r"(?:^|[._-])(?:txt|text|captions?)\d*(?:$|[._-])")
_CAPTION = re.compile(r"(?:(?:txt|text|captions?)[._-]?)?\d*(?:\.txt)?")


def read_shard(tar: Path, tally: Tally, workers: int = 1) -> list[dict[str, Any]]:
    """The lines of its usable samples in order, without the shard's number, read on `workers` threads.

    A line has its captions' `languages` too (`SampleWords`).

    A sample is WebDataset's: the members of one key, which need not be alone of that key. What is left out or assumed
    is counted in `tally`. A broken shard gives what lies before the break.
    """
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
        for sample in ordered_map(partial(_read_sample, descriptor), structure.groups, workers):
            for reason, name in sample.reasons:
                tally.add(reason, f"{tar.name}: {name}")
            if sample.line is not None:
                lines.append(sample.line)
    finally:
        os.close(descriptor)
    return lines


@dataclass
class _Sample:
    """One sample's line, or None, and the pairs (reason, name) to count."""

    line: dict[str, Any] | None
    reasons: list[tuple[str, str]]


def _read_sample(descriptor: int, group: Group) -> _Sample:
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
    names, unread = _other_texts(group, extension)
    others = [os.pread(descriptor, size, offset) for offset, size in map(group.members.__getitem__, names)]
    reasons += [("unread_text", f"{group.key}.{name}") for name in unread]
    words = sample_words(texts, others)
    reasons += [(reason, group.key) for reason in words.reasons]
    if not words.captions and words.label is None:
        reasons.append(("no_caption", group.key))
    line = {
        "key": group.key,
        "offset": offset,
        "size": size,
        "width": width,
        "height": height,
        "captions": words.captions,
        "label": words.label,
        "languages": words.languages,
    }
    return _Sample(line, reasons)


def _other_texts(group: Group, picture: str) -> tuple[list[str], list[str]]:
    """Extensions of texts beside `txt` and `json`: those that are plainly the picture's captions, by number (`0.txt`,
    `txt1`, `caption`, `jpg.txt`), and those of which that cannot be said (`ocr.txt`)."""
    stem, _, kind = picture.rpartition(".")
    used = {f"{stem}.{one}" if stem else one for one in ("txt", "json", "cls")} | {"txt", "json", "cls"}
    texts = [one for one in group.members if one not in used and _TEXT.search(one)]
    shared = stem or any(one.rpartition(".")[2] in PICTURES for one in group.members if "." in one)
    plain = [one for one in texts if _CAPTION.fullmatch(one.removeprefix(f"{kind}."))]
    plain = [] if shared else sorted(plain, key=lambda one: [int(part) for part in re.findall(r"\d+", one)])
    return plain, [one for one in texts if one not in plain]


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
