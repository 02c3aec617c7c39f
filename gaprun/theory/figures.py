"""The laboratory's plotly figures; each takes measured values and returns a figure, nothing is computed but axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from gaprun import palette
from gaprun.theory.fits import LAWS, START, Fit, LawVerdict, log_bins
from gaprun.theory.particles import Path
from gaprun.theory.rates import AppendixC, Rate
from gaprun.theory.reduced import Flow
from gaprun.theory.start import StartOutcome
from gaprun.theory.style import styled

Array = NDArray[np.float64]
# The report's colours: grey for CLIP's own rule, each method's own for the others.
COLOURS = {
    "exp": palette.GREY,
    "scaled-exp": palette.COLOURS[6],
    "softplus": palette.COLOURS[2],
    "fixed": palette.COLOURS[0],
    "schedule": palette.COLOURS[1],
}
IMAGE, TEXT, GREY = palette.IMAGE, palette.TEXT, palette.FAINT


def gap_over_time(flows: Mapping[str, Flow]) -> go.Figure:
    """Delta against t, both logarithmic, one line a temperature rule."""
    figure = _figure("time t (gradient flow)", "modality gap Δ", "Gap along time")
    for name, flow in flows.items():
        keep = (flow.t >= 1) & (flow.delta > 1e-14)
        figure.add_scatter(x=flow.t[keep], y=flow.delta[keep], name=flow.rule.name, line_color=COLOURS[name])
    figure.update_xaxes(type="log", exponentformat="power")
    figure.update_yaxes(type="log", exponentformat="power", range=[-12, 0.3])
    return figure


def temperature_over_time(flows: Mapping[str, Flow]) -> go.Figure:
    """tau = 1/beta against t: why the gap freezes under a rule whose temperature collapses."""
    figure = _figure("time t (gradient flow)", "temperature 1/β", "Temperature along time")
    for name, flow in flows.items():
        keep = flow.t >= 1
        figure.add_scatter(
            x=flow.t[keep], y=1 / flow.beta[keep], name=flow.rule.name, line_color=COLOURS[name]
        )
    figure.update_xaxes(type="log", exponentformat="power")
    return figure


def freezing(flows: Mapping[str, Flow]) -> go.Figure:
    """ln gamma against ln beta for exponential rules, against beta^2 for softplus: lines whose slopes are known."""
    figure = make_subplots(
        1, 2, subplot_titles=("exponential rules: against ln β", "softplus: against β²"), shared_yaxes=False
    )
    for name in ("exp", "scaled-exp"):
        flow = flows[name]
        figure.add_scatter(
            x=np.log(flow.beta), y=flow.ln_gamma, name=flow.rule.name, line_color=COLOURS[name], row=1, col=1
        )
    flow = flows["softplus"]
    figure.add_scatter(
        x=flow.beta**2, y=flow.ln_gamma, name="softplus", line_color=COLOURS["softplus"], row=1, col=2
    )
    figure.update_xaxes(title_text="ln β", row=1, col=1)
    figure.update_xaxes(title_text="β²", row=1, col=2)
    figure.update_yaxes(title_text="ln γ")
    return styled(figure)


def local_slopes(slopes: Sequence[Rate]) -> go.Figure:
    """Local slopes of ln gamma against ln ln t by window, with intervals, and the published limit."""
    figure = _figure("window of time", "d ln γ / d ln ln t", "Slope of the gap under exp")
    labels = [f"10^{np.log10(rate.window[0]):.0f} … 10^{np.log10(rate.window[1]):.0f}" for rate in slopes]
    figure.add_scatter(
        x=labels,
        y=[rate.value for rate in slopes],
        error_y={"array": [rate.high - rate.value for rate in slopes]},
        mode="markers+lines",
        name="measured under exp",
        line_color=COLOURS["exp"],
    )
    figure.add_hline(y=-2, line_dash="dash", line_color=GREY, annotation_text="published: −2 as t → ∞")
    return figure


def fig_4a(flow: Flow, start: float = 10.0) -> go.Figure:
    """The paper's Fig. 4a: Delta against -1/log(t)^2 under exp; a straight line would be the law."""
    keep = flow.t >= start
    figure = _figure("−1 / log(t)²", "modality gap Δ", "Gap under exp against −1/log(t)²")
    figure.add_scatter(
        x=-1 / np.log(flow.t[keep]) ** 2,
        y=flow.delta[keep],
        text=[f"t = {t:.2g}" for t in flow.t[keep]],
        name="exp",
        line_color=COLOURS["exp"],
    )
    return figure


