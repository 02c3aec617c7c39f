"""What a split is: the fingerprint of its content, and whether the files on disk are still that content.

The fingerprint covers pictures, captions, owners, labels, class names and prompt templates, through the sha256 of every
shard and of samples.jsonl. Opening a split asks only size, times and inode of each file and compares them with what was
noted when the file was last read to its end (`.checked.json`, beside the index); a file is read again only where they
differ, and a file of other content is refused by its name.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from gaprun.errors import UserError
from gaprun.files import file_sha256, refusal, user_cache, write_atomically

SAMPLES = "samples.jsonl"
RECORD = ".checked.json"
SETTLED = 50_000_000  # ns: a file that changed later than this before it is noted could change again unseen
_LARGE = 2**30


def fingerprint(
    shards: Sequence[str],
    samples: str,
    classes: Sequence[str] | None = None,
    templates: Sequence[str] | None = None,
) -> str:
    """A split's identity: sha256 over the sha256s of its shards and of samples.jsonl, class names and templates.

    No file names, no dates. Without class names and templates it is the fingerprint that earlier versions gave.
    """
    parts = [*shards, samples]
    if classes is not None or templates is not None:
        words = {"classes": classes, "templates": templates}
        parts.append(json.dumps(words, ensure_ascii=True, separators=(",", ":")))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def checked_fingerprint(folder: Path, index: Mapping[str, Any]) -> str:
    """The fingerprint of the split `folder` as it is now, whose index is `index`.

    Raises UserError, naming the file, where a shard or samples.jsonl is missing or has another content than the index
    was written for.
    """
    foreign = (index.get("source") or {}).get("kind") == "index"
    way_out = (
        "make the index again with `gaprun data index --force`" if foreign else "write it again with --force"
    )
    shards = index["shards"]
    states = {}
    for shard in shards:
        name = shard["file"]
        try:
            states[name] = file_state(f"{folder}/{name}")
        except PermissionError as error:  # of a link into another user's folder
            raise UserError(refusal(error) or str(error)) from None
        except OSError:
            raise UserError(f"{folder} lacks its shard {name}: {way_out}") from None
        if states[name][0] != shard["bytes"]:
            sizes = f"{states[name][0]} bytes, {shard['bytes']} when the index was written"
            raise UserError(f"the shard {folder / name} was replaced or damaged ({sizes}): {way_out}")
    if not (folder / SAMPLES).is_file():
        raise UserError(f"{folder} lacks its {SAMPLES}: {way_out}")
    found = content_hashes(folder, states | {SAMPLES: file_state(folder / SAMPLES)})
    for shard in shards:
        if found[shard["file"]] != shard["sha256"]:
            path = folder / shard["file"]
            raise UserError(f"the shard {path} was replaced or damaged (its checksum differs): {way_out}")
    hashes = [shard["sha256"] for shard in shards]
    written = index.get("samples_sha256")  # splits of earlier versions have it in their fingerprint only
    if not (
        found[SAMPLES] == written if written else fingerprint(hashes, found[SAMPLES]) == index["fingerprint"]
    ):
        raise UserError(
            f"{folder / SAMPLES} was changed after it was written (its checksum differs): {way_out}"
        )
    return fingerprint(hashes, found[SAMPLES], index.get("classes"), index.get("templates"))


def content_hashes(folder: Path, states: Mapping[str, list[int]]) -> dict[str, str]:
    """sha256 of each file, by name, whose `file_state` is given: as noted where that is still so, else read now."""
    known = {
        name: noted[name]["sha256"]
        for noted in _read_records(folder)
        for name, state in states.items()
        if name in noted and noted[name].get("state") == state
    }
    unread = [name for name in states if name not in known]
    if unread:
        size = sum(states[name][0] for name in unread)
        if size > _LARGE:
            log = logging.getLogger(__name__)
            log.warning("reading %.1f GB of %s once, to be sure of its content", size / 1e9, folder)
        with ThreadPoolExecutor(4) as pool:
            known |= dict(zip(unread, pool.map(lambda name: file_sha256(folder / name), unread), strict=True))
        note_hashes(folder, known, states)
    return known


def note_hashes(
    folder: Path, hashes: Mapping[str, str], states: Mapping[str, list[int]] | None = None
) -> None:
    """Note the sha256 of files that were read or written to their end, with their `states` from before that.

    In the folder itself or, where that cannot be written, in the user's cache folder; where neither can be, nothing is
    noted and the next opening reads the files again.
    """
    states = states or {name: file_state(folder / name) for name in hashes}
    latest = time.time_ns() - SETTLED
    entries = {
        name: {"state": states[name], "sha256": sha}
        for name, sha in hashes.items()
        if max(states[name][1:3]) < latest and file_state(folder / name) == states[name]
    }
    for path in _record_paths(folder) if entries else ():
        try:
            write_atomically(path, lambda temporary: temporary.write_text(json.dumps(entries)))
            return
        except OSError:
            continue


def file_state(path: str | Path) -> list[int]:
    """Size, time of the last change of content, time of the last change of any kind, and inode. Raises OSError."""
    stat = os.stat(path)
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _read_records(folder: Path) -> list[dict[str, Any]]:
    """What was noted beside the split, perhaps by another user and before a change, and by this user elsewhere."""
    found = []
    for path in _record_paths(folder):
        try:
            noted = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(noted, dict) and all(
            isinstance(one, dict) and "sha256" in one for one in noted.values()
        ):
            found.append(noted)
    return found


def _record_paths(folder: Path) -> list[Path]:
    name = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:32]
    cache = user_cache()
    return [folder / RECORD, *([cache / "gaprun" / "checked" / f"{name}.json"] if cache else [])]
