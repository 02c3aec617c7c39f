"""`--at`: values of one step a run, chosen as it says, on the data that it says, and refused where there are none."""

import json
import shutil

import pytest
from typer.testing import CliRunner

from gaprun.cli.main import app
from gaprun.comparison import compare
from gaprun.comparison.runview import along_table, along_training
from gaprun.errors import UserError
from gaprun.paper.settings import load_study
from gaprun.report.gather import gather
from gaprun.report.sections import every_figure
from gaprun.store import EvaluationKey, NewRun, open_store
from tests.paper.conftest import recipe_of
from tests.protocols import named

# By recipe and seed: validation recall and test recall and gap after 100, 200 and 300 steps. Both ways alike but where
# a pair is given.
PATHS = {
    ("baseline", 0): ([10, 30, 20], [11, 29, 25], [0.9, 0.6, 0.5]),
    ("baseline", 1): ([10, 15, 20], [12, 35, 30], [0.8, 0.7, 0.4]),
    ("flt-0.1", 0): ([(50, 10), (20, 20), (30, 30)], [40, 20, 30], [0.5, 0.3, 0.1]),
    ("flt-0.1", 1): ([25, 25, 20], [22, 24, 26], [0.4, 0.3, 0.2]),
}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The file of a store with PATHS: retrieval of scenes/val and scenes/test and the gap of scenes/test along,
    zero-shot at the end; 50 steps an epoch."""
    store = open_store(str(tmp_path_factory.mktemp("along") / "results.db"))
    for (name, seed), (val, test, gap) in PATHS.items():
        run = f"{name}-s{seed}"
        store.begin_run(NewRun(run, name, "train", seed, f"hash-{name}", recipe_of(name), {}, "1", "", 300))
        for index, step in enumerate((100, 200, 300)):

            def add(task, split, values, protocol="full", step=step, run=run):
                key = EvaluationKey(
                    f"c{run}{step}", step, task, "scenes", split, f"f-{split}", named(protocol)
                )
                store.add_evaluation(run, key, values, 96, 8)

            pair = val[index] if isinstance(val[index], tuple) else (val[index],) * 2
            for protocol in ("full", "pool512"):
                add(
                    "retrieval",
                    "val",
                    dict(zip(("image_recall@5", "text_recall@5"), pair, strict=True)),
                    protocol,
                )
                add("gap", "test", {"gap": gap[index], "alignment": 1.0}, protocol)
            add("retrieval", "test", {"image_recall@5": test[index], "text_recall@5": test[index]})
            store.record(run, [{"step": step - 1, "epoch": (step - 1) / 50, "gap": 1.0, "temperature": 0.07}])
        add("zeroshot", "test", {"zeroshot_top1": 40.0})
        store.finish_run(run, "finished")
    store.close()
    return store.place.path


@pytest.fixture
def along(written, tmp_path):
    """A copy of that store of a test's own."""
    return open_store(str(shutil.copy(written, tmp_path / "results.db")))


def table(store, metric="gap", **options):
    found = compare(metric, db=str(store.place.path), protocol=["full"], **options)
    values = {(r["group"], r["metric"]): (r["mean"], r["steps"]) for r in found.records()}
    return values, found.notes


def test_the_end_counts_unless_a_moment_is_named(along):
    values, notes = table(along)
    assert values == {
        ("baseline", "gap"): (0.45, [300, 300]),
        ("flt-0.1", "gap"): (pytest.approx(0.15), [300, 300]),
    }
    assert not any("step" in note for note in notes)
    values, notes = table(along, at="step=100")
    assert values["baseline", "gap"] == (pytest.approx(0.85), [100, 100])
    assert "every value is of step 100" in notes
    # An epoch has 50 steps, by what training recorded.
    values, notes = table(along, at="epoch=4")
    assert values["baseline", "gap"] == (pytest.approx(0.65), [200, 200])
    assert "every value is of the end of epoch 4 (step 200)" in notes
    assert table(along, at="epoch=6")[0] == table(along)[0]


def test_a_step_beside_a_moment_is_refused_and_a_last_value_that_is_none_is_shown(along):
    with pytest.raises(UserError, match="--at step=100 says which step counts: leave --where step=75 out"):
        table(along, at="step=100", where=["step=75"])
    path = {
        "metric": "gap",
        "dataset": "scenes",
        "split": "test",
        "protocol": "full",
        "data_fingerprint": "f",
    }
    (row,) = along_table([{**path, "steps": [1, 2, 3], "values": [0.5, 0.25, None]}]).rows
    assert [cell.lines[0] for cell in row[3:6]] == ["0.500", "0.250 at 2", "n/a"]


