"""Writing splits: reproducible bytes, resuming after any crash, refusals, and what webdataset reads from them."""

from __future__ import annotations

import errno
import io
import itertools
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import gaprun.data.write as write
from gaprun.data.folder import locked
from gaprun.data.parallel import ordered_map
from gaprun.data.shards import safe_key
from gaprun.data.split import open_split
from gaprun.data.write import ItemOutcome, write_splits
from gaprun.errors import Failure, UserError


def contents(folder):
    """Bytes of everything but index.json's date and the note of the files' times."""
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    files.pop(".checked.json", None)
    index = json.loads(files.pop("index.json"))
    index.pop("created")
    return files, index


def same(one, other):
    """Whether two split folders are alike, their own names apart."""
    (files, index), (others, other_index) = contents(one), contents(other)
    for entry in (index, other_index):
        entry.pop("dataset")
    return files == others and index == other_index


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(write, "SHARD_SAMPLES", 5)


def test_shards_hold_the_samples_and_the_index_counts_them(tmp_path, make_plan):
    [(index, written)] = write_splits([make_plan(tmp_path / "d" / "train", 21)])
    assert written and index["samples"] == 18 and index["captions"] == 36
    assert [shard["samples"] for shard in index["shards"]] == [5, 5, 5, 3]
    assert index["report"] == {"undecodable": 3} and index["examples"] == {
        "undecodable": ["item6", "item13", "item20"]
    }
    files, _ = contents(tmp_path / "d" / "train")
    assert sorted(files) == ["00000.tar", "00001.tar", "00002.tar", "00003.tar", "samples.jsonl"]
    assert all(len(files[shard["file"]]) == shard["bytes"] for shard in index["shards"])
    split = open_split(tmp_path / "d" / "train")
    for i, (shard, offset, size) in enumerate(split.places):
        with tarfile.open(split.shards[shard]) as tar:
            member = tar.getmember(f"{split.keys[i]}.png")
            assert (member.offset_data, member.size, member.mtime) == (offset, size, 0)
            assert tar.extractfile(member).read() == split.read_image(i)
            meta = json.loads(tar.extractfile(f"{split.keys[i]}.json").read())
            assert meta == {
                "captions": split.captions[i],
                "label": split.labels[i],
                "id": int(split.keys[i][1:]),
            }


def test_webdataset_reads_every_sample_and_no_empty_one(tmp_path, make_plan):
    import webdataset

    write_splits([make_plan(tmp_path / "d" / "train", 21)])
    split = open_split(tmp_path / "d" / "train")
    urls = [str(shard) for shard in split.shards]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False))
    assert [sample["__key__"] for sample in samples] == split.keys
    for i, sample in enumerate(samples):
        assert {"png", "json", "txt"} <= sample.keys()
        assert sample["png"] == split.read_image(i)
        assert sample["txt"].decode() == split.captions[i][0]
        assert json.loads(sample["json"])["captions"] == split.captions[i]


def test_bytes_do_not_depend_on_workers_or_time(tmp_path, make_plan, monkeypatch):
    write_splits([make_plan(tmp_path / "a" / "train", 200)])
    monkeypatch.setattr(time, "time", lambda: 4e9)
    write_splits([make_plan(tmp_path / "b" / "train", 200)], workers=4)
    assert same(tmp_path / "a" / "train", tmp_path / "b" / "train")


@pytest.mark.parametrize("stop", range(0, 21, 2))
def test_an_interrupted_write_goes_on_and_ends_with_the_same_bytes(tmp_path, make_plan, stop):
    write_splits([make_plan(tmp_path / "whole" / "train", 21)])
    plan = make_plan(tmp_path / "part" / "train", 21)
    asked = []

    def failing(i):
        asked.append(i)
        if i == stop and failing.armed:
            raise KeyboardInterrupt
        return plan.make(i)

    failing.armed = True
    broken = write.SplitPlan(plan.folder, plan.items, failing, plan.source, classes=plan.classes)
    with pytest.raises(KeyboardInterrupt):
        write_splits([broken])
    assert not (plan.folder / "index.json").exists() and not list(plan.folder.glob("*.tmp"))
    with pytest.raises(UserError, match="not written to its end"):
        open_split(plan.folder)
    finished = len(list(plan.folder.glob("*.tar")))
    failing.armed, asked[:] = False, []
    write_splits([broken])
    assert same(tmp_path / "whole" / "train", plan.folder)
    assert not (plan.folder / ".writing").exists()
    kept = [i for i in range(21) if i % 7 != 6]
    assert asked[0] == (kept[5 * finished - 1] + 1 if finished else 0), "only what was missing is made again"


