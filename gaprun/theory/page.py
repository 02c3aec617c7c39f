"""The laboratory's HTML page: figures with plain words next to each, in one file that needs no network."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from gaprun import palette
from gaprun.files import PAGE_MARK
from gaprun.tables import Table, html
from gaprun.tables.numbers import significant
from gaprun.theory import figures
from gaprun.theory.rates import ASSUMPTIONS, AppendixC
from gaprun.theory.start import StartOutcome
from gaprun.theory.study import Study
from gaprun.theory.style import columns_of
from gaprun.theory.tables import rates_table, start_table

PANEL = 300  # pixels of one of several panels side by side; where there is less room the figure scrolls
PAGE_COLOURS = ("INK", "PAPER", "GRID", "SOFT")


@dataclass(frozen=True)
class PageSection:
    """A heading, paragraphs in plain words (or `Markup`), then figures, tables and ready HTML in order."""

    title: str
    words: Sequence[str]
    content: Sequence[Any] = ()  # plotly figures, Tables, Markup


def render(title: str, sections: Iterable[PageSection]) -> str:
    """One self-contained HTML document; plotly's script is written once, inside."""
    import plotly.io as pio

    parts: list[PageSection] = []
    script_written = False
    for section in sections:
        items = []
        for item in section.content:
            if isinstance(item, Table):
                items.append(html.render(item))
            elif isinstance(item, str):
                items.append(Markup(item))
            else:
                drawn = pio.to_html(
                    item, {"displaylogo": False}, full_html=False, include_plotlyjs=not script_written
                )
                least = PANEL * columns if (columns := columns_of(item)) > 1 else 0
                items.append(html.filled("gaprun.theory", "figure.html", figure=Markup(drawn), least=least))
                script_written = True
        parts.append(PageSection(section.title, section.words, items))
    return html.filled(
        "gaprun.theory",
        "page.html",
        title=title,
        sections=parts,
        mark=Markup(PAGE_MARK),
        light={name: getattr(palette, name) for name in PAGE_COLOURS},
        dark={name: palette.DARK[getattr(palette, name)] for name in PAGE_COLOURS},
        twins=Markup(json.dumps(palette.DARK)),
    )


def start_section(outcomes: Mapping[str, Mapping[str, StartOutcome]]) -> PageSection:
    """The first-steps experiments (Fig. 4b), with their table."""
    first = next(iter(next(iter(outcomes.values())).values()))
    return PageSection(
        "At the start: does the gap grow?",
        (
            f"Each dot in the histogram is a fresh random start followed by {first.steps} steps of gradient "
            "descent. To the right of the dashed line, the gap grew. Theorem 3.3 says that it does when most pairs "
            "are mismatched, which is what a random start is: the cheapest way to lower the loss is then to "
            "weaken all similarities, by moving the two clouds apart.",
            "“25% shuffled” starts from pairs that match, of which a quarter had their texts exchanged; “centred” "
            "starts with both clouds around one centre, so that any gap afterwards was opened by training. Intervals "
            "are exact binomial ones (Clopper–Pearson).",
        ),
        (
            figures.first_step_histogram({name: starts["random"] for name, starts in outcomes.items()})
            if all("random" in starts for starts in outcomes.values())
            else "",
            figures.share_of_increases(outcomes),
            start_table(outcomes),
        ),
    )


