"""The folder that a split is written into: what is there already, and the steps that keep it consistent."""

from __future__ import annotations

import datetime
import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from gaprun.data.shards import OWNER, dump_line
from gaprun.data.split import FORMAT, INDEX, SAMPLES, WORK, read_index
from gaprun.errors import Failure, UserError

PLAN = "plan.json"
_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EIO}


def state_of(folder: Path, source: dict[str, Any], force: bool) -> Literal["done", "open", "clear"]:
    """What to do about `folder` for a split whose source settings are `source`.

    "done": that very split is there, finished. "open": empty, absent, or that split begun. "clear": another
    split of gaprun's is there and `force` is set. Raises UserError where there is what must not be touched.
    """
    way_out = "choose another --out, or replace it with --force"
    if (folder / INDEX).is_file():
        if force:
            _refuse_foreign(folder)
            return "clear"
        found = read_index(folder).get("source")
        if found == source:
            return "done"
        raise UserError(f"{folder} already holds another split ({_difference(found, source)}): {way_out}")
    if (folder / WORK / PLAN).is_file():
        begun = json.loads((folder / WORK / PLAN).read_text(encoding="utf-8"))
        if begun == source:
            return "open"
        if force:
            _refuse_foreign(folder)
            return "clear"
        difference = _difference(begun, source)
        raise UserError(f"{folder} holds an unfinished split of other settings ({difference}): {way_out}")
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file: choose another --out")
    if folder.is_dir() and any(path.name != WORK for path in folder.iterdir()):
        raise UserError(f"{folder} is not empty and no split of gaprun's: choose another --out")
    return "open"


def _refuse_foreign(folder: Path) -> None:
    """Raise UserError where a tar in `folder` is not gaprun's (its owner's name says so): --force spares it."""
    for path in sorted(folder.glob("*.tar")):
        with path.open("rb") as file:
            header = file.read(512)
        if len(header) == 512 and header[265:297].rstrip(b"\0") != OWNER.encode():
            raise UserError(f"{folder} holds {path.name}, which gaprun did not write: choose another --out")


def clear(folder: Path) -> None:
    """Remove what gaprun wrote into `folder`, and nothing else; the index goes first."""
    for path in [folder / INDEX, folder / SAMPLES, *sorted(folder.glob("[0-9][0-9][0-9][0-9][0-9].tar*"))]:
        path.unlink(missing_ok=True)
    shutil.rmtree(folder / WORK, ignore_errors=True)


def replace_file(path: Path, data: bytes) -> None:
    """Put `data` at `path` at once: temporary file, fsync, rename."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def publish(
    folder: Path,
    *,
    source: dict[str, Any],
    shards: list[dict[str, Any]],
    lines: list[dict[str, Any]],
    report: dict[str, int],
    examples: dict[str, list[str]],
    classes: list[str] | None = None,
    templates: list[str] | None = None,
    image_size: int | None = None,
) -> dict[str, Any]:
    """Make `folder` a finished split: write samples.jsonl and then index.json, which is returned."""
    text = b"".join(dump_line(line) + b"\n" for line in lines)
    index = {
        "format": FORMAT,
        "dataset": folder.resolve().parent.name,
        "split": folder.resolve().name,
        "source": source,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "samples": len(lines),
        "captions": sum(len(line["captions"]) for line in lines),
        "image_size": image_size,
        "classes": classes,
        "templates": templates,
        "shards": shards,
        "fingerprint": fingerprint([shard["sha256"] for shard in shards], hashlib.sha256(text).hexdigest()),
        "report": dict(sorted(report.items())),
        "examples": examples,
    }
    (folder / INDEX).unlink(missing_ok=True)
    replace_file(folder / SAMPLES, text)
    replace_file(folder / INDEX, json.dumps(index, indent=1, ensure_ascii=False).encode())
    return index


def fingerprint(shards: Sequence[str], samples: str) -> str:
    """A split's identity: sha256 over its shards' sha256s and that of samples.jsonl; no names, no dates."""
    return hashlib.sha256("\n".join([*shards, samples]).encode()).hexdigest()


@contextmanager
def locked(path: Path, folder: Path) -> Iterator[None]:
    """Hold the lock file `path`; Failure where another process holds it. The system frees it if we die."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Failure(f"another process is writing {folder}: wait for it to end") from None
        yield


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn an OSError into one line: Failure for a full or broken disk, UserError for a bad path."""
    try:
        yield
    except OSError as error:
        kind = Failure if error.errno in _DISK_ERRORS else UserError
        raise kind(f"cannot write {error.filename or folder}: {error.strerror or error}") from error


def _difference(old: Any, new: dict[str, Any]) -> str:
    """The settings that differ, short: `size: 224 -> 64`."""
    if not isinstance(old, dict):
        return "of unknown origin"
    keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    return "; ".join(f"{key}: {_short(old.get(key))} -> {_short(new.get(key))}" for key in keys)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 24 else text[:10] + "..."
