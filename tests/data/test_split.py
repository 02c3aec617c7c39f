"""Opening splits and reading samples: values, every kind of damage, threads, pickling, forks, helpful errors."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from gaprun.data.errors import DamagedSample
from gaprun.data.split import data_root, list_splits, open_split
from gaprun.errors import UserError
from gaprun.files import file_sha256


def test_a_split_gives_back_what_was_written(split_folder, make_picture):
    split = open_split("made/train", split_folder.parent.parent)
    kept = [i for i in range(21) if i % 7 != 6]
    assert (split.dataset, split.split, split.samples, len(split)) == ("made", "train", 18, 18)
    assert split.keys == [f"s{i:04d}" for i in kept]
    assert split.captions[3] == ["caption 0 of 3, é", "caption 1 of 3, é"]
    assert split.labels.dtype == np.int64 and split.labels.tolist() == [i % 3 for i in kept]
    assert split.sizes.tolist() == [[9, 8]] * 18
    assert split.classes == ["x", "y", "z"] and split.templates is None
    assert split.report == {"undecodable": 3}
    assert [split.read_image(k) for k in range(18)] == [make_picture(i, 9, 8) for i in kept]


def test_reads_agree_from_threads_a_fork_and_a_pickled_copy(split_folder):
    split = open_split(split_folder)
    wanted = [split.read_image(i) for i in range(split.samples)]
    order = list(np.random.default_rng(0).integers(0, split.samples, 400))
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(split.read_image, order)) == [wanted[i] for i in order]
    copy = pickle.loads(pickle.dumps(split))
    assert [copy.read_image(i) for i in range(copy.samples)] == wanted
    child = os.fork()
    if child == 0:
        os._exit(0 if [split.read_image(i) for i in range(split.samples)] == wanted else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_a_short_shard_names_the_sample_and_the_shard(split_folder):
    split = open_split(split_folder)
    shard = split.shards[0]
    os.truncate(shard, int(split.places[-1, 1]) + 5)
    assert split.read_image(0)
    with pytest.raises(DamagedSample, match=r"s0019.*00000.tar.*5 found") as caught:
        split.read_image(17)
    assert caught.value.key == "s0019" and caught.value.shard == str(shard)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (copy.key, copy.shard, copy.reason) == (caught.value.key, caught.value.shard, caught.value.reason)


def test_a_shard_removed_after_opening_is_damage_and_before_it_an_error(split_folder):
    split = open_split(split_folder)
    split.shards[0].unlink()
    with pytest.raises(DamagedSample, match="No such file"):
        split.read_image(0)
    with pytest.raises(UserError, match="lacks its shard 00000.tar"):
        open_split(split_folder)


def test_outside_the_samples_is_an_index_error(split_folder):
    split = open_split(split_folder)
    for i in (-1, 18):
        with pytest.raises(IndexError):
            split.read_image(i)


def test_an_absent_split_names_the_command_and_what_is_there(split_folder, tmp_path):
    assert list_splits(tmp_path) == ["made/train"]
    with pytest.raises(UserError, match=r"gaprun data coco.*") as caught:
        open_split("coco/train", tmp_path)
    assert "made/train" in str(caught.value) and "\n" not in str(caught.value)


def test_unindexed_and_unfinished_folders_say_what_to_do(tmp_path):
    (tmp_path / "x" / "train").mkdir(parents=True)
    (tmp_path / "x" / "train" / "0.tar").write_bytes(b"")
    with pytest.raises(UserError, match="gaprun data index"):
        open_split("x/train", tmp_path)
    (tmp_path / "y" / ".writing").mkdir(parents=True)
    with pytest.raises(UserError, match="not written to its end"):
        open_split("y", tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: "{", "cannot be read"),
        (lambda text: "[]", "was not written by gaprun"),
        (lambda text: text.replace('"format": 1', '"format": 99'), "format 99"),
        (lambda text: text.replace('"fingerprint"', '"fingreprint"'), "lacks fingerprint"),
        (lambda text: text.replace("00000.tar", "../00000.tar"), "outside its own folder"),
        (lambda text: text.replace("00000.tar", "/etc/passwd"), "outside its own folder"),
        (lambda text: text.replace('"dataset": "made"', '"dataset": "../made"'), "cannot be a name"),
        (lambda text: text.replace('"split": "train"', '"split": 3'), "cannot be a name"),
        (lambda text: text.replace('"samples": 18', '"samples": "many"'), "is no number"),
        (lambda text: text.replace('"sha256"', '"sha1"'), "without file, bytes and sha256"),
        (lambda text: text.replace('"classes": [', '"classes": [1,'), "not a list of texts"),
    ],
)
def test_a_bad_index_is_one_clear_error(split_folder, change, message):
    index = split_folder / "index.json"
    index.write_text(change(index.read_text()))
    with pytest.raises(UserError, match=message):
        open_split(split_folder)


def write_lines(split_folder, text):
    """Replace samples.jsonl, and its checksum in the index: lines that were wrong from the beginning."""
    (split_folder / "samples.jsonl").write_text(text)
    index = json.loads((split_folder / "index.json").read_text())
    index["samples_sha256"] = file_sha256(split_folder / "samples.jsonl")
    (split_folder / "index.json").write_text(json.dumps(index))


def test_sample_lines_that_do_not_match_are_an_error(split_folder):
    lines = split_folder / "samples.jsonl"
    write_lines(split_folder, "".join(lines.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(UserError, match="17 lines"):
        _ = open_split(split_folder).captions


@pytest.mark.parametrize("line", ["{", "[]", "{}", '{"key": 1, "captions": [], "label": "x"}'])
def test_broken_sample_lines_are_one_clear_error(split_folder, line):
    write_lines(split_folder, line)
    with pytest.raises(UserError, match="samples.jsonl cannot be read"):
        _ = open_split(split_folder).sizes


def test_a_sample_line_with_a_shard_that_is_none_is_an_error(split_folder):
    lines = split_folder / "samples.jsonl"
    write_lines(split_folder, lines.read_text().replace('"shard":0', '"shard":9', 1))
    with pytest.raises(UserError, match="names a shard that"):
        _ = open_split(split_folder).keys


def test_the_data_root_follows_the_environment(monkeypatch):
    monkeypatch.delenv("GAPRUN_DATA", raising=False)
    assert data_root() == Path("data")
    monkeypatch.setenv("GAPRUN_DATA", "/somewhere")
    assert data_root() == Path("/somewhere")


def test_reading_and_the_command_line_need_no_torch():
    code = (
        "import sys, gaprun.data.split, gaprun.data.decode, gaprun.data.write, gaprun.data.check, gaprun.cli.data;"
        "print(json := [n for n in ('torch', 'webdataset', 'torchvision', 'sklearn') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == json.dumps([])