def test_a_killed_process_leaves_a_split_that_can_be_finished(tmp_path, make_plan):
    script = (
        "import sys, time, pathlib; sys.path.insert(0, sys.argv[2]); from conftest import plan_of\n"
        "import gaprun.data.write as w; w.SHARD_SAMPLES = 5\n"
        "plan = plan_of(pathlib.Path(sys.argv[1]), 60)\n"
        "slow = lambda i: (time.sleep(0.02), print(i, flush=True), plan.make(i))[2]\n"
        "w.write_splits([w.SplitPlan(plan.folder, plan.items, slow, plan.source, classes=plan.classes)])\n"
    )
    folder = tmp_path / "part" / "train"
    command = [sys.executable, "-c", script, str(folder), str(Path(__file__).parent)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if int(line) >= 33:
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (folder / "00003.tar").exists() and not (folder / "index.json").exists()
    write_splits([make_plan(folder, 60)])
    write_splits([make_plan(tmp_path / "whole" / "train", 60)])
    assert same(tmp_path / "whole" / "train", folder)


def test_a_finished_shard_that_was_changed_is_written_again(tmp_path, make_plan):
    plan = make_plan(tmp_path / "d" / "train", 21)

    def stop(i):
        if i == 13:
            raise KeyboardInterrupt
        return plan.make(i)

    with pytest.raises(KeyboardInterrupt):
        write_splits([write.SplitPlan(plan.folder, plan.items, stop, plan.source, classes=plan.classes)])
    (plan.folder / "00001.tar").write_bytes(b"torn")
    write_splits([plan])
    write_splits([make_plan(tmp_path / "whole" / "train", 21)])
    assert same(tmp_path / "whole" / "train", plan.folder)


def test_the_same_split_is_found_and_another_one_refused_unless_forced(tmp_path, make_plan):
    folder = tmp_path / "d" / "train"
    write_splits([make_plan(folder, 12)])
    shown = [path for path in folder.iterdir() if path.name != ".checked.json"]
    before = {path: path.stat().st_mtime_ns for path in shown}
    [(index, written)] = write_splits([make_plan(folder, 12)])
    assert not written and index["samples"] == 11
    with pytest.raises(UserError, match=r"count: 12 -> 5.*--force"):
        write_splits([make_plan(folder, 5)])
    assert before == {path: path.stat().st_mtime_ns for path in shown}
    (folder / "notes.txt").write_text("mine")
    write_splits([make_plan(folder, 5)], force=True)
    assert open_split(folder).samples == 5
    assert sorted(path.name for path in folder.iterdir() if path.name != ".checked.json") == [
        "00000.tar",
        "index.json",
        "notes.txt",
        "samples.jsonl",
    ]


def test_nothing_is_touched_when_a_later_split_is_refused(tmp_path, make_plan):
    write_splits([make_plan(tmp_path / "d" / "test", 5)])
    plans = [make_plan(tmp_path / "d" / "train", 5), make_plan(tmp_path / "d" / "test", 6)]
    with pytest.raises(UserError):
        write_splits(plans)
    assert not (tmp_path / "d" / "train").exists()


def test_an_unfinished_split_of_other_settings_is_refused_unless_forced(tmp_path, make_plan):
    folder = tmp_path / "d" / "train"
    (folder / ".writing").mkdir(parents=True)
    (folder / ".writing" / "plan.json").write_text('{"kind": "made", "count": 9}')
    with pytest.raises(UserError, match="unfinished split of other settings"):
        write_splits([make_plan(folder, 5)])
    write_splits([make_plan(folder, 5)], force=True)
    assert open_split(folder).samples == 5


def test_foreign_folders_and_files_are_refused_even_with_force(tmp_path, make_plan):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("precious")
    (tmp_path / "file").write_text("x")
    for name, message in (("full", "not empty"), ("file", "is a file"), ("file/below", "cannot write")):
        with pytest.raises(UserError, match=message):
            write_splits([make_plan(tmp_path / name, 5)], force=True)
    assert (tmp_path / "full" / "thesis.tex").read_text() == "precious"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("index.json", '{"mine": 1}'),
        ("index.json", '{"format": 1, "dataset": "x"}'),
        ("index.json", "<html>"),
        ("samples.jsonl", '{"key": "mine"}\n'),
        (".writing/plan.json", "mine"),
    ],
)
def test_force_spares_files_of_our_names_that_others_wrote(tmp_path, make_plan, name, text):
    folder = tmp_path / "d" / "train"
    for path, content in ((name, text), ("notes.txt", "precious")):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for force in (False, True):
        with pytest.raises(UserError, match=rf"{name} was not written by gaprun.*choose another --out"):
            write_splits([make_plan(folder, 5)], force=force)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_an_index_of_ours_that_was_damaged_can_be_replaced(tmp_path, make_plan):
    folder = tmp_path / "d" / "train"
    write_splits([make_plan(folder, 5)])
    (folder / "index.json").write_bytes((folder / "index.json").read_bytes()[:200])
    write_splits([make_plan(folder, 6)], force=True)
    assert open_split(folder).samples == 6


