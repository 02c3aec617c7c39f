"""Alignment by subset: thirds by caption length, the rule over subsets, and a trained run's numbers."""

import json

import numpy as np
import pytest

from gaprun.comparison.subsets import Subset, alignment_subsets, judge, thirds
from tests.conftest import RECIPES, TINY


def test_thirds_hold_every_caption_once_and_keep_equal_lengths_together():
    words = np.array([5, 5, 6, 7, 7, 8, 9, 12, 5])
    named = thirds(words)
    assert np.sum([mask for _, mask in named], axis=0).tolist() == [1] * 9
    assert [name for name, _ in named] == ["5 words", "6 to 7 words", "8 to 12 words"]
    assert [name for name, _ in thirds(np.array([4, 4, 4]))] == ["4 words"]


@pytest.mark.parametrize(
    "far, n, status",
    [(1.0, 50, "flagged"), (0.85, 50, "clear"), (1.0, 10, "not recorded")],
)
def test_the_rule_over_subsets(far, n, status):
    groups = [
        Subset("a/test", "class", "cat", 100, 0.7, None),
        Subset("a/test", "class", "dog", n, far, None),
    ]
    assert judge(groups).status == status
    other = Subset("b/test", "class", "cat", 100, 3.0, None)  # classes of another data set are not compared
    assert judge([*groups, other]).status == status


@pytest.mark.slow
def test_subsets_of_a_trained_run_agree_with_its_alignment(gaprun, tmp_path, scenes, monkeypatch):
    done = gaprun("train", str(RECIPES / "baseline.yaml"), *TINY, "--seeds", "0")
    assert done.returncode == 0, done.stderr
    monkeypatch.setenv("GAPRUN_DATA", str(scenes))
    from gaprun.store import open_store

    store = open_store(str(tmp_path / "results.db"))
    (run,) = store.runs()
    found = alignment_subsets(store, run.id)
    whole = next(s for s in found if s.by == "data set")
    stored = next(
        m["value"] for m in store.metrics(run.id) if m["metric"] == "alignment" and m["protocol"] == "full"
    )
    assert whole.alignment == pytest.approx(stored, abs=1e-6) and whole.n == 96
    parts = [s for s in found if s.by == "caption length"]
    assert sum(s.n for s in parts) == 96
    assert sum(s.n * s.alignment for s in parts) / 96 == pytest.approx(stored, abs=1e-6)
    assert sum(s.n for s in found if s.by == "class") == 80
    shown = json.loads(gaprun("runs", "show", run.id, "--subsets", "--json").stdout)
    assert len(shown["subsets"]) == len(found) and shown["health"][-1]["sign"] == "alignment-differs"
    assert "caption length" in gaprun("runs", "show", run.id, "--subsets").stdout
