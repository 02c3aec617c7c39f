"""Indexing tar shards that others wrote: a folder of them becomes a split like any other, and they stay as they are.

Shards are read side by side by processes. What was found in each is kept in `.indexing/` as soon as it is read, and an
index that was stopped goes on from there; then `samples.jsonl` and `index.json` are put beside the shards.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Collection, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from gaprun.data.classnames import check_labels, read_class_names
from gaprun.data.folder import (
    disk_errors,
    locked,
    publish,
    refuse_foreign_index,
    remove_work,
    replace_file,
)
from gaprun.data.foreign_shard import read_shard
from gaprun.data.identity import SETTLED, file_state
from gaprun.data.languages import languages_to_keep
from gaprun.data.parallel import Progress
from gaprun.data.shards import dump_line
from gaprun.data.split import INDEX, read_index
from gaprun.data.tally import Tally
from gaprun.errors import Failure, UserError
from gaprun.files import beginning, file_sha256
from gaprun.version import __version__

WORK = ".indexing"
_COMPRESSED = (
    ".tgz",
    ".tbz",
    ".tbz2",
    ".txz",
    *(f".tar.{end}" for end in ("gz", "bz2", "xz", "zst", "lz4", "z")),
)
_PACKED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd")  # gzip, bzip2, xz, zstd


def index_folder(
    folder: Path,
    force: bool = False,
    workers: int = 1,
    progress: Progress | None = None,
    languages: Sequence[str] = (),
) -> dict[str, Any]:
    """Write the index of `folder`'s tars and return it. `progress(shards done, shards)`; `workers` processes.

    languages: those of which captions are kept (`languages_to_keep`); a sample of which no word remains is left out.

    What is left out or assumed is counted (`tally.REASONS`). Class names and templates are those that lie beside the
    shards. Raises UserError where there is nothing to index, or an index is there already (unless `force`; one that
    `gaprun data` wrote together with its shards is never replaced), Failure where a process is killed or another one
    is at it.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder")
    tars = sorted(path for path in folder.iterdir() if path.suffix == ".tar" and path.is_file())
    refuse_compressed(folder, tars)
    if not tars:
        raise UserError(f"{folder} holds no .tar shards")
    may_index(folder, force)
    words = read_class_names(folder, tars)
    work = folder / WORK
    with disk_errors(folder):
        work.mkdir(exist_ok=True)
        with locked(work / "lock", folder):
            _read_all(tars, work, workers, progress or (lambda done, total: None))
            tally = Tally()
            shards, lines, states = _joined(tars, work, languages, folder, tally)
            if not lines:
                remove_work(work)
                raise UserError(f"no usable picture in the shards of {folder} ({tally or 'all are empty'})")
            classes = check_labels(words, lines, tally)
            index = publish(
                folder,
                source={"kind": "index"} | ({"languages": sorted(languages)} if languages else {}),
                shards=shards,
                lines=lines,
                report=tally.counts,
                examples=tally.examples,
                states=states,
                classes=classes,
                templates=words.templates if classes is not None else None,
            )
            remove_work(work)
    return index


def refuse_compressed(folder: Path, tars: Sequence[Path]) -> None:
    """Raise UserError where a shard of `folder` is compressed, by its name or by its first bytes: it has no places that
    could be indexed, and left out it would be missed by nobody."""
    named = [path for path in sorted(folder.iterdir()) if path.name.lower().endswith(_COMPRESSED)]
    packed = [*named, *(path for path in tars if beginning(path).startswith(_PACKED))]
    if packed:
        raise UserError(
            f"{packed[0]}: compressed tars must be unpacked to .tar first (such as with gunzip), or moved away"
        )


def may_index(folder: Path, force: bool) -> None:
    """Raise UserError where `folder` has an index, or a file of the index's name, that must stay."""
    refuse_foreign_index(folder)
    if not (folder / INDEX).is_file():
        return
    if not force:
        raise UserError(f"{folder} has an {INDEX} already: make a new one with --force")
    if (read_index(folder).get("source") or {}).get("kind") != "index":
        raise UserError(f"{folder} was written by `gaprun data`: its {INDEX} belongs to it and is kept")