def test_a_set_without_usable_samples_leaves_nothing_behind(tmp_path, make_plan):
    plan = write.SplitPlan(
        tmp_path / "a" / "b", range(3), lambda i: ItemOutcome(None, ("undecodable",), f"x{i}.jpg"), {}
    )
    with pytest.raises(UserError, match=r"no usable picture.*undecodable 3.*x0.jpg"):
        write_splits([plan])
    with pytest.raises(UserError, match="no picture found"):
        write_splits([write.SplitPlan(tmp_path / "a" / "b", [], plan.make, {})])
    assert list(tmp_path.iterdir()) == []


def test_a_split_is_not_given_up_for_one_without_usable_samples(tmp_path, make_plan):
    folder = tmp_path / "d" / "train"
    write_splits([make_plan(folder, 5)])
    none = write.SplitPlan(folder, range(3), lambda i: ItemOutcome(None, ("undecodable",), f"x{i}.jpg"), {})
    with pytest.raises(UserError, match=r"no usable picture for .*, which stays as it is: undecodable 3"):
        write_splits([none], force=True)
    assert open_split(folder).samples == 5


def test_a_full_disk_is_a_failure_that_keeps_what_is_done(tmp_path, make_plan, monkeypatch):
    plan = make_plan(tmp_path / "d" / "train", 21)
    calls = itertools.count()
    sync = os.fsync

    def full(descriptor):
        if next(calls) == 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Failure, match="No space left"):
        write_splits([plan])
    assert (plan.folder / "00000.tar").exists() and not list(plan.folder.glob("*.tmp"))
    monkeypatch.undo()
    monkeypatch.setattr(write, "SHARD_SAMPLES", 5)
    write_splits([plan])
    assert open_split(plan.folder).samples == 18


def test_two_writers_do_not_meet(tmp_path, make_plan):
    folder = tmp_path / "d" / "train"
    (folder / ".writing").mkdir(parents=True)
    with locked(folder / ".writing" / "lock", folder):
        with pytest.raises(Failure, match="another process is writing"):
            write_splits([make_plan(folder, 5)])
    write_splits([make_plan(folder, 5)])


@pytest.mark.parametrize("finished", [True, False])
def test_force_takes_nothing_from_another_writer(tmp_path, make_plan, finished):
    """It cleared the folder before it asked for the lock, and the other's writing broke off."""
    folder = tmp_path / "d" / "train"
    write_splits([make_plan(folder, 5)])
    if not finished:
        (folder / "index.json").unlink()
    work = folder / ".writing"
    work.mkdir()
    with locked(work / "lock", folder):
        (work / "plan.json").write_text('{"of": "another"}')
        (work / "00001.tar.tmp").write_text("half")
        before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        with pytest.raises(Failure, match="another process is writing"):
            write_splits([make_plan(folder, 6)], force=True)
        assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    write_splits([make_plan(folder, 6)], force=True)
    assert open_split(folder).samples == 6 and not work.exists()


@given(st.text(max_size=120))
def test_keys_are_safe_in_any_tar(name):
    key = safe_key(name)
    assert key == safe_key(key) and 1 <= len(key) <= 80 and key.isascii()
    assert not set(key) & set("./\\ \0\n")
    header = tarfile.TarInfo(f"{key}-999.jpeg").tobuf(tarfile.PAX_FORMAT)
    assert len(header) == 512


def test_equal_names_get_different_keys():
    taken: set[str] = set()
    assert [safe_key(name, taken) for name in ("a/b", "a.b", "a b", "c")] == ["a_b", "a_b-2", "a_b-3", "c"]


def test_ordered_map_keeps_order_and_raises_in_turn():
    assert list(ordered_map(lambda i: i * i, range(1000), 4)) == [i * i for i in range(1000)]

    def fail(i):
        if i == 500:
            raise ValueError("at 500")
        return i

    got = []
    with pytest.raises(ValueError, match="at 500"):
        got.extend(iter(ordered_map(fail, range(1000), 3)))
    results = ordered_map(fail, range(1000), 3)
    assert [next(results) for _ in range(400)] == list(range(400))
    results.close()


def test_long_shards_are_cut_by_bytes_too(tmp_path, make_plan, monkeypatch):
    monkeypatch.setattr(write, "SHARD_BYTES", 1)
    [(index, _)] = write_splits([make_plan(tmp_path / "d" / "train", 4)])
    assert [shard["samples"] for shard in index["shards"]] == [1, 1, 1, 1]
    assert io.BytesIO(open_split(tmp_path / "d" / "train").read_image(2)).read(4) == b"\x89PNG"
