"""Databases made to support, contradict and leave open every claim get just those verdicts."""

import json
import math
import re
from dataclasses import replace

import pytest
import typer
from typer.testing import CliRunner

from gaprun.cli import paper
from gaprun.paper.claims import judge_claims
from gaprun.paper.evidence import matched_part
from gaprun.paper.one_curve import flt_curves, log_ratio
from gaprun.paper.rules import CLAIMS
from gaprun.paper.settings import MethodSetting, Result, SetupResults, load_study
from tests.conftest import REPO
from tests.paper.conftest import add_run, recipe_of


@pytest.mark.parametrize(
    "kind, expected",
    [("support", "supported"), ("contradict", "not supported"), ("open", "undecided")],
)
def test_every_claim_gets_the_verdict_its_database_was_built_for(made_up, kind, expected):
    path, _ = made_up(kind)
    app = typer.Typer()
    paper.register(app)
    done = CliRunner().invoke(app, ["paper", "claims", "--json", "--db", str(path)], catch_exceptions=False)
    found = json.loads(done.stdout)
    assert [v["claim"] for v in found] == [f"C{i}" for i in range(1, 10)]
    assert {v["claim"]: v["verdict"] for v in found} == {f"C{i}": expected for i in range(1, 10)}, found
    assert all(v["evidence"] and v["rule"] and v["runs"] for v in found)


def test_two_seeds_and_few_settings_decide_nothing(made_up):
    _, store = made_up("support", seeds=2)
    study = load_study(store)
    verdicts = {v.claim: v.verdict for v in judge_claims(store, study)}
    # Paths and settings' means need no seeds: C1 counts paths, C6 and C7 settings.
    assert {c for c, v in verdicts.items() if v != "undecided"} == {"C1", "C6", "C7"}


def test_a_temperature_that_learning_reaches_anyway_is_no_intervention(made_up):
    _, store = made_up("support")
    for run in store.runs(["recipe=baseline"], light=True):
        row = next(m for m in store.metrics(run.id) if m["metric"] == "temperature")
        assert row["value"] == 0.02
    evidence = {v.claim: v.evidence for v in judge_claims(store, load_study(store))}
    assert "tau 0.020" in evidence["C3"] and "FLT tau 0.04 shrinks" in evidence["C3"]
    assert "FLT tau 0.02" not in evidence["C3"]


def test_without_a_positive_margin_to_the_end_the_law_is_not_judged(made_up):
    """One mismatched pair in the last record, and Theorem 3.2 says nothing of what came before it."""
    _, store = made_up("support")
    for run in store.runs(["recipe=baseline"], light=True):
        last = store.trajectory(run.id)[-1]["step"]
        store.record(run.id, [{"step": last, "mismatched_share": 0.01}])
    found = {v.claim: v for v in judge_claims(store, load_study(store))}
    assert found["C1"].verdict == "undecided" and "positive margin" in found["C1"].evidence
    assert found["C4"].verdict == "supported"  # which asks nothing of the margin


def judged(name, results, paths):
    return next(claim.judge for claim in CLAIMS if claim.name == name)(of(results), paths)


def test_a_gap_that_never_closes_has_no_rate_to_be_a_tenth_of():
    """Both paths rise to their end: rates of 0 and a difference of 0, which shows nothing of closing."""
    runs = [result(method, seed, 0.07, 1.0) for method in ("baseline", "TR") for seed in range(3)]
    rising = [{"step": step, "gap": 1 + 0.01 * step} for step in range(12)]
    verdict, evidence, named = judged("C4", runs, {r.run: rising for r in runs})
    assert verdict == "undecided" and "never closed" in evidence and len(named) == 6
    falling = [{"step": step, "gap": 1 / (step + 1)} for step in range(12)]
    assert judged("C4", runs, {r.run: falling for r in runs})[0] == "not supported"  # the same rate, above 0


@pytest.mark.parametrize("claim", ["C6", "C7"])
def test_accuracy_at_chance_everywhere_decides_nothing(claim):
    def points(accuracy):
        return [
            replace(r, values={**r.values, "uniformity_w2_joint": r.values["gap"], **accuracy(k)})
            for k, r in enumerate(flt(0))
        ]

    verdict, evidence, _ = judged(
        claim, points(lambda k: {"zeroshot_top1": 10.0, "probe_top1": 0.1 + 0.2 if k else 0.3}), {}
    )
    assert verdict == "undecided"
    assert evidence.count("the same in all 5 settings, which tells nothing") == 2
    few = points(lambda k: {"zeroshot_top1": 10.0, "probe_top1": 10.0})[:4]
    assert judged(claim, few, {})[1] == "zero-shot: only 4 settings; probe: only 4 settings"


@pytest.mark.parametrize("claim", ["C6", "C7"])
def test_accuracy_that_varies_around_chance_decides_nothing(claim):
    """A slope near 0 among guesses is no sign of little effect: nothing could have fallen by three points."""

    def verdict(top, chance, where="classes/test"):
        runs = [
            replace(
                r,
                values={"gap": 0.1 * k, "uniformity_w2_joint": 0.1 * k, "zeroshot_top1": 10 + 0.1 * (k % 2)},
            )
            for k, r in enumerate(flt(0))
        ]
        runs = [
            replace(
                r,
                values=r.values
                | {"zeroshot_chance": 10.0, "probe_top1": top - 0.1 * (k % 3), "probe_chance": chance},
            )
            for k, r in enumerate(runs)
        ]
        places = {name: "classes/test" for name in ("zeroshot_top1", "probe_top1", "zeroshot_chance")}
        study = replace(of(runs), places=places | {"probe_chance": where})
        found, evidence, _ = next(one.judge for one in CLAIMS if one.name == claim)(study, {})
        return found, evidence.split("; ")

    found, (zeroshot, probe) = verdict(12.9, 10.0)
    assert found == "undecided"
    assert zeroshot == (
        "zero-shot: at chance in all 5 settings, 10.1 % at most where one answer for all images gets 10.0 %, "
        "which tells nothing"
    )
    assert "12.9 % at most" in probe
    for args in ((13.0, 10.0), (12.9, 9.9), (12.9, 10.0, "other/test")):
        assert "at chance" not in verdict(*args)[1][1]


