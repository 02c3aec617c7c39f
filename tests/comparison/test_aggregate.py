"""Many metrics as one: rliable's definitions on a table worked out by hand, and what `compare --aggregate` pools."""

import csv
import io
import itertools
import json

import numpy as np
import pytest
from scipy import stats
from typer.testing import CliRunner

from gaprun.cli.main import app
from gaprun.comparison import compare
from gaprun.comparison.aggregate import (
    THRESHOLDS,
    interquartile_mean,
    over_tasks,
    probability_of_improvement,
)
from gaprun.comparison.overall import aggregated
from gaprun.errors import UserError

OURS = np.array([[1.0, 5.0], [2.0, 3.0], [4.0, 4.0]])
THEIRS = np.array([[0.0, 4.0], [2.0, 4.0]])
# rliable 1.2.0: metrics.aggregate_iqm(OURS), probability_of_improvement(OURS, THEIRS),
# library.run_score_deviation(OURS, tau) at 0, 1, 2, 3, 4
RLIABLE_IQM, RLIABLE_IMPROVEMENT = 3.25, 0.625
RLIABLE_PROFILE = [1, 5 / 6, 4 / 6, 3 / 6, 1 / 6]


def test_values_are_rliables():
    assert interquartile_mean(OURS.ravel()) == RLIABLE_IQM  # the mean of 2, 3, 4, 4
    assert probability_of_improvement(OURS, THEIRS) == RLIABLE_IMPROVEMENT  # (4.5 of 6 + 3 of 6) / 2
    found = over_tasks(OURS - 2, np.zeros((2, 2)), paired=False)
    assert found.iqm == RLIABLE_IQM - 2
    assert found.profile == pytest.approx(RLIABLE_PROFILE) and THRESHOLDS == (-2, -1, 0, 1, 2)
    random = np.random.default_rng(0).standard_normal(37)
    assert interquartile_mean(random) == pytest.approx(stats.trim_mean(random, 0.25))


def test_one_metric_paired_is_students_t_where_nothing_is_trimmed():
    """Of three scores a quarter is none: their mean, whose bootstrap variance of two draws has no bias."""
    ours, theirs = np.array([[3.0], [4.0], [8.0]]), np.array([[1.0], [1.5], [2.0]])
    found = over_tasks(ours, theirs, paired=True)
    expected = stats.ttest_rel(ours[:, 0], theirs[:, 0]).confidence_interval()
    assert found.iqm_ci95 == pytest.approx(tuple(expected), abs=0.25)
    assert found.improvement == 1 and found.improvement_ci95 is None
    welch = stats.ttest_ind(ours[:, 0], theirs[:, 0], equal_var=False).confidence_interval()
    assert over_tasks(ours, theirs, paired=False).iqm_ci95 == pytest.approx(tuple(welch), abs=0.25)
    assert over_tasks(ours[:1], theirs[:1], paired=True).iqm_ci95 is None


def test_intervals_hold_where_metrics_go_together():
    """One number of a run moves all eight metrics; percentiles of rliable's draws hold in half of the cases."""
    random = np.random.default_rng(1)
    held = {"ours": 0, "percentiles": 0}
    for _ in range(250):
        ours, theirs = (
            0.95 * random.standard_normal((3, 1)) + 0.3 * random.standard_normal((3, 8)) for _ in range(2)
        )
        low, high = over_tasks(ours, theirs, paired=True).iqm_ci95
        held["ours"] += low <= 0 <= high
        chosen = random.integers(0, 3, (400, 3, 8))
        scores = (ours - theirs)[chosen, np.arange(8)].reshape(400, -1)
        low, high = np.percentile(interquartile_mean(scores), [2.5, 97.5])
        held["percentiles"] += low <= 0 <= high
    assert held["ours"] / 250 == pytest.approx(0.95, abs=0.045)
    assert held["percentiles"] / 250 < 0.7


@pytest.fixture
def filled(store, add):
    """A baseline and two rows of three seeds: gap (lower is better) and recall, in different units."""
    for seed, wobble in enumerate((-0.01, 0.0, 0.01)):
        add("baseline", seed, gap=0.5 + wobble, probe_top1=50 + 100 * wobble, norm_image=1.0)
        add("closer", seed, gap=0.48 + wobble, probe_top1=50 + 100 * wobble, norm_image=1.0)
        add("better", seed, gap=0.5 - wobble, probe_top1=52 - 100 * wobble, norm_image=1.0)
    add("alone", 0, gap=0.4)
    return str(store.place.path)


