"""Many writers, locks that are held, and processes that are killed: nothing that was committed is lost."""

import multiprocessing
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import OperationalError

from gaprun.errors import Failure
from gaprun.protocols import FULL
from gaprun.store import EvaluationKey, NewRun, engine, open_store
from tests.postgres import MISSING, LocalPostgres, binaries

CONTEXT = multiprocessing.get_context("fork")


def write_one_run(url, number, rows):
    store = open_store(url)
    run_id = f"r{number}"
    store.begin_run(NewRun(run_id, "r", "train", number, "h", {}, {}, "0", "", rows))
    for step in range(rows):
        store.record(run_id, [{"step": step, "loss": number + step / 1000}])
    key = EvaluationKey("c", rows, "gap", "d", "s", "f", FULL)
    store.add_evaluation(run_id, key, {"gap": number / 10, "rmg": 0.5}, 1, 1)
    store.finish_run(run_id, "finished")


def test_thirty_two_writers_at_once_lose_no_row_and_block_no_reader(url):
    writers, steps = 32, 20
    processes = [
        CONTEXT.Process(target=write_one_run, args=(url, number, steps)) for number in range(writers)
    ]
    store = open_store(url)
    for process in processes:
        process.start()
    reads = 0
    while any(process.is_alive() for process in processes):
        # A reader sees whole transactions only, and waits for none: the finished runs have all they need.
        done = [run.id for run in store.runs(["status=finished"])]
        assert {row["id"] for row in store.metric_rows(["gap"], ["status=finished"])} >= set(done)
        reads += 1
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * writers and reads >= 3
    assert {run.id: (run.status, run.step) for run in store.runs()} == {
        f"r{n}": ("finished", steps - 1) for n in range(writers)
    }
    for number in range(writers):
        rows = store.trajectory(f"r{number}")
        assert [row["loss"] for row in rows] == [number + step / 1000 for step in range(steps)]
    assert sorted(row["value"] for row in store.metric_rows(["gap"])) == [n / 10 for n in range(writers)]


WRITE_FOR_EVER = """
import sys
from gaprun.store import NewRun, open_store
store = open_store(sys.argv[1])
store.begin_run(NewRun("r", "r", "train", 0, "h", {}, {}, "0", "", 0))
for step in range(10**9):
    store.record("r", [{"step": 2 * step, "loss": 0.5}, {"step": 2 * step + 1, "loss": 0.25}])
    print(step, flush=True)
"""


def test_a_kill_in_the_middle_of_writing_keeps_all_that_was_committed(url):
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITE_FOR_EVER, url], stdout=subprocess.PIPE, text=True
        )
        said = 0
        for line in process.stdout:
            said = int(line)
            if said == 25:
                os.kill(process.pid, signal.SIGKILL)
        process.wait()
        store = open_store(url, create=False)
        rows = store.trajectory("r")
        assert len(rows) % 2 == 0 and len(rows) >= 2 * (said + 1)  # pairs are whole: one transaction each
        assert [row["step"] for row in rows] == list(range(len(rows)))
        assert store.run("r").status == "interrupted"
        if "://" not in url:
            with sqlite3.connect(url) as connection:
                assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def hold_a_write(url):
    """A connection of another program in the middle of a transaction that has written to `runs`."""
    if "://" in url:
        holder = create_engine(url).connect()
        holder.execute(text("UPDATE runs SET step = 5"))
        return holder.commit
    holder = sqlite3.connect(url, isolation_level=None, check_same_thread=False)
    holder.execute("BEGIN IMMEDIATE")
    holder.execute("UPDATE runs SET step = 5")
    return partial(holder.execute, "COMMIT")


def test_a_writer_waits_for_a_lock_and_readers_do_not(url, new_run, monkeypatch):
    # SQLite's driver gives up after 50 ms here; going on is then this package's own doing.
    monkeypatch.setattr(engine, "BUSY_SECONDS", 0.05)
    store = open_store(url)
    store.begin_run(new_run())
    commit = hold_a_write(url)
    assert store.run("baseline-s0").step == 0  # a reader that waited would wait for ever
    start = time.monotonic()
    threading.Timer(0.6, commit).start()
    store.record("baseline-s0", [{"step": 9, "loss": 1.0}])
    assert time.monotonic() - start > 0.5
    assert store.run("baseline-s0").step == 9


def test_what_a_second_store_of_one_process_writes_outlives_other_programs_that_read(tmp_path, new_run):
    """Another program that closes the file last deletes the write-ahead log: our locks must tell it that it is not."""
    path = tmp_path / "results.db"
    read = f"import sqlite3; c = sqlite3.connect({str(path)!r}); print(*c.execute('SELECT step FROM runs')); c.close()"

    def from_outside():
        return subprocess.run([sys.executable, "-c", read], capture_output=True, text=True, check=True).stdout

    first = open_store(str(path))
    first.begin_run(new_run())
    second = open_store(str(path))  # as the next job of a sweep opens it
    assert from_outside() == "(0,)\n"
    second.heartbeat("baseline-s0", 7)
    first.heartbeat("baseline-s0", 8)
    assert from_outside() == "(8,)\n" and Path(f"{path}-wal").exists()


