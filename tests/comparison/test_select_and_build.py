"""Which results stand beside each other, what is refused, and the numbers in the table."""

import json

import numpy as np
import pytest
from scipy import stats

from gaprun.comparison import compare, select
from gaprun.comparison.legend import about
from gaprun.errors import UserError


def test_the_numbers_of_a_table(store, add):
    baseline, flt = [0.30, 0.28, 0.33], [0.12, 0.15, 0.11]
    for seed in range(3):
        add("baseline", seed, gap=baseline[seed])
        add("flt", seed, gap=flt[seed])
    add("one", 0, gap=0.2)
    records = {r["recipe"]: r for r in compare("gap", db=store.place.name).records()}
    assert list(records) == ["baseline", "flt", "one"]
    base, row, one = records.values()
    assert (base["n"], base["delta"], base["p_value"], base["best"]) == (3, None, None, False)
    assert base["mean"] == pytest.approx(np.mean(baseline)) and base["std"] == pytest.approx(
        np.std(baseline, ddof=1)
    )
    expected = stats.ttest_rel(flt, baseline)
    assert row["delta"] == pytest.approx(np.mean(flt) - np.mean(baseline)) and row["best"]
    assert row["p_value"] == row["p_corrected"] == pytest.approx(expected.pvalue)  # a family of one
    assert (row["test"], row["pairs"], row["seeds"], row["baseline"]) == (
        "paired t",
        3,
        [0, 1, 2],
        "baseline",
    )
    assert row["ci95"] == pytest.approx(stats.t.interval(0.95, 2, np.mean(flt), stats.sem(flt)))
    assert (one["n"], one["std"], one["ci95"], one["p_value"], one["delta"]) == (
        1,
        None,
        None,
        None,
        pytest.approx(-0.1),
    )
    assert {r["metric"] for r in records.values()} == {"gap"} and base["items"] == 512
    json.dumps(list(records.values()), allow_nan=False)


def test_short_names_make_columns_and_missing_cells_are_left_out(store, add):
    add("baseline", 0, gap=0.3, image_recall_at_5=0.5, text_recall_at_5=0.6)
    add("flt", 0, gap=0.1)
    found = compare(["recall@5", "gap"], db=store.place.name)
    assert [c.metric for c in found.columns] == ["image_recall@5", "text_recall@5", "gap"]
    assert [(r["group"], r["metric"]) for r in found.records()] == [
        ("baseline", "image_recall@5"), ("baseline", "text_recall@5"), ("baseline", "gap"), ("flt", "gap"),
    ]  # fmt: skip
    assert found.frame().set_index(["group", "metric"]).loc[("flt", "gap"), "mean"] == 0.1


def test_data_splits_and_protocols_never_share_a_column(store, add):
    add("baseline", 0, gap=0.3)
    add("baseline", 0, gap=0.4, at={"protocol": "pool512"})
    add("baseline", 0, gap=0.5, at={"dataset": "coco", "data_fingerprint": "f2"})
    add("baseline", 0, gap=0.6, at={"split": "val", "data_fingerprint": "f3"})
    db = store.place.name
    assert [(r["dataset"], r["split"], r["protocol"], r["mean"]) for r in compare("gap", db=db).records()] == [
        ("coco", "test", "full", 0.5), ("scenes", "test", "full", 0.3),
        ("scenes", "test", "pool512", 0.4), ("scenes", "val", "full", 0.6),
    ]  # fmt: skip
    assert [r["mean"] for r in compare("gap", db=db, dataset=["coco"]).records()] == [0.5]
    assert [r["mean"] for r in compare("gap", db=db, dataset=["scenes/val"]).records()] == [0.6]
    assert [r["mean"] for r in compare("gap", db=db, protocol=["pool512"]).records()] == [0.4]


@pytest.mark.parametrize(
    ("change", "n", "said", "way_out"),
    [
        ({}, 1000, "number of items (gallery size) differs (512 in", "--where n=512"),
        ({"data_fingerprint": "f2"}, 512, "data differs (f1 in", "--where data_fingerprint=f1"),
        ({"definition": 2}, 512, "definition of the metric differs (1 in", "--where definition=1"),
        (
            {"options": {"k": 2}},
            512,
            "options (or plugin code) of the evaluation differs",
            "--where options_hash=",
        ),
    ],
)
def test_what_is_not_comparable_is_refused_with_a_way_out(store, add, change, n, said, way_out):
    add("baseline", 0, gap=0.3)
    add("flt", 0, gap=0.1, at=change, n=n)
    with pytest.raises(UserError) as caught:
        compare("gap", db=store.place.name)
    assert said in str(caught.value) and way_out in str(caught.value) and "flt-s0" in str(caught.value)
    where = str(caught.value).split("--where ")[1].split(",")[0]
    assert len(compare("gap", db=store.place.name, where=[where]).records()) == 1
    assert len(compare("gap", db=store.place.name, allow_mixed=True).records()) == 2


