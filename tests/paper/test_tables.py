"""Published numbers, and ours beside them: means, spread, the nearest setting, and what is told about size."""

import json

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from gaprun.cli import paper
from gaprun.errors import UserError
from gaprun.paper.claims import judge_claims
from gaprun.paper.published import TABLES
from gaprun.paper.settings import MethodSetting, SetupResults, load_study, setting_of
from gaprun.paper.tables import beside, cells_table, document, notes, records
from gaprun.store import EvaluationKey, open_store
from gaprun.tables import terminal
from tests.paper.conftest import GAPS, add_run, recipe_of
from tests.protocols import named


def test_published_tables_agree_where_they_share_a_row():
    two, three, five = (TABLES[f"table{k}"] for k in (2, 3, 5))
    flt = dict(zip([m.metric for m in two.measures], two.rows[1].published, strict=True))
    sweep = dict(zip([m.metric for m in three.measures], three.rows[2].published, strict=True))
    assert all(flt[metric] == value for metric, value in sweep.items())
    hard = dict(zip([m.metric for m in two.measures], two.rows[5].published, strict=True))
    low = dict(zip([m.metric for m in five.measures], five.rows[0].published, strict=True))
    assert all(hard[metric] == value for metric, value in low.items())
    assert [len(t.rows) for t in (two, three, five)] == [7, 7, 2]
    assert two.rows[0].published == (0.294, -1.165, 13.65, 65.55, 68.23, 78.37)


def test_methods_are_read_from_recipes():
    assert {str(setting_of(recipe_of(name))) for name in GAPS} == {
        "baseline",
        *(f"FLT tau {tau}" for tau in (0.02, 0.04, 0.07, 0.1, 0.2)),
        "TS end 0.05",
        "TR",
        "SLRT rate x 0.1",
        "HS p 0.012",
        "SS p 0.05",
    }
    both = recipe_of("flt-0.1") | {"swap": {"rule": "hard", "probability": 0.1}}
    assert setting_of(both) is None
    odd = recipe_of("soft-swap")
    odd["swap"]["renormalise"] = False
    assert setting_of(odd) == MethodSetting("SS", 0.05, "renormalise=False")
    assert setting_of(recipe_of("baseline") | {"loss": {"name": "sigmoid"}}) is None


def test_ours_are_means_and_deviations_over_seeds(made_up):
    _, store = made_up("support")
    found = beside("table2", load_study(store))
    assert [str(line.setting) for line in found.lines] == [
        "baseline", "FLT tau 0.04", "TS end 0.05", "TR", "SLRT rate x 0.1", "HS p 0.012", "SS p 0.05",
    ]  # fmt: skip
    stored = [
        m["value"]
        for run in store.runs(["recipe=schedule"], light=True)
        for m in store.metrics(run.id)
        if m["metric"] == "gap"
    ]
    cell = next(c for c in records(found) if c["method"] == "TS" and c["metric"] == "gap")
    assert cell["n"] == 5 and cell["published"] == 0.088
    assert cell["mean"] == pytest.approx(np.mean(stored)) and cell["std"] == pytest.approx(
        np.std(stored, ddof=1)
    )
    assert "HS p 0.012 (paper 0.001)" in " ".join(document(found)["notes"])
    sweep = beside("table3", load_study(store), True)
    assert [(line.row is None, line.setting is None) for line in sweep.lines] == [
        (False, True), *[(False, False)] * 5, (False, True),
    ]  # fmt: skip


def test_set_ups_are_kept_apart(made_up):
    _, store = made_up("open", 2)
    longer = recipe_of("baseline")
    longer["schedule"] = {"steps": 10_000, "epochs": None, "batch_size": 128}
    add_run(store, "longer", 0, {"gap": 0.5}, recipe=longer)
    study = load_study(store)
    assert study.others == 1 and study.size()["length"] == "1000 steps" and len(study.results) == 22
    said = "of 2 set-ups in the database this is the one with most methods, then most runs: 1,000 steps"
    assert any(note.startswith(said) for note in notes(beside("table2", study)))
    assert study.size()["set-up"] == document(beside("table3", study))["setup"] == "1,000 steps"
    other = load_study(store, ["schedule.steps=10000"])
    assert [r.run for r in other.results] == ["longer-s0"] and other.size()["length"] == "10000 steps"
    assert "set-up" not in other.size() and other.chosen == ""
    said = "nothing has recipe=longr, so recipe!=longr leaves nothing out: did you mean longer?"
    assert said in notes(beside("table2", load_study(store, ["recipe!=longr"])))


def test_without_runs_the_published_numbers_stand_alone(tmp_path):
    path = tmp_path / "empty.db"
    open_store(str(path))
    app = typer.Typer()
    paper.register(app)
    done = CliRunner().invoke(app, ["paper", "table3", "--json", "--db", str(path)], catch_exceptions=False)
    found = json.loads(done.stdout)
    assert len(found["cells"]) == 28 and all(c["mean"] is None for c in found["cells"])
    with pytest.raises(UserError, match="no finished run"):
        load_study(open_store(str(path)))


@pytest.mark.parametrize("width", [80, 160])
def test_every_cell_is_printed_at_any_width(made_up, width):
    _, store = made_up("support", 2)
    lines = [line.plain for line in terminal.lines(cells_table(beside("table2", load_study(store))), width)]
    text = "\n".join(lines)
    for row in TABLES["table2"].rows:
        for value in row.published:
            assert f"{abs(value):g}" in text
    assert max(map(len, lines)) <= width


def test_runs_that_were_measured_in_another_way_only_have_no_values(tmp_path):
    """A run of the paper's methods whose recipe measures nothing, or the whole split alone, stopped the report."""
    store = open_store(str(tmp_path / "r.db"))
    add_run(store, "baseline", 0, {})
    key = EvaluationKey("c-baseline-s0", 1000, "gap", "scenes", "test", "f1", named("full"))
    for values in ({}, {"gap": 0.5}):
        if values:
            store.add_evaluation("baseline-s0", key, values, 512, 64)
        (result,) = load_study(store).results
        assert (result.run, result.values) == ("baseline-s0", {})
    assert {one.verdict for one in judge_claims(store, load_study(store))} == {"undecided"}


def test_the_size_names_a_mix_of_training_sets():
    recipe = {"data": {"train": [{"set": "cc3m/train", "weight": 2.0}, "coco/train"]}}
    assert SetupResults((), recipe, {}).size()["data"] == "cc3m/train x 2, coco/train"
