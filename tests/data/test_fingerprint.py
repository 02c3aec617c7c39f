"""A split is its content: any one change gives another fingerprint or a refusal by name, and opening stays cheap."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import gaprun.data.identity as identity
from gaprun.data.check import check_split
from gaprun.data.foreign import index_folder
from gaprun.data.shards import Sample
from gaprun.data.split import open_split
from gaprun.data.write import ItemOutcome, SplitPlan, write_splits
from gaprun.errors import UserError
from tests.data.conftest import picture_bytes

CONTENT = {
    "captions": [["a dog", "an animal"], ["a cat"], ["a cow"]],
    "labels": [0, 1, 1],
    "pixels": [1, 2, 3],
    "keys": ["a", "b", "c"],
    "classes": ["dog", "other"],
    "templates": ["a photo of {}."],
}


def write(folder: Path, content: dict, force: bool = False) -> str:
    """Write a split of `content`; its fingerprint."""

    def make(i: int) -> ItemOutcome:
        picture = picture_bytes(content["pixels"][i], 9, 8)
        return ItemOutcome(
            Sample(content["keys"][i], picture, "png", 9, 8, content["captions"][i], content["labels"][i], i)
        )

    words = {"classes": content["classes"], "templates": content["templates"]}
    write_splits([SplitPlan(folder, range(3), make, {"content": repr(content)}, **words)], force=force)
    return open_split(folder).fingerprint


CHANGES = {
    "a caption": ("captions", [["a dog", "an animal"], ["a cat"], ["a horse"]]),
    "an owner": ("captions", [["a dog"], ["an animal", "a cat"], ["a cow"]]),
    "the captions' order": ("captions", [["an animal", "a dog"], ["a cat"], ["a cow"]]),
    "a label": ("labels", [0, 0, 1]),
    "no label": ("labels", [0, None, 1]),
    "a picture": ("pixels", [1, 2, 4]),
    "a key": ("keys", ["a", "b", "d"]),
    "a class name": ("classes", ["wolf", "other"]),
    "the names' order": ("classes", ["other", "dog"]),
    "a template": ("templates", ["a picture of {}."]),
    "another template": ("templates", ["a photo of {}.", "{}"]),
    "no templates": ("templates", None),
    "no classes": ("classes", None),
}


@pytest.mark.parametrize("what", CHANGES)
def test_any_one_changed_field_is_another_fingerprint(tmp_path, what):
    name, value = CHANGES[what]
    assert write(tmp_path / "one", CONTENT) == write(tmp_path / "two", CONTENT), "nothing else counts"
    assert write(tmp_path / "two", CONTENT | {name: value}, force=True) != write(tmp_path / "one", CONTENT)


def test_class_names_do_not_run_into_templates():
    pairs = [
        (["a", "b"], None),
        (["a"], ["b"]),
        (None, ["a", "b"]),
        (['a","b'], None),
        ([], None),
        (None, []),
    ]
    prints = {identity.fingerprint(["s"], "l", *pair) for pair in [*pairs, (None, None)]}
    assert len(prints) == 7


def test_without_class_names_it_is_the_fingerprint_of_earlier_versions():
    import hashlib

    assert identity.fingerprint(["1", "2"], "3") == hashlib.sha256(b"1\n2\n3").hexdigest()


def settled(folder: Path) -> None:
    """Wait until the files' times lie behind, and open once, so that the checksums are noted."""
    time.sleep(0.06)
    open_split(folder)


