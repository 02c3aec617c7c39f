"""One table of stored values, and what each command says of it: the same selection everywhere, and nothing averaged
that differs in what was measured or trained."""

import csv
import io
import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from typer.testing import CliRunner

from gaprun.cli.main import app
from gaprun.comparison import compare, legend, shown, views
from gaprun.comparison.margins import margins_of, read_margins
from gaprun.errors import UserError
from gaprun.paper.settings import MethodSetting, load_study
from gaprun.paper.tables import beside, notes
from gaprun.report.gather import gather
from gaprun.report.overview import scatter
from gaprun.report.setups import by_run, setups_of, values_of
from gaprun.store import EvaluationKey, NewRun
from gaprun.store.values import EvaluationKey as Key
from gaprun.tables import csv as comma
from gaprun.tables import markdown, terminal
from tests.paper.conftest import recipe_of
from tests.protocols import named


@pytest.fixture
def measured(store):
    """Adds evaluations to runs that it begins: `measured("flt-0.1", 0, "gap", {"gap": 0.2}, protocol="full")`."""

    def add(name, seed, task, values, *, n=512, steps=1000, tag="", data=None, resolved=None, **key):
        run = f"{name}{tag}-{steps}-s{seed}"
        if run not in {row.id for row in store.runs(light=True)}:
            recipe = resolved or recipe_of(name)
            recipe["schedule"] = recipe["schedule"] | {"steps": steps}
            environment = {"data": {"scenes/train": data}} if data else {}
            store.begin_run(
                NewRun(
                    run, name, "train", seed, f"{name}{steps}{resolved}", recipe, environment, "1", "", steps
                )
            )
            store.finish_run(run, "finished")
        usual = {"checkpoint_hash": f"c{run}", "step": steps, "dataset": "scenes", "split": "test"}
        usual |= {"data_fingerprint": "f1"} | key
        usual["protocol"] = named(key.get("protocol", "pool512"))
        store.add_evaluation(run, EvaluationKey(task=task, **usual), values, n, 64)
        return run

    return add


def db(store):
    return str(store.place.path)


def means(store, metric, **options):
    return {
        (r["group"], r["protocol"]): r["mean"] for r in compare(metric, db=db(store), **options).records()
    }


