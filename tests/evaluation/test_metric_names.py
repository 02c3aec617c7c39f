"""Metric names: short names, families, directions, and the error for a name nobody knows."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from gaprun.errors import UserError
from gaprun.evaluation.names import DIRECTION, METRIC_FAMILIES, direction, expand_metric


def test_short_names_expand_to_their_parts():
    assert expand_metric("recall@5") == ["image_recall@5", "text_recall@5"]
    assert expand_metric("uniformity") == ["uniformity_image", "uniformity_text", "uniformity_joint"]
    assert expand_metric("gap") == ["gap"]
    assert expand_metric("geometry") == list(METRIC_FAMILIES["geometry"])


def test_direction_of_the_two_uniformities_differs():
    assert DIRECTION["uniformity_image"] == "down"
    assert DIRECTION["uniformity_w2_image"] == "up"
    assert direction("gap") == "down"
    assert direction("image_recall@1") == "up"
    assert direction("temperature") == "none"
    assert direction("somebody's own") == "none"


def test_unknown_name_offers_the_nearest():
    with pytest.raises(UserError, match="text_recall@5"):
        expand_metric("text_recal@5")


def test_every_name_belongs_to_one_family():
    names = [name for family in METRIC_FAMILIES.values() for name in family]
    assert len(names) == len(set(names)) == len(DIRECTION)


def test_importing_names_loads_nothing_heavy():
    code = "import sys, gaprun.evaluation.names; print([m for m in ('numpy', 'torch') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_docs_define_every_metric_and_agree_on_the_better_side():
    docs = Path(__file__).parents[2] / "docs"
    text = (docs / "metrics.md").read_text() + (docs / "composition.md").read_text()
    for name in DIRECTION:
        if not name.startswith(("sugarcrepe_", "mmvp_")):  # one line stands for all categories there
            assert f"`{name}`" in text, name
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        for name in re.findall(r"^`[^|]*`(?= *\|)", line.strip("| ")) and re.findall(r"`([^`]+)`", cells[0]):
            stated = next(cell for cell in cells if cell in ("up", "down", "-"))
            assert stated.replace("-", "none") == direction(name), name
