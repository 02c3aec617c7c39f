"""What a reader would not know: who is missing, what a difference is of, which option or value did nothing."""

import json

import pytest
from typer.testing import CliRunner

from gaprun.cli.main import app
from gaprun.comparison import compare
from gaprun.comparison.legend import about_differences
from gaprun.comparison.rundiff import differing
from gaprun.comparison.runlist import chosen_runs, list_table
from gaprun.errors import UserError
from gaprun.store import EvaluationKey, NewRun
from tests.protocols import named

SETUP = {"schedule": {"steps": 100}, "data": {"train": ["a/train"]}}
EXP, WARM = ({**SETUP, "temperature": {"rule": "exp", "init": init}} for init in (0.07, 0.1))
FIXED = {**SETUP, "temperature": {"rule": "fixed", "tau": 0.04}}


def path_of(store):
    return str(store.place.path)


def test_seeds_and_baselines_that_are_not_finished_are_named(store, add):
    for seed, status in enumerate(("finished", "failed", "interrupted", "finished")):
        add("flt", seed, gap=0.3 + seed / 100, resolved=FIXED, status=status, tag="-a")
    add("baseline", 0, gap=0.5, resolved=EXP, status="failed")
    add("other", 0, gap=0.5, resolved={"schedule": {"steps": 9}}, status="failed")  # of nobody's row
    asked = {"db": path_of(store), "health": False}
    (cell,) = compare("gap", **asked).cells.values()
    assert cell.units == (0, 3)
    (note,) = compare("gap", **asked).notes
    assert note == (
        "left out as not finished: baseline seed 0 (failed), flt seed 1 (failed), flt seed 2 (interrupted)"
    )
    assert compare("gap", **asked, where=["seed!=0", "dataset=scenes"]).notes == [
        "left out as not finished: flt seed 1 (failed), flt seed 2 (interrupted)"
    ]
    assert not [note for note in compare("gap", **asked, all_statuses=True).notes if "left out" in note]
    assert compare("gap", **asked, where=["status=finished"]).notes == []
    # A seed that another run of the recipe has is there.
    for seed in (1, 2):
        add("flt", seed, gap=0.3, resolved=FIXED, tag="-a")
    assert compare("gap", **asked).notes == ["left out as not finished: baseline seed 0 (failed)"]


def test_several_rows_called_baseline_are_named(store, add):
    for seed in range(3):
        add("baseline", seed, gap=0.5 + seed / 90, resolved=EXP, tag="-a")
        add("baseline", seed, gap=0.4 + seed / 80, resolved=WARM, tag="-b")
        add("flt", seed, gap=0.2 + seed / 70, resolved=FIXED)
    found = compare("gap", db=path_of(store))
    assert not found.baselines and found.notes == [
        "no difference is shown where several rows are called baseline: baseline [init=0.07], baseline [init=0.1]; "
        "--baseline names one"
    ]
    named_one = compare("gap", db=path_of(store), baseline="baseline [init=0.1]")
    cells = {group: cell.difference for (group, _), cell in named_one.cells.items()}
    assert cells["flt"].delta == pytest.approx(-0.2 + 1 / 70 - 1 / 80) and named_one.notes == []


def test_a_difference_over_some_of_the_seeds_says_so(store, add):
    for seed in range(5):
        add("baseline", seed, gap=0.5 + seed * seed / 100, resolved=EXP)
    for seed in range(3):
        add("flt", seed, gap=0.2 + seed / 100, resolved=FIXED)
    add("late", 9, gap=0.4, resolved={**FIXED, "swap": {"rule": "hard"}})
    found = compare(["gap"], db=path_of(store))
    (column,) = found.columns
    deltas = {group: cell.difference.delta for (group, _), cell in found.cells.items() if cell.difference}
    assert deltas["flt"] == pytest.approx(0.21 - (0.5 + 0.51 + 0.54) / 3)  # of seeds 0 to 2
    assert deltas["late"] == pytest.approx(0.4 - 0.56)  # of all, as no seed is shared
    assert [found.unpaired(group, column) for group in ("flt", "late", "baseline")] == [True, False, False]
    (line,) = [line for line in about_differences(found, "p") if line.startswith("Δ")]
    assert "paired by seed where enough are shared (of the seeds that both have)" in line
    said = CliRunner().invoke(app, ["compare", "--db", path_of(store), "--summary"]).stdout
    assert "over the 3 seeds that both have" in " ".join(said.split())


def test_own_runs_beside_imported_ones_have_a_heading(store, add):
    """Only the kind of its runs tells that set-up from the other: no word of the recipe does."""
    for seed in range(3):
        add("baseline", seed, gap=0.5 + seed / 90, resolved=EXP)
    imported = NewRun("clip-1", "clip", "external", None, "h", {"name": "clip"}, {}, "0", "", 0)
    store.begin_run(imported)
    key = EvaluationKey("c-clip", 0, "gap", "scenes", "test", "f1", named("full"))
    store.add_evaluation("clip-1", key, {"gap": 0.75}, 512, 64)
    store.finish_run("clip-1", "finished")
    said = CliRunner().invoke(app, ["compare", "--db", path_of(store), "--metric", "gap"]).stdout
    assert "own runs:" in said and "external:" in said and "\n:" not in said


