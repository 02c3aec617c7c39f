"""`gaprun data` as a person meets it: where things go, what is ignored, many inputs, and what is never touched."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from gaprun.cli.main import main
from gaprun.data.split import open_split
from tests.data.conftest import picture_bytes
from tests.data.test_shard_reading import write_tar

SMALL = ("data", "scenes", "--train", "6", "--test", "4", "--classes-train", "0", "--classes-test", "0")


@pytest.fixture
def gaprun(monkeypatch, capsys, tmp_path):
    """Run a command line in this process within `tmp_path`; its exit code and all that it said."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GAPRUN_DATA", raising=False)

    def run(*words: str | Path) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["gaprun", *map(str, words)])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = capsys.readouterr()
        return code, out + err

    return run


@pytest.fixture
def pictures(tmp_path) -> Path:
    """Four pictures in `pictures`, and their captions as `captions.csv`, `captions.json`, `tokens.txt`."""
    images, notes = [], []
    for n in range(4):
        path = tmp_path / "pictures" / f"{n}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(picture_bytes(n, kind="JPEG"))
        images.append({"id": n, "file_name": f"{n}.jpg"})
        notes.append({"id": n, "image_id": n, "caption": f"picture {n}"})
    (tmp_path / "captions.json").write_text(json.dumps({"images": images, "annotations": notes}))
    (tmp_path / "captions.csv").write_text(
        "image,caption\n" + "".join(f"{n}.jpg,picture {n}\n" for n in range(4))
    )
    (tmp_path / "tokens.txt").write_text("".join(f"{n}.jpg#0\tpicture {n}\n" for n in range(4)))
    for name in ("cat", "dog"):
        (tmp_path / "kinds" / name).mkdir(parents=True)
        for n in range(3):
            (tmp_path / "kinds" / name / f"{n}.jpg").write_bytes(picture_bytes(n, kind="JPEG"))
    return tmp_path / "pictures"


def test_what_is_written_lies_where_recipes_look(gaprun, tmp_path, monkeypatch):
    assert gaprun(*SMALL)[0] == 0 and open_split("scenes/train").samples == 6
    monkeypatch.setenv("GAPRUN_DATA", str(tmp_path / "store"))
    code, said = gaprun(*SMALL)
    assert (
        code == 0
        and "note:" not in said
        and open_split("scenes/train").path == tmp_path / "store/scenes/train"
    )
    code, said = gaprun(*SMALL, "--out", "data/scenes")
    assert code == 0 and f"GAPRUN_DATA={tmp_path / 'store'} is where recipes look" in said.replace("\n", "")
    code, said = gaprun(*SMALL, "--out", tmp_path / "store" / "other")
    assert code == 0 and "note:" not in said
    monkeypatch.delenv("GAPRUN_DATA")
    code, said = gaprun(*SMALL, "--out", "mine")
    assert code == 0 and "name its splits by path, such as mine/train" in said and open_split("mine/train")


@pytest.mark.parametrize("command", ["coco", "flickr30k", "flickr8k", "classes"])
def test_every_writer_has_its_place_in_the_data_root(gaprun, pictures, tmp_path, monkeypatch, command):
    monkeypatch.setenv("GAPRUN_DATA", str(tmp_path / "store"))
    captions = {"coco": "captions.json", "flickr30k": "tokens.txt", "flickr8k": "tokens.txt"}
    words = ("kinds",) if command == "classes" else ("--images", pictures, "--captions", captions[command])
    code, said = gaprun("data", command, *words)
    assert code == 0 and "note:" not in said, said
    name = "kinds" if command == "classes" else command
    assert [path.name for path in (tmp_path / "store").iterdir()] == [name] and not (
        tmp_path / "data"
    ).exists()


