"""The learning benchmark runs beside its peer, keeps its contract, and goes on from what it kept."""

import importlib.util
import json
import math
import os
import subprocess
from pathlib import Path

import pytest

from tests.conftest import PREPARED, REPO

SCRIPT = REPO / "benchmarks" / "learning.py"


def run(*words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [PREPARED.python, str(SCRIPT), "--json", "--small", *words],
        capture_output=True,
        text=True,
        timeout=900,
        env=environment,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.mark.slow
def test_learning_runs_beside_open_clips_loop_and_goes_on(tmp_path: Path) -> None:
    done = run("--folder", str(tmp_path / "kept"))
    answer = json.loads(done.stdout.splitlines()[-1])
    assert {"recall_ratio", "gap_shift", "seeds"} <= answer.keys() and answer["seeds"] == 1
    rows = json.loads((tmp_path / "kept" / "learning-1-epochs.json").read_text())
    assert [row["contender"] for row in rows] == ["peer", "ours"]
    theirs, own = (row["test"] for row in rows)
    assert answer["recall_ratio"] == pytest.approx(own["recall@5"] / theirs["recall@5"], abs=0.001)
    assert answer["gap_shift"] == pytest.approx(own["gap"] - own["gap_trained"], abs=1e-5)
    assert 0 < own["gap"] < 2 and 0 < theirs["gap"] < 2
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GAPRUN_DATA": str(tmp_path / "kept")}
    command = [PREPARED.python, str(SCRIPT.with_name("crop_gap.py")), "--json", "--data", "scenes/test"]
    command += ["--db", str(tmp_path / "kept" / "results.db")]
    done_gap = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done_gap.returncode == 0, done_gap.stderr
    (shown,) = json.loads(done_gap.stdout.splitlines()[-1])["learning-ours"]
    assert shown == pytest.approx(own)
    again = run("--folder", str(tmp_path / "kept"))
    assert again.stdout == done.stdout and "seed" not in again.stderr


def test_intervals_are_students(monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    spec = importlib.util.spec_from_file_location("learning", SCRIPT)
    assert spec is not None and spec.loader is not None
    learning = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(learning)
    mean, half = learning.spread([1.0, 2.0, 3.0, 4.0])
    assert mean == 2.5 and half == pytest.approx(3.182 * 1.29099 / 2, rel=0.001)
    assert math.isnan(learning.spread([1.0])[1])
