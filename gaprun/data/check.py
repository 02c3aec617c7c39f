"""Checking finished splits: checksums, tar structure, every picture decoded, captions, duplicates."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from gaprun.data.decode import decode_rgb
from gaprun.data.errors import DamagedSample
from gaprun.data.identity import SAMPLES, fingerprint
from gaprun.data.parallel import Progress, ordered_map
from gaprun.data.split import INDEX, WORK, open_split, read_index
from gaprun.data.tars import Group, read_structure
from gaprun.errors import UserError
from gaprun.files import file_sha256


@dataclass(frozen=True)
class Damage:
    """One thing that is wrong: the shard and sample where known, and what it is."""

    shard: str | None
    key: str | None
    problem: str


@dataclass
class SplitReport:
    """What a check found in one split. Only `damage` makes a set bad; the counts after it inform."""

    folder: str
    samples: int = 0
    captions: int = 0
    checked: int = 0
    decoded: int = 0
    damage: list[Damage] = field(default_factory=list)
    without_caption: int = 0
    repeated_pictures: int = 0
    repeated_captions: int = 0
    pictures: set[str] = field(default_factory=set, repr=False)

    def as_dict(self) -> dict[str, Any]:
        """The report for JSON, with `ok` first and without the pictures' checksums."""
        fields = {"ok": not self.damage} | asdict(self)
        del fields["pictures"]
        return fields


def find_splits(path: Path) -> list[Path]:
    """The split folders that `path` means: itself, or those up to two levels below it. Raises UserError."""
    if (path / INDEX).is_file() or (path / WORK).is_dir():
        return [path]
    found = {one.parent for pattern in (f"*/{INDEX}", f"*/*/{INDEX}") for one in path.glob(pattern)}
    found |= {one.parent for pattern in (f"*/{WORK}", f"*/*/{WORK}") for one in path.glob(pattern)}
    return sorted(found) or [open_split(path).path]


def check_split(folder: Path, workers: int = 1, progress: Progress | None = None) -> SplitReport:
    """Check one split folder; damage is collected, never raised. `progress(done, total)` counts samples."""
    report = SplitReport(str(folder))
    try:
        index = read_index(folder)
        lines = _read_lines(folder, index, report)
    except UserError as error:
        unfinished = (folder / WORK).is_dir() and not (folder / INDEX).is_file()
        reason = "it was not written to its end" if unfinished else str(error)
        report.damage.append(Damage(None, None, reason))
        return report
    report.samples, report.captions = len(lines), sum(len(line["captions"]) for line in lines)
    _check_counts(index, lines, report)
    foreign = (index.get("source") or {}).get("kind") == "index"
    pictures: list[str] = []
    for number, shard in enumerate(index["shards"]):
        own = [line for line in lines if line["shard"] == number]
        pictures += _check_shard(folder, shard, own, foreign, report, workers, progress)
    report.without_caption = sum(not line["captions"] for line in lines)
    report.pictures = set(pictures)
    report.repeated_pictures = len(pictures) - len(report.pictures)
    report.repeated_captions = sum(len(line["captions"]) - len(set(line["captions"])) for line in lines)
    return report


def shared_pictures(reports: Sequence[SplitReport]) -> list[tuple[str, str, int]]:
    """Pairs of checked splits that have equal picture files, and how many: held-out pictures that were seen."""
    pairs = [(one, other) for i, other in enumerate(reports) for one in reports[:i]]
    counted = [(one.folder, other.folder, len(one.pictures & other.pictures)) for one, other in pairs]
    return [pair for pair in counted if pair[2]]


def _read_lines(folder: Path, index: dict[str, Any], report: SplitReport) -> list[dict[str, Any]]:
    """The sample lines, and damage where samples.jsonl is not what the index was made with."""
    path = folder / SAMPLES
    wanted = {"key", "shard", "offset", "size", "width", "height", "captions", "label"}
    try:
        content = path.read_bytes()
        lines = [json.loads(line) for line in content.splitlines()]
    except (OSError, ValueError) as error:
        raise UserError(f"{SAMPLES} cannot be read: {error}") from None
    if not all(isinstance(line, dict) and wanted <= line.keys() for line in lines):
        raise UserError(f"{SAMPLES} has lines without {', '.join(sorted(wanted))}")
    hashes, samples = [shard["sha256"] for shard in index["shards"]], hashlib.sha256(content).hexdigest()
    words = (index.get("classes"), index.get("templates")) if "samples_sha256" in index else ()
    if index.get("samples_sha256", samples) != samples:
        report.damage.append(Damage(None, None, f"{SAMPLES} and {INDEX} do not belong together"))
    elif fingerprint(hashes, samples, *words) != index["fingerprint"]:
        what = f"{INDEX} was changed after it was written, or does not belong to {SAMPLES}"
        report.damage.append(Damage(None, None, what))
    return lines