TABLE = ("captions", "--images", "pictures", "--captions", "captions.csv", "--out", "o")
COCO = ("coco", "--images", "pictures", "--captions", "captions.json")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((*TABLE, "--quality", "80"), "--quality 80: without --size"),
        ((*TABLE, "--seed", "3"), "--seed 3: nothing is divided"),
        (
            (*TABLE, "--split", "val", "--split-fractions", "train=0.5,test=0.5"),
            "--split val: --split-fractions",
        ),
        ((*TABLE[:-4], "--captions", "captions.json", "--out", "o", "--image-column", "x"), "are for tables"),
        (
            (*COCO[:-1], "captions_val.json", "--split", "test"),
            "--split test: captions_val.json has its own splits",
        ),
        (("classes", "kinds", "--download"), "--root and --download are for cifar10"),
        ((*TABLE, "--qualty", "80"), "No such option"),
        (("scenes", "--colour", "red"), "No such option"),
    ],
)
def test_what_would_be_ignored_is_refused(gaprun, pictures, tmp_path, words, said):
    (tmp_path / "captions_val.json").write_text((tmp_path / "captions.json").read_text())
    code, text = gaprun("data", *words)
    assert code == 2 and said in text and not (tmp_path / "o").exists() and not (tmp_path / "data").exists()


def test_what_was_read_is_told_first(gaprun, pictures, tmp_path):
    words = ("data", "captions", "--images", pictures, "--out", tmp_path / "mine")
    code, said = gaprun(*words, "--captions", tmp_path / "captions.csv", "--test", "1")
    assert code == 0 and "In all: 4 pictures, 4 captions" in said
    table = tmp_path / "one.csv"
    table.write_text("image,caption\n0.jpg,a picture\n")
    code, said = gaprun(*words[:-1], tmp_path / "one", "--captions", table)
    assert code == 0 and "In all: 1 picture, 1 caption\n" in said


def test_a_check_of_many_does_what_it_can(gaprun, tmp_path):
    assert gaprun(*SMALL)[0] == 0
    code, said = gaprun("data", "check", "data/scenes", "absent", "gone", "--json")
    assert code == 1 and said.count('"ok":true') == 2 and "'absent'" in said and "'gone'" in said
    code, said = gaprun("data", "check", "absent")
    assert code == 2 and "'absent'" in said


def test_a_split_without_a_usable_picture_does_not_take_the_others_with_it(gaprun, pictures, tmp_path):
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            (tmp_path / "c" / split / name).mkdir(parents=True)
            content = picture_bytes(1, kind="JPEG") if split == "test" else b"broken"
            (tmp_path / "c" / split / name / "0.jpg").write_bytes(content)
    code, said = gaprun("data", "classes", "c")
    assert (
        code == 2
        and "no usable picture for data/c/train: undecodable 2" in said
        and "c/test are there" in said
    )
    assert open_split("c/test").samples == 2 and not (tmp_path / "data" / "c" / "train").exists()


def test_flickr8k_is_written_from_its_official_files(gaprun, pictures, tmp_path):
    tokens = (tmp_path / "tokens.txt").read_text() + "2258277193_586949ec62.jpg.1#0\tghost\n"
    (tmp_path / "Flickr8k.token.txt").write_text(tokens)
    words = ["data", "flickr8k", "--images", pictures, "--captions", "Flickr8k.token.txt"]
    for split, name, numbers in (("train", "train", (0, 1)), ("val", "dev", (2,)), ("test", "test", (3,))):
        (tmp_path / f"Flickr_8k.{name}Images.txt").write_text("".join(f"{n}.jpg\n" for n in numbers))
        words += [f"--{split}-list", f"Flickr_8k.{name}Images.txt"]
    code, said = gaprun(*words)
    assert code == 0
    assert "unknown_split_picture: 1 (such as 2258277193_586949ec62.jpg.1)" in " ".join(said.split())
    found = {name: open_split(f"flickr8k/{name}").captions for name in ("train", "val", "test")}
    assert found == {"train": [["picture 0"], ["picture 1"]], "val": [["picture 2"]], "test": [["picture 3"]]}


