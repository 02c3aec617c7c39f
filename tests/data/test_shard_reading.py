"""What foreign shards mean: keys by WebDataset's rule, repeated names, captions, labels, class names beside."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gaprun.data.check import check_split
from gaprun.data.foreign import index_folder
from gaprun.data.linked import expand, link_shards
from gaprun.data.split import open_split
from gaprun.data.tars import read_structure
from gaprun.data.words import sample_words
from gaprun.errors import UserError
from tests.data.conftest import picture_bytes

Members = list[tuple[str, bytes]]


def write_tar(path: Path, members: Members) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def jpg(number: int) -> bytes:
    return picture_bytes(number, 8, 8, kind="JPEG")


def indexed(folder: Path, *shards: Members):
    """The index and the split of `shards`; our own check finds nothing wrong with it."""
    for number, members in enumerate(shards):
        write_tar(folder / f"{number}.tar", members)
    index = index_folder(folder, force=True)
    assert check_split(folder).damage == []
    return index, open_split(folder)


def test_several_captions_stand_one_a_line(tmp_path):
    members = [
        ("a.jpg", jpg(0)),
        ("a.txt", b"\xef\xbb\xbfone dog\r\ntwo  dogs\r\n\r\n"),
        ("b.jpg", jpg(1)),
        ("b.txt", b"x"),
    ]
    index, split = indexed(tmp_path / "t", members)
    assert split.captions == [["one dog", "two dogs"], ["x"]] and (index["captions"], index["report"]) == (
        3,
        {},
    )


@pytest.mark.parametrize(
    ("texts", "captions", "reasons"),
    [
        ({"txt": b"a\nb", "json": b'{"caption": "a b"}'}, ["a b"], []),
        ({"txt": b"a\nb", "json": b'{"caption": "c"}'}, ["a", "b"], ["caption_from_txt"]),
        ({"txt": b"a\nb", "json": b'{"caption": "b"}'}, ["a", "b"], []),
        ({"txt": b"a", "json": b'{"captions": ["a", "b"]}'}, ["a", "b"], []),
        ({"txt": b"z", "json": b'{"captions": ["a", "b", ""]}'}, ["a", "b"], ["caption_from_json"]),
        ({"txt": b"z", "json": b'{"captions": []}'}, ["z"], []),
        ({"json": b'{"text": " a  b "}'}, ["a b"], []),
        ({"txt": b"a", "json": b"{"}, ["a"], ["undecodable_json"]),
        ({"txt": b"a", "json": b"[" * 100_000}, ["a"], ["undecodable_json"]),
        ({"txt": b"caf\xe9"}, [], ["undecodable_caption"]),
        ({"txt": "é".encode("utf-16")}, ["é"], []),
        ({"txt": b"a\0b"}, [], ["undecodable_caption"]),
        ({"json": b'{"caption": ["a", "b"]}', "txt": b"a"}, ["a", "b"], []),
        ({"json": b'{"text": ["a", "b"]}'}, ["a", "b"], []),
        ({"json": b'{"captions": "a"}'}, ["a"], []),
        ({"json": b'{"caption": "a", "text": ["ocr", "words"]}'}, ["a"], ["other_caption"]),
        ({"json": b'["a", "b"]'}, ["a", "b"], []),
        ({"json": b'"a"'}, ["a"], []),
        ({"json": b"7"}, [], ["undecodable_json"]),
        ({"json": b'{"captions": [{"caption": "a", "id": 1}, {"raw": "b"}]}'}, ["a", "b"], []),
        ({"json": b'{"sentences": [{"tokens": ["a"], "raw": "a b"}]}'}, ["a b"], []),
        ({"json": b'{"alt": "a", "url": "u"}'}, [], ["json_without_caption"]),
        ({"json": b'{"alt": "a", "label": 1}'}, [], []),
        ({"json": b'{"captions": {"en": ["a"], "de": ["b"]}}'}, [], ["json_without_caption"]),
        ({"json": b'{"caption": 3}'}, [], ["json_without_caption"]),
        ({"json": b'{"caption": null, "text": ""}'}, [], []),
        ({"txt": b"['a', 'b']"}, ["a", "b"], ["listed_captions"]),
        ({"json": b'{"caption": "[\\"a\\", \\"b\\"]"}'}, ["a", "b"], ["listed_captions"]),
        ({"json": b'{"captions": ["a\\u0000", "\\ud800", 3, "ok"]}'}, ["ok"], ["undecodable_caption"] * 3),
    ],
)
def test_which_member_gives_the_captions(texts, captions, reasons):
    words = sample_words(texts)
    assert (words.captions, words.reasons) == (captions, reasons)


@pytest.mark.parametrize(
    ("texts", "label", "reasons"),
    [
        ({"cls": b" 7\n"}, 7, []),
        ({"cls": "²".encode()}, None, ["unreadable_label"]),
        ({"cls": b"cat"}, None, ["unreadable_label"]),
        ({"cls": b"-1"}, None, ["unreadable_label"]),
        ({"cls": b"9999999999"}, None, ["unreadable_label"]),
        ({"json": b'{"label": true}'}, None, ["unreadable_label"]),
        ({"json": b'{"label": 2}', "cls": b"3"}, 2, ["label_from_json"]),
        ({"json": b'{"label": 3}', "cls": b"3"}, 3, []),
        ({"json": b'{"label": "3"}'}, 3, []),
        ({"json": b'{"label": 3.0}'}, 3, []),
        ({"json": b'{"label": 3.5}'}, None, ["unreadable_label"]),
        ({"json": b'{"label": "cat"}', "cls": b"3"}, None, ["unreadable_label"]),
        ({"json": b'{"label": null}', "cls": b"3"}, 3, []),
    ],
)
def test_which_member_gives_the_label(texts, label, reasons):
    words = sample_words(texts)
    assert (words.label, words.reasons) == (label, reasons)


@pytest.mark.parametrize(
    ("beside", "captions", "report"),
    [
        (["10.txt", "2.txt", "1.txt"], ["1.txt", "2.txt", "10.txt"], {"caption_from_other": 1}),
        (["txt0", "txt1"], ["txt0", "txt1"], {"caption_from_other": 1}),
        (["caption"], ["caption"], {"caption_from_other": 1}),
        (["jpg.txt"], ["jpg.txt"], {"caption_from_other": 1}),
        (["txt", "1.txt"], ["txt"], {"unread_text": 1}),
        (["ocr.txt"], [], {"unread_text": 1, "no_caption": 1}),
        (["npy", "meta"], [], {"no_caption": 1}),
    ],
)
def test_captions_in_texts_of_other_names(tmp_path, beside, captions, report):
    members = [("a.jpg", jpg(0)), *((f"a.{name}", name.encode()) for name in beside)]
    index, split = indexed(tmp_path / "t", members)
    assert (split.captions, index["report"]) == ([captions], report)


@pytest.mark.parametrize("name", ["b.tar", "b.tar.gz", "b.tgz"])
def test_a_compressed_shard_is_refused_and_not_passed_over(tmp_path, name):
    folder = tmp_path / "t"
    write_tar(folder / "a.tar", [("a.jpg", jpg(0)), ("a.txt", b"x")])
    (folder / name).write_bytes(gzip.compress((folder / "a.tar").read_bytes()))
    for index in (index_folder, lambda folder: link_shards([str(folder)], tmp_path / "links")):
        if name != "b.tar" or index is index_folder:
            with pytest.raises(UserError, match=rf"{name}: compressed tars must be unpacked"):
                index(folder)
    assert not (folder / "index.json").exists() and not (tmp_path / "links").exists()


def test_a_pattern_may_stand_in_the_folders_name(tmp_path):
    for name in ("one/a", "two/a", "two/b"):
        write_tar(tmp_path / "cc" / f"{name}.tar", [("a.jpg", jpg(0))])
    found = expand([str(tmp_path / "cc" / "*" / "{a..b}.tar")])
    assert [str(path.relative_to(tmp_path / "cc")) for path in found] == [
        "one/a.tar",
        "two/a.tar",
        "two/b.tar",
    ]


def test_numbered_texts_beside_numbered_pictures_are_no_captions_of_another(tmp_path):
    members = [("a.jpg", jpg(0)), ("a.1.jpg", jpg(1)), ("a.1.txt", b"of a.1")]
    index, split = indexed(tmp_path / "t", members)
    assert split.captions == [[]]
    assert index["report"] == {"further_picture": 1, "unread_text": 1, "no_caption": 1}


def test_a_name_twice_in_one_sample_keeps_the_first_and_is_named(tmp_path):
    members = [("x.jpg", jpg(0)), ("x.txt", b"first"), ("x.jpg", jpg(1)), ("x.txt", b"second")]
    index, split = indexed(tmp_path / "t", members)
    assert split.captions == [["first"]] and split.read_image(0) == jpg(0)
    assert index["report"] == {"duplicate_member": 2}
    assert index["examples"]["duplicate_member"] == ["0.tar: x.jpg", "0.tar: x.txt"]


def test_keys_that_come_again_are_kept_counted_and_unique(tmp_path):
    again = [("x.jpg", jpg(0)), ("x.txt", b"1"), ("y.jpg", jpg(1)), ("x.jpg", jpg(2)), ("x.txt", b"3")]
    index, split = indexed(tmp_path / "t", [*again, ("y.png", picture_bytes(3)), ("x.jpg", jpg(4))], again)
    assert index["report"]["repeated_key"] == 5 and len(set(split.keys)) == split.samples == 7
    assert split.keys == ["x", "y", "0/x", "0/2/x", "1/x", "1/y", "1/2/x"]
    assert [split.read_image(i) for i in (0, 2, 3)] == [jpg(0), jpg(2), jpg(4)]
    assert index["report"]["further_picture"] == 1, "y.png beside y.jpg"


def test_names_that_are_no_utf8_are_kept_apart_and_shown(tmp_path):
    members = [("caf\udce9.jpg", jpg(0)), ("caf\udce9.txt", b"x"), ("caf\udce8.jpg", jpg(1)), ("\udce9", b"")]
    index, split = indexed(tmp_path / "t", members)
    assert split.keys == ["caf\ufffd", "0/caf\ufffd"] and split.captions == [["x"], []]
    assert index["examples"]["stray_member"] == ["0.tar: \ufffd"]


def test_members_that_stand_apart_make_one_sample(tmp_path):
    members = [(f"{n}.jpg", jpg(n)) for n in range(3)] + [(f"{n}.txt", b"%d" % n) for n in range(3)]
    index, split = indexed(tmp_path / "t", members)
    assert split.captions == [["0"], ["1"], ["2"]] and index["report"] == {}


def test_names_with_dots_follow_webdatasets_rule(tmp_path):
    from webdataset.tariterators import base_plus_ext

    names = [
        "photo.0.jpg",
        "d.e/one.v2.jpg",
        "d/plain.jpg",
        "plain.seg.png",
        "A.JPG",
        "..x.jpg",
        ".hidden.jpg",
    ]
    path = write_tar(tmp_path / "t.tar", [(name, b"x") for name in names])
    structure = read_structure(path)
    found = {(group.key, extension) for group in structure.groups for extension in group.members}
    wanted = {(key, extension.lower()) for key, extension in map(base_plus_ext, names) if key}
    assert found == wanted and structure.strays == [name for name in names if not base_plus_ext(name)[0]]


def test_pictures_that_share_a_key_by_dots_are_counted_and_a_single_one_is_read(tmp_path):
    members = [member for n in range(5) for member in ((f"photo.{n}.jpg", jpg(n)), (f"photo.{n}.txt", b"x"))]
    members += [
        ("my.holiday.jpg", jpg(7)),
        ("my.holiday.txt", b"sea"),
        ("a.jpg", jpg(8)),
        ("a.seg.png", picture_bytes(9)),
    ]
    index, split = indexed(tmp_path / "t", members)
    assert (split.keys, split.captions) == (["my", "a"], [["sea"], []]) and split.read_image(0) == jpg(7)
    assert index["report"] == {"dotted_name": 5, "further_picture": 1, "no_caption": 1}
    assert index["examples"]["dotted_name"][0] == "0.tar: photo.0.jpg"


NAMES = st.sampled_from(["a", "b", "a.b", "d/a", "d/b.c", "../a", ""])
MEMBERS = st.lists(
    st.tuples(NAMES, st.sampled_from(["jpg", "png", "txt", "json", "cls", "0.jpg", "TXT"])), max_size=14
)


@given(shards=st.lists(MEMBERS, min_size=1, max_size=3))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_every_picture_of_any_shard_is_a_sample_or_counted_and_our_check_passes(tmp_path_factory, shards):
    folder = tmp_path_factory.mktemp("t")
    data = {"jpg": jpg(1), "0.jpg": jpg(2), "png": picture_bytes(3), "json": b'{"caption": "c"}', "cls": b"1"}
    pictures = 0
    for number, names in enumerate(shards):
        members = [(f"{stem}.{ending}", data.get(ending, b"text")) for stem, ending in names]
        pictures += sum(ending in ("jpg", "png", "0.jpg") for _, ending in names)
        write_tar(folder / f"{number}.tar", members)
    try:
        index = index_folder(folder)
    except UserError as error:
        assert "no usable picture" in str(error)
        return
    left_out = index["report"].get("further_picture", 0) + index["report"].get("dotted_name", 0)
    repeated = ("duplicate_member", "stray_member")
    names = [name for reason in repeated for name in index["examples"].get(reason, [])]
    left_out += sum(name.endswith(("jpg", "png")) for name in names)
    assert index["samples"] + left_out == pictures
    assert check_split(folder).damage == []


@pytest.fixture
def labelled(tmp_path) -> Path:
    """CLIP_benchmark's layout: shards in `train` and `test`, names and templates above them."""
    for name in ("train", "test"):
        members = [
            member for n in range(4) for member in ((f"s{n}.jpg", jpg(n)), (f"s{n}.cls", b"%d" % (n % 2)))
        ]
        write_tar(tmp_path / "wds" / name / "0.tar", members)
    (tmp_path / "wds" / "classnames.txt").write_bytes(b"\xef\xbb\xbfdog\r\nsea horse\r\n")
    (tmp_path / "wds" / "zeroshot_classification_templates.txt").write_text("a photo of a {c}.\n{}\n")
    return tmp_path / "wds"


