"""What `gaprun watch` is told: values of a database made by hand, only what is new, and who may ask."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import pytest
from sqlalchemy import text, update
from sqlalchemy.exc import DBAPIError

from gaprun.errors import UserError
from gaprun.protocols import FULL
from gaprun.report import live
from gaprun.report.live import Live
from gaprun.report.serve import LivePage, is_loopback
from gaprun.store import EvaluationKey, NewRun, open_store
from gaprun.store.models import Run
from tests.conftest import REPO
from tests.store.conftest import new_database, postgres  # noqa: F401 (fixtures)


def begin(store, name, total=100, recipe=None, kind="train"):
    run = NewRun(
        name, recipe or name, kind, 0, f"hash-{name}", {"name": name}, {}, "0", f"runs/{name}", total
    )
    store.begin_run(run)
    return run


def pace(step, rate, loss=1.5, waiting=0.25, late=0.0):
    at = datetime.now(UTC) - timedelta(seconds=late)
    return {"at": at.isoformat(), "step": step, "loss": loss, "steps_per_second": rate, "waiting": waiting}


def measure(store, run, step, task="gap", **values):
    key = EvaluationKey(f"hash-{step}", step, task, "scenes", "test", "f1", FULL)
    store.add_evaluation(run, key, values, n=96, d=8)


def rows(*steps):
    return [
        {"step": step, "loss": 4 - step, "gap": 0.5 + step, "temperature": 0.07, "epoch": 1.0}
        for step in steps
    ]


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path / "results.db"))


@pytest.fixture
def page(store):
    """The page over `store`, whose connection refuses to write."""
    return Live(open_store(store.place.name, write=False))


def marks(answer, before=()):
    return {**dict(before), **{run: state["mark"] for run, state in answer["runs"].items()}}


def test_a_run_from_preparing_to_its_first_results(store, page):
    assert (page.look({})["running"], page.look({})["runs"]) == (0, {})
    begin(store, "a")
    answer = page.look({})
    assert (answer["going"], answer["running"], answer["wait"] >= live.POLL_SECONDS) == (["a"], 1, True)
    assert answer["runs"]["a"]["phase"] == "preparing" and answer["runs"]["a"]["left"] is None
    has = marks(answer)
    assert page.look(has)["runs"] == {}

    store.record("a", rows(0, 1, 2))
    store.heartbeat("a", 3, pace(3, rate=2.0))
    run = (answer := page.look(has))["runs"]["a"]
    assert (run["phase"], run["step"], run["total"], run["rate"], run["waiting"]) == (
        "training",
        3,
        100,
        2.0,
        0.25,
    )
    assert run["left"] == 97 / 2 and (run["loss"], run["at"], run["quiet"]) == (1.5, 3, None)
    assert run["points"] == {
        "after": -1, "step": [0, 1, 2], "loss": [4.0, 3.0, 2.0], "gap": [0.5, 1.5, 2.5], "temperature": [0.07] * 3
    }  # fmt: skip
    has = marks(answer, has)

    store.record("a", rows(5))
    measure(store, "a", 5, gap=0.8)
    store.heartbeat("a", 6, pace(6, rate=2.0))
    run = (answer := page.look(has))["runs"]["a"]
    assert (run["points"]["after"], run["points"]["step"], run["points"]["loss"]) == (2, [5], [-1.0])
    assert run["results"] == [
        {"metric": "gap", "title": "modality gap", "place": "scenes/test, full", "text": "0.800"}
        | {"steps": [5], "values": [0.8]}
    ]  # fmt: skip
    has = marks(answer, has)

    store.heartbeat("a", 7, pace(7, rate=2.0))
    assert "results" not in page.look(has)["runs"]["a"]  # nothing new was measured
    store.heartbeat("a", 100, pace(100, rate=2.0))
    assert page.look(has)["runs"]["a"]["phase"] == "measuring"
    measure(store, "a", 100, gap=0.4)
    measure(store, "a", 100, "probe", probe_top1=12.34)
    store.finish_run("a", "finished")
    answer = page.look(has)
    run = answer["runs"]["a"]
    assert (answer["going"], answer["finished"], answer["drawn"], run["phase"]) == (
        [],
        ["a"],
        ["a"],
        "finished",
    )
    assert [(one["metric"], one["text"], one["steps"]) for one in run["results"]] == [
        ("gap", "0.400", [5, 100]), ("probe_top1", "12.3", [100])
    ]  # fmt: skip
    assert page.look(marks(answer, has))["runs"] == {}
    measure(store, "a", 100, "zeroshot", zeroshot_top1=50.0)  # `gaprun eval` later
    assert [one["metric"] for one in page.look(marks(answer, has))["runs"]["a"]["results"]] == [
        "gap", "zeroshot_top1", "probe_top1"
    ]  # fmt: skip


def test_a_run_that_is_taken_up_again_starts_its_curve_again(store, page):
    begin(store, "a")
    store.record("a", rows(0, 1, 2, 3))
    store.heartbeat("a", 4, pace(4, rate=2.0))
    has = marks(page.look({}))
    store.finish_run("a", "interrupted", error="stopped at step 4")
    answer = page.look(has)
    assert (answer["stopped"], answer["runs"]["a"]["error"]) == (["a"], "stopped at step 4")
    begin(store, "a")
    run = page.look(marks(answer))["runs"]["a"]
    assert (run["phase"], run["rate"], run["left"]) == (
        "preparing",
        None,
        None,
    )  # the pace is of the time before
    assert (run["points"]["after"], run["points"]["step"]) == (-1, [0, 1, 2, 3])


def test_failures_lost_processes_and_waiting_runs(store, page):
    begin(store, "bad")
    store.finish_run("bad", "failed", error="the loss became nan at step 2")
    begin(store, "gone")
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    with store.engine.begin() as connection:
        connection.execute(text("DELETE FROM claims"))
        connection.execute(update(Run).where(Run.id == "gone").values(pid=dead.pid))
    with store.engine.begin() as connection:
        run = NewRun("next", "next", "train", 0, "h", {}, {}, "0", "runs/next", 100)
    from gaprun.store.queued import enqueue

    enqueue(store, [run], {"cluster": "local", "host": os.uname().nodename, "pid": os.getpid()})
    answer = page.look({})
    assert (answer["going"], answer["running"], answer["waiting"]) == (["next"], 0, 1)
    assert answer["runs"]["next"]["phase"] == "waiting"
    assert answer["stopped"] == ["gone", "bad"]
    assert answer["runs"]["bad"]["error"] == "the loss became nan at step 2"
    assert answer["runs"]["gone"]["status"] == "interrupted"
    assert answer["runs"]["gone"]["error"] == f"process {dead.pid} ended without saying so"


def test_a_run_that_beats_and_does_not_step_is_said_to(store, page):
    begin(store, "a")
    with store.engine.begin() as connection:
        connection.execute(update(Run).values(started=datetime.now(UTC) - timedelta(minutes=5)))
    store.heartbeat("a", 3, pace(3, rate=1.0, late=40))
    quiet = page.look({})["runs"]["a"]["quiet"]
    assert 39 < quiet < 45


def test_only_the_latest_are_shown_and_a_page_can_say_anything(store, page):
    for number in range(live.LATEST + 3):
        begin(store, f"r{number}")
        store.finish_run(f"r{number}", "finished")
    answer = page.look({"r10": "1 2 3", "r9": "x", "absent": "-1 a b c", "r8": "9" * 40 + " a b c"})
    assert answer["finished"] == [f"r{number}" for number in range(10, 2, -1)]
    assert sorted(answer["runs"]) == sorted(answer["finished"])


def test_the_database_itself_refuses_to_be_written(page, store):
    begin(store, "a")
    with pytest.raises(UserError, match="read-only"):
        page.store.heartbeat("a", 3)
    with pytest.raises(DBAPIError, match="readonly"), page.store.engine.begin() as connection:
        connection.execute(update(Run).values(step=3))


def test_a_server_refuses_too_and_is_followed_alike(new_database):  # noqa: F811
    url = new_database()
    store = open_store(url)
    begin(store, "a")
    store.record("a", rows(0, 1))
    store.heartbeat("a", 2, pace(2, rate=4.0))
    page = Live(open_store(url, write=False))
    run = (answer := page.look({}))["runs"]["a"]
    assert (run["phase"], run["left"], run["points"]["gap"]) == ("training", 24.5, [0.5, 1.5])
    assert page.look(marks(answer))["runs"] == {}
    with pytest.raises(DBAPIError, match="read-only transaction"), page.store.engine.begin() as connection:
        connection.execute(update(Run).values(step=3))


@contextmanager
def served(page):
    with LivePage(page) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(server, path, **headers):
    request = urllib.request.Request(server.address.rstrip("/") + path, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as reply:
            return reply.status, reply.headers, reply.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def test_the_page_over_http(store, page, tmp_path):
    begin(store, "a b&c")
    with served(page) as server:
        assert server.server_address[0] == "127.0.0.1"
        status, headers, content = ask(server, "/")
        assert status == 200 and b"Runs in" in content and b"http" not in content
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        for path in ("/watch.js", "/figures.js", "/page.css", "/watch.css", "/plotly.js"):
            assert ask(server, path)[0] == 200
        first = json.loads(ask(server, "/new")[2])
        assert list(first["runs"]) == ["a b&c"]
        assert json.loads(ask(server, f"/new?{urlencode(marks(first))}")[2])["runs"] == {}
        for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", ""):
            assert ask(server, "/new", Host=host)[0] == 403
        assert ask(server, "/new", Host="localhost:9000")[0] == 200  # as through a tunnel
        assert ask(server, "/../pyproject.toml")[0] == ask(server, "/assets/page.css")[0] == 404
        with pytest.raises(
            UserError, match=f"--port {server.server_port}: Address already in use; name another"
        ):
            LivePage(page, server.server_port)
        store.close()
        shutil.move(tmp_path / "results.db", tmp_path / "other.db")
        status, _, content = ask(server, "/new")
        assert status == 503 and "was moved, deleted or replaced" in json.loads(content)["error"]


def test_whose_hosts():
    assert all(
        map(is_loopback, (["127.0.0.1:1"], ["localhost"], ["LOCALHOST:80"], ["[::1]:8000"], ["[::1]"]))
    )
    wrong = ([], ["127.0.0.1", "evil"], ["127.0.0.2"], ["127.0.0.1:80:80"], ["localhost."], ["localhost:x"])
    assert not any(map(is_loopback, wrong))


@pytest.mark.slow
def test_the_command_starts_light_and_ends_without_a_traceback(store):
    begin(store, "a")
    code = (
        "import sys; sys.argv = ['gaprun', 'watch', '--db', sys.argv[1]]\n"
        "from gaprun.cli.main import main\n"
        "try: main()\n"
        "finally: print(sorted({'torch', 'pandas', 'plotly', 'scipy'} & set(sys.modules)))\n"
    )
    started = subprocess.Popen(
        [sys.executable, "-c", code, store.place.name],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    address = started.stdout.readline().split()[0]
    with urllib.request.urlopen(address + "new", timeout=20) as reply:
        assert json.load(reply)["going"] == ["a"]
    started.send_signal(signal.SIGINT)
    out, err = started.communicate(timeout=30)
    assert (started.returncode, out, err) == (0, "[]\n", "")


def test_what_cannot_be_watched(tmp_path):
    with pytest.raises(UserError, match="does not exist: run `gaprun train RECIPE` first"):
        open_store(str(tmp_path / "absent.db"), write=False)
    old = tmp_path / "old.db"
    shutil.copy(REPO / "results.db.example", old)
    before = old.read_bytes()
    with open_store(str(old), write=False).engine.begin() as connection:
        version = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    assert version
    shutil.copy(old, tmp_path / "older.db")
    import sqlite3

    with sqlite3.connect(tmp_path / "older.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0001'")
    connection.close()
    with pytest.raises(UserError, match="is of an older gaprun: `gaprun db upgrade` brings it up to date"):
        open_store(str(tmp_path / "older.db"), write=False)
    assert old.read_bytes() == before
