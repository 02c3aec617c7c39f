"""The table of docs/findings.md is what `gaprun compare` says of results.db.example, number by number."""

import json
import re

import pytest

from tests.conftest import REPO, run_gaprun

ROWS = {
    "baseline": "baseline",
    "FLT 0.04 (published)": "flt",
    "FLT 0.16 (scaled)": "flt-scaled",
    "TS 0.01 -> 0.05 (published)": "schedule",
    "TS 0.04 -> 0.2 (scaled)": "schedule-scaled",
    "TR softplus": "reparam",
    "SLRT 0.1": "slrt",
    "HS 0.001 (published)": "hard-swap",
    "HS 0.02 (scaled)": "hard-swap-scaled",
    "SS 0.05": "soft-swap",
}
COLUMNS = ("gap", "text_recall@5", "image_recall@5", "zeroshot_top1", "probe_top1", "temperature")


@pytest.fixture(scope="module")
def compared():
    """mean and standard deviation by (recipe, metric)."""
    words = ["compare", "--db", "results.db.example", "--format", "json"]
    for metric in COLUMNS:
        words += ["--metric", metric]
    done = run_gaprun(*words, cwd=REPO)
    assert done.returncode == 0, done.stderr
    rows = [row for row in json.loads(done.stdout) if row["protocol"] in ("full", "final")]
    return {(row["recipe"], row["metric"]): (row["mean"], row["std"], row["p_holm"]) for row in rows}


def test_every_number_of_the_table(compared):
    text = (REPO / "docs" / "findings.md").read_text()
    lines = {
        cells[1].strip(): cells[2:-1] for line in text.splitlines() if len(cells := line.split("|")) == 9
    }
    for name, recipe in ROWS.items():
        for metric, cell in zip(COLUMNS, lines[name], strict=True):
            mean, std, _ = compared[recipe, metric]
            said = re.findall(r"[\d.]+", cell)
            places = len(said[0].partition(".")[2])
            assert float(said[0]) == pytest.approx(mean, abs=0.51 * 10**-places), (name, metric)
            if len(said) > 1:
                assert float(said[1]) == pytest.approx(std, abs=0.51 * 10**-places), (name, metric)


def test_what_differs_from_the_baseline(compared):
    shrunk = {r for (r, m), (_, _, p) in compared.items() if m == "gap" and p is not None and p < 0.05}
    assert shrunk == {"flt-scaled", "schedule-scaled", "hard-swap-scaled", "reparam", "slrt", "soft-swap"}
    others = [
        p for (_, m), (_, _, p) in compared.items() if m not in ("gap", "temperature") and p is not None
    ]
    assert min(others) > 0.05


def test_the_verdicts(compared):
    done = run_gaprun("paper", "claims", "--db", "results.db.example", "--json", cwd=REPO)
    found = {claim["claim"]: claim["verdict"] for claim in json.loads(done.stdout)}
    text = (REPO / "docs" / "findings.md").read_text()
    said = dict(re.findall(r"^\| (C\d) [^|]*\| ([a-z ]+) \|", text, re.M))
    assert len(said) == 8 and said == found
