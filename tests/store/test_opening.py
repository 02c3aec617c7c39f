"""What `--db` may be, what it may not, and that opening the wrong thing changes nothing on disk."""

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import make_url, text

from gaprun.errors import Failure, UserError
from gaprun.store import engine, open_store
from gaprun.store.connection import undisturbed
from gaprun.store.engine import _file_system, journal_mode_for
from gaprun.store.info import describe
from gaprun.store.place import _is_open_here, locate
from gaprun.store.publish import publish
from gaprun.store.secrets import hide_passwords
from tests.conftest import REPO


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
        str(folder / "results.db.example"): "does not exist: it lies in gaprun's source, not in the package",
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
        "": "is empty: give a file or a URL",
        "sqlite:/results.db": "is not a database URL",
        "postgresql://host:port/name": "is not a database URL",
        "postgresql+nosuchdriver://host/name": "driver of postgresql+nosuchdriver://host/name is not installed",
    }


@pytest.mark.parametrize("create", [False, True])
def test_wrong_places_are_one_clear_line_and_stay_as_they_are(tmp_path, create):
    places = wrong_places(tmp_path)
    if create:
        for name in ("missing.db", "empty.db", "results.db.example"):
            del places[str(tmp_path / name)]
        places[str(tmp_path / "no" / "folder.db")] = "cannot be created: the folder"
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for place, message in places.items():
        with pytest.raises(UserError) as caught:
            open_store(place, create=create)
        assert message in str(caught.value) and "\n" not in str(caught.value), place
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_server_that_is_not_there_is_one_clear_line(monkeypatch):
    pytest.importorskip("psycopg")
    monkeypatch.setattr(engine, "RETRY_SECONDS", 0.0)
    with pytest.raises(Failure) as caught:
        open_store("postgresql://me:secret@127.0.0.1:1/nothing")
    assert "127.0.0.1" in str(caught.value) and "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:pass1word@host:port/name",
        "postgresql://me:pass1word/more@host:x/name",
        "postgresql://me:pass1word@and@host:x/name",
        "postgres:me:pass1word@host/name",
        "mysql://me:pass1word@host/name",
        "postgresql+nosuchdriver://me:pass1word@host/name",
        "postgresql+nosuchdriver://host/name?user=me&password=pass1word",
        "postgresql+nosuchdriver://me@host/name?sslpassword=pass1word&sslmode=require",
    ],
)
def test_no_password_is_printed(url):
    with pytest.raises(UserError) as caught:
        open_store(url)
    assert "pass1word" not in str(caught.value) and len(str(caught.value)) > 40


def test_what_a_server_is_called_tells_it_from_others():
    assert hide_passwords("postgresql://me@host:5432/a@b") == "postgresql://me@host:5432/a@b"
    assert hide_passwords("http://me:p:w@host:5000") == "http://me:***@host:5000"
    assert hide_passwords("sqlite:////a/b.db") == "sqlite:////a/b.db"
    url = "postgresql://host/name?password=pass1word&application_name=x"
    assert locate(url).name == "postgresql+psycopg://host/name?application_name=x&password=***"
    assert locate(url).url.query["password"] == "pass1word"


