"""Every number in the tables of docs/findings.md is what the command above it says of results.db.example."""

import json
import re
import shlex

import pytest

from gaprun.comparison import compare
from tests.conftest import REPO, run_gaprun

SWEEP = {f"FLT {tau}": f"flt-tau={tau}" for tau in ("0.01", "0.02", "0.07", "0.1", "0.2", "0.4")}
AROUND = (
    "0.02",
    "0.04",
    "0.07",
    "0.1",
    "0.2",
)  # the temperatures that learning ends at after twice the epochs
GROUPS = {
    "Scenes: published values and scaled values": {
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
    },
    "Real photos: the seven methods": {
        "baseline": "baseline",
        "FLT 0.124": "flt-scaled",
        "TS 0.031 -> 0.155": "schedule-scaled",
        "TR softplus": "reparam",
        "SLRT 0.1": "slrt",
        "HS 0.0145": "hard-swap-scaled",
        "SS 0.05": "soft-swap",
    },
    "Real photos: fixed temperatures": {
        **SWEEP,
        "FLT 0.04": "flt-tau=0.04",
        "FLT 0.124": "flt-scaled",
    },
    "Real photos: swapping in a growing share of steps": {
        "baseline": "baseline",
        "HS 0.0145": "hard-swap-scaled",
        "HS 0.2": "hard-swap-probability=0.2",
        "HS 1": "hard-swap-probability=1",
        "SS 0.05": "soft-swap",
        "SS 0.2": "soft-swap-probability=0.2",
        "SS 1": "soft-swap-probability=1",
    },
    "Real photos: twice the epochs": {
        "baseline": "baseline",
        "TR softplus": "reparam",
        "TS 0.0195 -> 0.098": "schedule-scaled",
        "TS 0.07 -> 0.0627": "schedule-same-ends",
        "SLRT 0.1": "slrt",
        **{f"FLT {tau}": f"flt-tau={tau}" for tau in AROUND},
    },
    "Other methods of the field": {
        "baseline": "baseline",
        "FLT 0.04": "flt",
        "TS 0.01 -> 0.05": "schedule",
        "mean gap": "mean-gap",
        "alignment and uniformity": "contrastive-gap",
        "ModGap": "modgap",
        "CyCLIP": "cyclip",
        "separation": "separation",
        "adversary": "adversary",
        "random alignment": "random-alignment",
        "geodesic mixup": "geodesic-mixup",
        "SigLIP": "sigmoid",
        "SigLIP with relative bias": "relative-sigmoid",
    },
    "AlignCLIP's shared tower": {
        "own towers": "baseline [shared=none]",
        "own towers, separation": "separation",
        "shared tower": "baseline [shared=true]",
        "AlignCLIP (both)": "alignclip",
    },
    "CLIP-Refine: one epoch from pretrained weights": {
        "contrastive loss, 4e-6": "baseline [lr=4e-06]",
        "CLIP-Refine, 4e-6": "clip-refine [lr=4e-06]",
        "mean gap, 4e-6": "mean-gap [lr=4e-06]",
        "contrastive loss, 2e-4": "baseline [lr=0.0002]",
        "CLIP-Refine, 2e-4": "clip-refine [lr=0.0002]",
        "mean gap, 2e-4": "mean-gap [lr=0.0002]",
    },
    "The inverted U": {
        **SWEEP,
        "FLT 0.04": "flt",
        "FLT 0.062": "flt-same-end",
        "FLT 0.16": "flt-scaled",
    },
    "Swapping in a growing share of steps": {
        "HS 0.001": "hard-swap",
        "HS 0.02": "hard-swap-scaled",
        "HS 0.2": "hard-swap-probability=0.2",
        "HS 1": "hard-swap-probability=1",
        "SS 0.001": "soft-swap-probability=0.001",
        "SS 0.05": "soft-swap",
        "SS 0.2": "soft-swap-probability=0.2",
        "SS 1": "soft-swap-probability=1",
    },
    "Reparameterisation or schedule?": {
        "baseline": "baseline",
        "TR softplus": "reparam",
        "TS 0.07 -> 0.062": "schedule-same-ends",
        "FLT 0.062": "flt-same-end",
        "TS 0.01 -> 0.062": "schedule-same-end",
    },
    "Ten times the steps": {
        "baseline": "baseline",
        "TS 0.01 -> 0.05": "schedule",
        "TR softplus": "reparam",
        "SLRT 0.1": "slrt",
    },
}
SCENES = ["schedule.steps=600", "data.resize=none"]  # the set-up that the claims are judged in
PHOTOS = ["data.train.0=flickr8k/train", "schedule.epochs=18"]
LONGER = [PHOTOS[0], "schedule.epochs=36"]
WHERE, ON_PHOTOS, AT_LENGTH = (
    [word for condition in setup for word in ("--where", condition)] for setup in (SCENES, PHOTOS, LONGER)
)
WORDS = {
    "gap": "gap",
    "text recall@5": "text_recall@5",
    "image recall@5": "image_recall@5",
    "text recall@1": "text_recall@1",
    "image recall@1": "image_recall@1",
    "zero-shot": "zeroshot_top1",
    "probe": "probe_top1",
    "final tau": "temperature",
    "matched cosine": "matched_cosine",
    "unmatched cosine": "mismatched_cosine",
}