def test_only_finished_runs_count_unless_told_otherwise(store, add):
    add("baseline", 0, gap=0.3)
    add("baseline", 1, gap=0.9, status="failed")
    db = store.place.name
    assert compare("gap", db=db).records()[0]["n"] == 1
    assert compare("gap", db=db, all_statuses=True).records()[0]["n"] == 2
    assert compare("gap", db=db, where=["status=failed"]).records()[0]["mean"] == 0.9


def test_groups_by_any_key_of_the_recipe(store, add):
    for tau in (0.01, 0.1, 0.04):
        for seed in range(2):
            add(f"flt-{tau}", seed, gap=tau + seed / 100, resolved={"temperature": {"tau": tau}})
    add("baseline", 0, gap=0.5, resolved={"temperature": {"init": 0.07}})
    found = compare("gap", db=store.place.name, by="temperature.tau", baseline="0.04")
    assert found.groups == ["0.04", "0.01", "0.1", "none"]
    assert found.records()[1]["recipe"] == "flt-0.01" and found.records()[1]["delta"] == pytest.approx(-0.03)
    where = ["recipe=flt-*"]
    apart = compare("gap", db=store.place.name, by="seed", where=where, baseline="0 [flt-0.01]")
    assert {(r["group"], r["n"], r["delta"] and round(r["delta"], 6)) for r in apart.records()} >= {
        ("0 [flt-0.01]", 1, None), ("1 [flt-0.01]", 1, 0.01), ("1 [flt-0.1]", 1, None),
    }  # fmt: skip
    found = compare("gap", db=store.place.name, by="seed", where=where, baseline="0", allow_mixed=True)
    seeds = found.records()
    assert [(r["group"], r["n"], r["mixed"]) for r in seeds] == [("0", 3, "recipe"), ("1", 3, "recipe")]
    assert seeds[1]["recipes"] == ["flt-0.01", "flt-0.04", "flt-0.1"]  # paired by recipe: no spread, so no p
    assert (seeds[1]["pairs"], seeds[1]["delta"], seeds[1]["p_value"]) == (3, pytest.approx(0.01), None)
    with pytest.raises(UserError, match="no run has the key 'temperature.tua': did you mean temperature.tau"):
        compare("gap", db=store.place.name, by="temperature.tua")
    with pytest.raises(UserError, match="columns are apart by protocol anyway"):
        compare("gap", db=store.place.name, by="protocol")


def test_one_name_with_two_recipes_becomes_two_rows(store, add):
    for tau in (0.04, 0.07):
        for seed in range(2):
            add(
                "flt",
                seed,
                gap=tau,
                tag=f"-{tau}",
                resolved={"temperature": {"tau": tau}, "description": str(tau)},
            )
    add("baseline", 0, gap=0.5)
    assert compare("gap", db=store.place.name).groups == [
        "baseline", "flt [tau=0.04]", "flt [tau=0.07]",
    ]  # fmt: skip
    with pytest.raises(UserError, match=r"--baseline 'flt' is several groups .* flt \[tau=0.04\], flt \[tau"):
        compare("gap", db=store.place.name, baseline="flt")


def test_each_length_has_its_own_baseline(store, add):
    gaps = {("baseline", 600): 0.7, ("reparam", 600): 0.5, ("baseline", 6000): 0.6, ("reparam", 6000): 0.1}
    for (recipe, steps), gap in gaps.items():
        for seed in range(3):
            resolved = {"schedule": {"steps": steps}, "temperature": {"rule": recipe}}
            add(recipe, seed, gap=gap + seed / 100, tag=f"-{steps}", resolved=resolved)
    add("flt", 0, gap=0.4, resolved={"schedule": {"steps": 6000}})
    add("slrt", 0, gap=0.4, resolved={"schedule": {"steps": 60}})  # no baseline of that length
    found = compare("gap", db=store.place.name)
    short, long = "baseline [600 steps]", "baseline [6,000 steps]"
    assert [(r["group"], r["baseline"], r["delta"] and round(r["delta"], 6)) for r in found.records()] == [
        (long, long, None), ("flt", long, -0.2), ("reparam [6,000 steps]", long, -0.5),
        (short, short, None), ("reparam [600 steps]", short, -0.2),
        ("slrt", None, None),
    ]  # fmt: skip
    assert [r["setup"] for r in found.records()] == ["6,000 steps"] * 3 + ["600 steps"] * 2 + ["60 steps"]
    assert [r["best"] for r in found.records()] == [
        False,
        False,
        True,
        False,
        True,
        False,
    ]  # each set-up has its own
    assert "difference from baseline of the row's set-up" in " ".join(about(found))
    chosen = compare("gap", db=store.place.name, baseline=short)
    assert {r["group"]: r["baseline"] for r in chosen.records() if r["baseline"]} == {
        short: short, "reparam [600 steps]": short
    }  # fmt: skip
    assert "no difference is shown of 4 rows of another set-up than" in " ".join(chosen.notes)
    forced = compare("gap", db=store.place.name, baseline=short, allow_mixed=True)
    assert {r["baseline"] for r in forced.records()} == {short}
    assert "compared with a baseline of another set-up" in " ".join(about(forced))


