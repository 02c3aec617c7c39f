"""Faults have a defined end and keep what was trained: damaged pictures, lost shards, full disks, locked databases."""

import json
import shutil
import sqlite3
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from gaprun.data.identity import fingerprint
from gaprun.data.split import open_split
from gaprun.errors import Failure, UserError
from gaprun.files import file_sha256
from gaprun.model.saved import newest_checkpoint
from gaprun.store import open_store
from gaprun.training import checkpoint
from tests.training.conftest import METHODS, RunSmall

STREAM = ("data.cache=none", "data.workers=0")


@pytest.fixture
def copied(scenes: Path, tmp_path: Path, run_small: RunSmall, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An own copy of the data, to be damaged."""
    shutil.copytree(scenes, tmp_path / "own")
    monkeypatch.setenv("GAPRUN_DATA", str(tmp_path / "own"))
    return tmp_path / "own"


def damage(root: Path, samples: list[int]) -> None:
    """Zero these pictures' bytes and write the index for the shards as they then are: no picture, but the content."""
    split = open_split("scenes/train", root)
    for sample in samples:
        shard, offset, size = split.places[sample]
        with split.shards[shard].open("r+b") as file:
            file.seek(int(offset))
            file.write(b"\0" * int(size))
    place = split.path / "index.json"
    index = json.loads(place.read_text())
    for shard, path in zip(index["shards"], split.shards, strict=True):
        shard["sha256"] = file_sha256(path)
    hashes = [shard["sha256"] for shard in index["shards"]]
    index["fingerprint"] = fingerprint(hashes, file_sha256(split.path / "samples.jsonl"))
    place.write_text(json.dumps(index))


def ended(tmp_path: Path):
    store = open_store(str(tmp_path / "a" / "results.db"))
    return store, store.runs()[0]


@pytest.mark.parametrize("workers", [0, 2])
def test_one_damaged_picture_is_counted_and_does_not_end_the_run(
    workers: int, copied: Path, run_small: RunSmall, tmp_path: Path
) -> None:
    damage(copied, [40])
    run_small("baseline", "data.cache=none", f"data.workers={workers}")
    _, run = ended(tmp_path)
    assert run.status == "finished" and len(run.notes["damaged"]) == 1
    assert "train-000040" in run.notes["damaged"][0] and "00000.tar" in run.notes["damaged"][0]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_replaces_a_damaged_picture(
    method: str, copied: Path, run_small: RunSmall, tmp_path: Path
) -> None:
    damage(copied, [40])
    run_small(method, *STREAM)
    _, run = ended(tmp_path)
    assert run.status == "finished" and len(run.notes["damaged"]) == 1


def test_too_much_damage_stops_names_the_shards_and_saves(
    copied: Path, run_small: RunSmall, tmp_path: Path
) -> None:
    damage(copied, [10, 60, 90, 150, 200])
    with pytest.raises(Failure, match=r"more than data.damage_budget allows \(1\).*00000.tar"):
        run_small("baseline", *STREAM)
    store, run = ended(tmp_path)
    assert run.status == "failed" and "damage_budget" in run.error
    newest_checkpoint(store.artifacts / run.id / "checkpoints")
    job, store = run_small("baseline", *STREAM, "data.damage_budget=0.05")
    assert store.runs()[0].status == "finished" and len(store.runs()[0].notes["damaged"]) == 5


def test_a_truncated_shard_loses_only_what_was_cut_off(
    copied: Path, run_small: RunSmall, tmp_path: Path, monkeypatch
) -> None:
    from gaprun.data.stream import LoadBatch

    split = open_split("scenes/train", copied)
    last = max(range(split.samples), key=lambda i: tuple(split.places[i][:2]))
    shard, offset, size = split.places[last]
    original = LoadBatch.__getitem__

    def cut(self, step: int):
        if step == 1:  # before the first epoch reaches it, and after the data were checked
            with split.shards[shard].open("r+b") as file:
                file.truncate(int(offset + size // 2))
        return original(self, step)

    monkeypatch.setattr(LoadBatch, "__getitem__", cut)
    run_small("baseline", *STREAM)
    _, run = ended(tmp_path)
    assert run.status == "finished" and len(run.notes["damaged"]) == 1
    assert split.keys[last] in run.notes["damaged"][0] and split.shards[shard].name in run.notes["damaged"][0]
    with pytest.raises(UserError, match=f"{split.shards[shard].name} was replaced or damaged"):
        run_small("baseline", *STREAM, db="later")


def test_a_vanished_shard_stops_and_is_named(
    copied: Path, run_small: RunSmall, tmp_path: Path, monkeypatch
) -> None:
    from gaprun.training.state import TrainState

    original = TrainState.train_step

    def vanish(self, batch, measure):
        if self.step == 6:
            for shard in (copied / "scenes" / "train").glob("*.tar"):
                shard.write_bytes(b"")  # as a server that lost the file: the open descriptor reads nothing
        return original(self, batch, measure)

    monkeypatch.setattr(TrainState, "train_step", vanish)
    with pytest.raises(Failure, match="00000.tar"):
        run_small("baseline", *STREAM)
    store, run = ended(tmp_path)
    assert run.status == "failed"
    assert newest_checkpoint(store.artifacts / run.id / "checkpoints")[0].name >= "step-00000006.pt"


def test_a_full_disk_at_a_checkpoint_keeps_the_one_before(
    run_small: RunSmall, tmp_path: Path, monkeypatch
) -> None:
    whole = run_small("baseline", db="whole")[1].runs()[0].checkpoint_hash
    original, saved = torch.save, []

    def full(content, target):
        saved.append(content["step"])
        if content["step"] > 5:
            Path(target).write_bytes(b"half")
            monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda folder: SimpleNamespace(free=0))
            # As torch's archive says it: not that the disk is full.
            raise RuntimeError(
                "[enforce fail at inline_container.cc:672] . unexpected pos 7914176 vs 7914064"
            )
        original(content, target)

    monkeypatch.setattr(checkpoint.torch, "save", full)
    with pytest.raises(Failure, match="No space left on device.*earlier checkpoints are kept"):
        run_small("baseline")
    store, run = ended(tmp_path)
    folder = store.artifacts / run.id / "checkpoints"
    assert run.status == "failed" and "No space left" in run.error
    assert sorted(path.name for path in folder.iterdir()) == ["step-00000005.json", "step-00000005.pt"]
    monkeypatch.setattr(checkpoint.torch, "save", original)
    assert run_small("baseline")[1].runs()[0].checkpoint_hash == whole


def test_a_killed_loader_process_ends_cleanly_and_resumes(
    run_small: RunSmall, tmp_path: Path, monkeypatch
) -> None:
    import os
    import signal

    from gaprun.data.stream import LoadBatch

    whole = run_small("baseline", *STREAM, db="whole")[1].runs()[0].checkpoint_hash
    original = LoadBatch.__getitem__

    def killed(self, step: int):
        if step == 7:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(self, step)

    monkeypatch.setattr(LoadBatch, "__getitem__", killed)
    with pytest.raises(Failure, match="a loader process was killed"):
        run_small("baseline", "data.cache=none", "data.workers=2")
    monkeypatch.setattr(LoadBatch, "__getitem__", original)
    store, run = ended(tmp_path)
    assert run.status == "failed" and newest_checkpoint(store.artifacts / run.id / "checkpoints")
    resumed = run_small("baseline", "data.cache=none", "data.workers=2")[1]
    assert resumed.runs()[0].checkpoint_hash == whole


def test_a_locked_database_is_waited_for(run_small: RunSmall, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    open_store(str(tmp_path / "a" / "results.db"))
    blocker = sqlite3.connect(tmp_path / "a" / "results.db", check_same_thread=False, isolation_level=None)

    def hold(event) -> None:
        if event.phase == "train" and not held:
            held.append(1)
            blocker.execute("BEGIN IMMEDIATE")
            threading.Timer(2.0, lambda: blocker.execute("ROLLBACK")).start()

    held: list[int] = []
    start = time.monotonic()
    _, store = run_small("baseline", "schedule.steps=24", report=hold)
    assert held and time.monotonic() - start > 1.5
    assert store.runs()[0].status == "finished" and len(store.trajectory(store.runs()[0].id)) == 24
