"""Queued runs: put in, taken up, kept while something has them, and given up when nothing does."""

import os
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from gaprun.errors import UserError
from gaprun.store import claims, open_store, queued
from gaprun.store.liveness import _kernel, this_host
from gaprun.store.models import Run, RunClaim
from gaprun.store.removal import remove_run


def states(store):
    return {run.id: run.status for run in store.runs()}


def test_queued_becomes_running_then_finished_and_keeps_what_it_waited_for(store, new_run):
    queued.enqueue(store, [new_run("a"), new_run("b")], {"cluster": "local", "host": "elsewhere", "pid": 1})
    assert states(store) == {"a-s0": "queued", "b-s0": "queued"}
    store.begin_run(new_run("a"))
    assert states(store) == {"a-s0": "running", "b-s0": "queued"}
    store.finish_run("a-s0", "finished")
    row = store.run("a-s0")
    assert row.status == "finished" and row.notes["queue"]["host"] == "elsewhere"


def test_submitting_again_keeps_steps_and_results(store, new_run):
    store.begin_run(new_run("a"))
    store.record("a-s0", [{"step": 7, "loss": 1.0}])
    store.finish_run("a-s0", "interrupted", error="stopped")
    queued.enqueue(store, [new_run("a")], {"cluster": "slurm"})
    row = store.run("a-s0")
    assert (row.status, row.step, row.error) == ("queued", 7, None)
    assert [point["step"] for point in store.trajectory("a-s0")] == [7]


def test_a_finished_run_that_waits_to_be_measured_stays_finished(store, new_run):
    store.begin_run(new_run("a"))
    store.finish_run("a-s0", "finished")
    before = store.run("a-s0")
    queued.enqueue(store, [new_run("a")], {"cluster": "slurm"})
    queued.give_up(store, ["a-s0"], "refused")
    after = store.run("a-s0")
    assert (after.status, after.started, after.finished) == ("finished", before.started, before.finished)


def test_requeued_and_given_up(store, new_run):
    store.begin_run(new_run("a"))
    store.finish_run("a-s0", "interrupted")
    queued.requeue(store, "a-s0")
    assert states(store) == {"a-s0": "queued"}
    queued.give_up(store, ["a-s0"], "not wanted")
    row = store.run("a-s0")
    assert (row.status, row.error) == ("interrupted", "not wanted")
    store.begin_run(new_run("a"))
    queued.give_up(store, ["a-s0"], "too late")
    assert states(store) == {"a-s0": "running"}


def test_withdrawn_runs_leave_no_trace_unless_they_had_begun_before(store, new_run):
    store.begin_run(new_run("begun"))
    store.finish_run("begun-s0", "interrupted")
    queued.enqueue(store, [new_run("begun"), new_run("new")], {"cluster": "slurm"})
    queued.note_job(store, "new-s0", "12_3", "log")
    assert store.run("new-s0").notes["queue"]["job"] == "12_3"
    queued.withdraw(store, ["begun-s0", "new-s0"], "refused")
    assert states(store) == {"begun-s0": "interrupted"} and store.run("begun-s0").error == "refused"


def test_a_queued_run_is_not_removed_from_under_its_job(store, new_run):
    queued.enqueue(store, [new_run("a")], {"cluster": "slurm"})
    queued.note_job(store, "a-s0", "12_3", "log")
    with pytest.raises(UserError, match="scancel 12_3"):
        remove_run(store, store.run("a-s0"))
    assert states(store) == {"a-s0": "queued"}


def test_a_dead_submitter_leaves_nothing_queued(store, new_run):
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    process.wait()
    alive = {"cluster": "local", "host": this_host(), "pid": os.getpid()}
    queued.enqueue(store, [new_run("mine")], alive)
    queued.enqueue(store, [new_run("orphan")], alive | {"pid": process.pid})
    assert states(store) == {"mine-s0": "queued", "orphan-s0": "interrupted"}
    assert "submitter is gone" in store.run("orphan-s0").error


def test_a_submitter_of_another_container_is_not_taken_for_dead(store, new_run):
    """It may have this host's name, and its number is another's here, or nobody's."""
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    process.wait()
    place = {"cluster": "local", "host": this_host(), "pid": process.pid}
    here, there = (f"{kernel}/{process.pid}/100 {this_host()}" for kernel in (_kernel(), "boot/1"))
    queued.enqueue(store, [new_run("theirs")], place | {"process": there})
    queued.enqueue(store, [new_run("orphan")], place | {"process": here})
    assert states(store) == {"theirs-s0": "queued", "orphan-s0": "interrupted"}
    assert f"submitter is gone: process {process.pid} ended" in store.run("orphan-s0").error


@pytest.mark.parametrize("beats", [True, False])
def test_a_run_that_may_be_alive_elsewhere_is_not_sent_again(store, new_run, monkeypatch, beats):
    """By clocks that differ it looks lost; to queue it took its claim away, and its process stopped."""
    monkeypatch.setattr(claims, "WATCH_SECONDS", 1.0)
    store.begin_run(new_run("a"))
    last = datetime.now(UTC) - timedelta(hours=2)
    with store.engine.execution_options(gaprun_write=True).begin() as connection:
        connection.execute(update(RunClaim).values(token="theirs", owner="boot/1/7/100 elsewhere"))
        connection.execute(update(Run).values(host="elsewhere", pid=7, heartbeat=last))
    assert states(store) == {"a-s0": "interrupted"}
    store._claims["a-s0"] = "theirs"  # this store stands for the process elsewhere
    beat = threading.Timer(0.3, lambda: store.heartbeat("a-s0", 5) if beats else None)
    beat.start()
    other = open_store(store.place.url.render_as_string(False))
    if beats:
        with pytest.raises(UserError, match="already running"):
            queued.enqueue(other, [new_run("a")], {"cluster": "slurm"})
        store.heartbeat("a-s0", 6)
        assert states(store) == {"a-s0": "running"} and not (store.run("a-s0").notes or {})
    else:
        queued.enqueue(other, [new_run("a")], {"cluster": "slurm"})
        with pytest.raises(claims.ClaimLost):
            store.heartbeat("a-s0", 6)
        assert states(store) == {"a-s0": "queued"}
    beat.join()
