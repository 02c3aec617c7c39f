"""`data check` and `data index`: every kind of damage is found and named; foreign shards become splits."""

from __future__ import annotations

import io
import json
import tarfile
import time

import pytest

from gaprun.data.check import check_split, find_splits, shared_pictures
from gaprun.data.foreign import index_folder
from gaprun.data.split import open_split
from gaprun.data.tars import read_structure
from gaprun.data.write import write_splits
from gaprun.errors import UserError


def problems(folder):
    return [(one.shard, one.key, one.problem) for one in check_split(folder).damage]


def test_a_sound_split_has_no_damage_and_its_counts(split_folder):
    calls = []
    report = check_split(split_folder, workers=3, progress=lambda *counts: calls.append(counts))
    assert report.as_dict() == {
        "ok": True,
        "folder": str(split_folder),
        "samples": 18,
        "captions": 36,
        "checked": 18,
        "decoded": 18,
        "damage": [],
        "without_caption": 0,
        "repeated_pictures": 0,
        "repeated_captions": 0,
    }
    assert calls[-1] == (18, 18) and len(calls) == 18


def test_pictures_in_two_splits_are_counted(split_folder, tmp_path, make_plan):
    write_splits([make_plan(tmp_path / "made" / "test", 6)])
    reports = [check_split(tmp_path / "made" / name) for name in ("train", "test")]
    assert shared_pictures(reports) == [(str(split_folder), str(tmp_path / "made" / "test"), 6)]
    assert shared_pictures(reports[:1]) == []