def sections():
    text = (REPO / "docs" / "findings.md").read_text()
    return {part.partition("\n")[0]: part for part in text.split("\n## ")[1:]}


def ask(section, *more):
    """What the section's `gaprun compare` command answers (with `more` words), by (row, metric, protocol)."""
    command = re.search(r"`gaprun (compare --db results\.db\.example [^`]+)`", section)[1]
    done = run_gaprun(*shlex.split(command), *more, "--format", "json", cwd=REPO)
    assert done.returncode == 0, done.stderr
    return {(r["group"], r["metric"], r["protocol"]): r for r in json.loads(done.stdout)}


@pytest.mark.parametrize("title", GROUPS)
def test_every_number_of_the_tables(title):
    section = sections()[title]
    answers = ask(section)
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.split("\n") if "|" in line]
    heads, rows = lines[0], {line[0]: line[1:] for line in lines[2:]}
    assert rows.keys() == GROUPS[title].keys() and heads[:2] == ["setting", "n"]
    for name, (n, *cells) in rows.items():
        for head, cell in zip(heads[2:], cells, strict=True):
            words, _, protocol = head.partition(" (")
            metric = WORDS[words]
            protocol = protocol.rstrip(")") or ("final" if metric == "temperature" else "full")
            found = answers[GROUPS[title][name], metric, protocol]
            assert found["n"] == int(n), (name, head)
            said = re.findall(r"[\d.]+", cell)
            places = len(said[0].partition(".")[2])
            assert float(said[0]) == pytest.approx(found["mean"], abs=0.51 * 10**-places), (name, head)
            assert len(said) == 1 + (metric != "temperature" and int(n) > 1), (name, head)
            if len(said) > 1:
                assert float(said[1]) == pytest.approx(found["std"], abs=0.51 * 10**-places), (name, head)


def test_what_differs_from_the_baseline():
    answers = ask(sections()["Scenes: published values and scaled values"])
    found = {
        (r, m)
        for (r, m, protocol), row in answers.items()
        if protocol in ("full", "final") and row["p_corrected"] is not None and row["p_corrected"] < 0.05
    }
    same = {"baseline", "flt", "schedule", "hard-swap", "soft-swap-probability=0.001"}
    assert {row for row, metric in found if metric == "gap"} == {row for row, _, _ in answers} - same
    assert {(row, metric) for row, metric in found if metric not in ("gap", "temperature")} == {
        ("flt-tau=0.4", "text_recall@5"),
        ("flt-tau=0.4", "image_recall@5"),
        ("schedule", "zeroshot_top1"),
        ("flt-tau=0.4", "zeroshot_top1"),
        ("flt-tau=0.2", "zeroshot_top1"),
        ("flt-scaled", "image_recall@5"),
        ("flt-scaled", "probe_top1"),
        ("hard-swap-probability=1", "text_recall@5"),
        ("soft-swap-probability=1", "text_recall@5"),
        ("soft-swap-probability=1", "image_recall@5"),
        ("soft-swap-probability=1", "zeroshot_top1"),
        ("soft-swap-probability=0.2", "probe_top1"),
    }
    said = set(
        re.findall(
            r"[(+]([+-]?\d+\.\d)",
            sections()["Scenes: published values and scaled values"].split("(all queries):")[1],
        )
    )
    deltas = {
        f"{row['delta']:.1f}"
        for (r, m, p), row in answers.items()
        if (r, m) in found and p == "full" and m != "gap"
    }
    assert {one.lstrip("+") for one in said} <= deltas


