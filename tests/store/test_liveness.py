"""Rows that say running though nothing runs are read as interrupted; live ones and other hosts' recent ones are not."""

import os
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select, update

from gaprun.errors import UserError
from gaprun.store import claims, liveness, open_store
from gaprun.store.connection import DatabaseGone
from gaprun.store.liveness import lost_because, this_host
from gaprun.store.models import Evaluation, Run, RunClaim


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
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # a zombie now, until it is waited for
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


def test_readers_are_told_of_dead_runs_and_write_nothing(store, new_run):
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
    assert {run.id for run in store.runs(["status!=interrupted"])} == {"baseline-s0"}
    assert "ended without saying so" in store.run("baseline-s1").error
    with store.engine.connect() as connection:
        assert set(connection.execute(select(Run.status)).scalars()) == {"running"}
    # It was only a slow network: the run is alive, and its next heartbeat says so.
    store.heartbeat("baseline-s2", 7)
    assert [(r.id, r.error, r.step) for r in store.runs(["status=running"])] == [
        ("baseline-s2", None, 7), ("baseline-s0", None, 0),
    ]  # fmt: skip
    store.finish_run("baseline-s0", "finished")
    store.heartbeat("baseline-s0", 8)
    assert store.run("baseline-s0").status == "finished"


@pytest.mark.parametrize("hours", [2, -2], ids=["their clock is behind", "their clock is ahead"])
def test_machines_of_one_server_agree_on_the_time(new_database, new_run, key, monkeypatch, hours):
    """A live run was read as lost for as long as its machine's clock was behind, and a dead one as running."""

    class Skewed(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) - timedelta(hours=hours)

    store = open_store(new_database())
    for module in ("clock", "liveness", "standing"):  # as the other machine writes
        monkeypatch.setattr(f"gaprun.store.{module}.datetime", Skewed)
    store.begin_run(new_run())
    store.heartbeat("baseline-s0", 3)
    store.add_evaluation("baseline-s0", key(), {"gap": 1.0}, 1, 1)
    monkeypatch.undo()
    change(store, "baseline-s0", host="elsewhere")
    with store.engine.execution_options(gaprun_write=True).begin() as connection:
        connection.execute(
            update(RunClaim).values(token="theirs", owner=other_owner(host="elsewhere", pid=os.getpid()))
        )
    run = store.run("baseline-s0")
    assert run.status == "running" and abs(run.heartbeat - run.started) < timedelta(minutes=1)
    with store.engine.connect() as connection:
        measured = connection.execute(select(Evaluation.created)).scalar()
        clock = connection.execute(select(func.now())).scalar()
    assert abs(measured - clock) < timedelta(minutes=1)
    change(store, "baseline-s0", heartbeat=clock - timedelta(minutes=11))
    assert store.run("baseline-s0").status == "interrupted"


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


def other_owner(boot="other-boot", namespace="1", pid=7, host=None):
    return f"{boot}/{namespace}/{pid}/100 {host or this_host()}"


def owned_elsewhere(store, new_run, minutes=0.0, **place):
    """The run of another process: a claim of a place that cannot be looked up from here."""
    store.begin_run(new_run())
    owner = other_owner(**place)
    last = datetime.now(UTC) - timedelta(minutes=minutes)
    change(store, "baseline-s0", host=claims.place_of(owner)[0], pid=7, heartbeat=last)
    with store.engine.execution_options(gaprun_write=True).begin() as connection:
        connection.execute(update(RunClaim).values(token="theirs", owner=owner))


@pytest.mark.parametrize(
    "place",
    [{"host": "elsewhere"}, {"boot": "other"}, {"boot": liveness._kernel().split("/")[0], "namespace": "2"}],
    ids=["another host", "another kernel, same name", "another PID namespace, same name"],
)
def test_a_run_whose_owner_beats_elsewhere_is_not_taken(store, new_run, place, monkeypatch):
    owned_elsewhere(store, new_run, **place)
    with pytest.raises(UserError, match="already running .process 7 on"):
        open_store(store.place.url.render_as_string(False)).begin_run(new_run())
    assert store.run("baseline-s0").status == "running"


@pytest.mark.parametrize("minutes", [120, -120], ids=["our clock was set ahead", "our clock was set back"])
def test_a_beating_owner_is_seen_whatever_the_clocks_say(store, new_run, minutes, monkeypatch):
    monkeypatch.setattr(claims, "WATCH_SECONDS", 5.0)
    owned_elsewhere(store, new_run, minutes, host="elsewhere")
    later = datetime.now(UTC) - timedelta(minutes=minutes) + timedelta(seconds=1)
    beat = threading.Timer(0.5, lambda: change(store, "baseline-s0", heartbeat=later, step=3))
    beat.start()
    with pytest.raises(UserError, match="already running"):
        open_store(store.place.url.render_as_string(False)).begin_run(new_run())
    beat.join()


