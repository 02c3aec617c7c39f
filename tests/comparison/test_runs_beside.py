"""Two runs side by side, and lists of runs by their metrics."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from gaprun.comparison import rundiff
from gaprun.comparison.runlist import chosen_runs, list_table
from gaprun.comparison.runview import took
from gaprun.errors import UserError
from gaprun.exchange.flat import flat_run
from gaprun.store.models import Run
from gaprun.tables import markdown

TAU = {"temperature": {"rule": "fixed", "tau": 0.1}, "swap": {"rule": "none"}}


def test_two_runs_differ_in_their_keys_and_values(store, add):
    add("baseline", 0, gap=0.7, cka=0.2, resolved={"temperature": {"rule": "exp"}, "swap": {"rule": "none"}})
    add("flt", 1, gap=0.25, rmg=0.1, resolved=TAU)
    a, b = store.run("baseline-s0"), store.run("flt-s1")
    found = rundiff.differing(a, b, (store.metrics(a.id), store.metrics(b.id)))
    keys = {row["key"]: (row["a"], row["b"]) for row in found.keys}
    assert keys == {
        "name": ("baseline", "flt"),
        "temperature.rule": ("exp", "fixed"),
        "temperature.tau": (None, 0.1),
        "seed": (0, 1),
    }
    (value,) = found.values  # what only one of them has is not compared
    assert value["metric"] == "gap" and value["difference"] == pytest.approx(-0.45)
    later = {"model": {"freeze": None}, "data": {"crop": "random"}}  # what a run of today has, at its default
    add("flt", 2, gap=0.25, resolved={**TAU, **later})
    add("flt", 3, gap=0.25, resolved={**TAU, "data": {"crop": "centre"}})
    keys = [
        [row["key"] for row in rundiff.differing(b, store.run(one), ((), ())).keys]
        for one in ("flt-s2", "flt-s3")
    ]
    assert keys == [["seed"], ["data.crop", "seed"]]
    text = "\n".join(map(markdown.render, rundiff.tables(found)))
    assert "| temperature.tau | - | 0.1 |" in text and "| −0.450 |" in text
    same = rundiff.differing(a, a, (store.metrics(a.id), ()))
    assert same.keys == same.values == ()
    said = [line for table in rundiff.tables(same) for line in table.legend]
    assert said == ["The recipes are the same.", "No value was measured of both in one way."]


def test_runs_in_the_order_of_a_metric_or_a_key(store, add):
    for seed, gap in enumerate([0.3, 0.1, 0.2]):
        add("flt", seed, gap=gap, image_recall_at_5=10 * gap)
    add("late", 9)

    def listed(sort, *metrics):
        runs, columns = chosen_runs(store, (), metrics, sort)
        return [run.id for run in runs], columns

    ids, (gap,) = listed("gap")  # less is better, and what has none comes last
    assert ids == ["flt-s1", "flt-s2", "flt-s0", "late-s9"] and gap.values["flt-s1"] == 0.1
    assert listed("image_recall@5")[0] == ["flt-s0", "flt-s2", "flt-s1", "late-s9"]
    assert listed("seed")[0] == ["flt-s0", "flt-s1", "flt-s2", "late-s9"]
    with pytest.raises(UserError, match="--sort gpa: neither one of recipe, seed, .*did you mean gap"):
        listed("gpa")
    store.retag("late-s9", ["odd"])
    runs, columns = chosen_runs(store, (), ["gap"], "gap")
    table = list_table(runs, columns)
    text = markdown.render(table)
    assert "gap ↓" in text and "| 0.100 |" in text and "odd" in text and "scenes/test, protocol full." in text
    assert "took" not in text and "took" in markdown.render(list_table(runs))
    assert [record["gap"] for record in table.records] == [0.1, 0.2, 0.3, None]


def test_what_was_said_of_a_run_stands_in_the_list_its_records_and_what_is_sent(store, add):
    add("flt", 0, gap=0.3)
    add("flt", 1, gap=0.2)
    assert "note" not in markdown.render(list_table(chosen_runs(store, (), (), None)[0]))
    store.retag("flt-s1", ["kept", "checked"])
    store.set_note("flt-s1", "the one of the paper")
    table = list_table(chosen_runs(store, (), (), "seed")[0])
    assert [heading.text for heading in table.heads][-2:] == ["tags", "note"]
    cells = [[cell.lines[0] for cell in row[-2:]] for row in table.rows]
    assert cells == [["", ""], [", ".join(store.run("flt-s1").tag), "the one of the paper"]]
    assert [(record["tags"], record["note"]) for record in table.records] == [
        ([], ""),
        (store.run("flt-s1").tag, "the one of the paper"),
    ]
    facts = flat_run(store, "flt-s1").facts
    assert set(facts["tags"].split(", ")) == {"kept", "checked"} and facts["note"] == "the one of the paper"
    assert not {"tags", "note"} & flat_run(store, "flt-s0").facts.keys()


def test_a_run_that_ends_before_it_starts_took_no_known_time(store, add):
    """A clock that was set back, or two machines' clocks: a difference below zero is no duration."""
    start = datetime(2026, 1, 1, 12, tzinfo=UTC)
    for seed, seconds in enumerate((3723, -40, 0)):
        add("flt", seed, gap=0.3)
        with store.engine.execution_options(gaprun_write=True).begin() as connection:
            times = {"started": start, "finished": start + timedelta(seconds=seconds)}
            connection.execute(update(Run).where(Run.id == f"flt-s{seed}").values(times))
    assert [took(store.run(f"flt-s{seed}")) for seed in range(3)] == ["1:02:03", "-", "0:00:00"]
    assert [run.id for run in chosen_runs(store, (), (), "took")[0]] == ["flt-s2", "flt-s0", "flt-s1"]