def softplus_claim(claim: AppendixC) -> go.Figure:
    """Softplus's measured slope beside the claimed one, and the two rates that are simple."""
    figure = make_subplots(
        1,
        2,
        subplot_titles=("slope d ln γ / d ln t under softplus", "relative rates that tend to a constant"),
    )
    figure.add_scatter(
        x=claim.t, y=-claim.softplus_slope, name="measured", line_color=COLOURS["softplus"], row=1, col=1
    )
    figure.add_scatter(
        x=claim.t,
        y=-claim.claimed_slope,
        name="1/(t log t), as claimed",
        line={"color": GREY, "dash": "dash"},
        row=1,
        col=1,
    )
    figure.add_scatter(
        x=claim.t, y=claim.exp_rate, name="exp: ½ t ln t |d ln γ/dt|", line_color=COLOURS["exp"], row=1, col=2
    )
    figure.add_scatter(
        x=claim.t,
        y=claim.softplus_rate,
        name="softplus: ½ (t/ln t) |d ln γ/dt|",
        line={"color": COLOURS["softplus"], "dash": "dot"},
        row=1,
        col=2,
    )
    figure.update_xaxes(type="log", title_text="time t", exponentformat="power")
    figure.update_yaxes(type="log", dtick=1, title_text="minus the slope", row=1, col=1)
    return styled(figure)


def snapshots(path: Path) -> go.Figure:
    """The two clouds at the start, half way and at the end in three dimensions; pairs joined by grey lines."""
    shown = project(path.snapshots)
    titles = [f"t = {t:.3g}" for t, _, _ in shown]
    figure = make_subplots(
        1,
        len(shown),
        specs=[[{"type": "scene"}] * len(shown)],
        subplot_titles=titles,
        horizontal_spacing=0.01,
    )
    for column, (_, x, y) in enumerate(shown, start=1):
        first = column == 1
        pairs = np.full((3 * len(x), 3), np.nan)  # start, end, a gap: one broken line for all pairs
        pairs[0::3], pairs[1::3] = x, y
        figure.add_scatter3d(
            **_columns(pairs), mode="lines", line_color=GREY, showlegend=False, row=1, col=column
        )
        for cloud, name, colour in ((x, "images", IMAGE), (y, "texts", TEXT)):
            figure.add_scatter3d(
                **_columns(cloud),
                mode="markers",
                marker={"size": 4, "color": colour},
                name=name,
                showlegend=first,
                row=1,
                col=column,
            )
    cube = {"range": [-1.05, 1.05], "showticklabels": False, "title": ""}
    figure.update_scenes(xaxis=cube, yaxis=cube, zaxis=cube, aspectmode="cube")
    return styled(figure)


def project(clouds: Sequence[tuple[float, Array, Array]]) -> list[tuple[float, Array, Array]]:
    """The clouds in three dimensions: as they are, padded, or on the principal axes of the last snapshot."""
    dimension = clouds[0][1].shape[1]
    if dimension <= 3:
        pad = ((0, 0), (0, 3 - dimension))
        return [(t, np.pad(x, pad), np.pad(y, pad)) for t, x, y in clouds]
    last = np.concatenate(clouds[-1][1:])
    axes = np.linalg.svd(last, full_matrices=False)[2][:3].T
    return [(t, x @ axes, y @ axes) for t, x, y in clouds]


def particle_series(paths: Mapping[str, Path], names: Sequence[str], log_time: bool = True) -> go.Figure:
    """Chosen recorded quantities along time, one panel each, one line a path."""
    figure = make_subplots(1, len(names), subplot_titles=[name.replace("_", " ") for name in names])
    palette = list(COLOURS.values())
    for index, (label, path) in enumerate(paths.items()):
        colour = COLOURS.get(label, palette[index % len(palette)])
        keep = path["t"] >= (0.1 if log_time else 0)
        for column, name in enumerate(names, start=1):
            figure.add_scatter(
                x=path["t"][keep],
                y=path[name][keep],
                name=label,
                legendgroup=label,
                showlegend=column == 1,
                line_color=colour,
                row=1,
                col=column,
            )
    figure.update_xaxes(title_text="time t")
    if log_time:
        figure.update_xaxes(type="log", exponentformat="power")
    return styled(figure)