def test_a_lock_that_never_ends_is_a_clear_failure(tmp_path, new_run, monkeypatch):
    monkeypatch.setattr(engine, "BUSY_SECONDS", 0.05)
    monkeypatch.setattr(engine, "RETRY_SECONDS", 0.2)
    store = open_store(str(tmp_path / "results.db"))
    store.begin_run(new_run())
    holder = sqlite3.connect(tmp_path / "results.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(Failure, match="stayed locked for .*is another program holding it"):
        store.heartbeat("baseline-s0", 1)
    holder.execute("ROLLBACK")
    store.heartbeat("baseline-s0", 1)


def test_a_server_that_ends_every_connection_is_no_event(url, new_run):
    if "://" not in url:
        pytest.skip("needs a server")
    store = open_store(url)
    store.begin_run(new_run())
    stop = threading.Event()

    def end_connections():
        while not stop.wait(0.02):
            with create_engine(url).connect() as connection:
                connection.execute(
                    text(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                    )
                )

    thread = threading.Thread(target=end_connections)
    thread.start()
    try:
        for step in range(100):
            store.record("baseline-s0", [{"step": step, "loss": step / 8}])
    finally:
        stop.set()
        thread.join()
    assert [row["loss"] for row in store.trajectory("baseline-s0")] == [step / 8 for step in range(100)]


@pytest.fixture
def own_server():
    """A server of this test's own, to be stopped and started, with the durability of a real one."""
    folder = binaries()
    if folder is None:
        pytest.skip(MISSING)
    server = LocalPostgres(folder, durable=True)
    yield server
    server.close()


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_server_restart_in_the_middle_of_writing_loses_nothing(own_server, mode):
    writers, steps = 4, 150
    store = open_store(own_server.url)
    processes = [
        CONTEXT.Process(target=write_one_run, args=(own_server.url, number, steps))
        for number in range(writers)
    ]
    for process in processes:
        process.start()

    def steps_of_all():
        return [run.step for run in store.runs(light=True)]

    while min(steps_of_all(), default=0) < 10 or len(steps_of_all()) < writers:
        time.sleep(0.01)
    own_server.stop(mode)
    time.sleep(1.0)
    assert all(process.is_alive() for process in processes), "none was at its end: they wait for the server"
    own_server.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * writers
    for number in range(writers):
        run = store.run(f"r{number}")
        assert (run.status, run.step) == ("finished", steps - 1)
        losses = [row["loss"] for row in store.trajectory(run.id)]
        assert losses == [number + step / 1000 for step in range(steps)]
    assert sorted(row["value"] for row in store.metric_rows(["gap"])) == [n / 10 for n in range(writers)]


def test_opening_waits_for_a_server_that_is_away_for_a_moment(own_server, monkeypatch, caplog):
    """A job whose first question comes while the server restarts failed at once; later ones were asked again."""
    monkeypatch.setattr(engine, "SILENT_SECONDS", 0.0)
    own_server.stop()
    starting = threading.Timer(0.5, own_server.start)
    starting.start()
    try:
        assert open_store(own_server.url).runs() == []
    finally:
        starting.join()
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith("note: database postgresql+psycopg://gaprun@/postgres?host=")
    assert " does not answer (connection is bad: " in said
    assert said.endswith("; trying again for up to 60 s") and "\n" not in said


def test_a_server_that_stays_away_is_one_line(own_server, monkeypatch):
    monkeypatch.setattr(engine, "RETRY_SECONDS", 0.2)
    own_server.stop()
    with pytest.raises(Failure, match="^database postgresql.*: connection") as caught:
        open_store(own_server.url)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("said", "again"),
    [
        ('connection failed: FATAL:  password authentication failed for user "me"', False),
        ('connection failed: FATAL:  database "results" does not exist', False),
        ('connection failed: FATAL:  role "me" does not exist', False),
        ('connection failed: FATAL:  no pg_hba.conf entry for host "10.0.0.7", user "me"', False),
        ("failed to resolve host 'srv': [Errno -2] Name or service not known", False),
        ("connection failed: server does not support SSL, but SSL was required", False),
        ("failed to resolve host 'srv': [Errno -3] Temporary failure in name resolution", True),
        ("connection failed: Connection refused\n\tIs the server running on that host?", True),
        ("connection failed: FATAL:  the database system is starting up", True),
        ("connection timeout expired", True),
    ],
)
def test_what_will_never_be_answered_is_not_asked_again(said, again, monkeypatch):
    error = OperationalError("SELECT 1", {}, psycopg.OperationalError(said))
    monkeypatch.setattr(engine.time, "sleep", lambda seconds: pytest.fail("it waited") if not again else None)
    answers = iter([error, "there"])

    def ask():
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    if again:
        assert engine.retried(ask, "results") == "there"
    else:
        with pytest.raises(Failure, match=f"^database results: {re.escape(said)}$"):
            engine.retried(ask, "results")


def test_a_missing_database_of_a_server_is_said_at_once(own_server, monkeypatch):
    monkeypatch.setattr(engine.time, "sleep", lambda seconds: pytest.fail("it waited"))
    with pytest.raises(Failure, match='database "nobody" does not exist'):
        open_store(make_url(own_server.url).set(database="nobody").render_as_string(hide_password=False))
