"""A large split's lines are read once and mapped from then on; a file that is not the one noted is made again."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from gaprun.data import columns
from gaprun.data.columns import COLUMN_FILES, COLUMNS, Columns, read_lines
from gaprun.data.members import MemberCaptions, captioned, counts_of
from gaprun.data.split import Split, _columns_of, open_split
from gaprun.errors import UserError

LINES = [
    {"key": "a", "captions": ["one", "zwölf \ud800"], "label": None},
    {"key": "ключ", "captions": [], "label": 3},
    {"key": "", "captions": ["", "x" * 300, "y"], "label": 0},
]


def written(folder: Path, lines: list[dict]) -> Path:
    folder.mkdir(exist_ok=True)
    place = {"width": 4, "height": 5, "shard": 1, "offset": 2**40, "size": 7}
    text = "".join(json.dumps({**place, **line}) + "\n" for line in lines)
    (folder / "samples.jsonl").write_text(text)
    return folder / "samples.jsonl"


def test_a_block_says_what_the_lines_say(tmp_path: Path) -> None:
    found = Columns(b"".join(read_lines(written(tmp_path, LINES))))
    assert list(found.keys) == [line["key"] for line in LINES] == [found.keys[k] for k in range(3)]
    captions = [line["captions"] for line in LINES]
    assert list(found.captions) == captions == [found.captions[k] for k in (0, -2, 2)]
    assert found.captions[1:] == captions[1:] and found.captions == captions and found.keys[::-2] == ["", "a"]
    assert found.captions != captions[:2] and len(found.captions) == len(found.keys) == 3
    assert found.numbers.tolist() == [[label, 4, 5, 1, 2**40, 7] for label in (-1, 3, 0)]
    assert (found.lowest, found.highest) == (1, 1)
    with pytest.raises(IndexError):
        found.captions[3]
    nothing = Columns(b"".join(read_lines(written(tmp_path, []))))
    assert list(nothing.captions) == [] and nothing.numbers.shape == (0, 6)


@pytest.fixture
def large(split_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A split whose lines count as many, and the list of files that are read line by line."""
    monkeypatch.setattr(columns, "SMALL", 0)
    return split_folder


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are read line by line from now on."""
    found: list[Path] = []
    original = columns.read_lines
    monkeypatch.setattr(columns, "read_lines", lambda path: found.append(path) or original(path))
    return found


def fresh(folder: Path) -> Split:
    """The split as another process opens it."""
    _columns_of.cache_clear()
    split = open_split(folder)
    assert len(split.captions) == split.samples
    return split


def test_lines_are_read_once_and_the_split_stays_the_same(large: Path, read: list[Path]) -> None:
    before = open_split(large).fingerprint
    first = fresh(large)
    names = {path.name for path in large.iterdir()}
    assert len(read) == 1 and set(COLUMN_FILES) <= names
    second = fresh(large)
    assert len(read) == 1 and second.fingerprint == before == first.fingerprint
    assert second.captions == first.captions and second.keys == first.keys
    assert np.array_equal(second.places, first.places) and second.read_image(3) == first.read_image(3)
    copy = pickle.loads(pickle.dumps(second))
    assert copy.captions == first.captions and len(read) == 1 and len(pickle.dumps(second)) < 3000


@pytest.mark.parametrize("change", ["content", "cut", "copied", "lines", "note"])
def test_a_stale_or_foreign_file_is_made_again(large: Path, read: list[Path], change: str) -> None:
    wanted = list(fresh(large).captions)
    file, note = (large / name for name in COLUMN_FILES)
    if change == "content":
        file.write_bytes(file.read_bytes().replace(b"caption 0", b"Caption 9"))
    elif change == "cut":
        os.truncate(file, 100)
    elif change == "copied":  # the same bytes from elsewhere are not trusted either: who knows
        content = file.read_bytes()
        file.unlink()
        file.write_bytes(content)
    elif change == "lines":
        text = json.loads(note.read_text())
        note.write_text(json.dumps(text | {"samples": "0" * 64}))
    else:
        note.write_text("{")
    assert list(fresh(large).captions) == wanted and len(read) == 2
    assert list(fresh(large).captions) == wanted and len(read) == 2


def test_where_the_folder_cannot_be_written_the_cache_folder_is(
    large: Path, read: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    original = columns.write_atomically

    def write(path: Path, make) -> None:
        if path.parent == large:
            raise PermissionError(13, "Permission denied", str(path))
        original(path, make)

    monkeypatch.setattr(columns, "write_atomically", write)
    for _ in range(2):
        fresh(large)
    assert len(read) == 1 and not (large / COLUMNS).exists()
    assert len(list((tmp_path / "cache" / "gaprun" / "columns").iterdir())) == 2


def test_bad_lines_are_the_same_clear_error(large: Path) -> None:
    from tests.data.test_split import write_lines

    write_lines(large, '{"key": 1, "captions": [], "label": 3}')
    with pytest.raises(UserError, match="samples.jsonl cannot be read"):
        fresh(large)
    assert not (large / COLUMNS).exists()


def test_members_and_their_captions(split_folder: Path) -> None:
    split = open_split(split_folder)
    splits = [split, split]
    members = captioned(splits)
    wanted = [text for s, i in members.tolist() for text in splits[s].captions[i]]
    texts = MemberCaptions(splits, members)
    assert list(texts) == wanted and len(texts) == len(wanted) and texts[5:9] == wanted[5:9]
    assert texts[-1] == wanted[-1] and texts[3:3] == [] and texts[:4:3] == wanted[:4:3]
    assert counts_of(splits, members).tolist() == [len(splits[s].captions[i]) for s, i in members]
    some = members[[4, 0, len(members) - 1]]
    assert list(MemberCaptions(splits, some)) == [t for s, i in some for t in splits[s].captions[i]]