@pytest.mark.parametrize(
    ("words", "named_option"),
    [
        (["--summary", "--wide"], "--wide does nothing with --summary"),
        (["--summary", "--sort", "gap"], "--sort does nothing with --summary"),
        (["--pareto", "--digits", "0"], "--digits does nothing with --pareto"),
        (["--pareto", "--margin", "1"], "--margin does nothing with --pareto"),
        (["--correlate", "gap", "--queries"], "--queries does nothing with --correlate"),
        (["--aggregate", "--family", "none"], "--family does nothing with --aggregate"),
        (["--aggregate", "--health"], "--health does nothing with --aggregate"),
        (["--json", "--names", "flt=FLT"], "--names does nothing with --format json"),
        (["--format", "csv", "--digits", "3"], "--digits does nothing with --format csv"),
        (["--names", "flt=A", "--names", "flt=B"], "flt has another name already"),
        (["--margin", "gap=1", "--margin", "gap=2"], "gap has another margin already"),
        (["--margin", "1", "--margin", "2"], "every metric has another margin already"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(store, add, words, named_option):
    for recipe, document in (("baseline", EXP), ("flt", FIXED)):
        for seed in range(3):
            add(recipe, seed, gap=0.5, resolved=document)
    done = CliRunner().invoke(app, ["compare", "--db", path_of(store), "--metric", "gap", *words])
    assert isinstance(done.exception, UserError) and named_option in str(done.exception)


def test_values_that_decide_nothing_and_rows_by_tag(store, add):
    for recipe in ("flt", "slrt"):
        add(recipe, 0, gap=0.3, resolved=FIXED)
    store.retag("flt-s0", ["checked", "final"])
    asked = {"db": path_of(store), "health": False}
    found = compare("gap", **asked, where=["recipe=flt", "recipe=slt"])
    assert found.groups == ["flt"] and found.notes == ["nothing has recipe=slt: did you mean slrt or flt?"]
    assert compare("gap", **asked, where=["recipe!=slt"]).notes == [
        "nothing has recipe=slt, so recipe!=slt leaves nothing out: did you mean slrt or flt?"
    ]
    assert compare("gap", **asked, where=["recipe!=slrt"]).notes == []
    assert compare("gap", **asked, by="tag").groups == ["checked, final", "none"]
    done = CliRunner().invoke(app, ["runs", "list", "--db", asked["db"], "--where", "recipe!=slt", "--json"])
    assert len(json.loads(done.stdout)) == 2 and "leaves nothing out" in done.stderr


def test_a_list_of_runs_has_the_column_that_was_asked_for(store, add):
    add("flt", 0, gap=0.1), add("flt", 1, gap=0.2), add("flt", 2, gap=0.3, at={"data_fingerprint": "f2"})
    runs, columns = chosen_runs(store, (), ["gap", "cka"] if "cka" in store.metric_names() else ["gap"], None)
    table = list_table(runs, columns)
    assert "gap: 1 more run measured otherwise alone (data, size, protocol)." in table.legend
    add("late", 0, cka=0.5)
    runs, columns = chosen_runs(store, ["recipe=late"], ["gap"], "gap")
    table = list_table(runs, columns)
    assert table.records[0]["gap"] is None and table.legend == ("gap: measured of none of these runs.",)


def test_two_runs_differ_in_what_they_were_trained_on_and_by(store, add):
    for seed, content in enumerate(("aaaa", "bbbb")):
        add("flt", seed, gap=0.1 * seed, resolved=FIXED)
        run = store.run(f"flt-s{seed}")
        with store.engine.execution_options(gaprun_write=True).begin() as connection:
            document = json.dumps({"device": "cpu", "data": {"a.b/train": content}})
            connection.exec_driver_sql(
                f"update runs set environment = '{document}' where id = '{run.id}'"  # noqa: S608
            )
    a, b = store.run("flt-s0"), store.run("flt-s1")
    found = differing(a, b, (store.metrics(a.id), store.metrics(b.id)))
    keys = {row["key"]: (row["a"], row["b"]) for row in found.keys}
    assert keys == {"seed": (0, 1), "environment.data.a.b/train": ("aaaa", "bbbb")} and len(found.values) == 1
    key = EvaluationKey(
        "c-flt-s1", 100, "gap", "scenes", "test", "f1", named("full"), definition=7, options={"k": 1}
    )
    store.add_evaluation(b.id, key, {"gap": 0.9}, 512, 64)  # by another rule: no difference of the two
    assert differing(a, b, (store.metrics(a.id), store.metrics(b.id))).values == ()


def test_an_infinite_value_is_left_out_as_such(store, add):
    add("baseline", 0, gap=float("inf"))
    add("baseline", 1, gap=float("nan"))
    add("baseline", 2, gap=0.5)
    compared = compare("gap", db=store.place.name)
    assert "left out as not defined (NaN or infinite): 2 values" in compared.notes
    assert [cell.summary.mean for cell in compared.cells.values()] == [0.5]