def test_little_effect_is_shown_by_accuracies_that_differ_little():
    runs = [
        replace(
            r,
            values={"gap": 0.1 * k, "zeroshot_top1": 30 + 0.01 * (k % 2), "probe_top1": 60 - 0.01 * (k % 2)},
        )
        for k, r in enumerate(flt(0))
    ]
    assert judged("C6", runs, {})[0] == "supported"


def test_a_path_counts_from_where_its_margin_stays_positive():
    path = [{"step": k, "mismatched_share": share} for k, share in enumerate([1, 0, 0.5, 0, 0, 0])]
    assert [row["step"] for row in matched_part(path)] == [3, 4, 5]
    assert matched_part([{"step": 0, "mismatched_share": None}]) == []
    assert matched_part([]) == []


def result(method, seed, tau, gap, value=None):
    return Result(
        f"{method}-{tau}-{seed}", method, seed, MethodSetting(method, value), {"gap": gap, "temperature": tau}
    )


def of(results):
    return SetupResults(tuple(results), {}, {})


def flt(seed, taus=(0.01, 0.02, 0.04, 0.08, 0.16)):
    return [result("FLT", seed, tau, 3 * tau**-0.5 * 0.01, tau) for tau in taus]


def test_one_curve_is_a_line_between_neighbours_in_logarithms():
    curves = flt_curves(of([r for seed in range(2) for r in flt(seed)]))
    on_it = result("TS", 0, 0.03, 3 * 0.03**-0.5 * 0.01, 0.03)
    assert log_ratio(on_it, curves) == pytest.approx(0, abs=1e-12)  # a power of tau is a line
    twice = result("TR", 1, 0.1, 6 * 0.1**-0.5 * 0.01)
    assert log_ratio(twice, curves) == pytest.approx(math.log(2))
    assert log_ratio(result("TR", 1, 0.17, 0.1), curves) is None  # beyond the largest
    assert log_ratio(result("TR", 5, 0.02, 0.1), curves) is None  # a seed without FLT
    wide = flt_curves(of(flt(0, (0.01, 0.02, 0.06, 0.07, 0.08))))
    assert log_ratio(result("TR", 0, 0.03, 0.1), wide) is None  # neighbours a factor of three apart
    assert flt_curves(of(flt(0, (0.01, 0.02, 0.04, 0.08)))) == {}


def test_one_setting_off_the_curve_contradicts_and_a_missing_method_leaves_open():
    rows = [r for seed in range(4) for r in flt(seed)]
    ends = {"baseline": 0.012, "TS": 0.05, "TR": 0.03, "SLRT": 0.02}
    for seed in range(4):
        for method, tau in ends.items():
            gap = 3 * tau**-0.5 * 0.01 * math.exp(0.05 * (-1) ** seed)
            rows.append(result(method, seed, tau, gap, {"TS": tau, "SLRT": 0.1}.get(method)))
    judge = next(c.judge for c in CLAIMS if c.name == "C9")
    assert judge(of(rows), {})[0] == "supported"
    assert judge(of([r for r in rows if r.setting.method != "SLRT"]), {})[0] == "undecided"
    assert judge(of([r for r in rows if r.seed < 2]), {})[0] == "undecided"
    off = [
        replace(r, values={**r.values, "gap": 1.5 * r.values["gap"]}) if r.setting.method == "TR" else r
        for r in rows
    ]
    verdict, evidence, runs = judge(of(off), {})
    assert verdict == "not supported" and "TR: 1.5" in evidence and len(runs) == len(set(runs)) == 36


def test_every_size_is_judged_by_itself(made_up):
    """A second set-up, longer, with the contradicting values of C9 in it: two verdicts, each with its size."""
    path, store = made_up("support")
    for seed in range(3):
        for name in ("baseline", "flt-0.04"):
            longer = recipe_of(name)
            longer["schedule"] = {**longer["schedule"], "steps": 6000}
            longer["name"] = f"{name}-long"
            add_run(store, f"{name}-long", seed, {"gap": 0.1, "temperature": 0.04}, recipe=longer)
    app = typer.Typer()
    paper.register(app)
    words = ["paper", "claims", "--json", "--db", str(path)]
    one, every = (
        json.loads(CliRunner().invoke(app, [*words, *more], catch_exceptions=False).stdout)
        for more in ([], ["--every-size"])
    )
    assert (
        len(one) == 9
        and len(every) == 18
        and [v.pop("size")["length"] for v in every[::9]] == ["1000 steps", "6000 steps"]
    )
    assert [v["verdict"] for v in every[:9]] == ["supported"] * 9
    assert {v["verdict"] for v in every[9:]} == {"undecided"}
    text = (
        CliRunner()
        .invoke(app, ["paper", "claims", "--every-size", "--db", str(path)], catch_exceptions=False)
        .stdout
    )
    assert text.count("Judged at this size") == 2


def test_every_rule_is_written_down():
    text = (REPO / "docs" / "claims.md").read_text()
    for claim in CLAIMS:
        section = re.search(rf"\*\*{claim.name}\. (.+?)\*\*(.+?)(?=\n\n|\Z)", text, re.DOTALL)
        assert section, claim.name
        assert "*Supported*" in section[2] and "*Not supported*" in section[2]