def test_class_names_and_templates_beside_the_shards_are_read(labelled, tmp_path):
    index_folder(labelled / "test")
    split = open_split(labelled / "test")
    assert (split.classes, split.templates) == (["dog", "sea horse"], ["a photo of a {}.", "{}"])
    assert split.labels.tolist() == [0, 1, 0, 1]
    link_shards([str(labelled / "test")], tmp_path / "data" / "set" / "test")
    index_folder(tmp_path / "data" / "set" / "test")
    linked = open_split(tmp_path / "data" / "set" / "test")
    assert linked.classes == split.classes and linked.fingerprint == split.fingerprint
    (tmp_path / "data" / "set" / "test" / "classnames.txt").write_text("cat\nseal\n")
    index_folder(tmp_path / "data" / "set" / "test", force=True)
    assert (
        open_split(linked.path).classes == ["cat", "seal"]
        and linked.fingerprint != open_split(linked.path).fingerprint
    )


def test_class_names_that_do_not_fit_are_refused(labelled, tmp_path):
    names = labelled / "classnames.txt"
    for content, message in (
        ("dog\n", "1 names and the sample s1 has label 1"),
        ("dog\n\nsea horse\n", "line 2 is empty"),
        (b"dog\nh\xe9ron\n", "line 2: byte 0xe9 is not UTF-8"),
    ):
        names.write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(UserError, match=message):
            index_folder(labelled / "test")
    names.write_text("dog\ncat\n")
    (labelled / "zeroshot_classification_templates.txt").write_text("a {c}\nno place\n")
    with pytest.raises(UserError, match=r"templates.txt line 2"):
        index_folder(labelled / "test")
    (labelled / "zeroshot_classification_templates.txt").unlink()
    (labelled / "test" / "classnames.txt").write_text("cat\ndog\n")
    link_shards([str(labelled / "train"), str(labelled / "test")], tmp_path / "both")
    with pytest.raises(UserError, match="differ: index the shards of each folder apart"):
        index_folder(tmp_path / "both")


