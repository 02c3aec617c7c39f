"""Exports of earlier versions of gaprun come in as a database of theirs would be opened today."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from gaprun.errors import UserError
from gaprun.exchange.formats import read_file
from gaprun.exchange.results import import_files
from gaprun.store import EvaluationKey, NewRun, Store, open_store
from gaprun.store.export import TABLES, export
from tests.protocols import named

RUN = NewRun("old-s0", "old", "train", 0, "h", {"name": "old"}, {}, "0.1.0", "runs/old-s0", 9)
PROBE = EvaluationKey("c", 9, "probe", "scenes", "classes", "f", named("full"), options={"shots": 5})
SINCE = {"0002": {"model_hash", "device"}, "0004": {"pool", "transform"}, "0005": {"tags", "note"}}


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    """Two evaluations under the names that they had before 0004: a pool, and a probe of five pictures a class."""
    store = open_store(str(tmp_path / "theirs.db"))
    store.begin_run(RUN)
    store.record("old-s0", [{"step": 1, "loss": 0.1, "gap": 1 / 3}])
    store.add_evaluation("old-s0", PROBE, {"probe_top1": 100 / 3}, 7, None)
    pool = replace(PROBE, task="gap", options={}, protocol=named("pool512"), checkpoint_hash="d")
    store.add_evaluation("old-s0", pool, {"gap": 0.7}, 7, 2)
    store.finish_run("old-s0", "finished", notes={"n": 1})
    store.begin_run(replace(RUN, id="going-s0"))  # and goes on while it is taken out
    export(store, tmp_path / "out")
    return tmp_path / "out"


def without(folder: Path, columns: set[str]) -> None:
    """Take `columns` out of every table of an export."""
    for name in TABLES:
        with (folder / f"{name}.csv").open(newline="") as file:
            rows = [[cell for cell in row.items() if cell[0] not in columns] for row in csv.DictReader(file)]
        with (folder / f"{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow([key for key, _ in rows[0]])
            writer.writerows([[value for _, value in row] for row in rows])


def brought(folder: Path) -> tuple[Store, list[str]]:
    store = open_store(str(folder.parent / "ours.db"))
    return store, import_files(lambda: store, [folder]).refused


@pytest.mark.parametrize("version", ["0001", "0003", "0004", "0005"])
def test_an_export_of_an_earlier_schema_comes_in_upgraded(exported: Path, version: str) -> None:
    without(exported, {name for later, names in SINCE.items() if later > version for name in names})
    store, refused = brought(exported)
    assert refused == []
    run = store.run("old-s0")
    assert (run.recipe, run.status, run.step, run.notes, run.tags) == ("old", "finished", 1, {"n": 1}, "")
    (row,) = store.trajectory("old-s0")
    assert (row["step"], row["loss"], row["gap"]) == (1, 0.1, 1 / 3)
    # 0004 made options that change a number part of the protocol's name, and gave pools a column of their own.
    name = "full,shots=5" if version < "0004" else "full"
    found = {(r["metric"], r["protocol"]): (r["value"], r["n"], r["pool"]) for r in store.metric_rows(None)}
    assert found == {
        ("probe_top1", name): (100 / 3, 7, None),
        ("gap", "pool512"): (0.7, 7, 512),
    }


def test_columns_of_no_version_are_named(exported: Path) -> None:
    without(exported, {"tags"})
    store, refused = brought(exported)
    assert store.runs() == []
    assert len(refused) == 1 and refused[0].endswith(
        "runs.csv: its columns are of another version of gaprun (tags), and of none before this one"
    )


def test_a_database_is_no_result_file(tmp_path: Path) -> None:
    open_store(str(tmp_path / "other.db"))
    with pytest.raises(
        UserError, match=r"other.db: a database, not a result file: `gaprun db copy .*other.db"
    ):
        read_file(tmp_path / "other.db")
