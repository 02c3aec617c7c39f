"""Jobs side by side: one a device; when the parent's own work breaks, its children save and end with it."""

import multiprocessing
import os
import queue
import threading
from pathlib import Path

import pytest

from gaprun.errors import Failure
from gaprun.jobs import parallel
from gaprun.jobs.parallel import pinned, run_jobs
from gaprun.store import open_store
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
        run_jobs(jobs, db, ["cpu", "cpu"], broken, lambda outcome: None)
    assert not multiprocessing.active_children()
    statuses = {run.status for run in open_store(db).runs()}
    assert "finished" not in statuses and "running" not in statuses


def fail_at_1(job, db, device, threads, events) -> None:
    """Stands in for training."""
    events.put((job.id, *(("Failure", "no number") if job.seed == 1 else (None, ""))))


class AtOnce:
    """Stands in for a process: it has done its work as soon as it is started."""

    pid, exitcode = None, 0

    def __init__(self, work, given) -> None:
        self.is_alive, self.join = (lambda: False), (lambda: None)
        work(*given)


class Beside(threading.Thread):
    """Stands in for a process: a thread that is started already."""

    pid, exitcode = None, 0

    def __init__(self, work, given) -> None:
        super().__init__(target=work, args=given, daemon=True)
        self.start()


def test_each_device_holds_one_job_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first two meet, so both devices are in use at once; all five hold their device while they work."""
    meeting, held, ended = threading.Barrier(2, timeout=60), {}, []

    def hold_device(job, db, device, threads, events) -> None:
        try:
            assert device not in held.values()
            held[job.seed] = device
            if job.seed < 2:
                meeting.wait()
                assert len(held) == 2
                meeting.wait()
            del held[job.seed]
            events.put((job.id, None, ""))
        except Exception as error:
            events.put((job.id, "Failure", repr(error)))

    monkeypatch.setattr(parallel, "_start_child", hold_device)
    monkeypatch.setattr(parallel, "child_context", lambda cards: queue)
    monkeypatch.setattr(parallel, "start_child", lambda context, work, *given: Beside(work, given))
    jobs = [small_job("baseline", seed=seed) for seed in range(5)]
    run_jobs(jobs, "unused", ["cuda:0", "cuda:1"], lambda event: None, ended.append)
    assert sorted(outcome.job.seed for outcome in ended) == list(range(5))
    assert [outcome.error for outcome in ended] == [None] * 5


def test_after_a_failure_none_is_started_if_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One after another, and side by side, where what is under way goes on to its end."""

    def broken(job, store, device, report, world) -> None:
        tried.append(job.seed)
        if job.seed == 1:
            raise Failure("the loss became nan at step 8")

    jobs = [small_job("baseline", seed=seed) for seed in range(4)]
    monkeypatch.setattr(parallel, "run_job", broken)
    for fail_fast, expected in ((True, [0, 1]), (False, [0, 1, 2, 3])):
        tried, ended = [], []
        run_jobs(jobs, str(tmp_path / "a.db"), ["cpu"], lambda event: None, ended.append, fail_fast)
        assert tried == expected and [outcome.error is not None for outcome in ended] == [
            seed == 1 for seed in expected
        ]
    monkeypatch.setattr(parallel, "_start_child", fail_at_1)
    monkeypatch.setattr(parallel, "child_context", lambda cards: queue)
    monkeypatch.setattr(parallel, "start_child", lambda context, work, *given: AtOnce(work, given))
    for fail_fast, expected in ((True, [0, 1, 2]), (False, [0, 1, 2, 3])):  # two under way at a time
        ended = []
        run_jobs(jobs, "unused", ["cpu", "cpu"], lambda event: None, ended.append, fail_fast)
        assert [outcome.job.seed for outcome in ended] == expected
        assert [outcome.job.seed for outcome in ended if outcome.error] == [1]


def test_a_device_becomes_the_only_one_that_its_job_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-abc,6")
    assert pinned("cuda:1") == "cuda:0" and os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-abc"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert pinned("cuda:3") == "cuda:0" and os.environ["CUDA_VISIBLE_DEVICES"] == "3"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert pinned("cpu") == "cpu" and pinned("auto") == "auto" and pinned("cuda") == "cuda"
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