def tree(folder: Path) -> dict[str, str]:
    """Every file and link below `folder` with what it holds."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            found[str(path.relative_to(folder))] = f"-> {os.readlink(path)}"
        elif path.is_file():
            found[str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


MINE = {
    "thesis.tex": "precious",
    "00000.tar.gz": "packed by me",
    "00007.tar.bak": "a copy of mine",
    "index.json.orig": "{}",
    "notes/plan.json": "{}",
}


def commands(npz: str) -> dict[str, tuple[tuple[str, ...], tuple[str, ...], str]]:
    """A command, what changes in its second call, and the split folder that it writes."""
    captions = ("--images", "pictures", "--captions")
    return {
        "scenes": (SMALL[1:], ("--seed", "1"), "data/scenes/train"),
        "coco": (("coco", *captions, "captions.json"), ("--size", "8"), "data/coco/train"),
        "flickr30k": (("flickr30k", *captions, "tokens.txt"), ("--size", "8"), "data/flickr30k/train"),
        "flickr8k": (("flickr8k", *captions, "tokens.txt"), ("--size", "8"), "data/flickr8k/train"),
        "captions": (TABLE, ("--size", "8"), "o/train"),
        "classes": (("classes", npz), ("--test-share", "0.4"), "data/set/train"),
        "index": (("index", "shards", "--out", "data/linked/train"), (), "data/linked/train"),
    }


@pytest.mark.parametrize("name", list(commands("")))
def test_force_replaces_what_gaprun_wrote_and_nothing_else(gaprun, pictures, tmp_path, name):
    np.savez(tmp_path / "set.npz", images=np.zeros((10, 8, 8, 3), np.uint8), labels=np.arange(10) % 2)
    write_tar(tmp_path / "shards" / "a.tar", [("x.jpg", picture_bytes(1, kind="JPEG")), ("x.txt", b"x")])
    words, change, split = commands("set.npz")[name]
    assert gaprun("data", *words)[0] == 0
    folder = tmp_path / split
    for mine, text in MINE.items():
        (folder / mine).parent.mkdir(exist_ok=True)
        (folder / mine).write_text(text)
    (folder / "mine.tar").symlink_to(tmp_path / "shards" / "a.tar")
    before = tree(tmp_path)
    code, said = gaprun("data", *words, *change, "--force")
    assert code == 2 and "choose another --out" in said, "a tar that is not ours"
    assert tree(tmp_path) == before
    (folder / "mine.tar").unlink()
    code, said = gaprun("data", *words, *change, "--force")
    after = tree(tmp_path)
    if name == "index":  # a folder of links holds nothing else
        assert code == 2 and "00000.tar.gz" in said
    else:
        assert code == 0, said
    kept = {
        path
        for path in before
        if not path.startswith(split) or Path(path).name in map(os.path.basename, MINE)
    }
    kept -= {
        path for path in before if path.startswith(str(Path(split).parent)) and not path.startswith(split)
    }
    assert {path: after.get(path) for path in kept} == {path: before[path] for path in kept}


def test_a_work_folder_that_gaprun_did_not_make_is_left_alone(gaprun, tmp_path):
    (tmp_path / "data" / "scenes" / "train" / ".writing").mkdir(parents=True)
    (tmp_path / "data" / "scenes" / "train" / ".writing" / "draft.txt").write_text("precious")
    before = tree(tmp_path)
    for force in ((), ("--force",)):
        code, said = gaprun(*SMALL, *force)
        assert code == 2 and "draft.txt was not written by gaprun" in said and tree(tmp_path) == before


@pytest.mark.parametrize("split", ["../../x", "/tmp/x", "a/b", "x\n", ".hidden", ""])
def test_names_from_files_never_become_paths(gaprun, pictures, tmp_path, split):
    image = {"filename": "0.jpg", "split": split, "sentences": [{"raw": "one"}], "cocoid": 1}
    (tmp_path / "k.json").write_text(json.dumps({"images": [image]}))
    before = tree(tmp_path)
    code, said = gaprun("data", "coco", "--images", pictures, "--karpathy", "k.json")
    assert code == 2 and "cannot be a split's name" in said and tree(tmp_path) == before


def test_archives_and_keys_never_write_outside(gaprun, tmp_path):
    picture = picture_bytes(1, kind="JPEG")
    write_tar(
        tmp_path / "in" / "s.tar",
        [("../../up.jpg", picture), ("/abs/x.jpg", picture), ("../../up.txt", b"x")],
    )
    before = tree(tmp_path)
    assert gaprun("data", "index", "in", "--out", "data/in/train")[0] == 0
    new = set(tree(tmp_path)) - set(before)
    assert all(path.startswith("data/in/train/") for path in new) and open_split("in/train").samples == 2
