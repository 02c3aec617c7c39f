"""One schema by both ways, upgrades with a backup under a lock, and versions that this code cannot know."""

import multiprocessing
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import asdict

import pytest
from sqlalchemy import create_engine, text

from gaprun.errors import UserError
from gaprun.store import open_store, schema
from gaprun.store.info import describe
from gaprun.store.models import Base

HEAD = schema.HEAD  # the newest that there really is
SECOND = """
import sqlalchemy as sa
from alembic import op
revision, down_revision = "0099", "@"

def upgrade():
    with op.batch_alter_table("runs") as runs:  # on SQLite this rebuilds the table that all others hang on
        runs.add_column(sa.Column("colour", sa.String(), server_default="blue"))
        runs.alter_column("recipe", type_=sa.String(200))
""".replace("@", HEAD)


@pytest.fixture
def with_second_revision(tmp_path, monkeypatch):
    """Makes the code one revision newer than it is."""

    def apply():
        folder = tmp_path / "migrations"
        if not folder.exists():
            shutil.copytree(schema.MIGRATIONS, folder)
            (folder / "versions" / "0099_colour.py").write_text(SECOND)
        monkeypatch.setattr(schema, "MIGRATIONS", folder)
        monkeypatch.setattr(schema, "HEAD", "0099")

    return apply


def engine_of(url):
    from gaprun.store.engine import make_engine
    from gaprun.store.place import locate

    return make_engine(locate(url))


def migrated_from_nothing(url, to="head"):
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(schema.MIGRATIONS))
    script = ScriptDirectory.from_config(config)
    engine = engine_of(url)
    with engine.execution_options(gaprun_write=True).begin() as connection:
        with EnvironmentContext(
            config, script, fn=lambda rev, _: script._upgrade_revs(to, rev)
        ) as environment:
            environment.configure(connection=connection, transactional_ddl=True)
            environment.run_migrations()
    return engine