@pytest.mark.parametrize("noted", [False, True])
@given(data=st.data())
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_one_changed_byte_of_any_file_is_refused_by_name_or_is_other_data(tmp_path, noted, data):
    folder = tmp_path / "d" / "train"
    before = write(folder, CONTENT, force=True)
    if noted:
        settled(folder)
    name = data.draw(st.sampled_from(["00000.tar", "samples.jsonl"]))
    content = bytearray((folder / name).read_bytes())
    mark = range(265, 297) if name == "00000.tar" else ()  # by which --force knows our own shards
    place = data.draw(st.integers(0, len(content) - 1).filter(lambda place: place not in mark))
    content[place] ^= data.draw(st.integers(1, 255))
    stat = (folder / name).stat()
    (folder / name).write_bytes(content)
    os.utime(folder / name, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # as a copy that keeps times would
    with pytest.raises(UserError, match=name) as caught:
        open_split(folder)
    assert "checksum differs" in str(caught.value) and "--force" in str(caught.value)
    assert check_split(folder).damage
    with pytest.raises(UserError, match=name):
        write(folder, CONTENT)
    assert write(folder, CONTENT, force=True) == before


def test_a_shard_of_equal_layout_from_another_split_is_refused(tmp_path):
    write(tmp_path / "one", CONTENT)
    write(tmp_path / "two", CONTENT | {"captions": [["a dog", "an animal"], ["a cat"], ["a pig"]]})
    settled(tmp_path / "one")
    shutil.copy2(tmp_path / "two" / "00000.tar", tmp_path / "one" / "00000.tar")
    with pytest.raises(UserError, match="00000.tar was replaced or damaged .its checksum differs"):
        open_split(tmp_path / "one")
    index_folder_of_foreign(tmp_path)


def index_folder_of_foreign(tmp_path: Path) -> None:
    """The same for shards that others wrote: the way out is a new index, after which they are other data."""
    for name in ("one", "two"):
        (tmp_path / f"f{name}").mkdir()
        shutil.copy(tmp_path / "two" / "00000.tar", tmp_path / f"f{name}")
    index_folder(tmp_path / "fone")
    old = open_split(tmp_path / "fone").fingerprint
    write(tmp_path / "three", CONTENT)
    shutil.copy(tmp_path / "three" / "00000.tar", tmp_path / "fone")
    with pytest.raises(UserError, match="gaprun data index --force"):
        open_split(tmp_path / "fone")
    index_folder(tmp_path / "fone", force=True)
    assert open_split(tmp_path / "fone").fingerprint != old


def test_class_names_edited_in_the_index_are_other_data_and_the_check_says_so(tmp_path):
    before = write(tmp_path / "one", CONTENT)
    path = tmp_path / "one" / "index.json"
    path.write_text(path.read_text().replace('"dog"', '"wolf"'))
    assert open_split(tmp_path / "one").fingerprint != before
    assert ["index.json was changed" in one.problem for one in check_split(tmp_path / "one").damage] == [True]


def test_opening_reads_a_shard_again_only_when_its_file_changed(tmp_path, monkeypatch):
    folder = tmp_path / "one"
    fingerprint = write(folder, CONTENT)
    settled(folder)
    read: list[str] = []
    hashed = identity.file_sha256
    monkeypatch.setattr(identity, "file_sha256", lambda path: read.append(path.name) or hashed(path))
    assert open_split(folder).fingerprint == fingerprint and read == []
    os.utime(folder / "00000.tar")
    time.sleep(0.06)
    assert open_split(folder).fingerprint == fingerprint and read == ["00000.tar"]
    assert open_split(folder).fingerprint == fingerprint and read == ["00000.tar"], "noted again"
    (folder / identity.RECORD).write_text("{")
    assert open_split(folder).fingerprint == fingerprint and sorted(read[1:]) == [
        "00000.tar",
        "samples.jsonl",
    ]
    shutil.copytree(folder, tmp_path / "copy")
    assert open_split(tmp_path / "copy").fingerprint == fingerprint and len(read) == 5, "a copy is read once"


@pytest.mark.parametrize("others", ["no note", "an old note"])
def test_a_read_only_folder_is_noted_in_the_users_cache(tmp_path, monkeypatch, others):
    """Also where its owner's note is of before a change of the files: it hid the user's own, and all was read again."""
    folder = tmp_path / "one"
    write(folder, CONTENT)
    (folder / identity.RECORD).unlink(missing_ok=True)
    if others == "an old note":
        settled(folder)
        assert (folder / identity.RECORD).exists()
        os.utime(folder / "00000.tar")
        time.sleep(0.06)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    real = identity.write_atomically

    def refuse(path: Path, write: object) -> None:
        if path.parent == folder:
            raise PermissionError(13, "Permission denied")
        real(path, write)

    monkeypatch.setattr(identity, "write_atomically", refuse)
    settled(folder)
    monkeypatch.setattr(identity, "file_sha256", lambda path: pytest.fail(f"{path} was read again"))
    open_split(folder)
    assert len(list((tmp_path / "cache").rglob("*.json"))) == 1


def test_a_split_of_an_earlier_version_opens_and_is_checked(tmp_path):
    folder = tmp_path / "one"
    write(folder, CONTENT)
    index = json.loads((folder / "index.json").read_text())
    samples = index.pop("samples_sha256")
    del index["shared_captions"]
    index["fingerprint"] = identity.fingerprint([index["shards"][0]["sha256"]], samples)
    (folder / "index.json").write_text(json.dumps(index))
    (folder / identity.RECORD).unlink(missing_ok=True)
    assert open_split(folder).captions == CONTENT["captions"] and check_split(folder).damage == []
    assert open_split(folder).fingerprint != index["fingerprint"], "class names belong to the data now"
    lines = folder / "samples.jsonl"
    lines.write_text(lines.read_text().replace("a cow", "a pig"))
    with pytest.raises(UserError, match=r"samples.jsonl was changed"):
        open_split(folder)


def test_captions_of_several_pictures_are_counted(tmp_path):
    captions = [["a dog", "a dog", "an animal"], ["a cat"], ["an animal"]]
    write(tmp_path / "one", CONTENT | {"captions": captions})
    index = json.loads((tmp_path / "one" / "index.json").read_text())
    assert index["shared_captions"] == 2, "twice `an animal`; `a dog` stands at one picture only"


def test_pictures_changed_after_writing_are_not_taken_for_the_old_ones(tmp_path):
    from PIL import Image

    from gaprun.data.captioned import captioned_plans
    from gaprun.data.division import Division
    from gaprun.data.folders import Folders
    from gaprun.data.tables import Entry

    (tmp_path / "p").mkdir()
    Image.new("RGB", (16, 16), "red").save(tmp_path / "p" / "a.bmp")

    def plans():
        folders, entries = Folders([tmp_path / "p"]), [Entry("a.bmp", ["one"])]
        return captioned_plans("captions", tmp_path / "out", entries, folders, Path("c"), Division())

    time.sleep(0.02)
    write_splits(plans())
    assert [written for _, written in write_splits(plans())] == [False]
    time.sleep(0.02)
    Image.new("RGB", (16, 16), "blue").save(tmp_path / "p" / "a.bmp")  # as many bytes as before
    with pytest.raises(UserError, match="pictures were changed after"):
        write_splits(plans())
    before = open_split(tmp_path / "out" / "train").fingerprint
    write_splits(plans(), force=True)
    assert open_split(tmp_path / "out" / "train").fingerprint != before
