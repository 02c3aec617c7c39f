"""Each failure signature on records made to show it, to be free of it, and to lack it."""

import random
import shutil

import pytest

from gaprun.comparison import compare
from gaprun.comparison.health import SIGNS, check, flagged
from gaprun.store import open_store
from tests.conftest import REPO

SOFT = {"temperature": {"rule": "softplus", "init": 0.07}}
EXP = {"temperature": {"rule": "exp", "init": 0.07, "max_beta": 100.0}}


def path(gap, loss, tau=lambda s: 0.05, steps=1000):
    return [
        {"step": s, "gap": gap(s / steps), "loss": loss(s / steps), "temperature": tau(s / steps)}
        for s in range(0, steps + 1, 20)
    ]


def status(sign, recipe=EXP, trajectory=(), metrics=()):
    return next(f.status for f in check(recipe, trajectory, metrics) if f.sign == sign)


def row(metric, value, dataset="scenes", split="test", protocol="pool512", n=512):
    return {
        "metric": metric,
        "value": value,
        "dataset": dataset,
        "split": split,
        "protocol": protocol,
        "pool": 512 if protocol == "pool512" else None,
        "transform": "",
        "n": n,
    }


def converged(p):
    return max(4 - 8 * p, 0.5)


def test_a_closed_gap_is_not_taken_for_one_that_persists_because_batches_are_small():
    small = path(lambda p: 0.14, converged)
    assert status("gap-persists", SOFT, trajectory=small) == "flagged"
    assert status("gap-persists", {**SOFT, "schedule": {"batch_size": 128}}, trajectory=small) == "clear"


@pytest.mark.parametrize(
    "gap, loss, expected",
    [
        (lambda p: 0.6, converged, "flagged"),
        (lambda p: 1 - 0.9 * p, converged, "clear"),  # still closing
        (lambda p: max(0.8 - 2 * p, 0.05), converged, "clear"),  # closed
        (lambda p: 0.8 - 0.2 * min(2 * p, 1), converged, "clear"),  # smaller than it was, and stays so
        (lambda p: 0.6, lambda p: 4 - 3 * p, "clear"),  # the loss still falls
    ],
)
def test_a_gap_that_persists(gap, loss, expected):
    assert status("gap-persists", SOFT, path(gap, loss)) == expected
    for acting in ({"swap": {"rule": "hard"}}, {"loss": {"terms": [{"name": "mean-gap"}]}}):
        assert status("gap-persists", EXP | acting, path(gap, loss)) == expected
    assert status("gap-persists", EXP, path(gap, loss)) == "clear"  # CLIP as it is keeps its gap in health
    assert status("gap-persists", SOFT, path(gap, loss)[:3]) == "not recorded"


@pytest.mark.parametrize(
    "recipe, last, expected",
    [
        (EXP, 0.01, "flagged"),  # the clamp is beta 100
        (EXP, 0.02, "clear"),  # logit scale 50 is normal
        (EXP, 1.0, "flagged"),  # logit scale 14 to 1
        ({"temperature": {"rule": "exp", "init": 0.07, "max_beta": None}}, 0.004, "flagged"),
        ({"temperature": {"rule": "exp", "init": 0.07, "max_beta": None}}, 0.01, "clear"),
        ({"temperature": {"rule": "fixed", "tau": 0.01}}, 0.01, "clear"),
    ],
)
def test_temperature(recipe, last, expected):
    found = path(lambda p: 0.5, converged, lambda p: 0.07 + (last - 0.07) * min(1, p / 0.8))
    assert status("temperature", recipe, found) == expected
    assert status("temperature") == "not recorded"


@pytest.mark.parametrize(
    "recall, probe, expected",
    [(1.0, 60, "flagged"), (3.0, 60, "clear"), (1.0, 25, "clear"), (None, 60, "not recorded")],
)
def test_poor_retrieval_beside_a_good_probe(recall, probe, expected):
    # Chance is 100/512 = 0.195 %; ten times that is 1.95 %.
    metrics = [
        row("image_recall@1", recall),
        row("text_recall@1", recall),
        row("probe_top1", probe, "classes"),
    ]
    assert status("retrieval-poor", metrics=metrics) == expected


def test_alignment_that_differs_between_data_sets():
    one, near, far = row("alignment", 0.7), row("alignment", 0.8, "coco"), row("alignment", 1.1, "coco")
    assert status("alignment-differs", metrics=[one]) == "not recorded"
    assert status("alignment-differs", metrics=[one, near]) == "clear"
    assert status("alignment-differs", metrics=[one, far]) == "flagged"
    other_protocol = far | {"protocol": "full", "pool": None}
    assert status("alignment-differs", metrics=[one, other_protocol]) == "not recorded"


def test_compare_marks_flagged_rows_and_can_be_told_not_to(store, add):
    for seed in range(3):
        add("baseline", seed, gap=0.5, resolved=SOFT)
        add("flt", seed, gap=0.1, resolved={"temperature": {"rule": "fixed", "tau": 0.1}})
        store.record(f"baseline-s{seed}", path(lambda p: 0.6, converged))
        store.record(f"flt-s{seed}", path(lambda p: 1 - 0.9 * p, converged))
    db = str(store.place.path)
    found = compare("gap", db=db)
    assert found.marks == {"baseline": "gap-persists in 3 of 3"}
    assert [r["flags"] for r in found.records()] == ["gap-persists in 3 of 3", None]
    assert compare("gap", db=db, health=False).marks == {}


def test_healthy_runs_of_the_example_are_clear_and_its_collapsed_ones_are_not(tmp_path):
    """The rates that docs/health.md states: of the 104 runs on scenes before `data.resize` the three of soft swapping
    in every step, whose retrieval collapsed while the probe held, and no other."""
    copy = shutil.copyfile(REPO / "results.db.example", tmp_path / "example.db")
    store = open_store(str(copy), create=False)
    found = flagged(store, [run.id for run in store.runs(["data.resize=none"], light=True)])
    signs = {
        (run.rpartition("-s")[0], finding.sign) for run, findings in found.items() for finding in findings
    }
    assert signs == {("soft-swap-probability=1", "retrieval-poor")} and len(found) == 3


def sick(sign, noise):
    """A run that goes wrong in one way, with noise as the example's runs have it: recipe, trajectory, metrics."""
    if sign == "gap-persists":
        return SOFT, path(lambda p: 0.9 + noise(0.01), lambda p: converged(p) + noise(0.02)), ()
    if sign == "temperature":
        return EXP, path(lambda p: 0.5, converged, lambda p: max(0.07 - 0.1 * p, 0.01)), ()
    if sign == "retrieval-poor":
        values = {
            "image_recall@1": 1 + noise(0.2),
            "text_recall@1": 1 + noise(0.2),
            "probe_top1": 45 + noise(4),
        }
        return EXP, (), [row(name, value) for name, value in values.items()]
    places = [row("alignment", 0.6 + noise(0.03), "near"), row("alignment", 1.0 + noise(0.03), "far")]
    return EXP, (), places


@pytest.mark.parametrize("sign", SIGNS)
def test_sick_runs_are_found(sign):
    generator = random.Random(0)
    runs = [sick(sign, lambda width: generator.gauss(0, width)) for _ in range(50)]
    assert sum(status(sign, *run) == "flagged" for run in runs) >= 49
