"""Databases copied into one another: everything arrives, verified; what differs is never overwritten unasked."""

import json
import math
import shutil
import sqlite3
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, text

from gaprun.errors import Failure, UserError
from gaprun.store import NewRun, content, open_store
from gaprun.store.content import by_run, database_content, read_rows
from gaprun.store.copying import copy_database
from tests.conftest import REPO, run_gaprun

EXAMPLE = REPO / "results.db.example"


def hashes(store):
    with store.engine.connect() as connection:
        return database_content(connection).hashes()


@pytest.fixture
def example(tmp_path):
    """The published example database, a copy of it."""
    shutil.copy(EXAMPLE, tmp_path / "example.db")
    return open_store(str(tmp_path / "example.db"))


def fill(store, new_run, key, seeds=(0, 1), offset=0.0):
    for seed in seeds:
        store.begin_run(
            new_run("baseline", seed, note='"quotes", ünïcode', lr=1e-3, nested={"b": 1, "a": [1]})
        )
        rows = [{"step": s, "loss": 1 / (s + 3) + offset, "gap": -0.0} for s in range(5)]
        store.record(f"baseline-s{seed}", rows)
        for protocol in ("pool512", "full"):
            values = {"gap": 1 / 3 + seed, "rmg": math.nan}
            store.add_evaluation(f"baseline-s{seed}", key(protocol=protocol), values, 512, 64)
        store.finish_run(f"baseline-s{seed}", "finished", notes={"a": {"b": 1.5}})


def test_sqlite_to_postgresql_to_sqlite_is_the_same_content(example, new_database, tmp_path):
    before = hashes(example)
    server, back = open_store(new_database()), open_store(str(tmp_path / "back.db"))
    there = copy_database(example, server)
    assert there.content.hashes() == before == hashes(server)
    assert copy_database(server, back).content.hashes() == before == hashes(back)
    assert there.content.rows == {
        name: sqlite3.connect(EXAMPLE).execute(f"SELECT count(*) FROM {name}").fetchone()[0]
        for name in content.TABLES
    }
    assert len(there.copied) == there.content.rows["runs"] > 20

    # Independently of the hashes: every value of every row, as the drivers give it.
    def rows(path):
        connection = sqlite3.connect(path)
        metrics = connection.execute(
            "SELECT e.run_id, checkpoint_hash, task, e.protocol, options, created, m.name, m.value, m.n, m.d, m.split"
            " FROM metrics m JOIN evaluations e ON e.id = m.evaluation_id"
        )
        others = [connection.execute(f"SELECT * FROM {name}").fetchall() for name in ("runs", "trajectory")]
        return [sorted(map(repr, found)) for found in (metrics.fetchall(), *others)]

    assert rows(EXAMPLE) == rows(tmp_path / "back.db")


def test_comparisons_are_the_same_after_the_move(url, example):
    target = open_store(url)
    copy_database(example, target)
    names = example.metric_names()

    def moment(value):
        found = datetime.fromisoformat(str(value))
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)

    def answer(store):
        # A database counts up its evaluations by itself, writes JSON with spaces or without, and gives a moment as text
        # or not; all else is the same.
        rows = [
            {**row, "evaluation": None, "trained_on": json.loads(row["trained_on"] or "null")}
            | {"created": moment(row["created"])}
            for row in store.metric_rows(names)
        ]
        return sorted(repr(sorted(row.items())) for row in rows)

    assert answer(target) == answer(example) and len(answer(target)) > 500
    assert [run.id for run in target.runs()] == [run.id for run in example.runs()]


def test_copying_again_changes_nothing_and_new_runs_join(store, new_run, key, tmp_path):
    source = open_store(str(tmp_path / "source.db"))
    fill(source, new_run, key)
    store.begin_run(new_run("own", 7))
    store.add_evaluation("own-s7", key(), {"gap": 9.0}, 1, 1)  # so that numbers of evaluations are taken
    first = copy_database(source, store)
    assert sorted(first.copied) == ["baseline-s0", "baseline-s1"] and first.equal == []
    again = copy_database(source, store)
    assert again.copied == [] and sorted(again.equal) == ["baseline-s0", "baseline-s1"]
    assert again.content.hashes() == first.content.hashes() == hashes(source)
    assert [row["value"] for row in store.metric_rows(["gap"], ["recipe=own"])] == [9.0]
    fill(source, new_run, key, seeds=(2,))
    assert copy_database(source, store).copied == ["baseline-s2"]
    assert len(store.runs()) == 4 and len(store.metrics("baseline-s2")) == 4