def test_a_user_who_may_only_read_reads_and_is_told_what_is_missing(new_database, new_run):
    url = make_url(new_database())
    store = open_store(url.render_as_string(hide_password=False))
    store.begin_run(new_run())
    reader = f"reader_{os.getpid()}"
    with store.engine.begin() as connection:
        connection.execute(text(f"CREATE ROLE {reader} LOGIN PASSWORD 'pass1word'"))
        connection.execute(text(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {reader}"))
    try:
        theirs = open_store(url.set(username=reader, password="pass1word").render_as_string(False))
        assert theirs.run("baseline-s0").status == "running" and theirs.metric_rows(["gap"]) == []
        for write in (
            lambda: theirs.set_note("baseline-s0", "x"),
            lambda: theirs.record("baseline-s0", [{"step": 1, "loss": 0.5}]),
            lambda: theirs.remove("baseline-s0"),
        ):
            with pytest.raises(UserError, match="permission denied for .*: ask its owner for this right"):
                write()
        assert store.run("baseline-s0").note in (None, "") and store.trajectory("baseline-s0") == []
    finally:
        with store.engine.begin() as connection:
            connection.execute(text(f"DROP OWNED BY {reader}"))
            connection.execute(text(f"DROP ROLE {reader}"))


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


def test_a_reader_without_rights_follows_who_writes_later(read_only_folder, unprivileged, new_run):
    """`watch` by another user saw nothing of a training that began after it: SQLite took the file for immutable."""
    path = read_only_folder / "results.db"
    writer = open_store(str(path))
    writer.begin_run(new_run())
    writer.close()
    reader = unprivileged(lambda: open_store(str(path), create=False, write=False))

    def seen():
        return unprivileged(lambda: [(run.id, run.step) for run in reader.runs()])

    assert seen() == [("baseline-s0", 0)]
    writer.heartbeat("baseline-s0", 7)
    assert (read_only_folder / "results.db-wal").exists() and seen() == [("baseline-s0", 7)]
    writer.heartbeat("baseline-s0", 8)
    writer.close()
    assert not (read_only_folder / "results.db-wal").exists() and seen() == [("baseline-s0", 8)]


def test_what_changes_while_it_is_read_without_locks_is_read_again(tmp_path):
    path, times = tmp_path / "results.db", []
    path.write_text("old")

    def read():
        times.append(path.read_text())
        if len(times) == 1:
            path.write_text("new!")
            raise Failure("malformed")
        return times[-1]

    assert undisturbed(read, path) == "new!" and len(times) == 2
    with pytest.raises(Failure, match="changes faster than it is read"):
        undisturbed(lambda: path.write_text(path.read_text() + "x"), path)


def test_a_file_without_a_log_is_read_with_locks(read_only_folder, unprivileged, new_run):
    path = read_only_folder / "results.db"
    open_store(str(path)).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode = delete")
    connection.close()
    assert unprivileged(lambda: open_store(str(path), create=False)).place.no_index is False


@pytest.mark.parametrize("how", ["exit", "fork"])
def test_a_database_is_one_file_once_nobody_has_it_open(tmp_path, new_run, how):
    """The log that stayed beside it held runs, which a copy of the file alone had not."""
    code = (
        "import os, sys; from gaprun.store import open_store\n"
        f"store = open_store({str(tmp_path / 'results.db')!r}); store._write(lambda session: None)\n"
        "store.set_note('baseline-s0', 'x')\n"
        f"if {how == 'fork'} and os.fork() == 0: sys.exit()\n"  # which must leave its parent's log
        f"if {how == 'fork'}: os.wait(); print(os.path.exists(f'{{store.place.path}}-wal'))\n"
        f"if {how == 'fork'}: store.set_note('baseline-s0', 'y')"
    )
    store = open_store(str(tmp_path / "results.db"))
    store.begin_run(new_run())
    store.close()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "True\n" if how == "fork" else ""), done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["results.db"]
    shutil.copy(tmp_path / "results.db", tmp_path / "copy.db")
    assert open_store(str(tmp_path / "copy.db")).run("baseline-s0").note == ("y" if how == "fork" else "x")


def test_network_disks_get_no_wal(tmp_path, monkeypatch):
    assert journal_mode_for(tmp_path / "x.db") == "wal" and _file_system(Path("/proc/1")) == "proc"
    (tmp_path / "a link").symlink_to("/proc/1")
    assert _file_system(tmp_path / "a link" / "x.db") == "proc"
    for kind in ("fuse.glusterfs", "virtiofs"):
        monkeypatch.setattr("gaprun.store.engine._file_system", lambda path, kind=kind: kind)
        assert journal_mode_for(tmp_path / "x.db") == "delete"
    monkeypatch.setattr("gaprun.store.engine._file_system", lambda path: "nfs4")
    store = open_store(str(tmp_path / "x.db"))
    assert describe(store.url)["journal_mode"] == "delete"


def _by_hand(path, *statements):
    shutil.copy(REPO / "results.db.example", path)
    with sqlite3.connect(path) as connection:
        for statement in statements:
            connection.execute(statement)


def _make(kind, path):
    """Put at `path` something that is no database of gaprun's, or a damaged one."""
    if kind == "another program's":
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE songs (title TEXT)")
    elif kind in ("a version of another program's", "our version, not our tables"):
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE experiments (name TEXT)")
            connection.execute("CREATE TABLE runs (name TEXT)")
            connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
            connection.execute(
                "INSERT INTO alembic_version VALUES (?)", ("0001" if "our" in kind else "abc",)
            )
    elif kind == "a loop":
        path.symlink_to(path)
    elif kind == "a link to nowhere":
        path.symlink_to(path.parent / "no" / "results.db")
    elif kind == "a folder":
        path.mkdir()
    elif kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a text":
        path.write_text("years of work\n")
    elif kind == "a document that is none":
        _by_hand(path, "UPDATE runs SET resolved_recipe = '{broken'")
    elif kind == "a date that is none":
        _by_hand(path, "UPDATE runs SET created = 'yesterday'")
    else:
        whole = bytearray((REPO / "results.db.example").read_bytes())
        if kind == "cut off":
            whole = whole[: len(whole) // 3]
        elif kind == "scrambled":
            whole[100 : 40 * 4096] = b"\xa5" * (40 * 4096 - 100)
        path.write_bytes(whole[:16] if kind == "a head alone" else whole)


WRONG = {
    "another program's": "database of another program .table songs.",
    "a version of another program's": "database of another program .no table evaluations.",
    "our version, not our tables": "database of another program .no table evaluations.",
    "a loop": "link that leads nowhere",
    "a link to nowhere": "link that leads nowhere",
    "a folder": "is a folder: name a file inside it",
    "a pipe": "device or pipe and no file",
    "a text": "not a SQLite file",
    "a document that is none": "holds a value that gaprun did not write",
    "a date that is none": "holds a value that gaprun did not write .*yesterday",
    "cut off": "damaged or not a database",
    "scrambled": "damaged or not a database",
    "a head alone": "damaged or not a database",
}


@pytest.mark.parametrize(("kind", "said"), WRONG.items(), ids=list(WRONG))
@pytest.mark.parametrize("create", [False, True])
def test_what_is_no_database_of_gapruns_gets_one_line_and_stays_as_it_is(tmp_path, kind, said, create):
    path = tmp_path / "there.db"
    _make(kind, path)
    before = path.read_bytes() if path.is_file() else None
    names = sorted(tmp_path.iterdir())
    with pytest.raises(UserError, match=said) as caught:
        store = open_store(str(path), create)
        assert store.runs()[0].resolved_recipe
    assert "\n" not in str(caught.value) and "there.db" in str(caught.value)
    assert sorted(tmp_path.iterdir()) == names or "value that gaprun did not write" in said
    assert before is None or path.read_bytes() == before or "value that gaprun did not write" in said


def test_a_copy_to_give_away_replaces_nothing_but_a_database(tmp_path):
    source, target = tmp_path / "source.db", tmp_path / "given.db"
    shutil.copy(REPO / "results.db.example", source)
    publish([source], target)
    publish([source], target)
    for kind in ("a text", "another program's", "a folder"):
        _make(kind, tmp_path / "there.db")
        with pytest.raises(UserError, match="name another file"):
            publish([source], tmp_path / "there.db")
        (tmp_path / "there.db").rmdir() if kind == "a folder" else (tmp_path / "there.db").unlink()
    with pytest.raises(UserError, match="cannot be published onto itself"):
        publish([source], source)


def test_a_file_counts_as_open_only_while_it_is(tmp_path):
    """Its number can be another file's once it is closed and removed, and that file must be looked at."""
    path = tmp_path / "a.db"
    store = open_store(str(path))
    assert store.runs() == [] and _is_open_here(path)
    store.close()
    assert not _is_open_here(path)