def agreement(path: Path, flow: Flow) -> go.Figure:
    """gamma of particles on the simplex over gamma of the reduced flow of the same case."""
    figure = _figure("time t (gradient flow)", "γ", "γ of particles and of the flow")
    keep = flow.t >= 0.1
    figure.add_scatter(x=flow.t[keep], y=flow.gamma[keep], name="two-variable flow", line_color=GREY)
    dots = path["t"] >= 0.1
    figure.add_scatter(x=path["t"][dots], y=path["gamma"][dots], mode="markers", name="particles")
    figure.update_xaxes(type="log", exponentformat="power")
    figure.update_yaxes(type="log")
    return figure


def first_step_histogram(outcomes: Mapping[str, StartOutcome]) -> go.Figure:
    """The paper's Fig. 4b: histogram of the gap's change over the first steps, one panel a kind of features."""
    figure = make_subplots(1, len(outcomes), subplot_titles=list(outcomes))
    for column, outcome in enumerate(outcomes.values(), start=1):
        figure.add_histogram(x=outcome.changes, nbinsx=15, showlegend=False, row=1, col=column)
        figure.add_vline(x=0, line_dash="dash", line_color=GREY, row=1, col=column)
    figure.update_xaxes(title_text="change of Δ")
    figure.update_yaxes(title_text="inits", row=1, col=1)
    return styled(figure)


def share_of_increases(outcomes: Mapping[str, Mapping[str, StartOutcome]]) -> go.Figure:
    """Share of inits whose gap grew, with its exact 95 % interval, by kind of start."""
    figure = _figure("start", "share of inits whose gap grew", "In how many inits the gap grew")
    for features, by_start in outcomes.items():
        shares = np.array([outcome.share for outcome in by_start.values()])
        bounds = np.array([outcome.interval for outcome in by_start.values()])
        figure.add_scatter(
            x=list(by_start),
            y=shares,
            error_y={"array": bounds[:, 1] - shares, "arrayminus": shares - bounds[:, 0]},
            mode="markers+lines",
            name=features,
        )
    figure.update_yaxes(range=[-0.05, 1.05])
    return figure


def overlay(t: Array, gap: Array, verdict: LawVerdict, title: str) -> go.Figure:
    """A recorded gap path with its log-spaced means and every fitted law."""
    figure = _figure("step", "gap of the training batch", title)
    figure.add_scatter(x=t, y=gap, mode="lines", name="recorded", line={"color": GREY, "width": 1})
    bin_t, bin_gap = log_bins(t[t >= START], gap[t >= START])
    figure.add_scatter(x=bin_t, y=bin_gap, mode="markers", name="log-spaced means", marker_color=palette.INK)
    times = bin_t[bin_t >= verdict.start * (1 - 1e-9)]
    for fit in verdict.fits:
        chosen = fit.law == verdict.law
        line = {"width": 4 if chosen else 1.5, "dash": "solid" if chosen else "dot"}
        figure.add_scatter(x=times, y=fitted(fit, times), name=fit.text, line=line)
    figure.update_xaxes(type="log")
    return figure


def fitted(fit: Fit, t: Array) -> Array:
    """floor + scale * law at times t (from the fit's own first time on)."""
    if fit.law == "power":
        return fit.floor + fit.scale * t ** -float(fit.shape or 0.0)
    if fit.law == "exponential":
        return fit.floor + fit.scale * np.exp(-float(fit.shape or 0.0) * (t - t[0]))
    basis = next(law.basis for law in LAWS if law.name == fit.law)
    return fit.floor + fit.scale * basis(t, 0.0)


def _columns(points: Array) -> dict[str, Array]:
    return {"x": points[:, 0], "y": points[:, 1], "z": points[:, 2]}


def _figure(x: str, y: str, title: str) -> go.Figure:
    figure = go.Figure()
    figure.update_xaxes(title_text=x)
    figure.update_yaxes(title_text=y)
    figure.update_layout(title=title)
    return styled(figure)
