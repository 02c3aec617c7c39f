"""Rows that say running though nothing runs become interrupted; live ones and other hosts' recent ones do not."""

import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from gaprun.errors import UserError
from gaprun.store.liveness import lost_because, this_host
from gaprun.store.models import Run


def child(seconds):
    return subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({seconds})"])


def change(store, run_id, **values):
    with store.engine.execution_options(gaprun_write=True).begin() as connection:
        connection.execute(update(Run).where(Run.id == run_id).values(values))


def test_a_process_of_this_host_is_asked_for():
    process = child(60)
    try:
        started = datetime.now(UTC)
        assert lost_because(this_host(), process.pid, started, started - timedelta(days=1)) is None
        # The same pid, but of a process that was born long after the run began: the pid came again.
        assert lost_because(this_host(), process.pid, started - timedelta(hours=1), started) is not None
        process.kill()
        time.sleep(0.2)  # a zombie now, until it is waited for
        assert lost_because(this_host(), process.pid, started, started) is not None
    finally:
        process.kill()
        process.wait()
    assert "ended" in lost_because(this_host(), process.pid, started, started)


def test_another_host_is_believed_for_ten_minutes():
    def ask(minutes):
        now = datetime.now(UTC)
        return lost_because("elsewhere", 1, now - timedelta(days=1), now - timedelta(minutes=minutes))

    assert ask(9) is None and "no heartbeat from elsewhere" in ask(11)
    assert lost_because("elsewhere", 1, None, None) is not None


def test_readers_set_dead_runs_to_interrupted_for_good(store, new_run):
    process = child(0)
    process.wait()
    for seed in range(3):
        store.begin_run(new_run("baseline", seed))
    change(store, "baseline-s1", pid=process.pid)
    change(store, "baseline-s2", host="elsewhere", heartbeat=datetime.now(UTC) - timedelta(minutes=11))
    assert {run.id: run.status for run in store.runs()} == {
        "baseline-s0": "running", "baseline-s1": "interrupted", "baseline-s2": "interrupted",
    }  # fmt: skip
    assert {run.id for run in store.runs(["status=interrupted"])} == {"baseline-s1", "baseline-s2"}
    assert "ended without saying so" in store.run("baseline-s1").error
    # It was only a slow network: the run is alive, and its next heartbeat says so.
    store.heartbeat("baseline-s2", 7)
    assert [(r.id, r.error, r.step) for r in store.runs(["status=running"])] == [
        ("baseline-s2", None, 7), ("baseline-s0", None, 0),
    ]  # fmt: skip
    store.finish_run("baseline-s0", "finished")
    store.heartbeat("baseline-s0", 8)
    assert store.run("baseline-s0").status == "finished"


def test_two_processes_cannot_train_the_same_run(store, new_run):
    process = child(60)
    try:
        store.begin_run(new_run())
        change(store, "baseline-s0", pid=process.pid, started=datetime.now(UTC))
        with pytest.raises(UserError, match=f"already running .process {process.pid}."):
            store.begin_run(new_run())
    finally:
        process.kill()
        process.wait()
    store.begin_run(new_run())
    assert store.run("baseline-s0").status == "running"
