"""`gaprun theory init`: whether the gap grows in the first steps, of particles or of real towers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from gaprun.cli.laboratory import FeatureKind, GapOf, OutOption, SeedOption, one_thread, write_page
from gaprun.cli.options import DeviceOption, SetOption
from gaprun.cli.output import Format, FormatOption, JsonOption, chosen, show
from gaprun.cli.progress import waiting
from gaprun.errors import UserError

if TYPE_CHECKING:
    from gaprun.theory.start import StartOutcome


def init(
    features: Annotated[
        list[FeatureKind] | None,
        typer.Option(help="Particles of this kind (repeatable).", show_default="all four"),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="RECIPE|ARCH", help="Real towers instead: a recipe file or open_clip architecture."
        ),
    ] = None,
    data: Annotated[str | None, typer.Option(metavar="SPLIT", help="Training split of --model.")] = None,
    overrides: SetOption = None,
    device: DeviceOption = "auto",
    inits: Annotated[int, typer.Option(help="Random initialisations of each kind of start.")] = 100,
    steps: Annotated[int, typer.Option(help="Steps of gradient descent from each.")] = 10,
    mismatched: Annotated[
        list[float] | None,
        typer.Option(
            help="Share of mismatched pairs (repeatable).", show_default="0 0.25 0.5 0.75 1; --model: 0.5 1"
        ),
    ] = None,
    pairs: Annotated[
        int, typer.Option(help="Image-text pairs of one init, or of one step of --model ARCH.")
    ] = 128,
    gap_of: Annotated[
        GapOf,
        typer.Option(
            help="Whose gap --model shows: fixed pairs before and after, or (as in the authors' snapshot) the batch of "
            "the first and of the last step."
        ),
    ] = GapOf.pairs,
    dimension: Annotated[int, typer.Option(help="Dimension of particles.")] = 32,
    temperature: Annotated[float, typer.Option(help="Temperature of particles at the start.")] = 0.07,
    gamma: Annotated[float, typer.Option(help="Half of the particles' gap at the start.")] = 0.1,
    rate: Annotated[float, typer.Option(help="Learning rate of one particle.")] = 0.01,
    seed: SeedOption = 0,
    format: FormatOption = Format.table,
    json: JsonOption = False,
    out: OutOption = None,
) -> None:
    """Does the gap grow in the first steps? Many random inits, the share that grew, its exact interval."""
    from gaprun.theory.page import render, start_section
    from gaprun.theory.start import StartSetting
    from gaprun.theory.study import SHARES, start_outcomes
    from gaprun.theory.tables import start_table

    how = chosen(format, json)
    outcomes = {}
    batches = gap_of is GapOf.batch
    if batches and model is None:
        raise UserError("--gap-of batch is of towers in training: name a recipe with --model")
    if model is not None:
        outcomes[Path(model).stem] = _tower_outcomes(
            model,
            data,
            overrides or [],
            device,
            pairs,
            inits,
            steps,
            seed,
            mismatched or (() if batches else (0.5, 1.0)),
            "batch" if batches else "pairs",
        )
    for kind in features or ([] if model else list(FeatureKind)):
        setting = StartSetting(
            kind=str(kind.value),
            pairs=pairs,
            dimension=dimension,
            temperature=temperature,
            gamma=gamma,
            rate=rate,
        )
        with waiting(f"{kind.value} features: {inits} inits of each start"), one_thread():
            outcomes[str(kind.value)] = start_outcomes(
                setting, inits=inits, steps=steps, seed=seed, shares=mismatched or SHARES
            )
    show(start_table(outcomes, f"Change of the gap over the first {steps} steps"), how)
    if out:
        write_page(out, render("The first steps of the modality gap", [start_section(outcomes)]))


def _tower_outcomes(
    model: str,
    data: str | None,
    overrides: list[str],
    device: str,
    pairs: int,
    inits: int,
    steps: int,
    seed: int,
    shares: Sequence[float],
    gap_of: Literal["pairs", "batch"],
) -> dict[str, StartOutcome]:
    from itertools import count

    from gaprun.cli.progress import JobProgress
    from gaprun.runtime.events import Event
    from gaprun.theory.towers import TowerLaboratory, recipe_for

    recipe = recipe_for(model, data, overrides, steps, pairs)
    kinds = (1 if gap_of == "batch" else 2) + sum(share != recipe.data.mismatched for share in shares)
    total, done = inits * kinds, count(1)
    with JobProgress() as progress:
        return TowerLaboratory(recipe, device).starts(
            inits=inits,
            steps=steps,
            seed=seed,
            shares=shares,
            of=gap_of,
            done=lambda: progress(Event(recipe.name, "inits", next(done), total)),
        )
