"""Export gives back every row; removal deletes the run's own folder and no other."""

import csv
import json
import math
import zipfile

import pytest

from gaprun.errors import Failure, UserError
from gaprun.store.export import export
from gaprun.store.removal import remove_run


def fill(store, new_run, key):
    for seed in (0, 1):
        store.begin_run(new_run("baseline", seed, note='with "quotes", commas\nand ünïcode', lr=0.1))
        store.record(
            f"baseline-s{seed}", [{"step": s, "loss": 1 / (s + 3), "gap": math.nan} for s in range(5)]
        )
        store.add_evaluation(f"baseline-s{seed}", key(), {"gap": 1 / 3 + seed, "rmg": math.nan}, 512, 64)
        store.finish_run(f"baseline-s{seed}", "finished")


def test_the_export_holds_every_row_exactly(store, new_run, key, tmp_path):
    fill(store, new_run, key)
    counts = store.export(tmp_path / "out")
    assert counts == {"runs": 2, "evaluations": 2, "metrics": 4, "trajectory": 10}
    tables = {
        path.stem: list(csv.DictReader(path.open(newline=""))) for path in (tmp_path / "out").glob("*.csv")
    }
    assert {name: len(rows) for name, rows in tables.items()} == counts
    assert [float(row["loss"]) for row in tables["trajectory"][:5]] == [1 / (s + 3) for s in range(5)]
    assert {(r["run_id"], r["name"]): r["value"] for r in tables["metrics"]} == {
        ("baseline-s0", "gap"): repr(1 / 3),
        ("baseline-s0", "rmg"): "",
        ("baseline-s1", "gap"): repr(1 / 3 + 1),
        ("baseline-s1", "rmg"): "",
    }
    runs = json.loads((tmp_path / "out" / "runs.json").read_text())
    assert json.loads(tables["runs"][0]["resolved_recipe"]) == runs[0]["resolved_recipe"]
    assert runs[0]["resolved_recipe"]["note"] == 'with "quotes", commas\nand ünïcode'
    assert runs[0]["started"].endswith("+00:00")


def test_a_zip_of_some_runs_and_nothing_is_overwritten_unasked(store, new_run, key, tmp_path):
    fill(store, new_run, key)
    target = tmp_path / "sub" / "out.zip"
    assert export(store, target, ["baseline-s1"])["metrics"] == 2
    with zipfile.ZipFile(target) as archive:
        assert archive.namelist() == [
            "gaprun-files.json",
            "evaluations.csv",
            "metrics.csv",
            "runs.csv",
            "runs.json",
            "trajectory.csv",
        ]
    before = target.read_bytes()
    with pytest.raises(UserError, match="exists: name another"):
        export(store, target)
    assert target.read_bytes() == before
    assert export(store, target, force=True)["metrics"] == 4
    assert [path.name for path in target.parent.iterdir()] == ["out.zip"]
    with pytest.raises(Failure, match="cannot be written"):
        export(store, target / "below-a-file")


def test_removal_takes_the_run_folder_along(store, new_run, key, tmp_path, monkeypatch):
    monkeypatch.setenv("GAPRUN_RUNS", str(tmp_path / "runs"))
    fill(store, new_run, key)
    for seed in (0, 1):
        (tmp_path / "runs" / f"baseline-s{seed}").mkdir(parents=True)
        (tmp_path / "runs" / f"baseline-s{seed}" / "last.pt").touch()
    said = remove_run(store, store.run("baseline-s0"))
    assert said == f"removed baseline-s0 and {tmp_path / 'runs' / 'baseline-s0'}"
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["baseline-s1"]
    assert remove_run(store, store.run("baseline-s1"), keep_files=True) == "removed baseline-s1"
    assert (tmp_path / "runs" / "baseline-s1" / "last.pt").exists() and store.runs() == []


@pytest.mark.parametrize("folder", ["", ".", "..", "runs", "/", "precious", "link"])
def test_removal_deletes_no_folder_that_is_not_the_runs_own(store, new_run, tmp_path, monkeypatch, folder):
    from dataclasses import replace

    monkeypatch.setenv("GAPRUN_RUNS", str(tmp_path / "runs"))
    for name in ("runs", "precious"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "keep").touch()
    (tmp_path / "link").symlink_to(tmp_path / "precious")
    store.begin_run(replace(new_run(), folder=folder))
    store.finish_run("baseline-s0", "failed")
    assert remove_run(store, store.run("baseline-s0")) == "removed baseline-s0"
    assert (tmp_path / "runs" / "keep").exists() and (tmp_path / "precious" / "keep").exists()


def test_a_running_run_is_not_removed(store, new_run):
    store.begin_run(new_run())
    with pytest.raises(UserError, match="is running"):
        remove_run(store, store.run("baseline-s0"))
    assert len(store.runs()) == 1
