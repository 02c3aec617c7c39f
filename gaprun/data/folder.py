"""The folder that a split is written into: what is there already, and the steps that keep it consistent."""

from __future__ import annotations

import datetime
import errno
import fcntl
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from gaprun.data.columns import COLUMN_FILES
from gaprun.data.identity import RECORD, SAMPLES, fingerprint, note_hashes
from gaprun.data.shards import OWNER, dump_line
from gaprun.data.split import FORMAT, INDEX, WORK, Split, read_index
from gaprun.errors import Failure, UserError
from gaprun.files import beginning, write_atomically

PLAN = "plan.json"
LOCK = "lock"
_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EIO}
_SHARD = re.compile(r"\d{5}\.tar")
_WORK_FILE = re.compile(r"plan\.json|lock|\d{5}\.(json|tar|tar\.tmp)|.+\.tar\.jsonl|\..+\.\d+")
_OWN_LINE = re.compile(rb'\{"key":"[^\n]*"shard":\d+,"offset":\d+,')
_OWN = (INDEX, SAMPLES, RECORD, *COLUMN_FILES)
_LEFT = re.compile(rf"\.({'|'.join(map(re.escape, _OWN))})\.\d+")


def state_of(
    folder: Path, source: dict[str, Any], force: bool, newest: int = 0
) -> Literal["done", "open", "clear"]:
    """What to do about `folder` for a split whose source settings are `source`.

    "done": that very split is there, finished and unchanged. "open": empty, absent, or that split begun. "clear":
    another split of gaprun's is there and `force` is set, or one begun before the newest of its picture files was
    written (`newest`, ns since 1970). Raises UserError where there is what must not be touched, and where a split is
    no longer what was written.
    """
    way_out = "choose another --out, or replace it with --force"
    if folder.is_dir() and (folder / WORK).exists():
        _refuse_foreign_work(folder / WORK)
    refuse_foreign_index(folder)
    if (folder / INDEX).is_file():
        if force:
            _refuse_foreign(folder)
            return "clear"
        found = read_index(folder).get("source")
        if found != source:
            raise UserError(f"{folder} already holds another split ({_difference(found, source)}): {way_out}")
        if newest > (folder / INDEX).stat().st_mtime_ns:
            raise UserError(f"pictures were changed after {folder} was written from them: {way_out}")
        Split(folder)
        return "done"
    if (folder / WORK / PLAN).is_file():
        begun = _begun(folder / WORK / PLAN)
        if begun == source:
            return "clear" if newest > (folder / WORK / PLAN).stat().st_mtime_ns else "open"
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