def test_migrations_give_exactly_the_models_schema(url):
    from alembic.autogenerate import compare_metadata
    from alembic.runtime.migration import MigrationContext

    engine = migrated_from_nothing(url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
    assert open_store(url, create=False).runs() == []  # the version is right, too


def test_both_ways_write_the_same_sqlite_tables(tmp_path):
    open_store(str(tmp_path / "created.db"))
    migrated_from_nothing(str(tmp_path / "migrated.db"))

    def tables(name):
        with sqlite3.connect(tmp_path / name) as connection:
            return {
                table: [
                    sorted(map(str, (row[1:] for row in connection.execute(f"PRAGMA {what}({table})"))))
                    for what in ("table_info", "foreign_key_list", "index_list")
                ]
                for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            }

    assert tables("created.db") == tables("migrated.db")


def test_head_is_the_newest_migration():
    newest = max(path.name for path in (schema.MIGRATIONS / "versions").glob("*.py"))
    assert newest.startswith(f"{schema.HEAD}_")


def test_an_old_database_is_upgraded_in_place_and_keeps_everything(url, new_run, key, with_second_revision):
    store = open_store(url)
    store.begin_run(new_run())
    store.add_evaluation("baseline-s0", key(), {"gap": 0.5}, 1, 1)
    store.record("baseline-s0", [{"step": 1, "loss": 0.5}])
    store.finish_run("baseline-s0", "finished")
    with_second_revision()
    assert describe(url)["schema"] == HEAD and describe(url)["schema_of_this_gaprun"] == "0099"
    upgraded = open_store(url, create=False)
    assert [m["value"] for m in upgraded.metrics("baseline-s0")] == [0.5]
    assert [row["loss"] for row in upgraded.trajectory("baseline-s0")] == [0.5]
    with upgraded.engine.connect() as connection:
        assert connection.execute(text("SELECT id, colour FROM runs")).fetchall() == [("baseline-s0", "blue")]
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == "0099"
        if "://" not in url:
            assert connection.execute(text("PRAGMA foreign_keys")).scalar() == 1
    assert open_store(url).backup is None
    if "://" in url:
        return
    assert upgraded.backup.name.startswith(f"results.db.before-0099-from-{HEAD}-")
    with sqlite3.connect(upgraded.backup) as backup:
        assert backup.execute("SELECT version_num FROM alembic_version").fetchall() == [(HEAD,)]
        assert backup.execute("SELECT value FROM metrics").fetchall() == [(0.5,)]


def test_a_failing_migration_changes_nothing(tmp_path, new_run, with_second_revision, monkeypatch):
    url = str(tmp_path / "results.db")
    store = open_store(url)
    store.begin_run(new_run())
    store.finish_run("baseline-s0", "failed")
    with_second_revision()
    broken = SECOND.replace(
        "with op.batch", "op.add_column('metrics', sa.Column('x', sa.String()))\n    with op.batch"
    )
    broken += "    raise RuntimeError('half way')\n"
    (schema.MIGRATIONS / "versions" / "0099_colour.py").write_text(broken)
    with pytest.raises(RuntimeError, match="half way"):
        open_store(url)
    monkeypatch.undo()
    assert open_store(url).run("baseline-s0").recipe == "baseline"
    with sqlite3.connect(url) as connection:
        assert "x" not in [row[1] for row in connection.execute("PRAGMA table_info(metrics)")]


@pytest.mark.parametrize("finished", [False, True])
def test_nothing_is_upgraded_under_what_goes_on(url, new_run, with_second_revision, monkeypatch, finished):
    store = open_store(url)
    store.begin_run(new_run())
    if finished:
        store.finish_run("baseline-s0", "finished")
        store.begin_run(new_run())  # to measure it
    with_second_revision()
    with pytest.raises(UserError, match="is writing run baseline-s0 to it .process .* when those have ended"):
        open_store(url)
    assert describe(url)["schema"] == HEAD
    monkeypatch.setattr(
        "gaprun.store.standing.lost_because", lambda *_: "killed"
    )  # it cannot say its end itself
    assert open_store(url).run("baseline-s0").status == ("finished" if finished else "interrupted")
    assert describe(url)["schema"] == "0099"


def test_a_newer_database_is_refused_and_left_alone(url):
    store = open_store(url)
    with store.engine.execution_options(gaprun_write=True).begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(UserError, match="written by a newer gaprun .its schema is 9999.*upgrade gaprun"):
        open_store(url)
    assert describe(url)["schema"] == "9999" and "runs" not in describe(url)


def _open(url, barrier, with_second, results):
    if with_second:
        schema.MIGRATIONS, schema.HEAD = with_second, "0099"
    barrier.wait()
    try:
        store = open_store(url)
        results.put((len(store.runs(light=True)), store.backup is not None))
    except Exception as error:
        results.put(repr(error))


def _open_at_once(url, with_second=None, count=4):
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(count), context.Queue()
    processes = [
        context.Process(target=_open, args=(url, barrier, with_second, results)) for _ in range(count)
    ]
    for process in processes:
        process.start()
    found = [results.get(timeout=600) for _ in processes]
    for process in processes:
        process.join()
    return found


def test_processes_that_open_a_fresh_database_at_once_all_succeed(url):
    for _ in range(3):
        assert _open_at_once(url) == [(0, False)] * 4


def test_processes_that_upgrade_at_once_all_succeed_and_one_does_it(url, new_run, with_second_revision):
    store = open_store(url)
    store.begin_run(new_run())
    store.finish_run("baseline-s0", "finished")
    store.close()
    with_second_revision()
    found = _open_at_once(url, schema.MIGRATIONS)
    assert sorted(found)[:3] == [(1, False)] * 3 and sorted(found)[3] == (1, "://" not in url)


def test_alembic_is_loaded_only_for_a_migration(tmp_path):
    code = (
        "import sys; from gaprun.store import open_store\n"
        f"open_store({str(tmp_path / 'x.db')!r}); open_store({str(tmp_path / 'x.db')!r}).runs()\n"
        "print([m for m in ('alembic', 'torch', 'pandas', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_other_tables_on_a_server_are_no_obstacle(url):
    if "://" not in url:
        pytest.skip("a file belongs to one program")
    with create_engine(url).begin() as connection:
        connection.execute(text("CREATE TABLE songs (id int)"))
    assert open_store(url).runs() == []


RENAMED = {  # what earlier versions wrote (task, protocol, options), and what it is now (protocol, pool, transform)
    ("gap", "pool512", ""): ("pool512", 512, ""),
    ("gap", "full", ""): ("full", None, ""),
    ("gap", "pool96+centre", ""): ("pool96+centre", 96, "centre"),
    ("shift", "shift=0.5", ""): ("shift=0.5", None, "shift,fraction=0.5"),
    ("shift", "shift=1+centre", ""): ("shift=1+centre", None, "centre+shift"),
    ("shift", "centred", ""): ("centred", None, "centre"),
    ("retrieval", "full", '{"draws": 20, "ties": "expected"}'): ("full,ties=expected", None, ""),
    ("retrieval", "pool512", '{"draws": 20, "ties": "pessimistic"}'): ("pool512,draws=20", 512, ""),
    ("probe", "full", '{"shots": 5, "train_fingerprint": "f"}'): ("full,shots=5", None, ""),
    ("probe", "full-raw-C0.316", '{"shots": null, "normalise": false, "C": 0.316}'): (
        "full,normalise=false,C=0.316",
        None,
        "",
    ),
    ("zeroshot", "full+centre", '{"templates": "openai"}'): ("full,templates=openai+centre", None, "centre"),
    ("zeroshot", "full", '{"templates": ["a {}", "the {}"]}'): ("full,templates=own-d978f853", None, ""),
    ("zeroshot of another program", "full", '{"templates": "CLIP_benchmark"}'): ("full", None, ""),
    ("hubs", "full", '{"k": 5}'): ("full", None, ""),
}


def test_protocols_of_the_third_schema_are_taken_apart_once(url, new_run, key):
    """Values that other options gave under one name get names of their own; all others stay as they were."""
    engine = migrated_from_nothing(url, "0003")
    created = "2025-01-01 00:00:00"
    run = asdict(new_run()) | {"resolved_recipe": "{}", "environment": "{}", "status": "finished", "step": 9}
    rows = []
    for number, (task, protocol, options) in enumerate(RENAMED, 1):
        row = key().columns() | {
            "run_id": "baseline-s0",
            "id": number,
            "code_version": "0",
            "created": created,
        }
        row |= {"protocol": protocol, "options": options or "{}", "options_hash": f"h{options}"}
        row |= {"task": task.partition(" ")[0], "checkpoint_hash": "record:1" if " of " in task else "c"}
        rows.append({name: value for name, value in row.items() if name not in ("pool", "transform")})
    metrics = [
        {"evaluation_id": row["id"], "run_id": "baseline-s0", "name": "m", "dataset": "d", "split": "s"}
        | {"protocol": row["protocol"], "value": row["id"]}
        for row in rows
    ]
    with engine.execution_options(gaprun_write=True).begin() as connection:
        for table, added in (
            ("runs", [run | {"created": created}]),
            ("evaluations", rows),
            ("metrics", metrics),
        ):
            names = ", ".join(added[0])
            values = f":{names.replace(', ', ', :')}"
            connection.execute(text(f"INSERT INTO {table} ({names}) VALUES ({values})"), added)
    engine.dispose()
    store = open_store(url)
    query = "SELECT e.protocol, pool, transform, m.protocol FROM evaluations e JOIN metrics m ON evaluation_id = e.id"
    with store.engine.connect() as connection:
        found = [tuple(row) for row in connection.execute(text(f"{query} ORDER BY e.id"))]
    assert found == [(*now, now[0]) for now in RENAMED.values()]


def test_evaluations_of_the_first_schema_are_kept_without_a_model(tmp_path, new_run, key):
    """Rows that do not say which model they measured stay and compare as before; one that asks for a model by its
    hash finds them only where it says that they count."""
    url = str(tmp_path / "old.db")
    engine = migrated_from_nothing(url, "0001")
    values = {**key().columns(), "run_id": "baseline-s0", "options": "{}"}
    values |= {"id": 7, "code_version": "0", "created": "2025-01-01 00:00:00", "details": None}
    for later in ("model_hash", "device", "pool", "transform"):
        del values[later]
    run = asdict(new_run()) | {"resolved_recipe": "{}", "environment": "{}", "status": "finished", "step": 9}
    run["created"] = values["created"]
    with engine.execution_options(gaprun_write=True).begin() as connection:
        names = ", ".join(run)
        connection.execute(text(f"INSERT INTO runs ({names}) VALUES (:{names.replace(', ', ', :')})"), run)
        names = ", ".join(values)
        connection.execute(
            text(f"INSERT INTO evaluations ({names}) VALUES (:{names.replace(', ', ', :')})"), values
        )
        for name, value in (("gap", 0.5), ("rmg", 0.25)):
            connection.execute(
                text(
                    "INSERT INTO metrics (evaluation_id, run_id, name, dataset, split, protocol, value, n, d)"
                    " VALUES (7, 'baseline-s0', :name, 'scenes', 'test', 'full', :value, 1, 1)"
                ),
                {"name": name, "value": value},
            )
    engine.dispose()
    store = open_store(url)
    assert {row["metric"]: row["value"] for row in store.metrics("baseline-s0")} == {"gap": 0.5, "rmg": 0.25}
    assert store.find_evaluation("baseline-s0", key()).id == 7
    assert store.find_evaluation("baseline-s0", key(model_hash="m")) is None
    assert store.find_evaluation("baseline-s0", key(model_hash="m"), unrecorded=True).id == 7
    assert store.has_evaluation("baseline-s0", key(model_hash="m"))
    other = store.add_evaluation("baseline-s0", key(model_hash="m", device="cpu fp32"), {"gap": 0.75}, 1, 1)
    assert other != 7 and store.find_evaluation("baseline-s0", key(model_hash="m")).device == "cpu fp32"
    rows = store.metrics_by_evaluation([other, 7])
    assert sorted((row["metric"], row["value"]) for row in rows) == [
        ("gap", 0.5),
        ("gap", 0.75),
        ("rmg", 0.25),
    ]