def without(record, key):
    return {name: value for name, value in record.items() if name != key}


def test_values_of_a_split_that_was_written_anew_are_a_path_of_their_own():
    place = {"metric": "gap", "dataset": "coco", "split": "val", "protocol": "full"}
    rows = [
        {**place, "step": step, "value": value, "data_fingerprint": content}
        for step, value, content in [(1, 0.9, "old"), (2, 0.1, "old"), (3, 0.8, "new"), (4, 0.7, "new")]
    ]
    found = along_training(rows)
    assert [(one["data_fingerprint"], one["steps"], one["values"]) for one in found] == [
        ("new", [3, 4], [0.8, 0.7]),
        ("old", [1, 2], [0.9, 0.1]),
    ]
    shown = [[cell.lines[0] for cell in row[:6]] for row in along_table(found).rows]
    assert shown == [
        ["coco/val (new)", "full", "gap", "0.800", "0.700 at 4", "0.700"],
        ["coco/val (old)", "full", "gap", "0.900", "0.100 at 2", "0.100"],
    ]
    assert along_training(rows[1:3]) == []  # one value of each: no path
    (row,) = along_table(along_training(rows[2:])).rows
    assert row[0].lines[0] == "coco/val"


def test_each_run_is_taken_at_its_own_best_step_and_the_output_says_which_and_of_what(along):
    values, notes = table(along, at="best:recall@5@scenes/val")
    # The mean of both ways: 30, 20, 30 of the third run, whose first of equals counts, as of the fourth's 25, 25, 20.
    assert values["baseline", "gap"] == (pytest.approx((0.6 + 0.4) / 2), [200, 300])
    assert values["flt-0.1", "gap"] == (pytest.approx((0.5 + 0.4) / 2), [100, 100])
    assert any("highest mean of image_recall@5 and text_recall@5 on scenes/val" in note for note in notes)
    assert any("of 3 steps measured" in note for note in notes)
    assert "steps taken: baseline 200, 300; flt-0.1 100, 100" in notes
    assert not any("optimistic" in note for note in notes)  # the gap is of other pictures
    # One way alone, and a metric of which less is better.
    assert table(along, at="best:text_recall@5@scenes/val")[0]["flt-0.1", "gap"][1] == [300, 100]
    values, notes = table(along, at="best:gap")
    assert values["flt-0.1", "gap"] == (pytest.approx(0.15), [300, 300])
    assert any("lowest gap on scenes/test" in note for note in notes)


def test_a_choice_on_the_data_that_is_shown_is_called_optimistic(along):
    values, notes = table(along, "recall@5", dataset=["scenes/test"], at="best:recall@5@scenes/test")
    assert values["baseline", "image_recall@5"] == ((29 + 35) / 2, [200, 200])
    (warning,) = [note for note in notes if note.startswith("optimistic")]
    assert "chosen on scenes/test, which is shown too" in warning and "@DATA/SPLIT" in warning
    values, notes = table(along, "recall@5", dataset=["scenes/test"], at="best:recall@5@scenes/val")
    assert values["baseline", "image_recall@5"] == ((29 + 30) / 2, [200, 300])
    assert not any("optimistic" in note for note in notes)
    # Shown on both: the warning names the one that decided.
    notes = table(along, "recall@5", at="best:recall@5@scenes/val")[1]
    assert any("chosen on scenes/val, which" in note for note in notes)


def test_the_protocol_that_decides_may_be_named(along):
    run = "baseline-s0"
    key = EvaluationKey("c100", 100, "retrieval", "scenes", "val", "f-val", named("pool512"), {}, 2)
    along.add_evaluation(run, key, {"image_recall@5": 99.0, "text_recall@5": 99.0}, 96, 8)
    taken = {
        p: table(along, at=f"best:recall@5@scenes/val/{p}")[0]["baseline", "gap"][1]
        for p in ("full", "pool512")
    }
    assert taken["full"] == [200, 300]
    # Another definition of the metric is not compared with the others' values.
    assert taken["pool512"] == [200, 300]


