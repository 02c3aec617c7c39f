"""What `--db` may be, what it may not, and that opening the wrong thing changes nothing on disk."""

import os
import shutil
import sqlite3
import tempfile
from pathlib import Path

import pytest

from gaprun.errors import Failure, UserError
from gaprun.store import open_store
from gaprun.store.engine import _file_system, journal_mode_for, locate
from gaprun.store.info import describe


def test_a_fresh_file_becomes_a_store_in_wal_mode(tmp_path):
    store = open_store(str(tmp_path / "results.db"))
    assert store.runs() == [] and store.artifacts == tmp_path / "runs" and store.backup is None
    facts = describe(store.url)
    assert (facts["journal_mode"], facts["schema"], facts["runs"]) == (
        "wal",
        facts["schema_of_this_gaprun"],
        0,
    )


def test_the_default_place_is_results_db_here_or_gaprun_db(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GAPRUN_DB", raising=False)
    assert locate(None).path == Path("results.db")
    monkeypatch.setenv("GAPRUN_DB", "other.db")
    assert locate(None).path == Path("other.db") and locate("mine.db").path == Path("mine.db")
    assert locate("sqlite:///sub/x.db").path == Path("sub/x.db")
    assert locate("postgresql://me:secret@host/name").name == "postgresql+psycopg://me:***@host/name"
    monkeypatch.setenv("GAPRUN_RUNS", str(tmp_path / "elsewhere"))
    assert open_store("x.db").artifacts == tmp_path / "elsewhere"


def test_odd_names_are_plain_files(tmp_path):
    for name in ("with space.db", "what?.db", "50%.db", "#1.db", "ünïcode.db"):
        open_store(str(tmp_path / name))
        assert (tmp_path / name).is_file()
    shutil.copy(tmp_path / "50%.db", tmp_path / "copy?mode=memory.db")
    assert open_store(str(tmp_path / "copy?mode=memory.db"), create=False).runs() == []


def wrong_places(folder):
    (folder / "notes.txt").write_text("this is a text file, not a database")
    (folder / "cut.db").write_bytes(b"SQLite format 3\0" + b"\1" * 500)
    (folder / "empty.db").touch()
    with sqlite3.connect(folder / "foreign.db") as other:
        other.execute("CREATE TABLE songs (id)")
    return {
        str(folder / "missing.db"): "does not exist: run `gaprun train",
        str(folder / "empty.db"): "is empty: run `gaprun train",
        str(folder / "no" / "folder.db"): "does not exist",
        str(folder): "is a folder: name a file inside it",
        str(folder / "notes.txt"): "not a SQLite file",
        str(folder / "cut.db"): "damaged or not a database",
        str(folder / "foreign.db"): "another program (table songs)",
        "mysql://host/name": "no support for 'mysql' databases",
        "https://host/name": "no support for 'https' databases",
        "sqlite://": "names no file",
        "sqlite:///:memory:": "names no file",
        "sqlite:/results.db": "is not a database URL",
        "postgresql://host:port/name": "is not a database URL",
        "postgresql+nosuchdriver://host/name": "driver of postgresql+nosuchdriver://host/name is not installed",
    }


@pytest.mark.parametrize("create", [False, True])
def test_wrong_places_are_one_clear_line_and_stay_as_they_are(tmp_path, create):
    places = wrong_places(tmp_path)
    if create:
        del places[str(tmp_path / "missing.db")], places[str(tmp_path / "empty.db")]
        places[str(tmp_path / "no" / "folder.db")] = "cannot be created: the folder"
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for place, message in places.items():
        with pytest.raises(UserError) as caught:
            open_store(place, create=create)
        assert message in str(caught.value) and "\n" not in str(caught.value), place
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_server_that_is_not_there_is_one_clear_line():
    pytest.importorskip("psycopg")
    with pytest.raises(Failure) as caught:
        open_store("postgresql://me:secret@127.0.0.1:1/nothing")
    assert "127.0.0.1" in str(caught.value) and "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.fixture
def read_only_folder():
    """A folder that this process, as a user without rights, can read but not write."""
    folder = Path(tempfile.mkdtemp(prefix="gaprun-readonly-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


@pytest.fixture
def unprivileged():
    """Calls run without root's right to write everywhere, where the tests run as root."""

    def call(work):
        if os.getuid() != 0:
            return work()
        os.setresuid(65534, 65534, 0)
        try:
            return work()
        finally:
            os.setresuid(0, 0, 0)

    return call


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_read_only_folder_can_be_read(read_only_folder, unprivileged, new_run, mode):
    path = read_only_folder / "results.db"
    store = open_store(str(path))
    store.begin_run(new_run())
    store.record("baseline-s0", [{"step": 1, "loss": 0.5}])
    store.close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA journal_mode = {mode}")
        connection.execute("UPDATE runs SET pid = 1, started = '2000-01-01 00:00:00'")
    connection.close()
    before = path.read_bytes()
    read_only_folder.chmod(0o555)

    def work():
        store = open_store(str(path), create=False)
        assert store.place.read_only and store.run("baseline-s0").status == "interrupted"
        assert store.trajectory("baseline-s0")[0]["loss"] == 0.5
        with pytest.raises(UserError, match="read-only: copy it"):
            store.heartbeat("baseline-s0", 2)
        with pytest.raises(UserError, match="no permission to write"):
            open_store(str(read_only_folder / "new.db"))
        assert describe(str(path))["read_only"] is True

    unprivileged(work)
    assert path.read_bytes() == before and [p.name for p in read_only_folder.iterdir()] == ["results.db"]


def test_network_disks_get_no_wal(tmp_path, monkeypatch):
    assert journal_mode_for(tmp_path / "x.db") == "wal" and _file_system(Path("/proc/1")) == "proc"
    monkeypatch.setattr("gaprun.store.engine._file_system", lambda path: "nfs4")
    store = open_store(str(tmp_path / "x.db"))
    assert describe(store.url)["journal_mode"] == "delete"
