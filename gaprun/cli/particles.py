"""`gaprun theory particles`: one particle system, its quantities along time, and its clouds in three dimensions."""

from __future__ import annotations

from contextlib import nullcontext
from enum import StrEnum
from typing import Annotated

import typer

from gaprun.cli.laboratory import OutOption, SeedOption, one_thread, write_page
from gaprun.cli.output import Format, FormatOption, JsonOption, chosen, nothing_with, show
from gaprun.cli.progress import waiting
from gaprun.tables import Heading, Table
from gaprun.tables.numbers import significant


class SwapName(StrEnum):
    """What `--swap` takes."""

    none = "none"
    hard = "hard"
    soft = "soft"


MANY = 512  # pairs from which a second thread pays
K, HORIZON, RATE = 2.0, 1e4, 0.05
COLUMNS = ("t", "gap", "gamma", "beta", "margin", "loss", "alignment", "uniformity")


def particles(
    features: Annotated[str, typer.Option(help="free, parallel, linear or two-layer.")] = "free",
    pairs: Annotated[int, typer.Option(help="Image-text pairs.")] = 64,
    dimension: Annotated[int, typer.Option(help="Dimension of the features.")] = 16,
    rule: Annotated[str, typer.Option(help="exp, scaled-exp, softplus, fixed or schedule.")] = "exp",
    k: Annotated[float, typer.Option(help="k of exp(nu/k).")] = K,
    temperature: Annotated[float, typer.Option(help="Temperature at the start.")] = 0.07,
    gamma: Annotated[float, typer.Option(help="Half of the gap at the start.")] = 0.4,
    mismatched: Annotated[float, typer.Option(help="Share of mismatched pairs; 0 to 1.")] = 0.0,
    swap: Annotated[
        SwapName, typer.Option(help="Swap modalities before the loss (needs --steps).")
    ] = SwapName.none,
    probability: Annotated[float, typer.Option(help="Probability that a step swaps.")] = 0.05,
    horizon: Annotated[float, typer.Option(help="Last time of the gradient flow.")] = HORIZON,
    steps: Annotated[
        int | None, typer.Option(help="Steps of plain gradient descent instead of the flow.")
    ] = None,
    rate: Annotated[float, typer.Option(help="Learning rate of one particle (with --steps).")] = RATE,
    points: Annotated[int, typer.Option(help="Records along time.")] = 60,
    seed: SeedOption = 0,
    format: FormatOption = Format.table,
    json: JsonOption = False,
    out: OutOption = None,
) -> None:
    """Move every image and every text by the contrastive loss: gradient flow, or descent with swaps."""
    from gaprun.theory.loss import ParticleSwap
    from gaprun.theory.start import StartSetting
    from gaprun.theory.study import simulate

    how = chosen(format, json)
    nothing_with(f"--rule {rule}", {"--k": rule != "scaled-exp" and k != K})
    nothing_with("a flow: give --steps too", {"--rate": steps is None and rate != RATE})
    nothing_with("--steps", {"--horizon": steps is not None and horizon != HORIZON})
    setting = StartSetting(
        kind=features,
        pairs=pairs,
        dimension=dimension,
        temperature=temperature,
        rule=rule,
        mismatched=mismatched,
        gamma=gamma,
        rate=rate,
    )
    swaps = None if swap is SwapName.none else ParticleSwap(probability, soft=swap is SwapName.soft)
    with waiting("moving particles"), one_thread() if pairs < MANY else nullcontext():
        path = simulate(setting, k=k, swap=swaps, steps=steps, horizon=horizon, points=points, seed=seed)
    rows = [dict(zip(path.series, row, strict=True)) for row in zip(*path.series.values(), strict=True)]
    cells = [[significant(row[name]) for name in COLUMNS] for row in rows[:: max(1, len(rows) // 12)]]
    heads = [Heading(name, right=True) for name in COLUMNS]
    legend = [f"ended early: {path.stopped}"] if path.stopped else []
    title = f"{pairs} pairs, {features} features, {rule}"
    show(
        Table.of("particles", heads, cells, rows, title, legend),
        how,
        {"series": rows, "stopped": path.stopped},
    )
    if out:
        from gaprun.theory import figures
        from gaprun.theory.page import PageSection, render

        series = figures.particle_series(
            {rule: path}, ("gap", "beta", "margin", "loss"), log_time=steps is None
        )
        words = (
            f"{pairs} image-text pairs, {features} features in {dimension} dimensions, {mismatched:.0%} of them "
            f"mismatched, moved by the contrastive loss under the rule {rule}.",
        )
        section = PageSection("Along time, and the two clouds", words, (series, figures.snapshots(path)))
        write_page(out, render("A particle system of the modality gap", [section]))
