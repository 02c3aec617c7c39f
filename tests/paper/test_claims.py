"""Databases made to support, contradict and leave open every claim get just those verdicts."""

import json
import re

import pytest
import typer
from typer.testing import CliRunner

from gaprun.cli import paper
from gaprun.paper.claims import CLAIMS, judge_claims
from gaprun.paper.settings import load_study
from tests.conftest import REPO


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
    assert [v["claim"] for v in found] == [f"C{i}" for i in range(1, 9)]
    assert {v["claim"]: v["verdict"] for v in found} == {f"C{i}": expected for i in range(1, 9)}, found
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
        assert row["value"] == 0.01
    evidence = {v.claim: v.evidence for v in judge_claims(store, load_study(store))}
    assert "tau 0.010" in evidence["C3"] and "FLT tau 0.02 shrinks" in evidence["C3"]


def test_every_rule_is_written_down():
    text = (REPO / "docs" / "claims.md").read_text()
    for claim in CLAIMS:
        section = re.search(rf"\*\*{claim.name}\. (.+?)\*\*(.+?)(?=\n\n|\Z)", text, re.DOTALL)
        assert section, claim.name
        assert "*Supported*" in section[2] and "*Not supported*" in section[2]
