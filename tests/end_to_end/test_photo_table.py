"""Table 2 on Flickr8k as a stranger makes it: official files, the documented commands, at 200 photos and few steps."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import RECIPES, run_gaprun

pytestmark = pytest.mark.slow
PHOTOS = {"train": 120, "val": 40, "test": 40}
LISTS = {"train": "trainImages", "val": "devImages", "test": "testImages"}
SMALLER = (
    "schedule.epochs=2",
    "schedule.warmup_epochs=1",
    "schedule.batch_size=40",
    "checkpoint.every_epochs=2",
)


def official_files(source: Path, folder: Path) -> None:
    """Token file and split lists in Flickr8k's own form, of the first photos of each split."""
    (folder / "Flicker8k_Dataset").mkdir()
    tokens = []
    for split, count in PHOTOS.items():
        content = json.loads((source / f"captions_{split}.json").read_text())
        names = {image["id"]: image["file_name"] for image in content["images"][:count]}
        (folder / f"Flickr_8k.{LISTS[split]}.txt").write_text("".join(f"{name}\n" for name in names.values()))
        seen = dict.fromkeys(names, 0)
        for note in content["annotations"]:
            if (image := note["image_id"]) in names:
                tokens.append(f"{names[image]}#{seen[image]}\t{note['caption']}\n")
                seen[image] += 1
        for name in names.values():
            shutil.copy(source / "images" / name, folder / "Flicker8k_Dataset" / name)
    (folder / "Flickr8k.token.txt").write_text("".join(tokens))


def few_of_each_class(source: Path, target: Path) -> None:
    """An npz of CIFAR-10 with twelve training and six test pictures a class."""
    with np.load(source, allow_pickle=True) as all_of_it:
        labels, split = all_of_it["labels"], all_of_it["split"]
        kept = np.concatenate(
            [
                np.flatnonzero((labels == label) & (split == part))[:count]
                for part, count in (("train", 12), ("test", 6))
                for label in range(10)
            ]
        )
        rows = {key: all_of_it[key][kept] for key in ("images", "labels", "split")}
        np.savez(target, **rows, class_names=all_of_it["class_names"])


def test_table_2_on_photos_by_one_command(tmp_path: Path, real_data: Path) -> None:
    official_files(real_data / "flickr8k_96px", tmp_path)
    few_of_each_class(real_data / "cifar10_sample" / "cifar10_subset.npz", tmp_path / "cifar10.npz")
    lists = [f"--{split}-list=Flickr_8k.{name}.txt" for split, name in LISTS.items()]
    named = ["--images", "Flicker8k_Dataset", "--captions", "Flickr8k.token.txt", "--size", "96"]
    for words in (["flickr8k", *named, *lists], ["classes", "cifar10.npz", "--out", "data/cifar10"]):
        done = run_gaprun("data", *words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    recipe = str(RECIPES / "paper" / "photos" / "table2.yaml")
    sizes = [word for size in SMALLER for word in ("--set", size)]
    done = run_gaprun("train", recipe, *sizes, "--seeds", "0", cwd=tmp_path)
    assert done.returncode == 0, done.stderr

    asked = run_gaprun("paper", "table2", "--json", cwd=tmp_path)
    assert asked.returncode == 0, asked.stderr
    stored = run_gaprun("compare", "--metric", "gap", "--metric", "recall@1", "--json", cwd=tmp_path)
    rows = json.loads(stored.stdout)
    # Seven settings; the gap as it is and after each of the two maps, over the pool and over all 40 test photos.
    gaps = {(row["group"], row["protocol"]): row["mean"] for row in rows if row["metric"] == "gap"}
    assert len({group for group, _ in gaps}) == 7 and len(gaps) == 7 * 2 * 3
    for group in {group for group, _ in gaps}:
        assert gaps[group, "full+centre"] < gaps[group, "full"]
    assert {row["items"] for row in rows if row["metric"] == "image_recall@1"} == {40}