def test_runs_that_differ_stop_the_copy_unless_told_which_to_keep(store, new_run, key, tmp_path):
    source = open_store(str(tmp_path / "source.db"))
    fill(source, new_run, key, seeds=(0, 1, 2))
    copy_database(source, store)
    source.record("baseline-s1", [{"step": 3, "loss": 7.0}])
    fill(source, new_run, key, seeds=(3,))
    before = hashes(store)
    with pytest.raises(UserError, match=r"holds 1 of these runs with other content \(baseline-s1\): say"):
        copy_database(source, store)
    assert hashes(store) == before, "also the new run was not copied"
    kept = copy_database(source, store, "keep")
    assert (kept.kept, kept.copied, len(kept.equal)) == (["baseline-s1"], ["baseline-s3"], 2)
    assert store.trajectory("baseline-s1")[3]["loss"] == 1 / 6
    replaced = copy_database(source, store, "replace")
    assert (replaced.replaced, len(replaced.equal)) == (["baseline-s1"], 3)
    assert store.trajectory("baseline-s1")[3]["loss"] == 7.0 and hashes(store) == hashes(source)


def test_a_copy_that_arrives_otherwise_is_undone(store, new_run, key, tmp_path):
    source = open_store(str(tmp_path / "source.db"))
    fill(source, new_run, key)
    statement = "CREATE TRIGGER t AFTER INSERT ON trajectory BEGIN UPDATE trajectory SET loss = 0; END"
    if store.place.path is None:
        statement = (
            "CREATE FUNCTION zero() RETURNS trigger AS $$ BEGIN NEW.loss = 0; RETURN NEW; END $$ LANGUAGE plpgsql;"
            "CREATE TRIGGER t BEFORE INSERT ON trajectory FOR EACH ROW EXECUTE FUNCTION zero()"
        )
    with store.engine.execution_options(gaprun_write=True).begin() as connection:
        connection.execute(text(statement))
    with pytest.raises(Failure, match="did not arrive .* as it was sent: nothing was copied"):
        copy_database(source, store)
    assert store.runs() == []


def test_the_copy_is_of_one_moment_while_others_write(store, new_run, key, tmp_path, monkeypatch):
    monkeypatch.setattr(content, "BATCH", 1)
    fill(store, new_run, key, seeds=(0, 1, 2))
    before = hashes(store)

    def meanwhile(done, total):
        store.record("baseline-s2", [{"step": 50 + done, "loss": 1.0}])

    target = open_store(str(tmp_path / "target.db"))
    assert copy_database(store, target, progress=meanwhile).content.hashes() == before == hashes(target)
    assert len(store.trajectory("baseline-s2")) == 8


# Whatever a database keeps: no NUL, no surrogates.
TEXT = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), max_size=8)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25)
@given(
    number=st.floats(allow_nan=False, allow_infinity=False),
    name=TEXT,
    document=st.recursive(
        st.none() | st.booleans() | st.integers(-(2**60), 2**60) | TEXT,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
        max_leaves=8,
    ),
)
def test_any_value_survives_both_ways(store, tmp_path_factory, number, name, document):
    folder = tmp_path_factory.mktemp("any")
    source, back = open_store(str(folder / "a.db")), open_store(str(folder / "b.db"))
    run_id = "any-s0"
    if any(run.id == run_id for run in store.runs()):
        store.remove(run_id)
    source.begin_run(NewRun(run_id, name, "train", 0, "h", {"d": document}, {}, "0", "", 1))
    source.record(run_id, [{"step": 1, "loss": number}])
    copy_database(source, store)
    copy_database(store, back, "replace")
    assert back.run(run_id).resolved_recipe == {"d": document} and back.run(run_id).recipe == name
    assert back.trajectory(run_id)[0]["loss"] == number
    with source.engine.connect() as one, back.engine.connect() as two:
        assert by_run(read_rows(one, [run_id])) == by_run(read_rows(two, [run_id]))


def test_what_cannot_be_copied_is_said(store, url):
    with pytest.raises(UserError, match="cannot be copied onto itself"):
        copy_database(store, open_store(url))


