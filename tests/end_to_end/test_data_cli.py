"""`gaprun data` through the real command line: each set is written, found again, checked; bad input is one line."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import gaprun as gaprun_package
from gaprun.cli.main import main
from gaprun.data.decode import decode_rgb
from gaprun.data.scenes import scenes_plans
from gaprun.data.split import open_split
from gaprun.data.write import write_splits

REAL = os.environ.get("GAPRUN_TEST_DATA")
needs_real = pytest.mark.skipif(
    REAL is None, reason="GAPRUN_TEST_DATA is not set (real pictures and captions)"
)


@pytest.fixture
def gaprun(monkeypatch, capsys, tmp_path):
    """Run a command line in this process within `tmp_path`; its exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GAPRUN_DEBUG", raising=False)
    monkeypatch.delenv("GAPRUN_DATA", raising=False)

    def run(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["gaprun", *map(str, words)])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def pictures(tmp_path) -> Path:
    """Ten small JPEGs with a CSV of two captions each."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    rows = ["image,caption"]
    for i in range(10):
        pixels = np.full((20, 30, 3), 20 * i, dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.jpg")
        rows += [f"{i}.jpg,caption {k} of {i}" for k in range(2)]
    (tmp_path / "captions.csv").write_text("\n".join(rows))
    return folder


def test_scenes_are_drawn_found_again_checked_and_damage_is_named(gaprun, tmp_path):
    command = ("data", "scenes", "--out", "data/scenes", "--train", "40", "--test", "10")
    command += ("--classes-train", "16", "--classes-test", "8")
    code, out, err = gaprun(*command)
    assert code == 0 and out.count(" written") == 4 and re.search(r"scenes/train +40 +200 +1 ", out)
    code, out, _ = gaprun(*command, "--json")
    made = json.loads(out)
    assert [(one["samples"], one["written"]) for one in made] == [
        (40, False),
        (10, False),
        (16, False),
        (8, False),
    ]
    split = open_split("scenes/classes-test")
    assert split.classes and split.templates and sorted(set(split.labels.tolist())) == list(range(8))
    code, out, err = gaprun(*command, "--seed", "1")
    assert code == 2 and "seed: 0 -> 1" in err and "--force" in err
    assert gaprun(*command, "--seed", "1", "--force")[0] == 0
    code, out, _ = gaprun("data", "check", "data/scenes", "--json")
    assert code == 0 and [one["ok"] for one in json.loads(out)] == [True] * 4
    shard = tmp_path / "data" / "scenes" / "test" / "00000.tar"
    content = bytearray(shard.read_bytes())
    content[open_split("scenes/test").places[3, 1] + 60] ^= 1
    shard.write_bytes(content)
    code, out, err = gaprun("data", "check", "data/scenes")
    assert code == 1 and "00000.tar test-000003" in out and "Traceback" not in err
    code, out, _ = gaprun("data", "check", "data/scenes/test", "--json")
    report = json.loads(out)[0]
    assert code == 1 and not report["ok"]
    assert {"shard": "00000.tar", "key": "test-000003"}.items() <= report["damage"][1].items()


def test_a_table_becomes_train_and_test(gaprun, pictures):
    command = ("data", "captions", "--images", pictures, "--captions", "captions.csv", "--out", "data/mine")
    code, out, _ = gaprun(*command, "--test", "3", "--size", "16")
    assert code == 0
    train, test = open_split("mine/train"), open_split("mine/test")
    assert (train.samples, test.samples) == (7, 3) and not set(train.keys) & set(test.keys)
    assert train.sizes.tolist() == [[24, 16]] * 7
    for split in (train, test):
        for i, key in enumerate(split.keys):
            assert split.captions[i] == [f"caption 0 of {key}", f"caption 1 of {key}"]
            assert abs(np.asarray(decode_rgb(split.read_image(i)), int) - 20 * int(key)).max() <= 2
    code, _, err = gaprun(*command, "--test", "4", "--size", "16")
    assert code == 2 and "content:" in err


def test_flickr_tokens_class_folders_digits_and_foreign_shards(gaprun, pictures, tmp_path):
    tokens = tmp_path / "results.token"
    tokens.write_text("".join(f"{i}.jpg#0\tpicture {i}\n" for i in range(9)))
    code, out, _ = gaprun("data", "flickr30k", "--images", pictures, "--captions", tokens, "--test", "2")
    assert code == 0 and "no_caption: 1 (such as 9.jpg)" in out
    assert open_split("flickr30k/test").samples == 2
    for name in ("dark", "light"):
        (tmp_path / "kinds" / name).mkdir(parents=True)
    for i in range(10):
        shutil.copy(pictures / f"{i}.jpg", tmp_path / "kinds" / ("dark" if i < 5 else "light"))
    assert gaprun("data", "classes", tmp_path / "kinds")[0] == 0
    assert open_split("kinds/train").classes == ["dark", "light"]
    assert gaprun("data", "classes", "digits", "--test-share", "0.5")[0] == 0
    assert open_split("digits/test").samples == pytest.approx(1797 / 2, abs=10)
    foreign = tmp_path / "data" / "other" / "train"
    foreign.mkdir(parents=True)
    shutil.copy(tmp_path / "data" / "flickr30k" / "train" / "00000.tar", foreign)
    code, out, _ = gaprun("data", "index", foreign)
    assert code == 0 and re.search(r"other/train +7 +7 +1 ", out)
    assert open_split("other/train").captions == open_split("flickr30k/train").captions


def test_a_killed_command_is_finished_by_the_same_command(gaprun, tmp_path):
    command = ["data", "scenes", "--train", "1300", "--test", "0", "--size", "16"]
    command += ["--classes-train", "0", "--classes-test", "0", "--out", str(tmp_path / "a")]
    root = Path(gaprun_package.__file__).parent.parent
    process = subprocess.Popen(
        [sys.executable, "-m", "gaprun", *command], cwd=root, stderr=subprocess.DEVNULL
    )
    folder = tmp_path / "a" / "train"
    while not (folder / "00000.tar").exists() and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not (folder / "index.json").exists()
    code, out, _ = gaprun(*command)
    assert code == 0 and re.search(r" 1,300 .* written", out)
    write_splits(scenes_plans(tmp_path / "b", 1300, 0, 0, 0, 16, 0))
    assert open_split(folder).fingerprint == open_split(tmp_path / "b" / "train").fingerprint
    for name in ("00000.tar", "00001.tar", "samples.jsonl"):
        assert (folder / name).read_bytes() == (tmp_path / "b" / "train" / name).read_bytes()


BAD = [
    (("coco",), "--images"),
    (("coco", "--images", "absent", "--captions", "captions.json"), "captions.json"),
    (("coco", "--images", "pictures"), "give --captions"),
    (("coco", "--images", "absent", "--captions", "ok.json"), "absent is not a folder"),
    (("coco", "--images", "pictures", "--captions", "captions.csv"), "is not JSON"),
    (("coco", "--images", "pictures", "--captions", "ok.json", "--size", "1"), "--size 1"),
    (("coco", "--images", "pictures", "--captions", "ok.json", "--size", "big"), "valid integer"),
    (("coco", "--images", "pictures", "--captions", "ok.json", "--quality", "0"), "--quality 0"),
    (("coco", "--images", "pictures", "--captions", "ok.json", "--test", "99"), "without any"),
    (
        ("coco", "--images", "pictures", "--captions", "ok.json", "--split", "../x"),
        "cannot be a split's name",
    ),
    (("coco", "--images", "pictures", "--captions", "ok.json", "--out", "captions.csv"), "cannot write"),
    (("coco", "--images", "pictures", "--karpathy", "ok.json"), "no Karpathy split file"),
    (("coco", "--images", "pictures", "--captions", "evil.json"), "outside --images: refused"),
    (("coco", "--images", "pictures", "--captions", "none.json"), "names no picture"),
    (("captions", "--images", "pictures", "--captions", "bad.csv", "--out", "o"), "no column 'image"),
    (("captions", "--images", "empty", "--captions", "captions.csv", "--out", "o"), "no picture file"),
    (
        ("captions", "--images", "pictures", "--captions", "captions.csv", "--out", "full"),
        "full/train is not empty",
    ),
    (("captions", "--images", "broken", "--captions", "broken.csv", "--out", "o"), "undecodable 1"),
    (("flickr30k", "--images", "pictures", "--captions", "gone.token"), "No such file"),
    (("classes", "imagenet"), "is not cifar10"),
    (("classes", "cifar10", "--root", "empty"), "--download"),
    (("classes", "digits", "--test-share", "2"), "--test-share 2"),
    (("classes", "captions.npz"), "cannot be read as npz"),
    (("scenes", "--size", "2"), "--size 2"),
    (("scenes", "--train", "-5"), "--train -5"),
    (("scenes", "--train", "10", "--out", "/proc/nowhere"), "cannot write"),
    (("check", "absent"), "no data split 'absent'"),
    (("index", "pictures"), "no .tar shards"),
    (("nonsense",), "nonsense"),
]


@pytest.mark.parametrize(("words", "message"), BAD, ids=[" ".join(words) for words, _ in BAD])
def test_bad_input_is_one_clear_line_and_writes_nothing(gaprun, pictures, tmp_path, words, message):
    entry = {"id": 1, "file_name": "1.jpg"}
    note = {"id": 1, "image_id": 1, "caption": "one"}
    (tmp_path / "ok.json").write_text(json.dumps({"images": [entry], "annotations": [note]}))
    evil = entry | {"file_name": "../captions.csv"}
    (tmp_path / "evil.json").write_text(json.dumps({"images": [evil], "annotations": [note]}))
    (tmp_path / "none.json").write_text('{"images": [], "annotations": []}')
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    (tmp_path / "broken.csv").write_text("image,caption\nx.jpg,text\n")
    for name in ("empty", "broken", "full/train"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "broken" / "x.jpg").write_bytes(b"broken")
    (tmp_path / "full" / "train" / "mine.txt").write_text("precious")
    before = sorted(tmp_path.rglob("*"))
    code, out, err = gaprun("data", *words)
    assert code == 2 and message in err and "Traceback" not in out + err
    if err.startswith("error:"):
        assert len(err.strip().splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before


@needs_real
def test_the_real_sets_are_written_and_sound(gaprun):
    real = Path(REAL or "")
    coco, flickr = real / "coco_sample", real / "flickr8k_sample"
    code, out, _ = gaprun(
        "data",
        "coco",
        "--images",
        coco / "images",
        "--captions",
        coco / "captions.json",
        "--test",
        "60",
        "--json",
    )
    made = json.loads(out)
    assert code == 0 and [one["samples"] for one in made] == [227, 60] and made[0]["captions"] == 1135
    assert made[0]["report"]["greyscale"] + made[1]["report"].get("greyscale", 0) >= 1
    content = json.loads((coco / "captions.json").read_text())
    files = {Path(image["file_name"]).stem: image["id"] for image in content["images"]}
    split = open_split("coco/test")
    for i, key in enumerate(split.keys):
        notes = sorted(
            (n for n in content["annotations"] if n["image_id"] == files[key]), key=lambda n: n["id"]
        )
        assert split.captions[i] == [" ".join(note["caption"].split()) for note in notes]
        assert split.read_image(i) == (coco / "images" / f"{key}.jpg").read_bytes()
    code, out, _ = gaprun(
        "data", "captions", "--images", flickr / "images", "--captions", flickr / "captions.json",
        "--size", "64", "--split-fractions", "train=0.9,test=0.1", "--out", "data/flickr8k",
    )  # fmt: skip
    assert code == 0 and (open_split("flickr8k/train").samples, open_split("flickr8k/test").samples) == (
        720,
        80,
    )
    assert open_split("flickr8k/train").sizes.min() >= 64
    assert (
        gaprun("data", "classes", real / "cifar10_sample" / "cifar10_subset.npz", "--out", "data/cifar10")[0]
        == 0
    )
    test = open_split("cifar10/test")
    with np.load(real / "cifar10_sample" / "cifar10_subset.npz") as arrays:
        rows = np.flatnonzero(arrays["split"] == "test")
        assert test.labels.tolist() == arrays["labels"][rows].tolist()
        assert np.array_equal(np.asarray(decode_rgb(test.read_image(77))), arrays["images"][rows[77]])
        assert test.classes == arrays["class_names"].tolist()
    assert gaprun("data", "check", "data")[0] == 0


@needs_real
def test_the_full_val2017_captions_are_counted(gaprun):
    coco = Path(REAL or "") / "coco_sample"
    captions = coco / "captions_val2017_full.json"
    code, out, _ = gaprun("data", "coco", "--images", coco / "images", "--captions", captions, "--json")
    [made] = json.loads(out)
    assert code == 0 and made["split"] == "val" and made["samples"] == 210
    assert made["captions"] + made["report"]["caption_without_image"] == 25_014
    assert made["samples"] + made["report"]["no_caption"] == 287
