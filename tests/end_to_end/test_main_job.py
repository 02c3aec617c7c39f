"""The main job on real photos, as the README says it: prepared, trained, measured, compared and reported; then every
number computed again by an independent script in float64."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from tests.conftest import RECIPES, run_gaprun
from tests.end_to_end import recompute

pytestmark = pytest.mark.slow

SMALL = f"""
extends: {RECIPES}/base/scenes.yaml
data: {{train: [flickr8k/train]}}
schedule: {{steps: 20, warmup_steps: 2, batch_size: 64}}
checkpoint: {{every_steps: 10}}
eval:
  - {{task: gap, data: [flickr8k/test]}}
  - {{task: retrieval, data: [flickr8k/test]}}
  - {{task: zeroshot, data: [cifar10/test]}}
  - {{task: probe, data: [cifar10/test]}}
"""
METRICS = ("gap", "recall@5", "zeroshot_top1", "probe_top1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, real_data: Path) -> Path:
    """A working folder with photos, four trained runs and their measurements."""
    folder, photos = tmp_path_factory.mktemp("job"), real_data / "flickr8k_96px"
    files = [
        word for name in ("train", "test") for word in ("--captions", str(photos / f"captions_{name}.json"))
    ]
    cifar = str(real_data / "cifar10_sample" / "cifar10_subset.npz")
    (folder / "small.yaml").write_text(SMALL)
    (folder / "flt.yaml").write_text(
        f"extends: {RECIPES}/flt.yaml\nname: flt\ntemperature: {{rule: fixed, tau: 0.2}}\n"
    )
    (folder / "study.yaml").write_text(
        f"recipes: [{RECIPES}/baseline.yaml, flt.yaml]\nbase: small.yaml\nseeds: [0, 1]\n"
    )
    for command in (
        ["data", "coco", "--images", str(photos / "images"), *files, "--out", "data/flickr8k"],
        ["data", "classes", cifar, "--out", "data/cifar10"],
        ["data", "check", "data/flickr8k/train", "data/flickr8k/test", "data/cifar10/test"],
        ["train", "study.yaml"],
    ):
        done = run_gaprun(*command, cwd=folder)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_measure_is_what_an_independent_script_computes(folder: Path, capfd) -> None:
    wrong = recompute.main(folder, seeds=(0,))
    said = capfd.readouterr().out
    assert wrong == 0, "\n".join(line for line in said.splitlines() if line.startswith("DIFFERS"))
    assert int(re.search(r"(\d+) values", said)[1]) >= 2 * 35


def test_the_comparison_is_what_scipy_makes_of_the_stored_values(folder: Path) -> None:
    shown = [word for name in METRICS for word in ("--metric", name)]
    done = run_gaprun("compare", *shown, "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    rows = recompute.stored(folder)
    compared = 0
    for cell in json.loads(done.stdout):
        values = {
            recipe: [
                row["value"]
                for row in sorted(rows, key=lambda row: row["seed"])
                if row["recipe"] == recipe
                and (row["name"], row["protocol"]) == (cell["metric"], cell["protocol"])
                and cell["dataset"] in (row["dataset"], f"{row['dataset']}/{row['split']}")
            ]
            for recipe in ("baseline", cell["recipe"])
        }
        own = values[cell["recipe"]]
        assert cell["n"] == len(own) == 2
        assert cell["mean"] == pytest.approx(np.mean(own)) and cell["std"] == pytest.approx(
            np.std(own, ddof=1)
        )
        half = stats.t.ppf(0.975, 1) * np.std(own, ddof=1) / np.sqrt(2)
        assert cell["ci95"] == pytest.approx([np.mean(own) - half, np.mean(own) + half])
        if cell["recipe"] != "baseline":
            assert cell["delta"] == pytest.approx(np.mean(own) - np.mean(values["baseline"]))
        compared += 1
    assert compared == 2 * 8


def test_the_report_shows_those_numbers(folder: Path) -> None:
    done = run_gaprun("report", "--out", "report.html", cwd=folder)
    assert done.returncode == 0, done.stderr
    page = (folder / "report.html").read_text()
    for recipe in ("baseline", "flt"):
        own = [
            row["value"]
            for row in recompute.stored(folder)
            if (row["recipe"], row["name"], row["protocol"]) == (recipe, "gap", "full")
        ]
        assert f"{np.mean(own):.3f}" in page