def test_one_changed_pixel_byte_is_found_and_named(split_folder):
    split = open_split(split_folder)
    _, offset, size = split.places[4]
    content = bytearray(split.shards[0].read_bytes())
    content[offset + size // 2] ^= 255
    split.shards[0].write_bytes(content)
    found = problems(split_folder)
    assert found[0] == ("00000.tar", None, "its checksum differs from when it was written")
    assert [(shard, key) for shard, key, _ in found[1:]] == [("00000.tar", "s0004")]
    assert "does not decode" in found[1][2]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_cut_shard_names_every_lost_sample(split_folder, share):
    split = open_split(split_folder)
    whole = split.shards[0].read_bytes()
    cut = int(len(whole) * share)
    split.shards[0].write_bytes(whole[:cut])
    lost = [
        key for key, (_, offset, size) in zip(split.keys, split.places, strict=True) if offset + size > cut
    ]
    found = problems(split_folder)
    assert "bytes long" in found[0][2] and "broken tar" in found[1][2]
    assert set(lost) <= {key for _, key, _ in found[2:]}
    assert len(found) - 2 - len(lost) <= 1, "at most the sample whose caption lies behind the cut"


def test_missing_swapped_and_relabelled_parts_are_damage(split_folder):
    lines = (split_folder / "samples.jsonl").read_text().splitlines()
    first, second, third = (json.loads(line) for line in lines[:3])
    first["offset"], second["key"], third["label"] = second["offset"], first["key"], 7
    third["captions"] = ["of something else"]
    changed = [json.dumps(one) for one in (first, second, third)] + lines[3:]
    (split_folder / "samples.jsonl").write_text("\n".join(changed) + "\n")
    found = problems(split_folder)
    texts = " / ".join(problem for _, _, problem in found)
    for text in (
        "do not belong together",
        "used twice",
        "no such sample at its place",
        "label 7 of 3",
        "differs",
    ):
        assert text in texts
    (split_folder / "00000.tar").unlink()
    assert ("00000.tar", None, "the shard is missing, with 18 samples") in problems(split_folder)


def test_broken_indices_are_damage_not_exceptions(split_folder):
    samples, index = split_folder / "samples.jsonl", split_folder / "index.json"
    whole = samples.read_text()
    for content, text in (("{", "cannot be read"), ("{}\n", "lines without"), ("", "0")):
        samples.write_text(content)
        assert any(text in problem for _, _, problem in problems(split_folder))
    samples.write_text(whole)
    index.write_text("x")
    assert "cannot be read" in problems(split_folder)[0][2]
    index.unlink()
    (split_folder / ".writing").mkdir()
    assert problems(split_folder) == [(None, None, "it was not written to its end")]


def test_find_splits_takes_a_split_a_data_set_or_a_root(split_folder):
    for path in (split_folder, split_folder.parent, split_folder.parent.parent):
        assert find_splits(path) == [split_folder]
    with pytest.raises(UserError, match="no data split"):
        find_splits(split_folder / "absent")


def add(tar: tarfile.TarFile, name: str, data: bytes, kind: bytes = tarfile.REGTYPE) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.type = len(data), kind
    if kind == tarfile.SYMTYPE:
        member.size, member.linkname = 0, "/etc/passwd"
    tar.addfile(member, io.BytesIO(data))


@pytest.fixture
def foreign(tmp_path, make_picture):
    """Two shards as img2dataset and open_clip write them, with every kind of oddity."""
    folder = tmp_path / "cc" / "train"
    folder.mkdir(parents=True)
    with tarfile.open(folder / "00000.tar", "w") as tar:
        add(tar, "000000000.jpg", make_picture(0, kind="JPEG"))
        add(tar, "000000000.txt", b" a caption\n with spaces ")
        add(tar, "000000000.json", b'{"caption": "from  json", "url": "http://x"}')
        add(tar, "000000001.png", make_picture(1, 20, 10))
        add(tar, "000000001.txt", "é only text".encode())
        add(tar, "000000002.txt", b"no picture")
        add(tar, "000000003.jpg", b"broken")
        add(tar, "000000003.txt", b"x")
        add(tar, "000000004.webp", make_picture(4, kind="WEBP"))
        add(tar, "000000005.png", make_picture(8))
        add(tar, "000000005.json", b'{"caption": "from  json", "url": "http://x"}')
        add(tar, "../../escape.jpg", make_picture(5, kind="JPEG"))
        add(tar, "../../escape.txt", b"up")
        add(tar, "link.jpg", b"", tarfile.SYMTYPE)
        add(tar, "README", b"no extension")
    with tarfile.open(folder / "00001.tar", "w") as tar:
        add(tar, "000000000.jpeg", make_picture(6, kind="JPEG"))
        add(tar, "000000000.json", b'{"captions": ["one", "two"], "label": 3}')
        add(tar, "000000001.jpg", make_picture(7, 64, 64, kind="JPEG"))
        add(tar, "000000001.txt", b"cut off")
    return folder


def test_foreign_shards_become_a_split(foreign, make_picture, tmp_path):
    before = sorted(path.name for path in tmp_path.rglob("*"))
    index = index_folder(foreign, workers=2)
    assert index["report"] == {
        "caption_from_txt": 1,
        "caption_without_image": 1,
        "label_without_name": 1,
        "no_caption": 1,
        "repeated_key": 2,
        "stray_member": 2,
        "undecodable": 1,
    }
    split = open_split(foreign)
    assert (split.dataset, split.split, split.samples) == ("cc", "train", 7)
    assert split.captions == [
        ["a caption", "with spaces"],
        ["é only text"],
        [],
        ["from json"],
        ["up"],
        ["one", "two"],
        ["cut off"],
    ]
    assert split.labels.tolist() == [-1, -1, -1, -1, -1, 3, -1]
    assert split.keys[5:] == ["00001/000000000", "00001/000000001"]
    assert split.read_image(5) == make_picture(6, kind="JPEG") and split.sizes[1].tolist() == [20, 10]
    assert check_split(foreign).damage == []
    after = sorted(path.name for path in tmp_path.rglob("*") if path.name != ".checked.json")
    assert sorted(before + ["index.json", "samples.jsonl"]) == after, "nothing was unpacked"


@pytest.mark.parametrize("cut", [512 + 100, 1])
def test_a_truncated_foreign_shard_gives_what_lies_before(foreign, cut):
    shard = foreign / "00001.tar"
    place = read_structure(shard).groups[1].members["jpg"][0]
    shard.write_bytes(shard.read_bytes()[: place + cut])
    index = index_folder(foreign)
    assert index["report"]["truncated_shard"] == 1 and index["samples"] == 6
    assert "00001.tar" in index["examples"]["truncated_shard"][0]


def test_an_index_that_was_stopped_goes_on_where_it_was(foreign, monkeypatch):
    from gaprun.data import foreign as indexing

    time.sleep(0.1)  # what was written this instant is not taken for settled
    read, original = [], indexing.read_shard

    def watched(tar, tally, workers=1):
        read.append(tar.name)
        return original(tar, tally, workers)

    def stop(done, total):
        seen.append((done, total))
        if done:
            raise KeyboardInterrupt

    monkeypatch.setattr(indexing, "read_shard", watched)
    seen: list[tuple[int, int]] = []
    with pytest.raises(KeyboardInterrupt):
        index_folder(foreign, progress=stop)
    assert read == ["00000.tar"] and seen == [(0, 2), (1, 2)] and not (foreign / "index.json").exists()
    with pytest.raises(KeyboardInterrupt):
        index_folder(foreign, progress=stop)  # it begins with what is there
    assert read == ["00000.tar"] and seen[2:] == [(1, 2)]
    resumed = index_folder(foreign)
    assert read == ["00000.tar", "00001.tar"] and not (foreign / ".indexing").exists()
    whole = index_folder(foreign, force=True)
    assert len(read) == 4 and {**resumed, "created": None} == {**whole, "created": None}

    with pytest.raises(KeyboardInterrupt):
        index_folder(foreign, force=True, progress=stop)
    shard = foreign / "00000.tar"
    shard.write_bytes(shard.read_bytes() + bytes(512))  # another file now: it is read again
    (foreign / ".indexing" / "mine.txt").write_text("precious")
    index_folder(foreign, force=True)
    assert read[4:] == ["00000.tar", "00000.tar", "00001.tar"]
    assert [path.name for path in (foreign / ".indexing").iterdir()] == ["mine.txt"]


def test_an_index_is_replaced_only_when_asked_and_never_gapruns_own(foreign, split_folder):
    index_folder(foreign)
    with pytest.raises(UserError, match="--force"):
        index_folder(foreign)
    assert index_folder(foreign, force=True)["samples"] == 7
    with pytest.raises(UserError, match="belongs to it"):
        index_folder(split_folder, force=True)


def test_force_never_removes_shards_that_others_wrote(foreign, make_plan):
    index_folder(foreign)
    with pytest.raises(UserError, match="00000.tar, which gaprun did not write"):
        write_splits([make_plan(foreign, 5)], force=True)
    assert open_split(foreign).samples == 7


def test_folders_without_usable_shards_are_refused(tmp_path):
    with pytest.raises(UserError, match="is not a folder"):
        index_folder(tmp_path / "absent")
    with pytest.raises(UserError, match="no .tar shards"):
        index_folder(tmp_path)
    (tmp_path / "0.tar.gz").write_bytes(b"x")
    with pytest.raises(UserError, match="unpacked to .tar"):
        index_folder(tmp_path)
    (tmp_path / "0.tar.gz").unlink()
    (tmp_path / "0.tar").write_bytes(b"this is no tar")
    with pytest.raises(UserError, match="no usable picture.*truncated_shard 1"):
        index_folder(tmp_path)
    assert not (tmp_path / "index.json").exists()


def test_the_end_of_a_tar_is_checked(split_folder, tmp_path):
    whole = (split_folder / "00000.tar").read_bytes()
    assert read_structure(split_folder / "00000.tar").broken is None
    structure = read_structure(split_folder / "00000.tar")
    offset, size = structure.groups[-1].members["txt"]
    end = offset + 512 * -(-size // 512)
    copy = tmp_path / "copy.tar"
    for cut, complete in (
        (end + 512, True),
        (end, False),
        (end + 100, False),
        (offset - 512, False),
        (0, False),
    ):
        copy.write_bytes(whole[:cut])
        assert (read_structure(copy).broken is None) == complete
    damaged = bytearray(whole)
    damaged[structure.groups[5].members["png"][0] - 512 + 150] ^= 255
    copy.write_bytes(damaged)
    assert read_structure(copy).broken and len(read_structure(copy).groups) <= 6