def test_a_silent_owner_is_taken_over_and_stops_writing(store, new_run, key, monkeypatch):
    monkeypatch.setattr(claims, "WATCH_SECONDS", 0.5)
    owned_elsewhere(store, new_run, 11, host="elsewhere")
    store._claims["baseline-s0"] = "theirs"  # this store stands for the process elsewhere
    second = open_store(store.place.url.render_as_string(False))
    second.begin_run(new_run())
    second.record("baseline-s0", [{"step": 5, "loss": 1.0}])
    for write in (
        lambda: store.heartbeat("baseline-s0", 9),
        lambda: store.record("baseline-s0", [{"step": 6, "loss": 2.0}]),
        lambda: store.annotate("baseline-s0", {"a": 1}),
        lambda: store.add_evaluation("baseline-s0", key(), {"gap": 0.1}, 1, 1),
        lambda: store.finish_run("baseline-s0", "failed", error="x"),
    ):
        with pytest.raises(claims.ClaimLost, match="was taken over by"):
            write()
    run = second.run("baseline-s0")
    assert (run.status, run.step, run.notes) == ("running", 5, None) and second.metrics(run.id) == []
    second.finish_run("baseline-s0", "finished")
    assert second.run("baseline-s0").status == "finished"


def test_a_process_is_known_by_its_start_in_ticks_and_not_by_the_clock(store, new_run):
    code = "import time; from gaprun.store.liveness import this_process as p; print(p(), flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        owner = process.stdout.readline().strip()
        assert liveness.is_alive(owner) is True
        # The clock was set by an hour after it began: its pid has not come again.
        began = datetime.now(UTC) - timedelta(hours=1)
        assert lost_because(this_host(), process.pid, began, began, owner) is None
        again = owner.replace(owner.split("/")[3].split(" ")[0], "12")
        assert liveness.is_alive(again) is False
    finally:
        process.kill()
        process.wait()
    assert liveness.is_alive(owner) is False


def test_another_users_process_that_proc_hides_is_not_taken_for_ended():
    """As on shared machines, whose /proc is mounted with hidepid."""
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    kernel = liveness._kernel()
    look = (
        "import os; from gaprun.store import liveness; os.setgroups([]); os.setgid(65534); os.setuid(65534); "
        f"print([liveness.is_alive(f'{kernel}/{{pid}}/1 x') for pid in ({sleeper.pid}, 2**22 - 1)])"
    )
    hidden = 'mount -t proc -o hidepid=2 proc /proc && exec "$@"'
    try:
        command = ["unshare", "-m", "sh", "-c", hidden, "-", sys.executable, "-c", look]
        try:
            done = subprocess.run(command, capture_output=True, text=True)
        except FileNotFoundError:
            pytest.skip("unshare is not installed")
        if "unshare:" in done.stderr or "mount:" in done.stderr:
            pytest.skip(f"no right to mount a /proc: {done.stderr.strip()}")
        assert done.stdout.split() == ["[None,", "False]"], done.stderr
    finally:
        sleeper.kill()
        sleeper.wait()


def test_a_proc_of_another_pid_namespace_is_not_believed():
    """As in a container that was given its host's /proc: number 1 there is the host's."""
    look = "from gaprun.store import liveness; print(liveness._kernel(), liveness.is_alive(liveness.this_process()))"
    try:
        command = ["unshare", "-p", "-f", sys.executable, "-c", look]
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("unshare is not installed")
    if "unshare:" in done.stderr:
        pytest.skip(f"no right to make a PID namespace: {done.stderr.strip()}")
    assert done.stdout.split() == ["?/?", "None"], done.stderr


def test_a_process_that_is_called_as_this_one_is_not_taken_for_it(store, new_run, monkeypatch):
    """Two containers of one host name, each with a number 1, where /proc does not say more."""
    monkeypatch.setattr(liveness, "_kernel", lambda: "?/?")
    store.begin_run(new_run())
    store.begin_run(new_run())  # its own claim, known by the token
    with pytest.raises(UserError, match="already running"):
        open_store(store.place.url.render_as_string(False)).begin_run(new_run())


def test_a_finished_training_stays_finished(store, new_run, key):
    store.begin_run(new_run())
    store.finish_run("baseline-s0", "finished", checkpoint="a.pt", checkpoint_hash="c0")
    before = store.run("baseline-s0")
    for status in ("failed", "interrupted", "finished"):
        store.begin_run(new_run())
        assert store.is_owned("baseline-s0")
        store.heartbeat("baseline-s0", 3)
        store.add_evaluation("baseline-s0", key(protocol=status), {"gap": 0.1}, 1, 1)
        store.finish_run("baseline-s0", status, error="no such task", checkpoint="b.pt", checkpoint_hash="c1")
        after = store.run("baseline-s0")
        for name in ("status", "error", "started", "finished", "step", "checkpoint", "checkpoint_hash"):
            assert getattr(after, name) == getattr(before, name), name
        assert not store.is_owned("baseline-s0")
    assert len(store.metrics("baseline-s0")) == 3


@pytest.mark.parametrize("fate", ["moved", "deleted", "replaced"])
def test_a_database_that_is_gone_is_noticed_at_the_next_write(tmp_path, new_run, fate):
    path = tmp_path / "results.db"
    store = open_store(str(path))
    store.begin_run(new_run())
    if fate == "moved":
        path.rename(tmp_path / "other.db")
    else:
        path.unlink()
    if fate == "replaced":
        open_store(str(path))
    with pytest.raises(DatabaseGone, match="was moved, deleted or replaced"):
        store.record("baseline-s0", [{"step": 1, "loss": 1.0}])
    assert path.exists() == (fate == "replaced")
