"""docs/extending.md: its blocks are tests/plugin, and that file's classes work from a recipe and the command line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.stats import skew

from tests.conftest import REPO, run_gaprun

PLUGIN = REPO / "tests" / "plugin"
PAGE = (REPO / "docs" / "extending.md").read_text()


def test_the_page_is_the_plugin_part_by_part() -> None:
    """Every line of the file but its docstring, in order, and the recipe."""
    shown = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    own = (PLUGIN / "own.py").read_text().partition("\n\n")[2]
    assert "\n\n\n".join(block.strip() for block in shown) == own.strip()
    (recipe,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.S)
    assert recipe == (PLUGIN / "mine.yaml").read_text()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with pictures of one colour, a text beside each, and the page's recipe."""
    (tmp_path / "pictures").mkdir()
    for i in range(60):
        colour = tuple(int(v) for v in np.random.default_rng(i).integers(0, 256, 3))
        Image.new("RGB", (32, 32), colour).save(tmp_path / "pictures" / f"p{i}.png")
        (tmp_path / "pictures" / f"p{i}.txt").write_text(f"a picture of {colour}\nnumber {i}\n")
    recipe = (PLUGIN / "mine.yaml").read_text()
    (tmp_path / "mine.yaml").write_text(recipe.replace("recipes/base", str(REPO / "recipes" / "base")))
    return tmp_path


def test_each_part_is_used_from_a_recipe_or_the_command_line(place: Path) -> None:
    env = {"GAPRUN_PLUGINS": str(PLUGIN / "own.py"), "GAPRUN_DATA": str(place / "data")}

    def gaprun(*words: str) -> str:
        done = run_gaprun(*words, cwd=place, env=env)
        assert done.returncode == 0, (words, done.stderr)
        return done.stdout

    made = ("data", "beside", "--images", "pictures", "--test", "20", "--out", "data/mine", "--json")
    said = json.loads(gaprun(*made))
    assert [(split["samples"], split["captions"]) for split in said] == [(40, 80), (20, 40)]
    short = ("schedule.steps=4", "schedule.warmup_steps=1", "schedule.batch_size=16")
    gaprun("train", "mine.yaml", "--seeds", "0", *(word for key in short for word in ("--set", key)))
    (run,) = json.loads(gaprun("runs", "list", "--json"))
    shown = json.loads(gaprun("runs", "show", run["id"], "--json"))
    values = {(m["metric"], m["protocol"]): m["value"] for m in shown["metrics"]}
    assert values["temperature", "final"] == pytest.approx(0.05, rel=1e-6)  # after two whole periods
    terms = shown["resolved_recipe"]["loss"]["terms"]
    assert terms == [{"name": "variance", "weight": 0.1, "least": 0.05}]
    asked = ("--data", "mine/test", "--tasks", "hubs", "--transform", "top-removed,k=3", "--json")
    again = json.loads(gaprun("eval", "--ckpt", run["id"], *asked))
    values |= {(m["metric"], m["protocol"]): m["value"] for m in again["metrics"]}
    for protocol in ("full", "full+top-removed,k=2", "full+top-removed,k=3"):
        measured = values["hub_skewness", protocol]
        assert measured == pytest.approx(skewness(place, protocol.partition("k=")[2]), rel=1e-3), protocol
    table = gaprun("compare", "--metric", "hub_skewness")
    assert "hub_skewness" in table and "↓" in table


def skewness(place: Path, k: str) -> float:
    """The plugin's measure from the kept embeddings, after its transform where `k` is given, by scipy."""
    kept = {}
    for folder in (place / "runs" / "embeddings").iterdir():
        rows = [np.load(folder / f"{name}.npy").astype(np.float64) for name in ("images", "texts", "owner")]
        kept[len(rows[0])] = rows
    images, texts, _ = kept[20]
    if k:
        train, captions, owner = kept[40]
        first = captions[np.unique(owner, return_index=True)[1]]
        images, texts = removed(images, train, int(k)), removed(texts, first, int(k))
    nearest = np.argsort(-texts @ images.T, axis=1)[:, :10]
    return float(skew(np.bincount(nearest.ravel(), minlength=20)))


def removed(rows: np.ndarray, train: np.ndarray, k: int) -> np.ndarray:
    from sklearn.decomposition import PCA

    fitted = PCA(k, svd_solver="full").fit(train)
    moved = rows - fitted.mean_
    moved -= moved @ fitted.components_.T @ fitted.components_
    return moved / np.linalg.norm(moved, axis=1, keepdims=True)
