"""Tables and token files as people save them: read as they were meant, or refused with the line's number."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gaprun.data.annotations import read_coco
from gaprun.data.readers.coco import coco_entries
from gaprun.data.readers.flickr8k import flickr8k_entries
from gaprun.data.readers.flickr30k import flickr_entries
from gaprun.data.tables import read_table, read_tokens
from gaprun.data.tally import Tally
from gaprun.data.text import clean_caption, decode_text
from gaprun.errors import UserError


def table(tmp_path, content, tally=None, **columns):
    path = tmp_path / "t.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return {entry.file: entry.captions for entry in read_table(path, **columns, tally=tally)}


TEXT = 'image,caption\na.jpg,A dog\nb.jpg,"Two, or ""three"""\nc.jpg,é\n'
WANTED = {"a.jpg": ["A dog"], "b.jpg": ['Two, or "three"'], "c.jpg": ["é"]}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_encodings_with_marks_and_line_ends_of_any_kind(tmp_path, encoding, ends):
    assert table(tmp_path, TEXT.replace("\n", ends).encode(encoding)) == WANTED


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (TEXT.encode("latin-1"), "line 4: byte 0xe9 is not UTF-8; save it as UTF-8"),
        (TEXT.encode("utf-16-le"), "NUL character"),
        (b"image,caption\na.jpg,x\0y\n", "line 2: a NUL character"),
        ('image,caption\na.jpg,x\nb.jpg,"open\nc.jpg,y\n', "line 3: a quote opens here and is never closed"),
        ('image,caption\nb.jpg,"open\nc.jpg,y\nd.jpg,"z"\n', "line 2: a quote opens here"),
        ('image,caption\nb.jpg,"open\nc.jpg,y"\n', "not closed before line 3, which looks like a row"),
        ("image,caption,source\na.jpg,A dog, two cats,web\n", "line 2 has 4 columns and the header 3"),
        ('image,caption\na.jpg,"A dog", two cats\n', "line 2 has 3 columns"),
        ("image,image,caption\na.jpg,b.jpg,x\n", "two columns 'image'"),
    ],
)
def test_what_cannot_be_read_one_way_only_is_refused_with_its_line(tmp_path, content, said):
    with pytest.raises(UserError, match=said) as caught:
        table(tmp_path, content)
    assert "\n" not in str(caught.value)


def test_unquoted_delimiters_in_the_last_column_are_kept_whole_and_counted(tmp_path):
    tally = Tally()
    content = 'image,caption\na.jpg,A dog, two cats,  and "more"\nb.jpg,plain\n'
    assert table(tmp_path, content, tally) == {"a.jpg": ['A dog, two cats,  and "more"'], "b.jpg": ["plain"]}
    assert tally.examples == {"unquoted_delimiter": ["a.jpg, line 2"]}


def test_rows_that_lack_columns_or_a_name_are_counted_and_blank_lines_mean_nothing(tmp_path):
    tally = Tally()
    content = "image_name| comment_number| comment\na.jpg| 0| A dog .\nb.jpg| 4 lost its bar\n\n| 1| x\na.jpg| 1| two\n"
    assert table(tmp_path, content, tally) == {"a.jpg": ["A dog .", "two"]}
    assert tally.examples == {"short_row": ["b.jpg| 4 lost its bar, line 3", "| 1| x, line 5"]}


def test_further_columns_of_captions_or_pictures_are_counted_unless_one_is_named(tmp_path):
    head = "image,file_name,caption,caption_de,text_2,alt_text,caption_id,comment_number,split"
    content = f"{head}\na.jpg,b.jpg,1,2,3,4,5,6,test\n"
    for columns, wanted, others in (
        ({}, {"a.jpg": ["1"]}, ["file_name", "caption_de", "text_2", "alt_text"]),
        ({"caption_column": "caption_de"}, {"a.jpg": ["2"]}, ["file_name"]),
        ({"caption_column": "caption", "image_column": "file_name"}, {"b.jpg": ["1"]}, []),
    ):
        tally = Tally()
        assert table(tmp_path, content, tally, **columns) == wanted
        assert tally.examples.get("other_column", []) == others


def test_a_quoted_caption_may_have_line_breaks_and_lines_are_counted_behind_it(tmp_path):
    content = 'image,caption\na.jpg,"one\ntwo\n\nthree"\nb.jpg,"x" y\n'
    with pytest.raises(UserError, match="line 6"):
        table(tmp_path, content)
    assert table(tmp_path, content.replace('"x" y', "x")) == {"a.jpg": ["one\ntwo\n\nthree"], "b.jpg": ["x"]}


CELL = st.text(st.characters(exclude_characters="\0\r", exclude_categories=["Cs"]), max_size=12)


