"""Jobs side by side: when the parent's own work breaks, its children save and end with it."""

import multiprocessing
from pathlib import Path

import pytest

from gaprun.store import open_store
from gaprun.training.parallel import run_jobs
from tests.training.conftest import small_job


@pytest.mark.slow
def test_no_job_outlives_its_parent(tmp_path: Path, scenes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAPRUN_DATA", str(scenes))
    db = str(tmp_path / "results.db")
    open_store(db)
    jobs = [small_job("baseline", "schedule.steps=5000", "compute.threads=1", seed=seed) for seed in (0, 1)]

    def broken(event) -> None:
        if event.phase == "train":
            raise ZeroDivisionError("the screen is gone")

    with pytest.raises(ZeroDivisionError):
        run_jobs(jobs, db, "cpu", 2, broken, lambda outcome: None)
    assert not [
        child for child in multiprocessing.active_children() if "SpawnProcess" in type(child).__name__
    ]
    statuses = {run.status for run in open_store(db).runs()}
    assert "finished" not in statuses and "running" not in statuses