def _check_counts(index: dict[str, Any], lines: Sequence[dict[str, Any]], report: SplitReport) -> None:
    """Damage where counts, shard numbers, keys or labels contradict each other."""
    if index["samples"] != len(lines):
        problem = f"{INDEX} says {index['samples']} samples and {SAMPLES} has {len(lines)}"
        report.damage.append(Damage(None, None, problem))
    seen: set[str] = set()
    classes = len(index.get("classes") or [])
    for line in lines:
        if line["key"] in seen:
            report.damage.append(Damage(None, line["key"], "its key is used twice"))
        seen.add(line["key"])
        if not 0 <= line["shard"] < len(index["shards"]):
            report.damage.append(Damage(None, line["key"], f"it is in shard {line['shard']}, which is none"))
        if classes and line["label"] is not None and not 0 <= line["label"] < classes:
            report.damage.append(Damage(None, line["key"], f"label {line['label']} of {classes} classes"))


def _check_shard(
    folder: Path,
    shard: dict[str, Any],
    lines: Sequence[dict[str, Any]],
    foreign: bool,
    report: SplitReport,
    workers: int,
    progress: Progress | None,
) -> list[str]:
    """Add the damage of one shard to `report`; the sha256 of each picture that decodes."""
    path, name = folder / shard["file"], shard["file"]
    if not path.is_file():
        report.damage.append(Damage(name, None, f"the shard is missing, with {len(lines)} samples"))
        return []
    size = path.stat().st_size
    if size != shard["bytes"]:
        report.damage.append(Damage(name, None, f"{size} bytes long, {shard['bytes']} when written"))
    elif file_sha256(path) != shard["sha256"]:
        report.damage.append(Damage(name, None, "its checksum differs from when it was written"))
    structure = read_structure(path)
    if structure.broken:
        report.damage.append(Damage(name, None, f"broken tar: {structure.broken}"))
    groups = {place: group for group in structure.groups for place in group.members.values()}
    pictures = []
    descriptor = os.open(path, os.O_RDONLY)
    try:
        check = partial(_check_sample, descriptor, groups, foreign)
        for line, (problem, sha) in zip(lines, ordered_map(check, lines, workers), strict=True):
            if problem:
                report.damage.append(Damage(name, line["key"], problem))
            else:
                report.decoded += 1
                pictures.append(sha)
            report.checked += 1
            if progress is not None:
                progress(report.checked, report.samples)
    finally:
        os.close(descriptor)
    return pictures


def _check_sample(
    descriptor: int, groups: dict[tuple[int, int], Group], foreign: bool, line: dict[str, Any]
) -> tuple[str | None, str]:
    """What is wrong with one sample (None: nothing) and its picture's sha256."""
    data = os.pread(descriptor, line["size"], line["offset"])
    if len(data) != line["size"]:
        return f"{line['size']} bytes expected at offset {line['offset']} and {len(data)} found", ""
    group = groups.get((line["offset"], line["size"]))
    if group is None or not f"/{line['key']}".endswith(f"/{group.key}"):
        return "the tar has no such sample at its place", ""
    try:
        image = decode_rgb(data)
    except DamagedSample as error:
        return f"it does not decode: {error.reason}", ""
    if image.size != (line["width"], line["height"]):
        return f"{image.width}x{image.height} pixels, {line['width']}x{line['height']} when written", ""
    if line["captions"] and "txt" in group.members and not foreign:
        offset, size = group.members["txt"]
        first = os.pread(descriptor, size, offset).decode("utf-8", "replace")
        if " ".join(first.split()) not in line["captions"]:
            return "its caption in the tar differs from samples.jsonl", ""
    return None, hashlib.sha256(data).hexdigest()
