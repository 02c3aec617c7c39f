"""The comparison's benchmark asks gaprun and MLflow for the same numbers, and both give the same answer."""

import importlib.util
import json
import subprocess
import sys

import pytest

from tests.conftest import REPO, run_gaprun


@pytest.mark.slow
def test_both_sides_answer_alike(tmp_path):
    pytest.importorskip("mlflow", reason="mlflow is the peer here: pip install -e .[dev]")
    spec = importlib.util.spec_from_file_location("compare_benchmark", REPO / "benchmarks" / "compare.py")
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    benchmark.fill_gaprun(tmp_path / "ours.db", 20)
    benchmark.fill_mlflow(tmp_path / "theirs.db", 20)
    done = run_gaprun("compare", "--metric", "gap", "--json", "--db", str(tmp_path / "ours.db"), cwd=tmp_path)
    ours = {row["recipe"]: (row["mean"], row["std"], row["n"]) for row in json.loads(done.stdout)}
    command = [sys.executable, "-c", benchmark.MLFLOW, str(tmp_path / "theirs.db"), "20"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    columns = json.loads(answer.splitlines()[-1])
    assert len(ours) == 4 and ours.keys() == columns["mean"].keys()
    for name, (mean, std, n) in ours.items():
        assert (columns["mean"][name], columns["std"][name]) == pytest.approx((mean, std), rel=1e-9)
        assert columns["count"][name] == n == 5