def _read_all(tars: Sequence[Path], work: Path, workers: int, progress: Progress) -> None:
    """Make the entry of every shard that has none in `work`."""
    waiting = [tar for tar in tars if not _is_kept(tar, work)]
    done = len(tars) - len(waiting)
    progress(done, len(tars))
    if workers <= 1 or len(waiting) <= 1:
        for tar in waiting:
            _keep(tar, work, workers)
            done += 1
            progress(done, len(tars))
        return
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    others = multiprocessing.active_children()
    pool = ProcessPoolExecutor(min(workers, len(waiting)), context, _obey_the_parent_alone)
    try:
        for future in as_completed([pool.submit(_keep, tar, work) for tar in waiting]):
            future.result()
            done += 1
            progress(done, len(tars))
    except BaseException as error:
        for process in multiprocessing.active_children():
            if process not in others:
                process.terminate()  # entries are whole or not there
        if isinstance(error, BrokenProcessPool):
            raise Failure(
                f"a process that read shards was killed; what the others read is kept in {work}, and the same command "
                "goes on: fewer --workers need less memory"
            ) from None
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _obey_the_parent_alone() -> None:
    """In a process of the pool: Ctrl-C is the parent's to handle, and without it there is no work."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()


def _end_with_the_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _keep(tar: Path, work: Path, threads: int = 1) -> None:
    """Read a shard and keep what was found: one line that says of what file, and one that says what."""
    state, tally = file_state(tar), Tally()
    settled = max(state[1:3]) < time.time_ns() - SETTLED  # else it could change again unseen
    sha256 = file_sha256(tar)
    lines = read_shard(tar, tally, threads)
    shard = {"file": tar.name, "samples": len(lines), "bytes": state[0], "sha256": sha256}
    found = {"shard": shard, "lines": lines, "report": tally.counts, "examples": tally.examples}
    replace_file(_entry(tar, work), dump_line(_stamp(state, settled)) + b"\n" + dump_line(found))


def _is_kept(tar: Path, work: Path) -> bool:
    """Whether `work` has what this version of gaprun found in the shard as it is now."""
    try:
        with _entry(tar, work).open(encoding="utf-8") as file:
            return bool(json.loads(file.readline()) == _stamp(file_state(tar), True))
    except (OSError, ValueError):
        return False


def _stamp(state: list[int], settled: bool) -> dict[str, Any]:
    return {"version": __version__, "format": 2, "settled": settled, "state": state}


def _entry(tar: Path, work: Path) -> Path:
    return work / f"{tar.name}.jsonl"


def _joined(
    tars: Sequence[Path], work: Path, languages: Sequence[str], folder: Path, tally: Tally
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, list[int]]]:
    """The shards that have samples, all their lines with keys that are unique, and every shard's state when it was
    read."""
    shards: list[dict[str, Any]] = []
    lines: list[dict[str, Any]] = []
    states: dict[str, list[int]] = {}
    seen: set[str] = set()
    kept: dict[Path, dict[str, Any]] = {}
    for tar in tars:
        stamp, kept[tar] = map(json.loads, _entry(tar, work).read_text(encoding="utf-8").split("\n"))
        states[tar.name] = stamp["state"]
    counts = Counter(one for found in kept.values() for line in found["lines"] for one in line["languages"])
    keep = languages_to_keep(counts, languages, str(folder))
    for tar, found in kept.items():
        tally.join(found["report"], found["examples"])
        found["lines"] = [line for line in found["lines"] if _in_languages(line, keep, tar, tally)]
        found["shard"]["samples"] = len(found["lines"])
        for line in found["lines"]:
            if line["key"] in seen:  # shards that each count from 0 are common
                tally.add("repeated_key", f"{tar.name}: {line['key']}")
            line["key"] = _free_key(line["key"], tar.stem, seen)
            seen.add(line["key"])
            lines.append({"key": line.pop("key"), "shard": len(shards), **line})
        if found["lines"]:
            shards.append(found["shard"])
    return shards, lines, states


def _in_languages(line: dict[str, Any], keep: Collection[str] | None, tar: Path, tally: Tally) -> bool:
    """Leave in `line` the captions of the languages to keep, and say whether words remain of it, or had been none."""
    pairs = list(zip(line["captions"], line.pop("languages"), strict=True))
    line["captions"] = [caption for caption, language in pairs if keep is None or language in keep]
    left = len(pairs) - len(line["captions"])
    if left:
        tally.add("other_language", f"{tar.name}: {line['key']}", left)
    return not left or bool(line["captions"]) or line["label"] is not None


def _free_key(key: str, stem: str, seen: set[str]) -> str:
    """`key`, else `stem/key`, else `stem/2/key` and so on: the first that is not in `seen`."""
    free, count = key, 1
    while free in seen:
        free = f"{stem}/{key}" if count == 1 else f"{stem}/{count}/{key}"
        count += 1
    return free