def at(store, evaluation, seconds):
    """Say that an evaluation was made at another time."""
    moment = datetime(2030, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    with store.engine.execution_options(gaprun_write=True).begin() as connection:
        connection.execute(
            text("UPDATE evaluations SET created = :moment WHERE id = :id"),
            {"moment": moment.replace(tzinfo=None).isoformat(" ", timespec="microseconds"), "id": evaluation},
        )


def test_every_command_shows_what_was_measured_last_of_the_furthest_step(store, measured):
    both = {"image_recall@1": 40.0, "text_recall@1": 40.0}
    for name, gap in (("baseline", 0.5), ("flt-0.1", 0.2)):
        for seed in range(3):
            measured(name, seed, "gap", {"gap": 9.0}, step=500, checkpoint_hash="early")
            measured(name, seed, "gap", {"gap": gap + seed / 100}, definition=1)  # the last by time
            measured(name, seed, "gap", {"gap": 8.0, "rmg": 8.0}, definition=2)  # the last by id
            measured(name, seed, "retrieval", both)
    with store.engine.connect() as connection:
        found = connection.execute(text("SELECT id FROM evaluations WHERE definition = 1 AND task = 'gap'"))
        ids = [row[0] for row in found]
    for number in ids:
        at(store, number, number)
    expected = {("baseline", "pool512"): 0.51, ("flt-0.1", "pool512"): 0.21}
    assert means(store, "gap") == pytest.approx(expected)
    (shown,) = [m for m in store.metrics("baseline-1000-s1") if m["metric"] == "gap"]
    assert (shown["value"], shown["definition"], shown["step"]) == (0.51, 1, 1000)
    study = load_study(store)
    assert [r.values["gap"] for r in study.of(MethodSetting("baseline")).values()] == [0.5, 0.51, 0.52]
    cells = {r.setting: r.values for r in study.results}
    assert cells[MethodSetting("FLT", 0.1)]["gap"] == pytest.approx(0.22)
    material = gather(store)
    drawn = sorted(row["value"] for row in material.rows if row["metric"] == "gap")
    assert drawn == pytest.approx([0.2, 0.21, 0.22, 0.5, 0.51, 0.52])
    (panel, *_) = scatter(setups_of(material)[0]).panels
    assert max(max(mark.x) for mark in panel.marks) == pytest.approx(0.52)
    front = views.pareto(compare(["gap", "image_recall@1"], db=db(store)))
    assert [r["means"]["gap scenes/test pool512"] for r in front.records] == pytest.approx([0.21, 0.51])
    # No value of another evaluation fills it up: rmg was not measured with this one.
    assert all(m["metric"] != "rmg" for m in store.metrics("baseline-1000-s1"))
    with pytest.raises(UserError, match="no finished run has rmg"):
        compare("rmg", db=db(store))
    # Conditions choose among the evaluations.
    assert means(store, "gap", where=["definition=2"]) == {
        ("baseline", "pool512"): 8,
        ("flt-0.1", "pool512"): 8,
    }
    assert means(store, "gap", where=["step=500"]) == {("baseline", "pool512"): 9, ("flt-0.1", "pool512"): 9}
    assert means(store, "gap", where=["step!=1000"])[("baseline", "pool512")] == 9
    assert load_study(store, ["step=500"]).results[0].values == {"gap": 9}
    assert {row["value"] for row in gather(store, ["definition=2"]).rows if row["metric"] == "gap"} == {8}


def test_conditions_select_evaluations_before_the_latest_counts(store, measured):
    for seed in range(2):
        for templates, value in (("simple", 30.0), ("openai", 50.0)):
            measured("baseline", seed, "zeroshot", {"zeroshot_top1": value + seed}, protocol="full",
                     options={"templates": templates})  # fmt: skip
        measured("baseline", seed, "gap", {"gap": 0.1}, n=512, protocol="full")
        measured("baseline", seed, "gap", {"gap": 0.3}, n=1000, protocol="full", data_fingerprint="f2")
    hashes = {
        name: Key("c", 1, "zeroshot", "a", "b", "f", "full", {"templates": name}).options_hash
        for name in ("simple", "openai")
    }
    plain_ = ("baseline", "full")
    assert means(store, "zeroshot_top1") == {plain_: 50.5}
    assert means(store, "zeroshot_top1", where=[f"options_hash={hashes['simple']}"]) == {plain_: 30.5}
    assert means(store, "zeroshot_top1", where=[f"options_hash={hashes['simple'][:12]}*"]) == {plain_: 30.5}
    assert means(store, "zeroshot_top1", where=[f"options_hash!={hashes['openai']}"]) == {plain_: 30.5}
    assert (
        means(store, "gap", where=["n=512"])
        == means(store, "gap", where=["data_fingerprint=f1"])
        == {plain_: 0.1}
    )
    assert means(store, "gap", where=["n=1000"]) == {plain_: 0.3}
    assert means(store, ["gap", "zeroshot_top1"], where=["n=1000"]) == {plain_: 0.3}
    study = load_study(store, [f"options_hash={hashes['simple']}"])
    assert [r.values["zeroshot_top1"] for r in study.results] == [30, 31]


evaluations = st.tuples(
    st.sampled_from(["a", "b"]),  # run
    st.sampled_from(["gap", "shift"]),
    st.sampled_from(["full", "pool512"]),
    st.integers(1, 2),  # step
    st.integers(1, 3),  # definition
    st.sampled_from([10, 20]),  # n
    st.integers(0, 2),  # created
    st.booleans(),  # whether it has rmg
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(evaluations, max_size=8, unique_by=lambda e: e[:5]), st.sampled_from(
    [None, "n=10", "n!=20", "step=1", "definition=2", "definition!=2", "step=2", "n=99", "task=gap", "protocol=f*"]
))  # fmt: skip
def test_selection_is_filter_then_latest(store, stored, where):
    with store.engine.execution_options(gaprun_write=True).begin() as connection:
        connection.execute(text("DELETE FROM runs"))
        connection.execute(text("DELETE FROM evaluations"))
        connection.execute(text("DELETE FROM metrics"))
    for run in "ab":
        store.begin_run(NewRun(run, run, "train", 0, run, {"name": run}, {}, "1", "", 2))
    rows = []
    for index, (run, task, protocol, step, definition, n, created, has_rmg) in enumerate(stored):
        key = EvaluationKey(f"c{step}", step, task, "d", "s", "f", named(protocol), definition=definition)
        values = {"gap": float(index)} | ({"rmg": float(index)} if has_rmg else {})
        store.add_evaluation(run, key, values, n, 4)
        with store.engine.connect() as connection:
            number = connection.execute(text("SELECT max(id) FROM evaluations")).scalar()
        at(store, number, created)
        row = {"run": run, "task": task, "protocol": protocol, "step": step, "definition": definition, "n": n}
        rows.append(row | {"when": (step, created, number), "values": values})
    name, _, wanted = (where or "n!=0").partition("=")
    keep = {
        "protocol": lambda row: row["protocol"] == "full",
        "task": lambda row: row["task"] == wanted,
    }.get(name.rstrip("!"), lambda row: (row[name.rstrip("!")] == int(wanted)) != name.endswith("!"))
    latest = {}
    for row in filter(keep, rows):
        place = row["run"], row["task"], row["protocol"]
        if place not in latest or row["when"] > latest[place]["when"]:
            latest[place] = row
    expected = {}
    for row in sorted(latest.values(), key=lambda row: row["when"]):  # of two tasks the later one
        for metric, value in row["values"].items():
            expected[row["run"], metric, row["protocol"]] = value
    found = store.metric_rows(["gap", "rmg"], [where] if where else [])
    assert {(r["id"], r["metric"], r["protocol"]): r["value"] for r in found} == expected
    assert len(found) == len(expected)
    for run in "ab" if where is None else ():
        assert {(run, m["metric"], m["protocol"]): m["value"] for m in store.metrics(run)} == {
            key: value for key, value in expected.items() if key[0] == run
        }


def test_pairs_of_data_set_and_split_are_exactly_those(store, measured):
    for number, (dataset, split) in enumerate((d, s) for d in ("a", "b", "deep/c") for s in ("x", "y")):
        measured("baseline", 0, "gap", {"gap": float(number)}, dataset=dataset, split=split,
                 data_fingerprint=f"f{number}")  # fmt: skip

    def found(*wanted):
        return [(r["dataset"], r["split"]) for r in compare("gap", db=db(store), dataset=wanted).records()]

    assert found("a/x", "b/y") == [("a", "x"), ("b", "y")]
    assert found("a", "b/y") == [("a", "x"), ("a", "y"), ("b", "y")]
    assert found("deep/c/y") == [("deep/c", "y")] and found("deep/c") == [("deep/c", "x"), ("deep/c", "y")]
    assert [r["dataset"] for r in compare("gap", db=db(store), where=["dataset=a/x"]).records()] == ["a"]
    assert len(compare("gap", db=db(store), where=["dataset!=a/x"]).records()) == 5


def test_the_papers_table_and_the_report_never_average_two_ways_of_measuring(store, measured):
    for seed in range(5):
        templates = "simple" if seed < 3 else "openai"
        measured("baseline", seed, "zeroshot", {"zeroshot_top1": 30.0 if seed < 3 else 50.0}, protocol="full",
                 options={"templates": templates})  # fmt: skip
        measured("baseline", seed, "gap", {"gap": 0.3 + seed / 100})
        measured("baseline", seed, "gap", {"gap": 0.9}, dataset="other")
    with pytest.raises(UserError, match="the set of options .or plugin code. of the evaluation differs"):
        compare("zeroshot_top1", db=db(store))
    study = load_study(store)
    line = next(line for line in beside("table2", study).lines if str(line.setting) == "baseline")
    zero_shot = next(s for label, s in line.ours.items() if "zero" in label.lower())
    assert (zero_shot.n, zero_shot.mean) == (3, 30.0)
    assert any("zeroshot_top1 of 2 runs was measured" in note for note in notes(beside("table2", study)))
    material = gather(store)
    columns = {c.protocol: material.comparison.cells["baseline", c].summary
               for c in material.comparison.columns if c.metric == "zeroshot_top1"}  # fmt: skip
    assert sorted((s.n, s.mean) for s in columns.values()) == [(2, 50), (3, 30)]
    assert any("measured in several ways" in note for note in material.comparison.notes)
    points = by_run(values_of(material, material.labels)[0])
    assert sorted(v["zeroshot_top1"] for v in points.values() if "zeroshot_top1" in v) == [30, 30, 30]
    assert sorted(v["gap"] for v in points.values()) == pytest.approx([0.9] * 5) or sorted(
        v["gap"] for v in points.values()
    ) == pytest.approx([0.3, 0.31, 0.32, 0.33, 0.34])  # one data set, whichever, and never both


def by_rule(store, **options):
    found = compare("gap", db=db(store), by="temperature.rule", **options)
    return {r["group"]: (r["n"], round(r["mean"], 6)) for r in found.records()}


def test_a_key_groups_runs_that_differ_in_nothing_else(store, measured):
    for steps, more in ((600, 0.0), (6000, 1.0)):
        for seed in range(2):
            for name, gap in (("baseline", 0.5), ("hard-swap", 0.4), ("flt-0.1", 0.2), ("flt-0.2", 0.1)):
                measured(name, seed, "gap", {"gap": gap + more}, steps=steps)
    assert by_rule(store, where=["schedule.steps=600", "swap.rule=none", "recipe!=flt-0.2"]) == {
        "exp": (2, 0.5), "fixed": (2, 0.2),
    }  # fmt: skip
    apart = by_rule(store)
    assert len(apart) == 8 and {n for n, _ in apart.values()} == {2}
    assert apart["exp [hard-swap, 600 steps]"] == (2, 0.4) and apart["fixed [flt-0.2, 6,000 steps]"] == (
        2,
        1.1,
    )
    pooled = compare("gap", db=db(store), by="temperature.rule", allow_mixed=True)
    assert {r["group"]: (r["n"], r["mixed"]) for r in pooled.records()} == {
        "exp": (8, "recipe"), "fixed": (8, "recipe"),
    }  # fmt: skip
    for table in (shown.whole(pooled), shown.differences(pooled)):  # two seeds each, of four recipes
        assert [table.heads[1].text, *(row[1].lines[0] for row in table.rows)] == ["runs", "8", "8"]
        assert "ean ± standard deviation over runs" in " ".join(table.legend)
    assert shown.whole(compare("gap", db=db(store), by="temperature.rule")).heads[1].text == "seeds"
    lengths = compare("gap", db=db(store), by="schedule.steps", baseline="600 [baseline]").records()
    assert {r["group"]: r["delta"] for r in lengths if r["delta"] is not None} == {"6000 [baseline]": 1.0}


def test_a_key_that_models_lack_does_not_pool_them(store, measured):
    for name in ("ViT-A", "ViT-B"):
        store.begin_run(
            NewRun(name, name, "external", None, name, {"name": name, "model": name}, {}, "1", "", 0)
        )
        store.finish_run(name, "finished")
        key = EvaluationKey(name, 0, "gap", "scenes", "test", "f1", named("pool512"))
        store.add_evaluation(name, key, {"gap": 0.7}, 512, 64)
    measured("flt-0.1", 0, "gap", {"gap": 0.2})
    assert by_rule(store) == {"fixed": (1, 0.2), "none [ViT-A]": (1, 0.7), "none [ViT-B]": (1, 0.7)}
    found = {r["group"]: r["delta"] for r in compare("gap", db=db(store), baseline="ViT-A").records()}
    assert found == {"ViT-A": None, "ViT-B": 0.0, "flt-0.1": None}


def test_a_repeated_seed_counts_once_in_every_grouping(store, measured):
    for tag, gap in (("-old", 0.9), ("-new", 0.2)):
        measured("flt-0.1", 0, "gap", {"gap": gap}, tag=tag)
    assert means(store, "gap") == {("flt-0.1", "pool512"): 0.2}
    assert by_rule(store) == {"fixed": (1, 0.2)} and by_rule(store, allow_mixed=True) == {"fixed": (1, 0.2)}
    (result,) = load_study(store).results
    assert (result.run, result.values["gap"]) == ("flt-0.1-new-1000-s0", 0.2)


def test_runs_trained_on_other_data_are_another_row(store, measured):
    for seed in range(2):
        measured("baseline", seed, "gap", {"gap": 0.5}, data="aaaaaaaa1")
        measured("flt-0.1", seed, "gap", {"gap": 0.2}, data="bbbbbbbb1")
    measured("baseline", 2, "gap", {"gap": 0.7}, data="bbbbbbbb1")
    found = compare("gap", db=db(store))
    assert {r["group"]: (r["n"], r["mean"], r["baseline"]) for r in found.records()} == {
        "baseline [content=aaaaaaaa]": (2, 0.5, "baseline [content=aaaaaaaa]"),
        "baseline [content=bbbbbbbb]": (1, 0.7, "baseline [content=bbbbbbbb]"),
        "flt-0.1": (2, 0.2, "baseline [content=bbbbbbbb]"),
    }
    assert load_study(store).others == 1


def test_what_only_rounds_differently_is_one_row(store, measured):
    for seed, threads in ((0, 1), (1, 2)):
        recipe = recipe_of("baseline") | {"compute": {"threads": threads, "precision": "fp32"}}
        measured("baseline", seed, "gap", {"gap": 0.5 + seed}, resolved=recipe)
    assert means(store, "gap") == {("baseline", "pool512"): 1.0}
    recipe = recipe_of("baseline") | {"compute": {"threads": 1, "precision": "bf16"}}
    measured("baseline", 2, "gap", {"gap": 9.0}, tag="b", resolved=recipe)
    assert len(means(store, "gap")) == 2


def test_steps_of_one_row_agree(store, measured):
    measured("baseline", 0, "gap", {"gap": 0.5})
    measured("baseline", 1, "gap", {"gap": 0.9}, step=20)
    with pytest.raises(UserError, match="several steps of training .*--where step=1000"):
        compare("gap", db=db(store))
    (record,) = compare("gap", db=db(store), allow_mixed=True).records()
    assert record["mixed"] == "step of training"


def everywhere(store, **options):
    """What `compare` prints in each format."""
    words = ["compare", "--db", db(store)]
    for name, value in options.items():
        words += [f"--{name.replace('_', '-')}"] + ([] if value is True else [value])
    printed = {}
    for form in ("table", "markdown", "latex", "csv", "json"):
        done = CliRunner().invoke(app, [*words, "--format", form])
        assert done.exit_code == 0, (form, done.output)
        printed[form] = done.stdout
    return printed


@pytest.mark.parametrize("view", [{}, {"pareto": True}, {"correlate": "gap"}, {"brief": True}])
def test_mixing_on_request_leaves_a_note_in_every_format(store, measured, view):
    for number, (name, n) in enumerate(
        (("baseline", 512), ("flt-0.1", 1000), ("flt-0.2", 512), ("reparam", 512))
    ):
        values = {"gap": 0.1 * number, "image_recall@1": 10.0 * number, "text_recall@1": 10.0}
        measured(name, 0, "gap", values, n=n)
    metrics = {} if view.keys() & {"pareto", "correlate"} else {"metric": "gap"}
    printed = everywhere(store, allow_mixed=True, **metrics, **view)
    for form in ("table", "markdown", "latex"):
        words = " ".join(printed[form].replace("\n", " ").split())
        assert "ixed on request" in words and "number of items" in words, form
    assert {r["mixed"] for r in json.loads(printed["json"])} == {"number of items (gallery size)"}
    rows = list(csv.DictReader(io.StringIO(printed["csv"])))
    assert {row["mixed"] for row in rows} == {"number of items (gallery size)"}


def test_a_column_without_any_value_prints_beside_the_others(store, measured):
    for seed in range(2):
        measured("baseline", seed, "gap", {"gap": 0.5 + seed / 100, "rmg": float("nan")})
        measured("flt-0.1", seed, "gap", {"gap": 0.2 + seed / 50, "rmg": float("nan")})
    printed = everywhere(store, metric="rmg")
    for form in ("table", "markdown", "latex"):
        assert "n/a" in printed[form] and "rmg" in printed[form], form
    assert [(r["group"], r["mean"], r["n"], r["undefined"]) for r in json.loads(printed["json"])] == [
        ("baseline", None, 0, 2), ("flt-0.1", None, 0, 2),
    ]  # fmt: skip
    both = compare(["rmg", "gap"], db=db(store))
    printed = markdown.render(shown.whole(both))
    assert "n/a" in printed and "0.505" in printed and "0.210" in printed
    assert any("0.505 ± 0.007" in line.plain for line in terminal.lines(shown.whole(both), 100))
    assert gather(store).comparison.groups == ["baseline", "flt-0.1"]


def test_a_contrast_has_one_p_value_whatever_is_shown(store, measured):
    names = ["baseline", "flt-0.1", "flt-0.2", "reparam", "slrt"]
    for number, name in enumerate(names):
        for seed in range(4):
            wobble = ((seed * 7 + number * 3) % 5) / 100
            values = {"gap": 0.5 - 0.02 * number + wobble, "rmg": 0.5 - wobble * number}
            for protocol in ("pool512", "full"):
                measured(name, seed, "gap", values, protocol=protocol)

    def p_values(metrics, **options):
        found = compare(metrics, db=db(store), **options).records()
        return {(r["group"], r["protocol"]): (r["p_value"], r["p_corrected"], r["family_size"])
                for r in found if r["metric"] == "gap"}  # fmt: skip

    alone = p_values("gap")
    assert alone == p_values(["rmg", "gap"]) and alone[("slrt", "full")][2] == 4
    top = p_values("gap", top=3)
    assert len(top) == 6 and all(alone[key] == found for key, found in top.items())
    assert p_values("gap", protocol=["full"]) == {k: v for k, v in alone.items() if k[1] == "full"}
    # The whole table: gap and rmg of four rows are eight tests, though each was measured by two protocols.
    table = p_values(["gap", "rmg"], family="table")
    assert {size for _, _, size in table.values() if size} == {8}
    assert all(table[key][1] is None or table[key][1] >= alone[key][1] for key in alone)
    assert {holm for _, holm, _ in p_values("gap", family="none").values()} == {None}
    said = {family: " ".join(legend.about(compare("gap", db=db(store), family=family)))
            for family in ("metric", "table", "none")}  # fmt: skip
    assert "within each metric" in said["metric"] and "(family of 4)" in said["metric"]
    assert "all contrasts of the comparison" in said["table"] and "not corrected" in said["none"]


def test_truncation_comes_last(store, measured):
    for number, name in enumerate(("baseline", "flt-0.1", "flt-0.2", "flt-0.07", "flt-0.04", "reparam")):
        values = {
            "gap": [0.5, 0.4, 0.3, 0.2, 0.1, 0.6][number],
            "image_recall@1": [40, 42, 41, 45, 44, 30][number],
        }
        measured(name, 0, "gap", values)
    whole = compare(["gap", "image_recall@1"], db=db(store))
    for view in (views.pareto, lambda found, top=None: views.correlations(found, ["gap"], top)):
        records, cut = view(whole).records, view(whole, top=1).records
        assert cut == records[:1] and len(records) >= 1
    words = ["compare", "--db", db(store), "--json", "--top", "1"]
    found = json.loads(
        CliRunner().invoke(app, [*words, "--correlate", "gap", "--metric", "image_recall@1"]).stdout
    )
    assert found[0]["n"] == 6
    front = json.loads(
        CliRunner().invoke(app, [*words, "--pareto", "--metric", "gap", "--metric", "image_recall@1"]).stdout
    )
    assert front == list(views.pareto(whole).records[:1])


def test_transformed_embeddings_never_stand_for_the_model_as_it_is(store, measured):
    for number, name in enumerate(("baseline", "flt-0.1", "flt-0.2", "reparam")):
        for protocol, less in (("centred", 9.0), ("full", 0.0), ("shift=0.5", 5.0)):
            values = {
                "gap": 10.0 + number - less,
                "image_recall@1": 50.0 + less,
                "text_recall@1": 50.0 - number,
            }
            values["alignment"] = 5.0 * less
            measured(name, 0, "shift" if less else "gap", values, protocol=protocol)
    found = compare(["gap", "image_recall@1"], db=db(store))
    assert set(views.pareto(found).records[0]["means"]) == {
        "gap scenes/test full",
        "image_recall@1 scenes/test full",
    }
    for record in views.correlations(found, ["gap"]).records:
        assert record["protocol"] == record["against_protocol"]
    lone = compare(["gap", "zeroshot_top1"], db=db(store), protocol=["centred"])
    measured("baseline", 0, "zeroshot", {"zeroshot_top1": 30.0}, protocol="full")
    assert {c.protocol for c in lone.columns} == {"centred"}
    mixed = compare(["gap", "zeroshot_top1"], db=db(store), where=["protocol!=shift=0.5"])
    (record,) = [r for r in views.correlations(mixed, ["gap"]).records if r["metric"] == "zeroshot_top1"]
    assert record["against_protocol"] == "full"
    material = gather(store)
    assert {c.protocol for c in material.comparison.columns} == {"full"}
    assert {v["gap"] for v in by_run(values_of(material, material.labels)[0]).values()} == {
        10.0,
        11.0,
        12.0,
        13.0,
    }
    assert "alignment" not in " ".join(f.text for findings in material.health.values() for f in findings)


def test_views_print_in_every_format(store, measured):
    for number in range(4):
        measured(f"flt-0.{number + 1}", 0, "gap", {"gap": number / 10, "image_recall@1": 40.0 + number})
    view = views.pareto(compare(["gap", "image_recall@1"], db=db(store)))
    assert "mixed" not in [head.text for head in view.heads] and comma.render(view).count("\n") == 4


def test_a_margin_says_where_there_is_no_difference(store, measured):
    for seed in range(5):
        wobble = [0.0, 0.01, -0.01, 0.005, -0.005][seed]
        measured("baseline", seed, "gap", {"gap": 0.5})
        measured("flt-0.1", seed, "gap", {"gap": 0.5 + wobble})
        measured("flt-0.2", seed, "gap", {"gap": 0.3 + 10 * wobble})
    found = compare("gap", db=db(store), margin=0.05)
    alike = {r["group"]: (r["equivalent"], r["margin"], r["family_size"]) for r in found.records()}
    assert alike == {"baseline": (None, 0.05, 0), "flt-0.1": (True, 0.05, 2), "flt-0.2": (False, 0.05, 2)}
    assert "≈" in markdown.render(shown.whole(found)) and "no difference of 0.05 or more" in " ".join(
        legend.about(found)
    )
    assert {r["p_equivalent"] for r in compare("gap", db=db(store)).records()} == {None}
    assert {r["p_value"] for r in found.records()} == {
        r["p_value"] for r in compare("gap", db=db(store)).records()
    }
    verdicts = {r["group"]: r["verdict"] for r in found.records()}
    assert verdicts == {"baseline": None, "flt-0.1": "no difference of the margin", "flt-0.2": "different"}
    told = "gap: no difference of 0.05 or more for 1 row: flt-0.1; a difference, which may be as large, for 1 row: "
    assert told + "flt-0.2." in legend.about(found) and told + "flt-0.2." in shown.differences(found).legend
    wide = compare("gap", db=db(store), margin={"gap": 1.0})
    assert {r["verdict"] for r in wide.records()} == {
        None,
        "no difference of the margin",
    }  # shown to be there, and small
    for size in ("0", "inf", "recall@5=3", "gap=x"):
        bad = CliRunner().invoke(app, ["compare", "--db", db(store), "--metric", "gap", "--margin", size])
        assert isinstance(bad.exception, UserError) and f"--margin {size}" in str(bad.exception)


def test_a_margin_by_name_counts_before_the_one_for_all():
    assert read_margins([]) is None and read_margins(["3"]) == 3
    metrics = ["gap", "image_recall@5", "text_recall@5", "probe_top1"]
    margins = margins_of(read_margins(["recall@5=2", "3", "gap=0.05"]), metrics)
    assert margins == {"gap": 0.05, "image_recall@5": 2, "text_recall@5": 2, "probe_top1": 3}
    assert margins_of(read_margins(["gap=0.05"]), metrics) == {"gap": 0.05}
