"""`gaprun theory`: the gradient-flow laboratory - the reduced flow, the first steps, a law for a recorded run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any
from zipfile import BadZipFile

import typer

from gaprun.cli import completion
from gaprun.cli.help import Commands
from gaprun.cli.laboratory import OutOption, RuleName, SeedOption, one_thread, write_page
from gaprun.cli.options import DbOption, now_called
from gaprun.cli.output import Format, FormatOption, JsonOption, chosen, nothing_with, show
from gaprun.cli.particles import particles
from gaprun.cli.progress import waiting
from gaprun.cli.starts import init

theory = Commands(
    no_args_is_help=True, help="Watch the modality gap form and freeze: simulations, rates, fits to runs."
)


def register(app: typer.Typer) -> None:
    """Add the `theory` group to `app`."""
    app.add_typer(theory, name="theory")


@theory.command(
    cls=now_called({"--margin": "--pair-margin"}), epilog="Example: gaprun theory flow --out theory.html"
)
def flow(
    rule: Annotated[
        RuleName, typer.Option(help="Temperature rule of the printed trajectory.")
    ] = RuleName.exp,
    k: Annotated[float, typer.Option(help="k of exp(nu/k).")] = 2.0,
    gamma: Annotated[float, typer.Option(help="gamma at the start, half of the gap; between 0 and 1.")] = 0.3,
    temperature: Annotated[
        float, typer.Option(help="Temperature at the start (schedule starts at 0.01).")
    ] = 0.07,
    schedule_end: Annotated[float, typer.Option(help="Temperature at a schedule's end.")] = 0.05,
    duration: Annotated[float, typer.Option(help="Length of a schedule in flow time.")] = 1e4,
    margin: Annotated[
        float,
        typer.Option("--pair-margin", help="Lead of right pairs over wrong ones; negative: mismatched."),
    ] = 1.0,
    pairs: Annotated[int, typer.Option(help="Number of image-text pairs.")] = 512,
    given: Annotated[
        Path | None,
        typer.Option("--given", metavar="FILE.npz", help="Arrays u and v, each (n, d), instead of a margin."),
    ] = None,
    horizon: Annotated[float, typer.Option(help="Last time, up to 1e300.")] = 1e300,
    points: Annotated[int, typer.Option(help="Records along the trajectory.")] = 800,
    rtol: Annotated[float, typer.Option(help="Relative tolerance of the solver.")] = 1e-11,
    threshold: Annotated[
        list[float] | None, typer.Option(help="A gamma whose crossing time is wanted (repeatable).")
    ] = None,
    seed: SeedOption = 0,
    format: FormatOption = Format.table,
    json: JsonOption = False,
    out: OutOption = None,
) -> None:
    """Integrate the paper's (gamma, nu) flow, measure its rates, and show them beside the published ones."""
    from gaprun.theory.rates import flow_rates, windows
    from gaprun.theory.study import FlowSetting
    from gaprun.theory.tables import flow_tables

    how = chosen(format, json)
    scheduled = rule is RuleName.schedule
    unused = {
        "--k": rule is not RuleName.scaled_exp and k != FlowSetting.k,
        "--schedule-end": not scheduled and schedule_end != FlowSetting.schedule_end,
        "--duration": not scheduled and duration != FlowSetting.duration,
        "--temperature": scheduled and temperature != FlowSetting.temperature,
    }
    if out is None:  # the page has every rule
        nothing_with(f"--rule {rule.value}", unused)
    if given is not None:
        held = {"--pair-margin": margin != FlowSetting.margin, "--pairs": pairs != FlowSetting.pairs}
        nothing_with("--given, whose arrays say it", held)
    setting = FlowSetting(
        gamma=gamma,
        temperature=temperature,
        k=k,
        schedule_end=schedule_end,
        duration=duration,
        margin=margin,
        pairs=pairs,
        horizon=horizon,
        points=points,
        rtol=rtol,
    )
    landscape = _given_features(given) if given else None
    found = setting.run(rule.value, landscape, thresholds=threshold or ())
    rates = flow_rates(found)
    document = {
        "rule": found.rule.name,
        "trajectory": found.rows(),
        "rates": {name: rate.row() for name, rate in rates.items()},
        "windows": [rate.row() for rate in windows(found)],
        "error": {"value": found.error, "measured_by": found.error_kind},
        "crossings": [{"gamma": level, "t": t} for level, t in found.crossings.items()],
        "stopped": found.stopped,
    }
    show(flow_tables(found), how, document)
    if out:
        from gaprun.theory.page import study_page
        from gaprun.theory.study import run_study

        with (
            waiting("every rule, the particles and the first steps: half a minute or less"),
            one_thread(),
        ):
            page = study_page(run_study(setting, landscape=landscape, seed=seed))
        write_page(out, page)


@theory.command(epilog="Example: gaprun theory overlay baseline-s0 --out overlay.html")
def overlay(
    run: Annotated[
        str, typer.Argument(help="A run's id, or the beginning of it.", autocompletion=completion.runs)
    ],
    db: DbOption = None,
    format: FormatOption = Format.table,
    json: JsonOption = False,
    out: OutOption = None,
) -> None:
    """Which law does a recorded run's gap follow: 1/log(t)^2, 1/(t log t), a power, an exponential, or undecided?"""
    from gaprun.store import open_store
    from gaprun.theory.overlay import overlay_run
    from gaprun.theory.tables import laws_table

    how = chosen(format, json)

    store = open_store(db, create=False)
    found = overlay_run(store, run)
    verdict = found.verdict
    if not store.place.read_only:
        store.annotate(found.run, {"gap_law": found.row()})
    show(laws_table(found), how, found.row())
    if out:
        from markupsafe import Markup

        from gaprun.theory import figures
        from gaprun.theory.page import PageSection, render

        title = f"The gap of {found.run} and the laws of the theory"
        words = (Markup("Verdict: <b>{}</b>. {}.").format(verdict.law, verdict.reason),)
        section = PageSection(
            "Recorded path and fits", words, (figures.overlay(found.step, found.gap, verdict, found.run),)
        )
        write_page(out, render(title, [section]))


def _given_features(path: Path) -> Any:
    import numpy as np

    from gaprun.errors import UserError
    from gaprun.theory.reduced import GivenFeatures

    try:
        with np.load(path, allow_pickle=False) as arrays:
            return GivenFeatures(arrays["u"], arrays["v"])
    except OSError as error:
        raise UserError(f"--given {path} cannot be read: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError, AttributeError, EOFError, BadZipFile):
        raise UserError(
            f"--given {path}: expected an .npz of numbers with arrays u and v, as numpy.savez writes it"
        ) from None


theory.command(
    epilog="Example: gaprun theory init --model recipes/base/scenes.yaml --data scenes/train --inits 10"
)(init)
theory.command(epilog="Example: gaprun theory particles --swap hard --steps 300 --out particles.html")(
    particles
)
