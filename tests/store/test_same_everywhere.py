"""What is read does not depend on where the database lies: order, digits and keys are the same on every kind."""

import csv
from pathlib import Path

import pytest
from sqlalchemy import text

from gaprun.errors import UserError
from gaprun.store import queries
from gaprun.store.export import export
from gaprun.store.info import describe

# As Python sorts them; by the rules of English a-b, a_b, ab, B.
NAMES = ["B", "a-b", "a_b", "ab"]


def keep(store, new_run, key, names=("ab", "B", "a_b", "a-b"), **recipe):
    """Runs of these recipes, in this order, with two metrics of each; all were made in one moment."""
    for number, name in enumerate(names):
        store.begin_run(new_run(name, **recipe))
        store.add_evaluation(f"{name}-s0", key(), {"rmg": number / 10, "gap": number / 7}, 5, 2)
        store.add_evaluation(
            f"{name}-s0", key(dataset="Flickr", data_fingerprint="f2"), {"gap": number / 3}, 5, 2
        )
        store.finish_run(f"{name}-s0", "failed" if name == "B" else "finished")
    with store.engine.execution_options(gaprun_write=True).begin() as connection:
        connection.execute(text("UPDATE runs SET created = '2026-01-01 00:00:00'"))


def test_texts_stand_in_one_order(store, new_run, key, tmp_path):
    keep(store, new_run, key)
    ids = [f"{name}-s0" for name in NAMES]
    assert [run.id for run in store.runs()] == ids
    with pytest.raises(UserError, match="could be a-b-s0, a_b-s0, ab-s0"):
        store.run("a")
    rows = store.metric_rows(["gap", "rmg"])
    places = [("Flickr", "gap"), ("scenes", "gap"), ("scenes", "rmg")]
    assert [(row["id"], row["dataset"], row["metric"]) for row in rows] == [
        (run, *place) for run in ids for place in places
    ]
    export(store, tmp_path / "csv")
    with (tmp_path / "csv" / "runs.csv").open(newline="") as file:
        assert [row["id"] for row in csv.DictReader(file)] == ids
    assert list(describe(_place(store))["by_status"].items()) == [("failed", 1), ("finished", 3)]


def test_names_of_metrics_are_sorted(store, new_run, key):
    store.begin_run(new_run())
    store.add_evaluation("baseline-s0", key(), dict.fromkeys(["ab", "B", "a_b", "a-b"], 0.5), 5, 2)
    assert store.metric_names() == NAMES


def test_a_value_of_a_recipe_keeps_all_its_digits(store, new_run, key):
    given = {
        "third": 1 / 7,
        "sum": 0.1 + 0.2,
        "small": 1e-7,
        "number": 12345678901234567890,
        "yes": True,
        "one": 1,
        "quoted": 'it\'s "é"',
        "list": [0.1 + 0.2, True, None, {"x": 1 / 7}],
    }
    keep(store, new_run, key, ["first"], **given)
    found = store._read(lambda session: queries.recipe_values(session, list(given)))
    assert {name: value["first-s0"] for name, value in found.items()} == given
    assert type(found["yes"]["first-s0"]) is bool and type(found["one"]["first-s0"]) is int
    keep(store, new_run, key, ["second"], **given | {"sum": 0.3, "number": 12345678901234567891})
    for condition in ("sum=0.30000000000000004", "number=12345678901234567890", "list.0=0.30000000000000004"):
        ours = {"first-s0", "second-s0"} if condition.startswith("list") else {"first-s0"}
        assert {run.id for run in store.runs([condition])} == ours
    assert [run.id for run in store.runs(["sum=0.3"])] == ["second-s0"]


@pytest.mark.parametrize(
    "key_of_a_list", ["list.-1", "list.+1", "list. 1", "list.²", "list.٣", "list.4294967297"]
)
def test_a_place_in_a_list_counts_from_its_start(store, new_run, key, key_of_a_list):
    keep(store, new_run, key, ["first"], list=["a", "b", "c"])
    assert store.runs(["list.1=b"]) and store.runs(["list.01=b"]) and not store.runs(["list.1=c"])
    with pytest.raises(UserError, match="no run has the key"):
        store.runs([f"{key_of_a_list}=b"])


def _place(store) -> str:
    place = store.place
    return str(Path(place.path)) if place.path else place.url.render_as_string(hide_password=False)