@given(captions=st.lists(CELL, min_size=1, max_size=6), delimiter=st.sampled_from(",\t;|"))
def test_any_captions_written_by_a_csv_writer_come_back(tmp_path_factory, captions, delimiter):
    import csv

    path = tmp_path_factory.mktemp("t") / "t.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter, quoting=csv.QUOTE_ALL)
        writer.writerow(["image", "caption"])
        writer.writerows((f"{number}", text) for number, text in enumerate(captions))
    assert [entry.captions for entry in read_table(path)] == [[text] for text in captions]


def test_token_files_keep_every_caption(tmp_path):
    path = tmp_path / "results.token"
    text = "1.jpg#0\ta .\n1.jpg#1\tb\u2028c\x85d .\na#b.jpg#0\tx\n2258.jpg.1#0\tghost\n"
    path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert [(entry.file, entry.captions) for entry in read_tokens(path)] == [
        ("1.jpg", ["a .", "b\u2028c\x85d ."]),
        ("a#b.jpg", ["x"]),
        ("2258.jpg.1", ["ghost"]),
    ]
    for content, said in (
        ("1.jpg#0\ta\n\tx\n", "line 2 names no picture"),
        ("1.jpg#0\ta\nx\n", "line 2 has no tab"),
    ):
        path.write_text(content)
        with pytest.raises(UserError, match=said):
            read_tokens(path)


@given(st.text())
def test_clean_captions_are_stable_and_can_be_stored_anywhere(text):
    cleaned = clean_caption(text)
    if cleaned is not None:
        assert (
            clean_caption(cleaned) == cleaned
            and "\0" not in cleaned
            and decode_text(cleaned.encode()) == cleaned
        )


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("captions_train2014", "train"),
        ("captions_val2017", "val"),
        ("validation", "val"),
        ("my-test", "test"),
        ("Training_set", "train"),
        ("restrain", None),
        ("latest", None),
        ("interval", None),
        ("contest.captions", None),
        ("trainval", None),
    ],
)
def test_the_split_in_a_file_name_is_a_word_of_its_own(tmp_path, name, split):
    path = tmp_path / f"{name}.json"
    path.write_text('{"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": []}')
    assert [entry.split for entry in coco_entries([path], None, True)] == [split]


def test_a_file_name_that_says_two_splits_is_refused(tmp_path):
    path = tmp_path / "train_and_test.json"
    path.write_text('{"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": []}')
    with pytest.raises(UserError, match="says test and train"):
        coco_entries([path], None, True)
    assert coco_entries([path], None, False)[0].split is None


@pytest.fixture
def flickr8k(tmp_path):
    """The official files in small: five pictures, a ghost, one picture in no list."""
    lines = [f"{n}.jpg#{k}\tcaption {k} of {n} ." for n in range(5) for k in range(5)]
    lines += [f"2258277193_586949ec62.jpg.1#{k}\tghost {k}" for k in range(5)]
    (tmp_path / "Flickr8k.token.txt").write_text("\n".join(lines))
    for name, numbers in (("train", (0, 1)), ("dev", (2,)), ("test", (3,))):
        text = "".join(f"{number}.jpg\n" for number in numbers)
        (tmp_path / f"Flickr_8k.{name}Images.txt").write_text(text)
    names = {"train": "train", "val": "dev", "test": "test"}
    lists = {split: tmp_path / f"Flickr_8k.{name}Images.txt" for split, name in names.items()}
    return tmp_path / "Flickr8k.token.txt", lists


def test_flickr8k_follows_the_official_lists_and_names_the_ghost(flickr8k):
    tokens, lists = flickr8k
    tally = Tally()
    entries = flickr8k_entries(tokens, lists, tally)
    assert [(entry.file, entry.split) for entry in entries] == [
        ("0.jpg", "train"), ("1.jpg", "train"), ("2.jpg", "val"), ("3.jpg", "test"),
    ]  # fmt: skip
    assert all(len(entry.captions) == 5 for entry in entries)
    assert tally.examples == {"unknown_split_picture": ["4.jpg", "2258277193_586949ec62.jpg.1"]}
    assert len(flickr8k_entries(tokens, {}, tally)) == 6


def test_flickr8k_lists_that_contradict_are_refused(flickr8k):
    tokens, lists = flickr8k
    lists["test"].write_text("3.jpg\n1.jpg\n")
    with pytest.raises(UserError, match=r"--test-list .*line 2: 1.jpg is in the list of train too"):
        flickr8k_entries(tokens, lists, Tally())
    lists["test"].write_text("gone.jpg\n")
    with pytest.raises(UserError, match="no caption for 1 pictures of the split lists, such as gone.jpg"):
        flickr8k_entries(tokens, lists, Tally())


