"""Indexing tar shards that others wrote (img2dataset, open_clip): pictures with a txt or json beside each.

The shards stay as they are; `samples.jsonl` and `index.json` are put beside them, after which the folder is a
split like any other. A broken shard gives what lies before the break, counted and named.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from gaprun.data.decode import open_image, to_rgb
from gaprun.data.errors import DamagedSample
from gaprun.data.folder import disk_errors, publish
from gaprun.data.parallel import Progress, ordered_map
from gaprun.data.split import INDEX, read_index
from gaprun.data.tars import Group, read_structure
from gaprun.errors import UserError
from gaprun.files import file_sha256

_PICTURES = ("jpg", "jpeg", "png", "webp")
_CAPTION_KEYS = ("caption", "text", "TEXT")  # of img2dataset, and of sets made from parquet files


def index_folder(
    folder: Path, force: bool = False, workers: int = 1, progress: Progress | None = None
) -> dict[str, Any]:
    """Write the index of `folder`'s tars and return it. `progress(shards done, shards)`.

    Left out and counted: `caption_without_image`, `undecodable`; kept and counted: `no_caption`. Also
    counted: `truncated_shard`, `stray_member`. Raises UserError where there is nothing to index, or an index is there
    already (unless `force`; one that `gaprun data` wrote together with its shards is never replaced).
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder")
    tars = sorted(path for path in folder.iterdir() if path.suffix == ".tar" and path.is_file())
    if not tars:
        packed = " (compressed tars must be unpacked to .tar first)" if any(folder.glob("*.tar.*")) else ""
        raise UserError(f"{folder} holds no .tar shards{packed}")
    may_index(folder, force)
    report: Counter[str] = Counter()
    examples: dict[str, list[str]] = {}

    def count(reason: str, name: str) -> None:
        report[reason] += 1
        examples.setdefault(reason, []).append(name)
        del examples[reason][20:]

    shards: list[dict[str, Any]] = []
    lines: list[dict[str, Any]] = []
    seen: set[str] = set()
    for done, tar in enumerate(tars):
        own = _index_shard(tar, len(shards), seen, workers, count)
        if own:
            size = tar.stat().st_size
            shards.append({"file": tar.name, "samples": len(own), "bytes": size, "sha256": file_sha256(tar)})
            lines += own
        if progress is not None:
            progress(done + 1, len(tars))
    if not lines:
        counts = ", ".join(f"{reason} {n}" for reason, n in sorted(report.items()))
        raise UserError(f"no usable picture in the shards of {folder} ({counts or 'all are empty'})")
    with disk_errors(folder):
        return publish(
            folder, source={"kind": "index"}, shards=shards, lines=lines, report=report, examples=examples
        )


def may_index(folder: Path, force: bool) -> None:
    """Raise UserError where `folder` has an index that must stay."""
    if not (folder / INDEX).is_file():
        return
    if not force:
        raise UserError(f"{folder} has an {INDEX} already: make a new one with --force")
    if (read_index(folder).get("source") or {}).get("kind") != "index":
        raise UserError(f"{folder} was written by `gaprun data`: its {INDEX} belongs to it and is kept")


def _index_shard(
    tar: Path, number: int, seen: set[str], workers: int, count: Callable[[str, str], None]
) -> list[dict[str, Any]]:
    """The sample lines of one shard."""
    structure = read_structure(tar)
    if structure.broken:
        count("truncated_shard", f"{tar.name}: {structure.broken}")
    for name in structure.strays:
        count("stray_member", f"{tar.name}: {name}")
    lines = []
    descriptor = os.open(tar, os.O_RDONLY)
    try:
        read = ordered_map(partial(_read_sample, descriptor, number), structure.groups, workers)
        for group, (line, reason) in zip(structure.groups, read, strict=True):
            if reason:
                count(reason, f"{tar.name}: {group.key}")
            if line is not None:
                if line["key"] in seen:  # shards that each count from 0 are common
                    line["key"] = f"{tar.stem}/{group.key}"
                seen.add(line["key"])
                lines.append(line)
    finally:
        os.close(descriptor)
    return lines


def _read_sample(descriptor: int, number: int, group: Group) -> tuple[dict[str, Any] | None, str | None]:
    """One sample's line, or None, and the reason to count."""
    place = next((group.members[one] for one in _PICTURES if one in group.members), None)
    if place is None:
        return None, "caption_without_image"
    offset, size = place
    try:
        image = open_image(os.pread(descriptor, size, offset))
        width, height = image.size
        image.draft("RGB", (1, 1))
        to_rgb(image)
    except DamagedSample:
        return None, "undecodable"
    texts: dict[str, str] = {
        one: os.pread(descriptor, group.members[one][1], group.members[one][0]).decode("utf-8", "replace")
        for one in ("json", "txt", "cls")
        if one in group.members
    }
    captions, label = _words(texts)
    line = {
        "key": group.key,
        "shard": number,
        "offset": offset,
        "size": size,
        "width": width,
        "height": height,
        "captions": captions,
        "label": label,
    }
    return line, None if captions or label is not None else "no_caption"


def _words(texts: dict[str, str]) -> tuple[list[str], int | None]:
    """Captions (json's list, else the txt, else json's one; white space collapsed) and label (json's or cls)."""
    try:
        meta = json.loads(texts.get("json", "{}"))
    except ValueError:
        meta = {}
    meta = meta if isinstance(meta, dict) else {}
    several: Any = meta.get("captions")
    if not isinstance(several, list):
        single = next((meta[key] for key in _CAPTION_KEYS if meta.get(key)), "")
        several = [texts.get("txt") or single]
    captions = [" ".join(text.split()) for text in several if isinstance(text, str) and text.strip()]
    label = meta.get("label")
    if label is None and texts.get("cls", "").strip().isdigit():
        label = int(texts["cls"])
    return captions, label if isinstance(label, int) and label >= 0 else None
