"""`gaprun theory` through the command line: the JSON contract, the page, first steps, and overlays of runs."""

import json
import math

import numpy as np
import pytest
from typer.testing import CliRunner

from gaprun.cli.main import app
from gaprun.errors import Failure, UserError
from gaprun.store import NewRun, open_store
from tests.conftest import RECIPES


def gaprun(*arguments):
    result = CliRunner().invoke(app, ["theory", *map(str, arguments)], env={"COLUMNS": "200"})
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def test_flow_json_is_the_contract():
    found = json.loads(gaprun("flow", "--json"))
    rows = found["trajectory"]
    assert all(set(row) == {"t", "gamma", "ln_gamma", "beta", "delta"} for row in rows)
    assert rows[0]["t"] == 0 and rows[-1]["t"] == pytest.approx(1e300) and found["stopped"] is None
    invariant = [row["ln_gamma"] - row["gamma"] ** 2 / 2 + 2 * math.log(row["beta"]) for row in rows]
    assert np.abs(np.array(invariant) / invariant[0] - 1).max() <= 1e-6
    rate = found["rates"]["d ln gamma / d ln beta"]
    assert rate["value"] == pytest.approx(-2, abs=1e-3) and rate["verdict"] == "agrees"
    assert rate["low"] < rate["value"] < rate["high"] < -2 + 1e-6
    assert found["error"]["value"] <= 1e-6 and len(found["windows"]) == 6


@pytest.mark.parametrize("rule", ["scaled-exp", "softplus", "fixed", "schedule"])
def test_every_rule_has_plain_json(rule):
    def refuse(constant):
        raise AssertionError(f"{constant} in JSON")

    text = gaprun("flow", "--rule", rule, "--horizon", "1e12", "--threshold", "0.1", "--json")
    found = json.loads(text, parse_constant=refuse)
    assert found["rates"] and found["crossings"][0]["gamma"] == 0.1 and found["crossings"][0]["t"] > 0


def test_flow_of_given_features_and_of_a_negative_margin(tmp_path):
    rng = np.random.default_rng(0)
    u = rng.standard_normal((20, 8))
    np.savez(tmp_path / "uv.npz", u=u, v=u + 0.1 * rng.standard_normal(u.shape))
    given = json.loads(gaprun("flow", "--given", tmp_path / "uv.npz", "--horizon", "1e9", "--json"))
    assert given["error"]["value"] <= 1e-6 and given["trajectory"][-1]["gamma"] < 0.3
    opening = json.loads(gaprun("flow", "--pair-margin", "-0.3", "--horizon", "1e6", "--json"))
    assert opening["trajectory"][-1]["gamma"] > 0.3
    np.savez(tmp_path / "x.npz", u=u)
    with pytest.raises(UserError, match="u and v"):
        gaprun("flow", "--given", tmp_path / "x.npz")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["flow", "--k", "3"], "--k does nothing with --rule exp"),
        (["flow", "--rule", "softplus", "--duration", "10"], "--duration does nothing with --rule softplus"),
        (
            ["flow", "--rule", "schedule", "--temperature", "1"],
            "--temperature does nothing with --rule schedule",
        ),
        (["flow", "--given", "uv.npz", "--pairs", "7"], "--pairs does nothing with --given"),
        (["flow", "--pair-margin", "nan"], "the margin must be in"),
        (["flow", "--threshold", "5"], "a threshold is a gamma, between 0 and 1, not 5.0"),
        (["particles", "--k", "3"], "--k does nothing with --rule exp"),
        (["particles", "--rate", "1"], "--rate does nothing with a flow"),
        (["particles", "--steps", "5", "--horizon", "9"], "--horizon does nothing with --steps"),
    ],
)
def test_what_would_do_nothing_is_refused(words, said):
    with pytest.raises(UserError) as refused:
        gaprun(*words)
    assert said in str(refused.value)


def test_flow_table_names_what_is_published():
    shown = gaprun("flow", "--rule", "softplus")
    assert "App. C" in shown and "disagrees" in shown and "conserved quantity" in shown


@pytest.mark.slow
def test_flow_writes_the_page(tmp_path):
    out = tmp_path / "theory.html"
    gaprun("flow", "--horizon", "1e20", "--points", "100", "--out", out)
    page = out.read_text()
    assert "Plotly.newPlot" in page and "<script src=" not in page and "Appendix C" in page
    with pytest.raises(Failure, match="page.html cannot be written"):
        gaprun("init", "--features", "free", "--inits", "1", "--out", out / "page.html")
    (tmp_path / "thesis.html").write_text("years")
    with pytest.raises(UserError, match="thesis.html was not written by this command"):
        gaprun("init", "--features", "free", "--inits", "1", "--out", tmp_path / "thesis.html")