def test_scores_are_in_spreads_of_a_run_in_the_better_direction(filled):
    found = compare(["gap", "probe_top1", "norm_image"], db=filled, health=False)
    records = {r["group"]: r for r in aggregated(found).records}
    assert list(records) == ["better", "closer"]  # equal IQM; `alone` lacks a metric
    assert records["closer"]["tasks"] == ["gap (scenes/test, full)", "probe_top1 (scenes/test, full)"]
    assert records["closer"]["paired"] and records["closer"]["n"] == 3
    # One run's standard deviations are 0.01 and 1: three scores of 2 and three of 0, one of each trimmed.
    assert records["closer"]["iqm"] == pytest.approx(1)
    assert records["closer"]["improvement"] == pytest.approx((8.5 / 9 + 0.5) / 2)
    # 0, -2, 2 on the gap, 4, 2, 0 on the probe
    assert records["better"]["iqm"] == pytest.approx((0 + 0 + 2 + 2) / 4)
    assert [records["better"][f"above_{t:g}"] for t in THRESHOLDS] == pytest.approx(
        [5 / 6, 5 / 6, 3 / 6, 3 / 6, 1 / 6]
    )
    legend = " ".join(aggregated(found).legend)
    assert "2 metrics as one: gap (scenes/test, full), probe_top1" in legend and "1 row without" in legend


def test_the_command_in_every_format(filled):
    words = ["compare", "--aggregate", "--metric", "gap", "--metric", "probe_top1", "--db", filled]
    run = CliRunner().invoke
    records = json.loads(run(app, [*words, "--json"], catch_exceptions=False).stdout)
    lines = list(csv.DictReader(io.StringIO(run(app, [*words, "--format", "csv"]).stdout)))
    assert [float(line["iqm"]) for line in lines] == pytest.approx([r["iqm"] for r in records])
    assert float(lines[0]["improvement_ci95_low"]) == pytest.approx(records[0]["improvement_ci95"][0])
    table = run(app, words, catch_exceptions=False).stdout
    assert "better, %" in table and "in standard deviations of one run" in " ".join(table.split())


def test_what_cannot_be_pooled_is_said(filled):
    with pytest.raises(UserError, match="name one with --baseline"):
        aggregated(compare("gap", db=filled, where=["recipe=closer"], health=False))
    with pytest.raises(UserError, match="no metric has a better side"):
        aggregated(compare("gap", db=filled, where=["seed=0"], health=False))


def by_hand(ours, theirs, paired):
    """Values and half intervals of `over_tasks` written anew: loops over every bootstrap draw that there is."""

    def values(a, b, paired):
        scores = sorted(
            float(x - (y if paired else b[:, k].mean()))
            for k in range(a.shape[1])
            for x, y in (zip(a[:, k], b[:, k], strict=True) if paired else ((x, None) for x in a[:, k]))
        )
        cut = len(scores) // 4
        pairs = [[(x > y) + (x == y) / 2 for x in a[:, k] for y in b[:, k]] for k in range(a.shape[1])]
        above = [np.mean([score > threshold for score in scores]) for threshold in THRESHOLDS]
        return [np.mean(scores[cut : len(scores) - cut]), np.mean(pairs), *above]

    draws = [[list(d) for d in itertools.product(range(len(x)), repeat=len(x) - 1)] for x in (ours, theirs)]
    if paired:
        drawn = [[values(ours[d], theirs[d], True) for d in draws[0]]]
    else:
        drawn = [
            [values(ours[d], theirs, False) for d in draws[0]],
            [values(ours, theirs[d], False) for d in draws[1]],
        ]
    parts = [np.var(one, axis=0) for one in drawn]
    total = sum(parts)
    with np.errstate(invalid="ignore"):
        df = total**2 / sum(part**2 / (len(x) - 1) for part, x in zip(parts, (ours, theirs), strict=False))
        return np.array(values(ours, theirs, paired)), stats.t.ppf(0.975, df) * total**0.5


@pytest.mark.parametrize(
    ("n", "m", "tasks", "paired"),
    [(3, 3, 5, True), (4, 4, 1, True), (2, 4, 3, False), (4, 2, 3, False), (3, 5, 1, False)],
)
def test_intervals_are_those_of_every_draw(n, m, tasks, paired):
    """Uneven seeds, one metric, and (whole numbers) many ties."""
    random = np.random.default_rng([n, m, tasks])
    ours, theirs = (random.integers(-3, 4, (size, tasks)) + shift for size, shift in ((n, 0.0), (m, 1.0)))
    found = over_tasks(ours, theirs, paired)
    expected, half = by_hand(ours, theirs, paired)
    assert [found.iqm, found.improvement, *found.profile] == pytest.approx(expected, abs=1e-8)
    intervals = [found.iqm_ci95, found.improvement_ci95, *found.profile_ci95]
    for index, (value, width, interval) in enumerate(zip(expected, half, intervals, strict=True)):
        if not width > 1e-9:
            assert interval is None
            continue
        low, high = (
            (value - width, value + width) if index == 0 else (max(0, value - width), min(1, value + width))
        )
        assert interval == pytest.approx((low, high), abs=1e-8)


def test_one_seed_has_values_and_no_interval():
    found = over_tasks(np.array([[1.0, 3.0]]), np.array([[0.0, 0.0], [2.0, 2.0]]), paired=False)
    assert (found.iqm, found.improvement, found.profile) == (1.0, 0.75, (1.0, 1.0, 0.5, 0.5, 0.0))
    assert found.iqm_ci95 is None and set(found.profile_ci95) == {None} and found.improvement_ci95 is None
