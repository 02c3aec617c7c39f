"""`gaprun compare`: which recipe is better, by how much and how surely, from what the database holds."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Annotated, Any

import typer

from gaprun.cli import completion
from gaprun.cli.common import DbOption, console, print_json
from gaprun.errors import UserError


class FamilyName(StrEnum):
    """What `--family` takes."""

    metric = "metric"
    table = "table"
    none = "none"


class Format(StrEnum):
    """What `--format` takes."""

    table = "table"
    markdown = "markdown"
    latex = "latex"
    csv = "csv"
    json = "json"


def register(app: typer.Typer) -> None:
    """Add `compare` to `app`."""
    app.command(epilog="Example: gaprun compare --metric gap --metric recall@5 --db results.db.example")(
        compare
    )


def compare(
    metric: Annotated[
        list[str] | None,
        typer.Option(
            help="What to compare (repeatable); recall@5 is image_recall@5 and text_recall@5.",
            autocompletion=completion.metrics,
        ),
    ] = None,
    by: Annotated[
        str, typer.Option(help="Rows: recipe, seed, or a recipe's key such as optimizer.lr.")
    ] = "recipe",
    where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE", help="Only such results: recipe, seed, dataset, any recipe key; also !=."
        ),
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(metavar="NAME", help="Row to compare with.", show_default="baseline")
    ] = None,
    dataset: Annotated[
        list[str] | None, typer.Option(help="Only this data set, or exactly this dataset/split (repeatable).")
    ] = None,
    protocol: Annotated[list[str] | None, typer.Option(help="Only this protocol, e.g. full.")] = None,
    format: Annotated[Format, typer.Option(help="How to print it.")] = Format.table,
    json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    sort: Annotated[
        str | None,
        typer.Option(
            metavar="METRIC", help="Order rows by this metric, best first.", autocompletion=completion.metrics
        ),
    ] = None,
    top: Annotated[
        int | None, typer.Option(min=1, help="Show only the first so many rows; no number depends on it.")
    ] = None,
    family: Annotated[
        FamilyName,
        typer.Option(help="Correct p-values within each metric, over the whole table, or not at all."),
    ] = FamilyName.metric,
    brief: Annotated[bool, typer.Option("--brief", help="Without intervals and differences.")] = False,
    all_statuses: Annotated[
        bool, typer.Option("--all-statuses", help="Also runs that are not finished.")
    ] = False,
    margin: Annotated[
        float | None,
        typer.Option(
            help="Also test whether a difference so large, in the metric's units, is ruled out (≈)."
        ),
    ] = None,
    allow_mixed: Annotated[
        bool,
        typer.Option(
            "--allow-mixed", help="Average also what differs in data, size or set-up; the output says so."
        ),
    ] = False,
    queries: Annotated[
        bool,
        typer.Option("--queries", help="Also paired tests over queries, where per-query results were kept."),
    ] = False,
    correlate: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METRIC", help="Instead: correlations with this metric over the rows, e.g. gap."
        ),
    ] = None,
    pareto: Annotated[
        bool, typer.Option("--pareto", help="Instead: which rows no other row beats in all metrics at once.")
    ] = False,
    health: Annotated[
        bool | None,
        typer.Option(
            "--health/--no-health", help="Mark rows with flagged runs.", show_default="up to 200 runs"
        ),
    ] = None,
    db: DbOption = None,
) -> None:
    """Compare runs: mean and spread over seeds, n, 95 % interval, difference from the baseline."""
    from gaprun.comparison import compare as comparison_of
    from gaprun.comparison import render
    from gaprun.evaluation.catalogue import expand_metric

    if correlate and pareto:
        raise UserError("--correlate and --pareto are two views: ask for one at a time")
    if margin is not None and not 0 < margin < math.inf:
        raise UserError(f"--margin {margin:g}: a difference above 0, in the metric's units")
    predictors = [name for given in correlate or [] for name in expand_metric(given)]
    if correlate:
        metric = [*predictors, *(metric or ("recall@1", "zeroshot_top1", "probe_top1"))]
    elif pareto:
        metric = metric or ["gap", "recall@1"]
    found = comparison_of(
        metric or [],
        db=db,
        by=by,
        where=where or [],
        baseline=baseline,
        dataset=dataset or [],
        protocol=protocol or [],
        sort=sort,
        top=None if correlate or pareto else top,
        all_statuses=all_statuses,
        allow_mixed=allow_mixed,
        queries=queries,
        health=False if correlate or pareto else health,
        family=family.value,
        margin=margin,
    )
    if correlate or pareto:
        from gaprun.comparison import plain, views

        view = views.correlations(found, predictors, top) if correlate else views.pareto(found, top)
        _print(view, format, json, plain)
        return
    if json or format is Format.json:
        print_json(found.records())
    elif format is Format.table:
        console.print(render.table(found, console.width, brief))
    elif format is Format.csv:
        print(render.comma_separated(found))
    else:
        print((render.markdown if format is Format.markdown else render.latex)(found, brief))


def _print(view: Any, format: Format, json: bool, plain: Any) -> None:
    if json or format is Format.json:
        print_json(list(view.records))
    elif format is Format.table:
        console.print(plain.table(view))
    else:
        printers = {"markdown": plain.markdown, "latex": plain.latex, "csv": plain.comma_separated}
        print(printers[format.value](view))