def test_softplus_and_the_schedule_of_its_ends():
    section = sections()["Reparameterisation or schedule?"]
    said = re.search(r"by\s([+-][\d.]+)\s\[([-\d.]+),\s([\d.]+)\]", section)
    words = ["compare", "--db", "results.db.example", *WHERE, "--metric", "gap"]
    done = run_gaprun(*words, "--baseline", "reparam", "--format", "json", cwd=REPO)
    rows = {r["group"]: r for r in json.loads(done.stdout) if r["protocol"] == "full"}
    row = rows["schedule-same-ends"]
    assert [float(x) for x in said.groups()] == pytest.approx([row["delta"], *row["delta_ci95"]], abs=6e-4)


def test_which_of_the_fields_methods_differ():
    section = sections()["Other methods of the field"]
    answers = ask(section)
    found = {
        (row, metric): answer["delta"]
        for (row, metric, protocol), answer in answers.items()
        if protocol == "full" and answer["p_corrected"] is not None and answer["p_corrected"] < 0.05
    }
    others = {row for row, _, _ in answers} - {"baseline"}
    same = {"flt", "schedule", "adversary", "random-alignment"}
    assert {row for row, metric in found if metric == "gap"} == others - same
    assert {row for row in others if found.get((row, "gap"), 0) > 0} == {"cyclip"}
    gains = {(row, metric): round(delta, 1) for (row, metric), delta in found.items() if metric != "gap"}
    assert gains == {
        (row, metric): delta
        for row, deltas in (("contrastive-gap", (7.7, 4.8, 20.7, 19.3)), ("modgap", (5.5, 4.7, 14.3, 13.1)))
        for metric, delta in zip(
            ("image_recall@5", "text_recall@5", "zeroshot_top1", "probe_top1"), deltas, strict=True
        )
    }
    for said in ("+7.7 image, +4.8\ntext; zero-shot +20.7, probe +19.3", "(+5.5, +4.7; +14.3, +13.1)"):
        assert said in section


def test_the_shared_tower():
    section = sections()["AlignCLIP's shared tower"]
    answers = ask(section)
    assert {key for key in different(answers) if key[1] != "temperature"} == {
        ("separation", "gap", "full"),
        ("separation", "text_recall@5", "full"),
        ("alignclip", "gap", "full"),
        ("alignclip", "probe_top1", "full"),
    }
    mixed = ["--baseline", "baseline [shared=none]", "--allow-mixed"]
    across = ask(section, *mixed)
    assert f"`{mixed[0]} '{mixed[1]}' {mixed[2]}`" in section
    for metric in ("image_recall@5", "text_recall@5"):
        assert with_interval(answers["separation", metric, "pool512"], 1) in flat(section)
    for found, row, metric, places in (
        (answers, "separation", "gap", 3),
        (answers, "separation", "text_recall@5", 1),
        (answers, "alignclip", "gap", 3),
        (answers, "alignclip", "probe_top1", 1),
        (across, "baseline [shared=true]", "gap", 3),
        (across, "baseline [shared=true]", "image_recall@5", 1),
        (across, "baseline [shared=true]", "text_recall@5", 1),
        (across, "alignclip", "gap", 3),
    ):
        assert with_interval(found[row, metric, "full"], places) in flat(section)