def study_page(study: Study) -> str:
    """The page of `gaprun theory flow --out`."""
    setting = study.setting
    rates = [(name, rate) for name, found in study.rates.items() for rate in found.values()]
    errors = [
        (flow.rule.name, f"{flow.error:.1e}", flow.error_kind, f"{flow.t[-1]:.3g}", flow.stopped or "")
        for flow in study.flows.values()
    ]
    last = study.local_slopes[-1] if study.local_slopes else None
    sections = [
        PageSection(
            "What this page shows",
            (
                Markup(
                    "CLIP puts pictures and texts on one sphere, yet the two end up in separate regions: the "
                    "<b>modality gap</b> Δ, the distance between the two clouds' centres. The theory of Yaras et al. "
                    "(arXiv 2412.07909) follows two numbers along training: γ, half of the gap, and β = 1/temperature. "
                    "Everything below was computed on this machine from their equations; where the paper states a "
                    "rate, it stands beside what was measured."
                ),
                Markup(
                    f"<span class=tag>Start: γ = {setting.gamma:g}, temperature {setting.temperature:g} (schedule: "
                    f"0.01 to {setting.schedule_end:g}), {setting.pairs} pairs, margin {setting.margin:g}, k = "
                    f"{setting.k:g}. Assumptions: {ASSUMPTIONS}.</span>"
                ),
            ),
        ),
        PageSection(
            "How fast the gap closes depends on the temperature rule",
            (
                "With CLIP's own rule (exp) the gap hardly moves any more after a while, although the loss keeps "
                "falling. With the softplus rule, or a temperature that is fixed or scheduled, it closes quickly. Both "
                "axes are logarithmic.",
                "Both the gap and β feed on the same pull, which dies out once every pair is told apart. Under exp, β "
                "takes nearly all of it: while β grows by one, the gap shrinks by a share of only 2/β. Under softplus "
                "that share is 2β, and under a fixed temperature the gap gets everything. The second picture shows "
                "the temperatures.",
            ),
            (figures.gap_over_time(study.near), figures.temperature_over_time(study.near)),
        ),
        PageSection(
            "The gap against the temperature: exact laws",
            (
                "Lemma 3.1 ties the two together: under exp each doubling of β divides the gap by 4 (slope −2), under "
                "exp(ν/k) by 4 to the power k² (slope −2k²). Under softplus the gap falls like exp(−β²). The table "
                "holds every measured slope; intervals cover how much a slope varies in its window and how inexact "
                "the integration is.",
            ),
            (
                figures.freezing(study.flows),
                rates_table((study.flows[name].rule.name, rate) for name, rate in rates),
            ),
        ),
        PageSection(
            "Is it 1/log(t)²? In the limit, yes; in any training run, not yet",
            (
                "Theorem 3.2: under exp the gap closes no faster than 1/log(t)², slope −2 against log log t. The local "
                "slope approaches −2 only at times that no computer will reach"
                + (f": it is {last.value:.2f} in the last window here." if last else ".")
                + " In a real run of 10³ to 10⁶ steps an honest fit finds a slope near −1, so “close to a line” "
                "against 1/log(t)² does not by itself prove the law. Below it: Fig. 4a of the paper, from the flow.",
            ),
            (figures.local_slopes(study.local_slopes), figures.fig_4a(study.near["exp"])),
        ),
        *_claim_sections(study.claim),
        PageSection(
            "Particles: every picture and every text is free to move",
            (
                "The equations above freeze the directions inside each modality. Here 6 pairs move freely on the "
                "sphere, the two modalities on two parallel circles (the paper's Fig. 1). Drag to turn. Grey lines "
                "join pairs; first row CLIP's exp rule, whose circles stay apart, second row softplus, whose "
                "circles meet.",
            ),
            (
                figures.snapshots(study.particles["exp"]),
                figures.snapshots(study.particles["softplus"]),
                figures.particle_series(study.particles, ("gap", "beta", "margin", "loss")),
            ),
        ),
        PageSection(
            "Do particles and the two-variable flow agree?",
            (
                "Where its assumptions hold (both modalities on a regular simplex, on which no direction feels a "
                "force) they must; the dots are particles, the line is the two-variable flow.",
            ),
            (figures.agreement(study.particle_simplex, study.particle_reduced),),
        ),
        PageSection(
            "Swapping modalities closes the gap",
            (
                "64 pairs that start with a gap of 0.8, gradient descent from the same start: exchanging (hard) or "
                "mixing (soft) coordinates of a picture and its text before the loss pulls the clouds together.",
            ),
            (figures.particle_series(study.swaps, ("gap", "loss", "alignment"), log_time=False),),
        ),
        start_section(study.starts),
        PageSection(
            "How far these numbers can be trusted",
            (
                "Each learned rule conserves a quantity exactly, so its drift is the integration's error. A fixed "
                "temperature has an exact time by quadrature instead; a schedule is integrated twice.",
            ),
            (
                Table.of(
                    "errors", ("rule", "relative error", "measured by", "reached t", "ended early"), errors
                ),
            ),
        ),
    ]
    return render("The modality gap: a theory laboratory", sections)


def _claim_sections(claim: AppendixC | None) -> list[PageSection]:
    if claim is None:
        return []
    verdict = "holds" if claim.holds else "does <b>not</b> hold for γ itself under these assumptions"
    return [
        PageSection(
            "The softplus rate of Appendix C, checked",
            (
                Markup(
                    "As others report it, Appendix C claims γ(t) = Θ(1/(t log t)) for softplus; we could not read the "
                    f"appendix. Assumptions here: {ASSUMPTIONS}. The measured slope against log t is "
                    f"{significant(claim.softplus_slope[-1])} at t = {claim.t[-1]:.2g}, where 1/(t log t) would give "
                    f"{significant(claim.claimed_slope[-1])}. The claim {verdict}."
                ),
                Markup(
                    "Our reading: what behaves like 1/(t log t) is the relative rate ½ |d ln γ/dt| under <i>exp</i> "
                    "(right, tends to 1). Under softplus the relative rate is like log(t)/t, so γ falls like "
                    "exp(−log(t)²), faster than any power of t: softplus does close the gap faster, as the paper says."
                ),
            ),
            (figures.softplus_claim(claim),),
        )
    ]