def _begun(plan: Path) -> Any:
    try:
        return json.loads(plan.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise UserError(f"{plan} was not written by gaprun, or is damaged: choose another --out") from None


def refuse_foreign_index(folder: Path) -> None:
    """Raise UserError where `folder` holds an index.json, or without one a samples.jsonl, that is not gaprun's.

    The first bytes tell, so that damage further on hides nothing.
    """
    index, samples = folder / INDEX, folder / SAMPLES
    if index.exists() or index.is_symlink():
        head = beginning(index)
        foreign = None if head.startswith(b'{\n "format": ') and b'\n "dataset": ' in head else index
    else:
        head = beginning(samples)
        foreign = samples if samples.exists() and not _OWN_LINE.match(head) else None
    if foreign is not None:
        raise UserError(f"{foreign} was not written by gaprun and is left as it is: choose another --out")


def _refuse_foreign(folder: Path) -> None:
    """Raise UserError where a tar in `folder` is not gaprun's (its owner's name says so): --force spares it."""
    for path in sorted(folder.glob("*.tar")):
        if path.is_symlink() or not _is_own(folder, path):
            raise UserError(f"{folder} holds {path.name}, which gaprun did not write: choose another --out")


def _is_own(folder: Path, path: Path) -> bool:
    """Whether gaprun wrote the shard: its header says so, or it has none left and gaprun's index names it."""
    with path.open("rb") as file:
        header = file.read(512)
    if header[265:297].rstrip(b"\0") == OWNER.encode():
        return True
    if not (folder / INDEX).is_file() or header.strip(b"\0") and len(header) == 512:
        return False
    return path.name in {shard["file"] for shard in read_index(folder)["shards"]}


def _refuse_foreign_work(work: Path) -> None:
    """Raise UserError where the folder of unfinished work holds anything else."""
    foreign = work if not work.is_dir() or work.is_symlink() else None
    if foreign is None:
        foreign = next((path for path in sorted(work.iterdir()) if not _WORK_FILE.fullmatch(path.name)), None)
    if foreign is not None:
        raise UserError(f"{foreign} was not written by gaprun: choose another --out")


def clear(folder: Path) -> None:
    """Remove what gaprun wrote into `folder`, and nothing else; the index goes first.

    Who calls holds the folder's lock, which stays.
    """
    shards = [path for path in folder.glob("*.tar") if _SHARD.fullmatch(path.name) and not path.is_symlink()]
    shards = [path for path in sorted(shards) if _is_own(folder, path)]
    left = [path for path in folder.iterdir() if _LEFT.fullmatch(path.name)]
    for path in [*(folder / name for name in _OWN), *shards, *left]:
        path.unlink(missing_ok=True)
    for path in (folder / WORK).iterdir():
        if path.name != LOCK and _WORK_FILE.fullmatch(path.name):
            path.unlink(missing_ok=True)


def remove_work(work: Path) -> None:
    """Remove the files of unfinished work, and their folder where nothing else is in it."""
    if not work.is_dir():
        return
    for path in work.iterdir():
        if _WORK_FILE.fullmatch(path.name):
            path.unlink()
    if not any(work.iterdir()):
        work.rmdir()


def replace_file(path: Path, data: bytes) -> None:
    """Put `data` at `path` at once."""
    write_atomically(path, lambda temporary: temporary.write_bytes(data))


def publish(
    folder: Path,
    *,
    source: dict[str, Any],
    shards: list[dict[str, Any]],
    lines: list[dict[str, Any]],
    report: Mapping[str, int],
    examples: Mapping[str, list[str]],
    states: Mapping[str, list[int]],
    classes: list[str] | None = None,
    templates: list[str] | None = None,
    image_size: int | None = None,
) -> dict[str, Any]:
    """Make `folder` a finished split: write samples.jsonl and then index.json, which is returned.

    `states`: each shard's `file_state` at the time its checksum was made, by file name.
    """
    text = b"".join(dump_line(line) + b"\n" for line in lines)
    samples = hashlib.sha256(text).hexdigest()
    hashes = [shard["sha256"] for shard in shards]
    index = {
        "format": FORMAT,
        "dataset": folder.resolve().parent.name,
        "split": folder.resolve().name,
        "source": source,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "samples": len(lines),
        "captions": sum(len(line["captions"]) for line in lines),
        "shared_captions": shared_captions([line["captions"] for line in lines]),
        "image_size": image_size,
        "classes": classes,
        "templates": templates,
        "shards": shards,
        "samples_sha256": samples,
        "fingerprint": fingerprint(hashes, samples, classes, templates),
        "report": dict(sorted(report.items())),
        "examples": dict(examples),
    }
    (folder / INDEX).unlink(missing_ok=True)
    replace_file(folder / SAMPLES, text)
    # The names of hidden files are shown once and not kept: they are nobody's data.
    kept = index | {"examples": {reason: names for reason, names in examples.items() if reason != "hidden"}}
    replace_file(
        folder / INDEX, json.dumps(kept, indent=1, ensure_ascii=False).encode("utf-8", "backslashreplace")
    )
    note_hashes(folder, {shard["file"]: shard["sha256"] for shard in shards}, states)
    with suppress(UserError):  # sample lines that cannot be read are refused where they are asked for
        _ = Split(folder).captions
    return index


def shared_captions(captions: Sequence[Sequence[str]]) -> int:
    """How many of the pictures' captions have a text that stands at another picture too."""
    owners = Counter(text for texts in captions for text in set(texts))
    return sum(owners[text] > 1 for texts in captions for text in texts)


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