def test_one_epoch_from_pretrained_weights():
    section = sections()["CLIP-Refine: one epoch from pretrained weights"]
    answers = ask(section)
    assert {key for key in different(answers) if key[1] != "temperature"} == {
        ("mean-gap [lr=4e-06]", "gap", "full"),
        ("mean-gap [lr=0.0002]", "gap", "full"),
        ("mean-gap [lr=0.0002]", "text_recall@5", "full"),
    }
    for row, metric, places in (
        ("mean-gap [lr=4e-06]", "gap", 3),
        ("mean-gap [lr=0.0002]", "gap", 3),
        ("mean-gap [lr=0.0002]", "text_recall@5", 1),
        ("clip-refine [lr=0.0002]", "gap", 3),
    ):
        assert with_interval(answers[row, metric, "full"], places) in flat(section)
    assert with_interval(answers["mean-gap [lr=0.0002]", "text_recall@5", "pool512"], 1) in flat(section)


def test_twice_the_epochs():
    section = sections()["Real photos: twice the epochs"]
    answers = ask(section)
    found = {(row, metric) for row, metric, _ in different(answers, "pool512") if metric != "temperature"}
    fixed = [f"flt-tau={tau}" for tau in AROUND if tau != "0.04"]
    assert found == {
        (row, "gap") for row in ("reparam", "schedule-scaled", "schedule-same-ends", "slrt", *fixed)
    }
    ends = ask(section, "--baseline", "reparam")
    for rows, row, metric, places in (
        (answers, "reparam", "gap", 3),
        (answers, "schedule-scaled", "gap", 3),
        (answers, "slrt", "gap", 3),
        (answers, "flt-tau=0.2", "gap", 3),
        (answers, "schedule-scaled", "image_recall@5", 1),
        (ends, "schedule-same-ends", "gap", 3),
    ):
        assert with_interval(rows[row, metric, "pool512"], places) in flat(section)


def flat(section):
    return " ".join(section.split())


def different(answers, protocol="full"):
    """What differs from its baseline after correction under `protocol`."""
    return {
        key
        for key, row in answers.items()
        if key[2] in (protocol, "final") and row["p_corrected"] is not None and row["p_corrected"] < 0.05
    }


def with_interval(row, places):
    low, high = row["delta_ci95"]
    return f"{row['delta']:+.{places}f} [{low:.{places}f}, {high:.{places}f}]"


def test_the_verdicts():
    """Those on scenes, those on photos, and those on photos at twice the epochs."""
    text = (REPO / "docs" / "findings.md").read_text()
    said = re.findall(r"^\| (C\d) [^|]*\| ([a-z ]+) \|", text, re.M)
    assert len(said) == 27
    for where, verdicts in ((WHERE, said[:9]), (ON_PHOTOS, said[9:18]), (AT_LENGTH, said[18:])):
        done = run_gaprun("paper", "claims", "--db", "results.db.example", *where, "--json", cwd=REPO)
        assert dict(verdicts) == {claim["claim"]: claim["verdict"] for claim in json.loads(done.stdout)}
        assert f"`gaprun paper claims --db results.db.example {' '.join(where)}`" in text


def test_what_closing_the_gap_buys():
    """The table of verdicts is what its command says."""
    found = compare(
        ["gap", "recall@5"],
        db=str(REPO / "results.db.example"),
        where=SCENES,
        protocol=["pool512"],
        margin={"recall@5": 3.0},
        health=False,
    ).records()
    closing = {
        r["group"]
        for r in found
        if r["metric"] == "gap" and (r["p_corrected"] or 1) < 0.05 and r["delta"] < 0
    }
    lines = [f"of the {len(closing)} rows"]
    for metric in ("image_recall@5", "text_recall@5"):
        rows = [r for r in found if r["metric"] == metric and r["group"] in closing]
        counts = [
            sum(r["verdict"] == "no difference of the margin" for r in rows),
            sum(r["verdict"] == "different" and r["delta"] < 0 for r in rows),
            sum(r["verdict"] == "different" and r["delta"] > 0 for r in rows),
            sum(r["verdict"] == "undecided" for r in rows),
        ]
        lines.append(f"| {metric.replace('_', ' ')} | {' | '.join(map(str, counts))} |")
    text = (REPO / "docs" / "findings.md").read_text()
    assert [line for line in lines if line not in text] == []
