"""Running small jobs in this process."""

from collections.abc import Callable
from pathlib import Path

import pytest

from gaprun.jobs.run import run_job
from gaprun.recipe import Job, load_jobs
from gaprun.store import Store, open_store
from tests.conftest import RECIPES, TINY

METHODS = ["baseline", "flt", "schedule", "reparam", "reparam-scaled", "slrt", "hard-swap", "soft-swap"]

RunSmall = Callable[..., tuple[Job, Store]]


def small_job(method: str, *overrides: str, seed: int = 0) -> Job:
    """A method's recipe at a dozen steps on the scenes, measuring nothing unless told to."""
    sets = [value for value in TINY if value != "--set"]
    return load_jobs(RECIPES / f"{method}.yaml", [*sets, "eval=[]", *overrides], [seed])[0]


@pytest.fixture
def run_small(tmp_path: Path, scenes: Path, monkeypatch: pytest.MonkeyPatch) -> RunSmall:
    """`run_small(method, *overrides, seed=0, db="a")` trains and returns the job and its store."""
    monkeypatch.setenv("GAPRUN_DATA", str(scenes))

    def call(method: str, *overrides: str, seed: int = 0, db: str = "a", report=lambda event: None):
        (tmp_path / db).mkdir(exist_ok=True)
        store = open_store(str(tmp_path / db / "results.db"))
        job = small_job(method, *overrides, seed=seed)
        run_job(job, store, "cpu", report)
        return job, store

    return call