BY_HAND = {
    "UPDATE runs SET recipe = 'a' || char(0) || 'b'": r"run baseline-s0 \(runs\) holds a NUL \('a\\x00b'\)",
    """UPDATE runs SET resolved_recipe = '{"a": [{"b\\u0000": 1}]}'""": r"run baseline-s0 \(runs\) holds a NUL",
    """UPDATE runs SET notes = '{"a": {"b": "\\ud800"}}'""": r"run baseline-s0 \(runs\) holds half of a surrogate pair",
    "UPDATE metrics SET name = name || char(0)": r"run baseline-s0 \(metrics\) holds a NUL",
    "UPDATE evaluations SET dataset = char(0)": r"run baseline-s0 \(evaluations\) holds a NUL",
    "UPDATE runs SET folder = '../outside'": "the folder of run baseline-s0 '../outside' leads out",
    "UPDATE runs SET folder = '/etc'": "the folder of run baseline-s0 '/etc' leads out",
    "UPDATE runs SET checkpoint = 'runs/../../x.pt'": "the checkpoint of run baseline-s0 'runs/../../x.pt' leads out",
    "UPDATE evaluations SET details = '/etc/passwd'": "the details of run baseline-s0 '/etc/passwd' leads out",
    "UPDATE runs SET id = '../x'": "the run '../x' cannot be a name",
    "UPDATE runs SET id = 'a' || char(10)": r"the run 'a\\n' cannot be a name",
}


@pytest.mark.parametrize(("change", "said"), BY_HAND.items())
def test_a_database_made_by_hand_brings_in_no_path_and_no_unkeepable_text(
    store, new_run, key, tmp_path, change, said
):
    source = open_store(str(tmp_path / "source.db"))
    fill(source, new_run, key, seeds=(0,))
    source.close()
    with sqlite3.connect(tmp_path / "source.db") as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute(change)
    with pytest.raises(UserError, match=f"^nothing was copied: .*{said}"):
        copy_database(open_store(str(tmp_path / "source.db")), store)
    assert store.runs() == []


@pytest.mark.parametrize("bad", ["a\0b", "\ud800", "x\udfffy"])
def test_the_store_itself_refuses_texts_that_no_database_keeps(store, new_run, key, bad):
    """One NUL in a document made every question about documents fail on PostgreSQL, and SQLite kept it."""
    for run in (
        new_run(remark={"deep": [{"x": bad}]}),
        new_run(remark={bad: 1}),
        replace(new_run(), code_version=bad),
    ):
        with pytest.raises(UserError, match="which databases cannot keep"):
            store.begin_run(run)
    store.begin_run(new_run(remark="fine: é, 漢, \U0001f600"))
    for write in (
        lambda: store.annotate("baseline-s0", {"x": bad}),
        lambda: store.finish_run("baseline-s0", "failed", error=f"reason {bad}"),
        lambda: store.add_evaluation("baseline-s0", key(dataset=bad), {"gap": 1.0}, 1, 1),
        lambda: store.add_evaluation("baseline-s0", key(options={"x": [bad]}), {"gap": 1.0}, 1, 1),
        lambda: store.add_evaluation("baseline-s0", key(), {bad: 1.0}, 1, 1),
    ):
        with pytest.raises(UserError, match="which databases cannot keep"):
            write()
    assert [run.id for run in store.runs(["remark=fine*"])] == ["baseline-s0"] and store.metric_names() == []


def test_through_the_command_line(new_database, tmp_path):
    url = new_database()
    done = run_gaprun("db", "copy", str(EXAMPLE), url, "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["copied"] == said["rows"]["runs"] > 20 and said["equal"] == 0
    info = json.loads(run_gaprun("db", "info", "--content", "--json", "--db", url).stdout)
    assert {name: info[f"{name}_content"] for name in content.TABLES} == said["content"]
    again = run_gaprun("db", "copy", str(EXAMPLE), url)
    assert f"runs: {said['rows']['runs']} there already; verified" in again.stdout
    with create_engine(url).begin() as connection:
        connection.execute(text("UPDATE runs SET code_version = 'other'"))
    refused = run_gaprun("db", "copy", url, str(tmp_path / "new.db"))
    assert refused.returncode == 0
    shutil.copy(EXAMPLE, tmp_path / "mine.db")
    refused = run_gaprun("db", "copy", url, str(tmp_path / "mine.db"))
    assert refused.returncode == 2 and "with other content" in refused.stderr
    absent = run_gaprun("db", "copy", str(tmp_path / "absent.db"), url)
    assert absent.returncode == 2 and "does not exist" in absent.stderr
    assert not Path(tmp_path / "absent.db").exists()