def test_labels_without_names_are_counted(labelled):
    (labelled / "classnames.txt").unlink()
    index = index_folder(labelled / "test")
    assert index["report"] == {"label_without_name": 4} and index["classes"] is index["templates"] is None


def test_a_samples_file_of_somebody_else_is_left_alone(tmp_path):
    write_tar(tmp_path / "0.tar", [("a.jpg", jpg(0))])
    (tmp_path / "samples.jsonl").write_text('{"my": "work"}\n')
    with pytest.raises(UserError, match="was not written by gaprun"):
        index_folder(tmp_path, force=True)
    assert (tmp_path / "samples.jsonl").read_text() == '{"my": "work"}\n'


def test_links_that_gaprun_did_not_make_are_left_alone(tmp_path):
    write_tar(tmp_path / "a" / "0.tar", [("a.jpg", jpg(0))])
    link_shards([str(tmp_path / "a")], tmp_path / "out")
    (tmp_path / "out" / "thesis.tex").symlink_to(tmp_path / "elsewhere.tex")
    with pytest.raises(UserError, match="thesis.tex"):
        link_shards([str(tmp_path / "a")], tmp_path / "out")
    assert (tmp_path / "out" / "thesis.tex").is_symlink()


def test_shards_that_gaprun_wrote_can_be_indexed_elsewhere(split_folder, tmp_path):
    link_shards([str(split_folder)], tmp_path / "again" / "train")
    index_folder(tmp_path / "again" / "train")
    one, other = open_split(split_folder), open_split(tmp_path / "again" / "train")
    assert (one.keys, one.captions, one.labels.tolist()) == (
        other.keys,
        other.captions,
        other.labels.tolist(),
    )
    assert check_split(other.path).damage == []
    assert json.loads((other.path / "index.json").read_text())["report"] == {"label_without_name": 18}
