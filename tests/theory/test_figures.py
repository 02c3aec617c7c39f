"""The page: complete, self-contained, and its figures show the measured values."""

import re

import numpy as np
import pytest

from gaprun import palette
from gaprun.tables import Table
from gaprun.theory import figures, style
from gaprun.theory.fits import judge, log_bins
from gaprun.theory.page import PageSection, render, start_section, study_page
from gaprun.theory.rates import flow_rates
from gaprun.theory.start import StartSetting
from gaprun.theory.study import FlowSetting, circles, run_study, start_outcomes, swap_paths
from gaprun.theory.tables import rates_table


@pytest.fixture(scope="module")
def study():
    return run_study(FlowSetting(horizon=1e30, points=200), inits=5)


def test_the_page_needs_no_network_and_explains_each_figure(study):
    page = study_page(study)
    assert page.startswith("<!doctype html>")
    assert (
        len(re.findall(r'Plotly\.newPlot\(\s+"', page)) == 13
    )  # some versions of its code hold the word too
    assert page.count("<h2>") == 10
    head, *sections = page.split("<h2>")
    assert all(section.split("</h2>")[1].lstrip().startswith("<p>") for section in sections)
    assert "<script src=" not in page and re.findall("<link .*?>", page) == [
        '<link rel="icon" href="data:,">'
    ]
    assert "not</b> hold" in page and "App. C" in page


def test_every_colour_has_a_twin_for_the_dark_page(study):
    page = study_page(study)
    for place, twin in (
        (palette.INK, palette.DARK[palette.INK]),
        (palette.PAPER, palette.DARK[palette.PAPER]),
    ):
        assert f": {place}" in page and f": {twin}" in page
    start = next(iter(study.starts.values()))["random"]
    for drawn in (
        figures.gap_over_time(study.near),
        figures.freezing(study.flows),
        figures.snapshots(study.particles["exp"]),
        figures.agreement(study.particle_simplex, study.particle_reduced),
        figures.first_step_histogram({"parallel": start}),
    ):
        used = set(re.findall("#[0-9a-fA-F]{6}|rgba?[(][^)]*[)]", drawn.to_json()))
        assert used and used <= {*palette.DARK, palette.FAINT}


def test_panels_side_by_side_are_counted(study):
    assert style.columns_of(figures.gap_over_time(study.near)) == 1
    assert style.columns_of(figures.freezing(study.flows)) == 2
    assert style.columns_of(figures.snapshots(study.particles["exp"])) == 3


def test_the_study_measures_what_the_issue_asks(study):
    assert all(flow.error <= 1e-6 for flow in study.flows.values())
    gamma = study.particle_simplex["gamma"][-1]
    assert gamma == pytest.approx(study.particle_reduced.gamma[-1], rel=1e-5)
    assert all(
        by_start["random"].increases >= 4 for by_start in (study.starts["parallel"], study.starts["free"])
    )


def test_swaps_close_the_gap_in_order_of_their_strength():
    gaps = {name: path["gap"][-1] for name, path in swap_paths().items()}
    assert gaps["hard, every step"] < gaps["hard, 1 in 20 steps"] < gaps["no swap"]
    assert gaps["soft, 1 in 20 steps"] < gaps["no swap"]


def test_circles_lie_on_the_sphere_and_softplus_closes_more():
    last = {name: circles(name) for name in ("exp", "softplus")}
    for path in last.values():
        assert len(path.snapshots) == 3
        for _, x, y in path.snapshots:
            np.testing.assert_allclose(np.linalg.norm(np.concatenate([x, y]), axis=1), 1, atol=1e-9)
    assert last["softplus"]["gap"][-1] < last["exp"]["gap"][-1] / 5


def test_fig_4a_is_on_the_axes_of_the_paper():
    flow = FlowSetting(horizon=1e12, points=100).run("exp")
    line = figures.fig_4a(flow).data[0]
    kept = flow.t >= 10
    np.testing.assert_allclose(np.asarray(line.x), -1 / np.log(flow.t[kept]) ** 2)
    np.testing.assert_allclose(np.asarray(line.y), flow.delta[kept])


def test_projection_keeps_three_dimensions_and_reduces_more():
    rng = np.random.default_rng(0)
    three, many = rng.standard_normal((2, 4, 3)), rng.standard_normal((2, 4, 6))
    np.testing.assert_array_equal(figures.project([(0.0, *three)])[0][1], three[0])
    _, x, y = figures.project([(0.0, *many)])[0]
    assert x.shape == (4, 3)
    top = np.linalg.svd(np.concatenate(many), compute_uv=False)[:3]
    np.testing.assert_allclose(np.linalg.norm(np.concatenate([x, y]), axis=0), top)
    flat = rng.standard_normal((2, 4, 2))
    assert figures.project([(0.0, *flat)])[0][2].shape == (4, 3)


@pytest.mark.parametrize("law", ["log2", "power", "exponential", "t_log_t", "constant"])
def test_fitted_laws_are_drawn_where_they_were_fitted(law):
    t = np.arange(3.0, 5000.0)
    verdict = judge(t, 0.1 + 2 * t**-0.5)
    fit = next(fit for fit in verdict.fits if fit.law == law)
    drawn = figures.fitted(fit, t)
    bins = log_bins(t, 0.1 + 2 * t**-0.5)
    error = np.interp(bins[0], t, drawn) - bins[1]
    assert np.sqrt((error**2).mean()) == pytest.approx(fit.rmse, rel=0.05, abs=1e-4)


def test_overlay_names_every_law():
    t = np.arange(0.0, 5000.0)
    gap = 0.1 + 2 * np.maximum(t, 1) ** -0.5
    figure = figures.overlay(t, gap, judge(t, gap), "a run")
    assert {trace.name for trace in figure.data} >= {
        "recorded",
        "1/log(t)^2",
        "1/(t log t)",
        "t^-p",
        "exp(-r t)",
    }


def test_tables_are_escaped_and_rates_are_cells():
    rates = flow_rates(FlowSetting(horizon=1e300).run("exp"))
    table = rates_table([(None, rates["d ln gamma / d ln beta"])])
    assert table.rows[0][0].lines[0] == "d ln gamma / d ln beta" and table.rows[0][-1].lines[0] == "agrees"
    assert table.records[0]["value"] == rates["d ln gamma / d ln beta"].value
    page = render("T", [PageSection("A & B", ("<words>",), (Table.of("t", ("<b>",), [("x",)]),))])
    assert "<h2>A &amp; B</h2>" in page and "&lt;words&gt;" in page and "&lt;b&gt;" in page


def test_the_start_section_shows_every_start():
    outcomes = {"free": start_outcomes(StartSetting("free", pairs=32, dimension=8), inits=4, shares=(0.5,))}
    section = start_section(outcomes)
    starts = [row[1].lines[0] for row in section.content[-1].rows]
    assert starts == ["random", "50% shuffled", "centred"]