def test_a_repeated_seed_is_no_further_evidence(store, add):
    add("flt", 0, gap=0.5, tag="-old")
    add("flt", 0, gap=0.1, tag="-new")
    add("flt", None, gap=0.3, tag="-a")
    add("flt", None, gap=0.3, tag="-b")  # without a seed every run stands for itself
    found = compare("gap", db=store.place.name)
    assert found.records()[0]["n"] == 3 and found.records()[0]["mean"] == pytest.approx(0.7 / 3)
    assert any("only the latest counts" in note for note in found.notes)


def test_undefined_values_are_left_out_and_said_so(store, add):
    add("flt", 0, gap=0.5)
    add("flt", 1, gap=float("nan"))
    found = compare("gap", db=store.place.name)
    assert found.records()[0]["n"] == 1 and any("not defined" in note for note in found.notes)
    add("hopeless", 0, rmg=float("nan"))
    (record,) = compare("rmg", db=store.place.name).records()
    assert (record["group"], record["n"], record["mean"], record["undefined"]) == ("hopeless", 0, None, 1)


def test_order_best_and_top(store, add):
    for recipe, gap, recall in (("a10", 0.3, 0.5), ("a9", 0.1, 0.9), ("baseline", 0.2, 0.9)):
        add(recipe, 0, gap=gap, image_recall_at_1=recall, mismatched_cosine=gap)

    def groups(**options):
        return compare(["gap", "image_recall@1", "mismatched_cosine"], db=store.place.name, **options).groups

    assert groups() == ["baseline", "a9", "a10"]
    assert groups(sort="gap") == ["a9", "baseline", "a10"]
    assert groups(sort="recall@1") == ["a9", "baseline", "a10"] and groups(sort="gap", top=1) == ["a9"]
    found = compare(["gap", "image_recall@1", "mismatched_cosine"], db=store.place.name)
    best = [(r["group"], r["metric"]) for r in found.records() if r["best"]]
    assert best == [
        ("baseline", "image_recall@1"),
        ("a9", "gap"),
        ("a9", "image_recall@1"),
    ]  # a tie marks both
    with pytest.raises(UserError, match="--sort rmg: not among the metrics"):
        groups(sort="rmg")


def test_unknown_names_say_what_there_is(store, add):
    with pytest.raises(UserError, match="the database holds no metrics yet"):
        compare("gap", db=store.place.name)
    add("baseline", 0, gap=0.3, my_own_metric=1.0)
    db = store.place.name
    assert compare("my_own_metric", db=db).records()[0]["mean"] == 1.0
    for metric, message in (
        ("gpa", "unknown metric 'gpa': did you mean gap.*the database holds gap, my_own_metric"),
        ("recall@7", "unknown metric 'recall@7': did you mean .*recall@"),
        ("rmg", "no run has rmg: the database holds gap"),
        ([], "name a metric with --metric: the database holds gap"),
    ):
        with pytest.raises(UserError, match=message):
            compare(metric, db=db)
    with pytest.raises(UserError, match="no finished run with recipe=nope has gap"):
        compare("gap", db=db, where=["recipe=nope"])
    with pytest.raises(
        UserError, match="--baseline 'bsaeline' is none of the groups compared; there are baseline"
    ):
        compare("gap", db=db, baseline="bsaeline")
    assert compare(["gap", "rmg"], db=db).notes == ["no results for rmg"]
    add("more", 0, gap=0.3, alignment=1.0, cka=0.5, frechet=1.0)
    for names, message in (
        (["gap", "cka"], "no finished run with recipe=nope has gap or cka: nothing has recipe=nope"),
        (
            ["gap", "alignment", "cka", "frechet"],
            "with recipe=nope has any of the 4 metrics asked for: nothing has",
        ),
    ):
        with pytest.raises(UserError, match=message):
            compare(names, db=db, where=["recipe=nope"])


def test_the_latest_checkpoint_stands_for_a_run(store, add):
    add("flt", 0, gap=0.9, at={"step": 10, "checkpoint_hash": "early"})
    add("flt", 0, gap=0.1, at={"step": 100, "checkpoint_hash": "late"})
    add("flt", 0, gap=0.5, at={"step": 50, "checkpoint_hash": "middle"})
    columns, _ = select.load(store, ["gap"])
    assert columns["value"] == [0.1]