@pytest.mark.parametrize(
    ("moment", "reason"),
    [
        ("step=150", "--at step=150: no run was measured then; there are values of steps 100, 200, 300"),
        ("epoch=3", "--at epoch=3: no run was measured then"),
        (
            "best:recall@5",
            "along training on scenes/test and scenes/val; say which decides: --at best:recall@5@scenes/test",
        ),
        (
            "best:recall@5@coco/val",
            "--at best:recall@5@coco/val: not measured there, but on scenes/test and scenes/val",
        ),
        (
            "best:zeroshot_top1",
            "no run has it at several steps; a recipe's eval_every measures along training",
        ),
        ("best:temperature", "neither way is better"),
        ("best:gap_and_more", "unknown metric 'gap_and_more'"),
        ("best:gap@scenes/test/pool9", "not measured there"),
        ("best:geometry", "some are better high and some low"),
        ("step=-3", "expected step=400, epoch=2, best:METRIC"),
        ("epoch=x", "expected step=400"),
        ("400", "expected step=400"),
    ],
)
def test_what_names_no_moment_is_refused_with_the_way_out(along, moment, reason):
    with pytest.raises(UserError) as error:
        table(along, at=moment)
    assert reason in str(error.value)


def test_runs_without_that_step_are_left_out_and_counted(along):
    key = EvaluationKey("c", 300, "gap", "scenes", "test", "f-test", named("full"))
    along.begin_run(
        NewRun("flt-0.1-s2", "flt-0.1", "train", 2, "hash-flt-0.1", recipe_of("flt-0.1"), {}, "1", "", 300)
    )
    along.add_evaluation("flt-0.1-s2", key, {"gap": 7.0}, 96, 8)
    along.finish_run("flt-0.1-s2", "finished")
    values, notes = table(along, at="step=100")
    assert values["flt-0.1", "gap"][1] == [100, 100]
    assert "1 run(s) without a value of that step are left out" in notes
    assert table(along)[0]["flt-0.1", "gap"][0] == pytest.approx((0.1 + 0.2 + 7) / 3)
    values, notes = table(along, at="best:gap@scenes/test/full")
    assert values["flt-0.1", "gap"][1] == [300, 300, 300] and any("1 to 3 steps" in note for note in notes)
    assert any("1 of 5 runs were measured at one step alone" in note for note in notes)


def test_paper_report_views_and_one_run_show_the_same_moment(along):
    db = str(along.place.path)
    moment = "best:recall@5@scenes/val"
    study = load_study(along, at=moment)
    assert {r.run: r.values["gap"] for r in study.results if "gap" in r.values} == {
        "baseline-s0": 0.6, "baseline-s1": 0.4, "flt-0.1-s0": 0.5, "flt-0.1-s1": 0.4,
    }  # fmt: skip
    assert any("steps taken: baseline 200, 300" in line for line in study.left_out)
    material = gather(along, at=moment)
    assert {(r["id"], r["step"]) for r in material.rows} == {
        ("baseline-s0", 200), ("baseline-s1", 300), ("flt-0.1-s0", 100), ("flt-0.1-s1", 100),
    }  # fmt: skip
    drawn = {figure.name: figure for figure in every_figure(material)}
    assert {"train-gap", "measured-gap"} <= set(drawn) and "scenes/test" in drawn["measured-gap"].alt
    (panel,) = drawn["measured-gap"].panels
    (mean,) = (mark for mark in panel.marks if mark.name == "baseline" and not mark.faint)
    assert (mean.x, mean.y) == ([101, 201, 301], pytest.approx([0.85, 0.65, 0.45]))

    def said(*arguments):
        done = CliRunner().invoke(app, [*arguments, "--db", db, "--json"])
        assert done.exit_code == 0, done.output
        return json.loads(done.output)

    metrics = [f"--metric={name}" for name in ("gap", "recall@5", "alignment")]
    front = said("compare", "--pareto", "--at", "step=100", *metrics, "--dataset", "scenes/test")
    gaps = {row["group"]: row["means"]["gap scenes/test pool512"] for row in front}
    assert gaps == {"baseline": pytest.approx(0.85), "flt-0.1": pytest.approx(0.45)}
    for kind in (
        "json",
        "csv",
    ):  # what the values are of stands beside the records, which stay alone on stdout
        words = ["compare", "--at", "best:recall@5@scenes/val", *metrics[:1], "--db", db, "--format", kind]
        done = CliRunner().invoke(app, words)
        assert "Each run at its step of the highest mean of image_recall@5" in done.stderr
        assert "Steps taken: baseline 200, 300; flt-0.1 " in done.stderr
        assert len(json.loads(done.stdout) if kind == "json" else done.stdout.splitlines()[1:]) == 4
    shown = said("runs", "show", "baseline-s0")["along"]
    assert {"metric": "gap", "dataset": "scenes", "split": "test", "protocol": "full", "steps": [100, 200, 300],
            "values": [0.9, 0.6, 0.5]} in [without(one, "data_fingerprint") for one in shown]  # fmt: skip
    text = CliRunner().invoke(app, ["runs", "show", "baseline-s0", "--db", db]).output
    assert "along training (steps 100, 200, 300)" in text and "0.500 at 300" in text
