"""Caption files matched with pictures: every format, every count, splits, resizing, hostile and broken input."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gaprun.data.annotations import read_coco, read_karpathy
from gaprun.data.captioned import captioned_plans, divide
from gaprun.data.decode import decode_rgb
from gaprun.data.division import Division
from gaprun.data.folders import Folders, coco_id
from gaprun.data.pictures import Picture
from gaprun.data.readers.coco import coco_entries
from gaprun.data.readers.flickr30k import flickr_entries
from gaprun.data.split import open_split
from gaprun.data.tables import read_table, read_tokens
from gaprun.data.tally import Tally
from gaprun.data.write import write_splits
from gaprun.errors import UserError

ALL = Division()


def coco_file(path: Path, captions: dict[str, list[str]]) -> Path:
    """A COCO captions file: image ids from 1, annotation ids descending so that order is visible."""
    images, notes, last = [], [], 10_000
    for number, (name, texts) in enumerate(captions.items(), 1):
        images.append({"id": number, "file_name": name})
        for text in texts:
            notes.append({"id": last, "image_id": number, "caption": text})
            last -= 1
    path.write_text(json.dumps({"images": images, "annotations": notes}))
    return path


def write(entries, folder, out, **options):
    plans = captioned_plans(
        "captions", out, entries, Folders([folder]), Path("c.json"), **{"division": ALL} | options
    )
    return [index for index, _ in write_splits(plans)]


def test_everything_left_out_or_cleaned_is_counted_and_named(folder, tmp_path):
    captions = {
        "a.jpg": [" last\n  one ", "first one"],
        "c.jpg": ["grey", "  "],
        "d.png": ["glass"],
        "broken.jpg": ["x"],
        "short.jpg": ["y"],
        "gone.jpg": ["p", "q", "r"],
        "b.jpg": [],
    }
    entries = read_coco(coco_file(tmp_path / "c.json", captions))
    [index] = write(entries, folder, tmp_path / "out")
    assert index["report"] == {
        "alpha": 1,
        "caption_whitespace": 1,
        "caption_without_image": 3,
        "empty_caption": 1,
        "greyscale": 1,
        "no_caption": 2,
        "undecodable": 2,
    }
    assert index["examples"]["no_caption"] == ["b.jpg", "e.bmp"]
    assert index["examples"]["undecodable"] == ["broken.jpg", "short.jpg"]
    assert index["examples"]["caption_without_image"] == ["gone.jpg"]
    split = open_split(tmp_path / "out" / "train")
    assert split.keys == ["a", "c", "d"]
    assert split.captions == [["first one", "last one"], ["grey"], ["glass"]], "by annotation id"
    assert split.read_image(0) == (folder / "a.jpg").read_bytes()
    assert split.sizes.tolist() == [[40, 30]] * 3


def test_a_dangling_link_and_a_cmyk_picture_are_counted(folder, tmp_path, make_picture):
    (folder / "z.jpg").symlink_to(tmp_path / "gone")
    (folder / "k.jpg").write_bytes(make_picture(8, mode="CMYK", kind="JPEG"))
    entries = read_coco(coco_file(tmp_path / "c.json", {"z.jpg": ["x"], "k.jpg": ["y"]}))
    [index] = write(entries, folder, tmp_path / "out")
    assert index["report"] == {"cmyk": 1, "no_caption": 7, "unreadable": 1}
    assert index["samples"] == 1


def test_a_division_of_a_set_with_its_own_splits_is_refused(folder, tmp_path):
    entries = read_coco(coco_file(tmp_path / "c.json", {"a.jpg": ["x"], "b.jpg": ["y"]}))
    for entry in entries:
        entry.split = "train"
    with pytest.raises(UserError, match="has its own splits"):
        write(entries, folder, tmp_path / "out", division=Division(test=1))


def test_other_formats_are_recoded_without_loss(folder, tmp_path):
    entries = read_coco(coco_file(tmp_path / "c.json", {"e.bmp": ["x"]}))
    [index] = write(entries, folder, tmp_path / "out")
    assert index["report"]["recoded"] == 1
    stored = decode_rgb(open_split(tmp_path / "out" / "train").read_image(0))
    assert np.array_equal(np.asarray(stored), np.asarray(decode_rgb((folder / "e.bmp").read_bytes())))


def test_size_brings_the_shorter_side_down_and_never_up(folder, tmp_path, make_picture):
    (folder / "wide.jpg").write_bytes(make_picture(9, 640, 427, kind="JPEG"))
    entries = read_coco(coco_file(tmp_path / "c.json", {"wide.jpg": ["w"], "a.jpg": ["a"], "b.jpg": ["b"]}))
    [index] = write(entries, folder, tmp_path / "out", size=32)
    split = open_split(tmp_path / "out" / "train")
    assert split.sizes.tolist() == [[48, 32], [40, 30], [30, 60]] and split.image_size == 32
    assert index["report"]["not_enlarged"] == 2
    assert split.read_image(1) == (folder / "a.jpg").read_bytes()
    wanted = decode_rgb((folder / "wide.jpg").read_bytes()).resize((48, 32), 3)
    difference = np.abs(np.asarray(decode_rgb(split.read_image(0)), int) - np.asarray(wanted, int))
    assert difference.mean() < 3


@pytest.mark.parametrize("names", ["2014", "2017"])
@pytest.mark.parametrize("files", ["2014", "2017"])
def test_coco_of_either_year_finds_pictures_of_either_year(tmp_path, make_picture, names, files):
    def name(year, part, number):
        return f"COCO_{part}2014_{number:012d}.jpg" if year == "2014" else f"{number:012d}.jpg"

    for part, numbers in (("train", (9, 25)), ("val", (42,))):
        below = tmp_path / "images" / f"{part}{files}"
        below.mkdir(parents=True)
        for number in numbers:
            (below / name(files, part, number)).write_bytes(make_picture(number, kind="JPEG"))
    paths = []
    for part, numbers in (("train", (9, 25)), ("val", (42,))):
        images = [{"id": number, "file_name": name(names, part, number)} for number in numbers]
        notes = [{"id": number, "image_id": number, "caption": f"of {number}"} for number in numbers]
        paths.append(tmp_path / f"captions_{part}{names}.json")
        paths[-1].write_text(json.dumps({"images": images, "annotations": notes}))
    entries = coco_entries(paths, None, infer_split=True)
    indices = write(entries, tmp_path / "images", tmp_path / "out")
    assert [(index["split"], index["samples"], index["report"]) for index in indices] == [
        ("train", 2, {}),
        ("val", 1, {}),
    ]
    split = open_split(tmp_path / "out" / "train")
    assert [split.read_image(i) for i in range(2)] == [make_picture(n, kind="JPEG") for n in (9, 25)]
    assert split.captions == [["of 9"], ["of 25"]]


def karpathy_file(
    path: Path, images: list[tuple[str, str, int, list[str]]], folder: str | None = "val2014"
) -> Path:
    content = [
        {"filename": name, "split": split, "cocoid": number, "sentences": [{"raw": text} for text in texts]}
        | ({"filepath": folder} if folder else {})
        for name, split, number, texts in images
    ]
    path.write_text(json.dumps({"images": content, "dataset": "coco"}))
    return path


def test_karpathy_decides_the_splits_and_restval_joins_train(tmp_path, make_picture):
    (tmp_path / "i" / "val2014").mkdir(parents=True)
    images = []
    for number, split in enumerate(("train", "restval", "val", "test"), 1):
        name = f"COCO_val2014_{number:012d}.jpg"
        (tmp_path / "i" / "val2014" / name).write_bytes(make_picture(number, kind="JPEG"))
        images.append((name, split, number, [f"raw  {number}", "second"]))
    path = karpathy_file(tmp_path / "dataset_coco.json", images)
    for place in ("i", "i/val2014"):
        indices = write(read_karpathy(path), tmp_path / place, tmp_path / place.replace("/", "-"))
        assert {index["split"]: index["samples"] for index in indices} == {"train": 2, "val": 1, "test": 1}
        assert open_split(tmp_path / place.replace("/", "-") / "test").captions == [["raw 4", "second"]]
    official = coco_file(tmp_path / "captions_val2014.json", {images[0][0]: ["official"]})
    entries = coco_entries([official], path, infer_split=True)
    assert [(entry.split, entry.captions[0]) for entry in entries[:2]] == [
        ("train", "official"),
        ("train", "raw  2"),
    ]


def test_tables_of_each_delimiter_are_joined_by_picture(tmp_path):
    rows = [("a.jpg", 'one, "quoted"'), ("b.jpg", "two"), ("a.jpg", "three")]
    for delimiter, header in (
        (",", "image,caption"),
        ("\t", "filepath\ttitle"),
        ("|", "image_name| comment"),
    ):
        quoted = [(name, '"' + text.replace('"', '""') + '"') for name, text in rows]
        lines = [header, *(delimiter.join(row) for row in quoted)]
        path = tmp_path / "table.csv"
        path.write_text("\ufeff" + "\n".join(lines), encoding="utf-8")
        entries = read_table(path)
        assert [(entry.file, entry.captions) for entry in entries] == [
            ("a.jpg", ['one, "quoted"', "three"]),
            ("b.jpg", ["two"]),
        ]
    path.write_text("pic,words\nx.jpg,hello\nshort.jpg\n")
    tally = Tally()
    assert [entry.captions for entry in read_table(path, "pic", "words", tally)] == [["hello"]]
    assert tally.examples == {"short_row": ["short.jpg, line 3"]}


def test_flickr_tokens_and_json(tmp_path):
    tokens = tmp_path / "results_20130124.token"
    tokens.write_text("1.jpg#0\tA man .\n1.jpg#1\tA person .\n2.jpg#0\tA dog .\n")
    assert [(entry.file, entry.captions) for entry in flickr_entries(tokens)] == [
        ("1.jpg", ["A man .", "A person ."]),
        ("2.jpg", ["A dog ."]),
    ]
    path = karpathy_file(tmp_path / "dataset_flickr30k.json", [("1.jpg", "test", 5, ["A man."])], folder=None)
    assert [(entry.file, entry.split) for entry in flickr_entries(path)] == [("1.jpg", "test")]


@pytest.mark.parametrize(
    "name", ["../secret.jpg", "/etc/passwd", "x/../../secret.jpg", "..\\secret.jpg", "C:\\a.jpg"]
)
def test_names_outside_the_folders_are_refused(folder, tmp_path, make_picture, name):
    (folder.parent / "secret.jpg").write_bytes(make_picture(1, kind="JPEG"))
    entries = read_coco(coco_file(tmp_path / "c.json", {"a.jpg": ["fine"], name: ["stolen"]}))
    with pytest.raises(UserError, match="outside --images: refused"):
        write(entries, folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_name_in_another_folder_is_not_taken_for_this_one(tmp_path, make_picture):
    (tmp_path / "i" / "b").mkdir(parents=True)
    (tmp_path / "i" / "b" / "1.jpg").write_bytes(make_picture(1, kind="JPEG"))
    folders = Folders([tmp_path / "i"])
    assert folders.find("a/1.jpg", Path("c")) is None
    for name in ("b/1.jpg", "1.jpg"):
        assert folders.find(name, Path("c")).file.relative == "b/1.jpg"
    assert Folders([tmp_path / "i" / "b"]).find("b/1.jpg", Path("c")).file.relative == "1.jpg"
    assert coco_id("x/COCO_val2014_000000391895.jpg") == coco_id("000000391895.png") == 391895
    assert coco_id("1000092795.jpg") is None


def test_one_file_named_twice_is_joined_and_in_two_splits_refused(folder, tmp_path):
    first = read_coco(coco_file(tmp_path / "1.json", {"a.jpg": ["one"]}))
    second = read_coco(coco_file(tmp_path / "2.json", {"a.jpg": ["two"]}))
    [index] = write(first + second, folder, tmp_path / "out")
    assert index["report"]["repeated_picture"] == 1
    assert open_split(tmp_path / "out" / "train").captions == [["one", "two"]]
    second[0].split = "test"
    with pytest.raises(UserError, match="into two splits"):
        write(first + second, folder, tmp_path / "other")


@given(n=st.integers(2, 60), test=st.integers(1, 59), seed=st.integers(0, 5))
def test_a_held_out_part_is_seeded_and_stable_under_growth(n, test, seed):
    if test >= n:
        test = n - 1
    pictures = [(Picture(f"/p/{i}", f"k{i}"), None) for i in range(n)]
    groups = divide(pictures, Division(test=test), seed)
    assert len(groups["test"]) == test and len(groups["train"]) == n - test
    keys = [one.key for part in groups.values() for one in part]
    assert Counter(keys) == Counter(one.key for one, _ in pictures)
    again = divide(pictures[::-1], Division(test=test), seed)
    assert {one.key for one in again["test"]} == {one.key for one in groups["test"]}, "not by order"
    grown = divide([*pictures, (Picture("/p/new", "new"), None)], Division(test=test), seed)
    assert len({one.key for one in grown["test"]} - {one.key for one in groups["test"]}) <= 1


def test_shares_sum_up_and_pictures_with_a_split_keep_it():
    pictures = [(Picture(f"/p/{i}", f"k{i}"), None) for i in range(11)] + [(Picture("/p/x", "x"), "val")]
    groups = divide(pictures, Division.parse("train=0.7,val=0.1,test=0.2", None), 0)
    assert {name: len(group) for name, group in groups.items()} == {"train": 8, "val": 2, "test": 2}
    assert list(groups) == ["train", "val", "test"]


@pytest.mark.parametrize(
    ("fractions", "test", "message"),
    [
        ("train=0.8", 5, "exclude each other"),
        (None, 0, "--test 0"),
        ("train=0.8,test=0.3", None, "sum to 1.1"),
        ("train=x,test=0.3", None, "expected train=0.8"),
        ("train=1.5", None, "not a share"),
        ("../up=0.5,test=0.5", None, "cannot be a split's name"),
        ("", None, "cannot be a split's name"),
    ],
)
def test_impossible_divisions_are_refused(fractions, test, message):
    with pytest.raises(UserError, match=message):
        Division.parse(fractions, test)


def test_the_rest_cannot_be_the_test_split():
    with pytest.raises(UserError, match="exclude each other"):
        Division.parse(None, 3, "test")


def test_a_division_that_leaves_a_split_empty_is_refused():
    for division in (Division(test=5), Division(shares={"train": 0.99, "test": 0.01})):
        with pytest.raises(UserError, match="without any"):
            division.counts(5)


@pytest.mark.parametrize(
    ("reader", "content", "message"),
    [
        (read_coco, "{", "is not JSON"),
        (read_coco, "[]", "no COCO captions file"),
        (read_coco, '{"images": [{"sentences": []}]}', "given as --karpathy"),
        (read_coco, '{"images": 3, "annotations": []}', "'images' is not a list"),
        (read_coco, '{"images": [{"id": 1}], "annotations": []}', "no text 'file_name'"),
        (read_coco, '{"images": [{"file_name": "a"}], "annotations": []}', "no image id"),
        (
            read_coco,
            '{"images": [{"id": 1, "file_name": "a"}, {"id": 1, "file_name": "b"}], "annotations": []}',
            "twice",
        ),
        (
            read_coco,
            '{"images": [], "annotations": [{"id": 1, "image_id": 1, "bbox": []}]}',
            "without 'caption'",
        ),
        (read_coco, '{"images": [], "annotations": [{"id": 1, "image_id": 7, "caption": "x"}]}', "image 7"),
        (
            read_coco,
            '{"images": [], "annotations": [{"id": [], "image_id": 7, "caption": "x"}]}',
            "not a whole number",
        ),
        (
            read_coco,
            '{"images": [{"id": 1, "file_name": "a"}], "annotations": [{"image_id": 1, "caption": null}]}',
            "no text 'caption'",
        ),
        (read_karpathy, '{"images": [], "annotations": []}', "no Karpathy split file"),
        (read_karpathy, '{"images": [{"filename": "a", "split": "../x", "sentences": []}]}', "split's name"),
        (read_karpathy, '{"images": [{"filename": "a", "sentences": []}]}', "no text 'split'"),
        (read_table, "picture,words\n", "no column 'image or image_name' .it has: picture, words"),
        (read_table, "", "it has: none"),
        (read_table, "image,words\n", "--caption-column"),
        (read_table, b"image,caption\na,\xff\xfe\n", "line 2: byte 0xff is not UTF-8"),
        (read_tokens, "no tab here\n", "line 1 has no tab"),
        (read_tokens, b"\xff\tx", "line 1: byte 0xff is not UTF-8"),
    ],
)
def test_wrong_files_are_one_clear_error(tmp_path, reader, content, message):
    path = tmp_path / "input"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=message) as caught:
        reader(path)
    assert "\n" not in str(caught.value)
    for missing in (tmp_path / "absent", tmp_path):
        with pytest.raises(UserError, match="No such file|Is a directory"):
            reader(missing)


def test_missing_and_empty_picture_folders_are_refused(tmp_path):
    with pytest.raises(UserError, match="is not a folder"):
        Folders([tmp_path / "absent"])
    with pytest.raises(UserError, match="no picture file"):
        Folders([tmp_path])


@pytest.mark.parametrize(("option", "value"), [("size", 3), ("size", 9999), ("quality", 0), ("quality", 101)])
def test_options_out_of_range_are_refused(folder, tmp_path, option, value):
    entries = read_coco(coco_file(tmp_path / "c.json", {"a.jpg": ["x"]}))
    with pytest.raises(UserError, match=f"--{option} {value}"):
        write(entries, folder, tmp_path / "out", **{option: value})


def test_sets_without_a_match_or_without_pictures_are_refused(folder, tmp_path):
    entries = read_coco(coco_file(tmp_path / "c.json", {"z.jpg": ["x"]}))
    with pytest.raises(UserError, match=r"caption_without_image 1, no_caption 7"):
        write(entries, folder, tmp_path / "out")
    with pytest.raises(UserError, match="names no picture"):
        write([], folder, tmp_path / "out")


def test_changed_pictures_or_captions_are_another_split(folder, tmp_path, make_picture):
    def plans(text="x", **options):
        entries = read_coco(coco_file(tmp_path / "c.json", {"a.jpg": [text]}))
        folders = Folders([folder])
        return captioned_plans("captions", tmp_path / "out", entries, folders, Path("c.json"), ALL, **options)

    assert [written for _, written in write_splits(plans())] == [True]
    assert [written for _, written in write_splits(plans())] == [False]
    for other in (plans("y"), plans(size=16)):
        with pytest.raises(UserError, match="another split"):
            write_splits(other)
    (folder / "a.jpg").write_bytes(make_picture(77, 50, 50, kind="JPEG"))
    with pytest.raises(UserError, match="content:"):
        write_splits(plans())
