"""Checkpoints: written whole or not at all, loaded without running code, newest valid one wins.

A checkpoint is `step-00001200.pt` (tensors and plain values, `weights_only` loadable) beside
`step-00001200.json` (readable: step, sha256 of the file, weights hash). How both are read: gaprun/model/saved.py.

Both say whose the weights are: run, seed, recipe hash and the training data's fingerprints (FACTS). A checkpoint that
disagrees in any of them is never gone on from, nor removed.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gaprun.errors import Failure
from gaprun.files import file_sha256, write_atomically
from gaprun.model.saved import FORMAT, intact_note, read_note, weights_hash
from gaprun.recipe.identity import hash_of
from gaprun.store.folders import WORDS

FACTS = ("run", "seed", "recipe_hash", "data")
_HALF = re.compile(r"\.step-\d+\.(?:pt|json)\.\d+")  # files.write_atomically


def save_checkpoint(folder: Path, state: dict[str, Any], keep: int) -> tuple[Path, str]:
    """Write `state` (with key `step`) to `folder`, drop all but the newest `keep`; returns path and weights hash.

    Only intact checkpoints of the same run count and are dropped. Raises Failure (a full disk, say) with the earlier
    checkpoints untouched.
    """
    path = folder / f"step-{state['step']:08d}.pt"
    identity = weights_hash(state["clip"], state["head"])
    facts = {name: state[name] for name in FACTS if name in state}
    said = {"step": state["step"], "weights_hash": identity} | facts
    before = intact_note(path)
    _sweep(folder)
    if before is None or any(before.get(name) != value for name, value in said.items()):
        _write_both(path, state, said)
    _prune(folder, facts, keep)
    return path, identity


def _sweep(folder: Path) -> None:
    """Remove what a process that was killed while it saved left half written; one process at a time is at a run."""
    for path in folder.glob(".step-*"):
        if _HALF.fullmatch(path.name):
            path.unlink(missing_ok=True)


def _write_both(path: Path, state: dict[str, Any], said: dict[str, Any]) -> None:
    """The note is there before the file: a kill in between leaves no weights of which nobody knows whose they are."""
    note_path = path.with_suffix(".json")

    def write(target: Path) -> None:
        _save({"format": FORMAT, **state}, target)
        note = said | {"sha256": file_sha256(target), "code": state.get("code", [])}
        written = torch.load(target, map_location="cpu", weights_only=True, mmap=True)
        if weights_hash(written["clip"], written["head"]) != said["weights_hash"]:
            raise OSError("what is on the disk is not what was written")
        write_atomically(note_path, lambda place: place.write_text(json.dumps(note, indent=1)))

    free = False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():  # damaged, or another's: not ours to delete
            for old in (path, note_path):
                if old.exists():
                    old.replace(_aside(old))
        free = True  # what stands under these names from here on is ours
        write_atomically(path, write)
    except (OSError, RuntimeError) as error:
        with suppress(OSError):  # a disk that cannot be written lets nothing be removed either
            for own in (path, note_path) if free else ():
                own.unlink(missing_ok=True)
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise Failure(
            f"{path}: could not be written ({reason}); earlier checkpoints are kept, and the same command goes on from "
            "the newest"
        ) from None


def _save(state: dict[str, Any], target: Path) -> None:
    try:
        torch.save(state, target)
    except RuntimeError:  # torch's archive only says at which byte it stopped
        if shutil.disk_usage(target.parent).free < 2**20:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from None
        raise


def _aside(path: Path) -> Path:
    names = (path.with_name(f"{path.name}.aside{number}") for number in range(1, 1000))
    return next(name for name in names if not name.exists())


def _prune(folder: Path, facts: dict[str, Any], keep: int) -> None:
    own = []
    for path in sorted(folder.glob("step-*.pt"), reverse=True):
        if intact_note(path) is not None and not other_facts(_said(path), facts):
            own.append(path)
    for old in own[keep:]:
        old.unlink(missing_ok=True)
        old.with_suffix(".json").unlink(missing_ok=True)


class CheckpointWriter:
    """Writes checkpoints of one run in the background: the steps wait only for the copy in memory."""

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder, self.keep = folder, keep
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future[tuple[Path, str]] | None = None

    def save(self, state: dict[str, Any]) -> None:
        """Copy `state` and write it; raises the Failure of the write before, if that failed."""
        self.wait()
        self._pending = self._thread.submit(save_checkpoint, self.folder, _snapshot(state), self.keep)

    def wait(self) -> tuple[Path, str] | None:
        """Wait until the last `save` is on disk; returns its path and weights hash. Raises its Failure."""
        pending, self._pending = self._pending, None
        return pending.result() if pending is not None else None

    def close(self) -> None:
        """Finish what is under way without raising."""
        self._thread.shutdown(wait=True)


def _snapshot(value: Any) -> Any:
    """A copy on the CPU that later steps do not change."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return type(value)((key, _snapshot(item)) for key, item in value.items())
    if isinstance(value, list | tuple):
        return type(value)(_snapshot(item) for item in value)
    return value


def own_checkpoint(folder: Path, facts: dict[str, Any]) -> tuple[Path | None, list[str]]:
    """The newest undamaged checkpoint in `folder` that is of `facts`, and a line for each that was passed over."""
    passed: list[str] = []
    for path in sorted(folder.glob("step-*.pt"), reverse=True):
        if intact_note(path) is None:
            passed.append(f"{path.name} is damaged and is not used")
        elif other := other_facts(_said(path), facts):
            passed.append(f"{path.name} is of another {other} and is not used, nor deleted")
        else:
            return path, passed
    return None, passed


def other_facts(said: dict[str, Any], facts: dict[str, Any]) -> str:
    """In what a checkpoint, which says `said` of itself, is of another run than `facts`; "" where it is of this one."""
    for name, value in facts.items():
        if name in said and said[name] != value:
            return f"{WORDS[name]} ({said[name]})" if name in ("run", "seed") else WORDS[name]
    return ""


def _said(path: Path) -> dict[str, Any]:
    """What an intact checkpoint says of itself: its note, or the content where an earlier gaprun wrote the note."""
    note = read_note(path) or {}
    if "run" in note:
        return note
    try:
        return own_facts(torch.load(path, map_location="cpu", weights_only=True, mmap=True))
    except Exception:
        return {"run": "?"}  # not a checkpoint of ours


def own_facts(content: dict[str, Any]) -> dict[str, Any]:
    """The facts that a checkpoint's content states; those of earlier versions say nothing about the data."""
    facts = {name: content[name] for name in FACTS if name in content}
    return {"recipe_hash": hash_of(json.loads(content["recipe"]))} | facts