@pytest.mark.parametrize(
    ("cell", "captions"),
    [
        ("\"['a dog', 'it''s']\"", ["a dog", "its"]),
        ('"[\'a\', ""b\'s""]"', ["a", "b's"]),
        ('"[""a"", ""b \\u00e9""]"', ["a", "b é"]),
        ("\"['a' 'b'\n 'c']\"", ["a", "b", "c"]),
        ("[dog] runs [fast]", ["[dog] runs [fast]"]),
        ("\"['a', 1]\"", ["['a', 1]"]),
    ],
)
def test_a_list_in_one_cell_is_several_captions(tmp_path, cell, captions):
    tally = Tally()
    found = table(tmp_path, f"filename,raw\na.jpg,{cell}\nb.jpg,x\n", tally, caption_column="raw")
    if captions == ["a dog", "its"]:  # two strings without a comma, as numpy shows an array
        captions = ["a dog", "it", "s"]
    assert found == {"a.jpg": captions, "b.jpg": ["x"]}
    assert tally.counts == ({"listed_captions": 1} if len(captions) > 1 else {})


def test_a_column_split_says_each_pictures_split(tmp_path):
    path = tmp_path / "t.csv"
    rows = ["a.jpg,x,train", "a.jpg,y,restval", "b.jpg,z,Validation", "c.jpg,w,", "d.jpg,v, test"]
    path.write_text("\n".join(["image,caption,Split", *rows]))
    assert {entry.file: entry.split for entry in read_table(path)} == {
        "a.jpg": "train", "b.jpg": "val", "c.jpg": None, "d.jpg": "test",
    }  # fmt: skip
    for text, said in (
        ("image,caption,split\na.jpg,x,train\na.jpg,y,test\n", "line 3: a.jpg is in train and in test"),
        ("image,caption,split\na.jpg,x,left\n", "line 2: split 'left' is none of train, val and test"),
        ("image,caption,split,split\na.jpg,x,a,b\n", "two columns 'split'"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=said):
            read_table(path)


@pytest.mark.parametrize("name", ["t.jsonl", "t.parquet", "t.csv.gz", "t.xlsx"])
def test_files_of_other_kinds_are_refused_by_their_kind(tmp_path, name):
    (tmp_path / name).write_text("image,caption\na.jpg,x\n")
    with pytest.raises(UserError, match=r"is not read: save it as CSV or TSV"):
        read_table(tmp_path / name)


def test_columns_that_could_hold_captions_too_are_said(tmp_path):
    tally = Tally()
    content = "image,title,caption\na.jpg,Title,a dog\n"
    assert table(tmp_path, content, tally) == {"a.jpg": ["a dog"]}
    assert tally.examples == {"other_column": ["title"]}
    tally = Tally()
    assert (
        table(tmp_path, content, tally, caption_column="title") == {"a.jpg": ["Title"]} and not tally.counts
    )
    with pytest.raises(UserError, match="'image' cannot hold both file names and captions"):
        table(tmp_path, content, caption_column="image")


def test_the_hubs_table_of_flickr30k_gives_pictures_captions_and_splits(tmp_path):
    path = tmp_path / "flickr_annotations_30k.csv"
    rows = ['"[""Two men"", ""Two guys""]","[0, 1]",train,1.jpg,0', '"[""A dog""]",[2],test,2.jpg,1']
    path.write_text("\n".join(["raw,sentids,split,filename,img_id", *rows]))
    assert [(entry.file, entry.captions, entry.split) for entry in flickr_entries(path)] == [
        ("1.jpg", ["Two men", "Two guys"], "train"),
        ("2.jpg", ["A dog"], "test"),
    ]


def test_a_list_in_cocos_caption_is_several_and_an_images_split_is_kept(tmp_path):
    path = tmp_path / "c.json"
    images = [{"id": 1, "file_name": "a.jpg", "split": "test"}, {"id": 2, "file_name": "b.jpg"}]
    notes = [
        {"id": 1, "image_id": 1, "caption": "['one', 'two']"},
        {"id": 2, "image_id": 2, "caption": "three"},
    ]
    path.write_text(json.dumps({"images": images, "annotations": notes}))
    assert [(e.captions, e.split) for e in read_coco(path)] == [(["one", "two"], "test"), (["three"], None)]
    assert [entry.split for entry in coco_entries([path], None, True)] == ["test", None]
    images[0]["split"] = "left"
    path.write_text(json.dumps({"images": images, "annotations": notes}))
    with pytest.raises(UserError, match="image 1: split 'left' is none of train, val and test"):
        read_coco(path)