def test_init_reports_shares_with_exact_intervals(tmp_path):
    out = tmp_path / "init.html"
    options = (
        "--features",
        "parallel",
        "--features",
        "free",
        "--inits",
        "20",
        "--pairs",
        "32",
        "--mismatched",
        "1",
    )
    rows = json.loads(gaprun("init", *options, "--json", "--out", out))
    assert [(row["features"], row["start"]) for row in rows] == [
        (features, start)
        for features in ("parallel", "free")
        for start in ("random", "100% shuffled", "centred")
    ]
    for row in rows:
        assert row["increases"] == sum(change > 0 for change in row["changes"]) and len(row["changes"]) == 20
        assert row["low"] <= row["share"] <= row["high"]
    assert rows[1]["share"] == 1.0 and rows[1]["low"] == pytest.approx(0.025 ** (1 / 20))
    assert "Clopper" in out.read_text()
    assert "20/20" in gaprun("init", *options)


def test_particles_flow_and_descend_with_swaps(tmp_path):
    out = tmp_path / "particles.html"
    options = ("particles", "--pairs", "24", "--dimension", "8", "--points", "10", "--json")
    flow = json.loads(gaprun(*options, "--features", "parallel", "--rule", "softplus", "--out", out))
    first, last = flow["series"][0], flow["series"][-1]
    assert {"t", "gap", "gamma", "beta", "margin", "loss", "alignment", "uniformity"} <= set(first)
    assert (
        last["t"] == pytest.approx(1e4) and last["gamma"] < first["gamma"] / 100 and flow["stopped"] is None
    )
    assert "Plotly.newPlot" in out.read_text()
    descent = (*options, "--steps", "100", "--probability", "1")
    gaps = [
        json.loads(gaprun(*descent, "--swap", swap))["series"][-1]["gap"] for swap in ("none", "soft", "hard")
    ]
    assert gaps[2] < gaps[1] < gaps[0]
    with pytest.raises(UserError, match="gradient descent"):
        gaprun("particles", "--swap", "hard")


def run_with_gap_path(store, steps, gaps, run_id="exp-s0"):
    store.begin_run(
        NewRun(
            id=run_id,
            recipe="exp",
            kind="train",
            seed=0,
            recipe_hash="0" * 8,
            resolved_recipe={},
            environment={},
            code_version="test",
            folder=f"runs/{run_id}",
            total_steps=len(steps),
        )
    )
    store.record(run_id, [{"step": int(s), "gap": float(g)} for s, g in zip(steps, gaps, strict=True)])
    store.finish_run(run_id, "finished")


def test_overlay_judges_a_recorded_run(tmp_path):
    db = tmp_path / "results.db"
    store = open_store(str(db))
    steps = np.unique(np.geomspace(1, 20000, 300).round())
    noise = 1 + 0.01 * np.random.default_rng(0).standard_normal(len(steps))
    run_with_gap_path(store, steps, (0.05 + 6 / np.log(np.maximum(steps, 2)) ** 2) * noise)
    run_with_gap_path(store, steps[:10], np.linspace(1, 0.9, 10), "short-s0")
    run_with_gap_path(store, [], [], "external-s0")
    out = tmp_path / "overlay.html"
    found = json.loads(gaprun("overlay", "exp", "--db", db, "--json", "--out", out))
    assert found["run"] == "exp-s0" and found["law"] == "log2" and found["fits"][0]["law"] == "log2"
    assert "recorded" in out.read_text()
    assert "1/log(t)^2" in gaprun("overlay", "exp-s0", "--db", db)
    short = json.loads(gaprun("overlay", "short-s0", "--db", db, "--json"))
    assert short["law"] == "undecided" and "too short" in short["reason"] and short["fits"] == []
    kept = {name: store.run(name).notes["gap_law"] for name in ("exp-s0", "short-s0")}
    assert kept["exp-s0"]["law"] == "log2" and kept["short-s0"]["law"] == "undecided"
    assert store.run("exp-s0").status == "finished"
    with pytest.raises(UserError, match="no recorded gap"):
        gaprun("overlay", "external-s0", "--db", db)


@pytest.mark.slow
def test_towers_open_the_gap_from_random_and_from_centred_starts(scenes, monkeypatch):
    """A tiny CLIP: the gap grows in the first ten steps from most inits (Fig. 4b), and from a gap of 0 (Fig. 2b)."""
    monkeypatch.setenv("GAPRUN_DATA", str(scenes))
    recipe = RECIPES / "base" / "scenes.yaml"
    sets = ("--set", "schedule.batch_size=32", "--set", "schedule.warmup_steps=10")
    options = ("--inits", "3", "--mismatched", "0", "--mismatched", "1", "--json")
    rows = json.loads(gaprun("init", "--model", recipe, *sets, *options))
    by_start = {row["start"]: row for row in rows}
    assert set(by_start) == {"random", "0% shuffled", "100% shuffled", "centred"}
    assert (
        by_start["random"]["increases"] >= 2
        and by_start["random"]["changes"] == by_start["0% shuffled"]["changes"]
    )
    assert by_start["100% shuffled"]["mean_change"] > 0
    assert by_start["centred"]["mean_before"] < 1e-3 and by_start["centred"]["share"] == 1
    with pytest.raises(UserError, match="--data"):
        gaprun("init", "--model", "ViT-B-32")
    with pytest.raises(UserError, match="has 600 steps"):
        gaprun("init", "--model", recipe, *sets, "--steps", "2000", "--inits", "1")
