"""One tar shard, written through webdataset's own writer so that its samples alone decide every bit of it.

Modification times, owners and modes are fixed, members are sorted and keys are short ASCII, hence each
member's header is exactly one 512-byte block and a picture's offset is known without reading the tar back.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

_BLOCK = 512
OWNER = "gaprun"  # in every member's header; tells our shards from others'


@dataclass(frozen=True)
class Sample:
    """One picture file with its captions and label; `extension` is jpg, png or webp; sizes in pixels."""

    key: str
    image: bytes
    extension: str
    width: int
    height: int
    captions: list[str]
    label: int | None = None
    id: int | str | None = None


def safe_key(name: str, taken: set[str] | None = None) -> str:
    """`name` as a key that is safe in any tar: no folders, no dots, at most 80 ASCII characters.

    With `taken` the key is made unique by a numbered ending and added to the set.
    """
    stem = re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_")[:80] or "sample"
    key, n = stem, 1
    while taken is not None and key in taken:
        n += 1
        key = f"{stem}-{n}"
    if taken is not None:
        taken.add(key)
    return key


def dump_line(value: Any) -> bytes:
    """Compact UTF-8 JSON with a stable key order; what UTF-8 cannot hold is written as JSON's escape."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")


def write_shard(
    path: Path, samples: Iterable[Sample], number: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Write `samples` to `path` (temporary name, fsync, rename) as shard `number`.

    Returns the shard's entry for index.json (`file, samples, bytes, sha256`) and its samples.jsonl lines.
    """
    from webdataset import TarWriter

    temporary = path.with_name(path.name + ".tmp")
    lines: list[dict[str, Any]] = []
    try:
        with temporary.open("wb") as file:
            hashing = _Hashing(file)
            writer = TarWriter(hashing, user=OWNER, group=OWNER, mtime=0, encoder=False)
            end = 0
            for sample in samples:
                line, end = _add(writer, sample, end, number)
                lines.append(line)
            writer.close()
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sha256 = hashing.sha.hexdigest()
    return {"file": path.name, "samples": len(lines), "bytes": hashing.bytes, "sha256": sha256}, lines


def _add(writer: Any, sample: Sample, start: int, number: int) -> tuple[dict[str, Any], int]:
    """Add one sample's members at byte `start`; its samples.jsonl line and the byte where its members end."""
    meta = {"captions": sample.captions, "label": sample.label, "id": sample.id}
    members = {sample.extension: sample.image, "json": dump_line(meta)}
    if sample.captions:
        members["txt"] = sample.captions[0].encode()  # what open_clip_train reads
    offset = end = start
    for extension in sorted(members):  # the order in which TarWriter writes
        if extension == sample.extension:
            offset = end + _BLOCK
        end += _BLOCK + -(-len(members[extension]) // _BLOCK) * _BLOCK
    writer.write({"__key__": sample.key, **members})
    line = {
        "key": sample.key,
        "shard": number,
        "offset": offset,
        "size": len(sample.image),
        "width": sample.width,
        "height": sample.height,
        "captions": sample.captions,
        "label": sample.label,
    }
    return line, end


class _Hashing:
    """A write-only file that knows the length and sha256 of what went through it."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.sha, self.bytes = file, hashlib.sha256(), 0

    def write(self, data: bytes) -> int:
        if self.file.closed:  # an abandoned tar writer flushes its rest when it is collected
            return len(data)
        self.sha.update(data)
        self.bytes += len(data)
        return self.file.write(data)
