"""`gaprun compare`: which recipe is better, by how much and how surely, from what the database holds."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from gaprun.cli import completion
from gaprun.cli.common import console, err_console, print_json
from gaprun.cli.options import AtOption, DbOption, MarginOption, TopOption, WhereOption
from gaprun.cli.output import (
    CaptionOption,
    DigitsOption,
    Format,
    FormatOption,
    JsonOption,
    LabelOption,
    NamesOption,
    SiunitxOption,
    check_paper_options,
    chosen,
    named,
    nothing_with,
    say,
    show,
)
from gaprun.comparison import uncollected
from gaprun.errors import UserError


class FamilyName(StrEnum):
    """What `--family` takes."""

    metric = "metric"
    table = "table"
    none = "none"


def register(app: typer.Typer) -> None:
    """Add `compare` to `app`."""
    app.command(epilog="Example: gaprun compare --metric gap --metric recall@5 --db results.db.example")(
        uncollected()(compare)
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
    where: WhereOption = None,
    at: AtOption = None,
    baseline: Annotated[
        str | None, typer.Option(metavar="NAME", help="Row to compare with.", show_default="baseline")
    ] = None,
    dataset: Annotated[
        list[str] | None, typer.Option(help="Only this data set, or exactly this dataset/split (repeatable).")
    ] = None,
    protocol: Annotated[list[str] | None, typer.Option(help="Only this protocol, e.g. full.")] = None,
    format: FormatOption = Format.table,
    json: JsonOption = False,
    wide: Annotated[
        bool, typer.Option("--wide", help="All protocols; means, intervals and tests, not differences alone.")
    ] = False,
    sort: Annotated[
        str | None,
        typer.Option(
            metavar="METRIC", help="Order rows by this metric, best first.", autocompletion=completion.metrics
        ),
    ] = None,
    top: TopOption = None,
    family: Annotated[
        FamilyName,
        typer.Option(help="Correct p-values within each metric, over the whole table, or not at all."),
    ] = FamilyName.metric,
    brief: Annotated[bool, typer.Option("--brief", help="Means alone, of all protocols.")] = False,
    all_statuses: Annotated[
        bool, typer.Option("--all-statuses", help="Also runs that are not finished.")
    ] = False,
    margin: MarginOption = None,
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
    summary: Annotated[
        bool,
        typer.Option(
            "--summary",
            help="Instead: which row closes the gap most, what that buys, how sure; in sentences.",
        ),
    ] = False,
    aggregate: Annotated[
        bool,
        typer.Option(
            "--aggregate",
            help="Instead: all metrics as one number a row: interquartile mean, chance to be better, profile.",
        ),
    ] = False,
    health: Annotated[
        bool | None,
        typer.Option(
            "--health/--no-health", help="Mark rows with flagged runs.", show_default="up to 200 runs"
        ),
    ] = None,
    caption: CaptionOption = None,
    label: LabelOption = None,
    siunitx: SiunitxOption = False,
    digits: DigitsOption = None,
    names: NamesOption = None,
    db: DbOption = None,
) -> None:
    """Compare runs: the difference from the baseline with its 95 % interval, over seeds; --wide for all that is known.

    Every metric stands in one protocol unless --protocol or --wide says otherwise. csv and json hold everything.
    """
    from gaprun.comparison import compare as comparison_of
    from gaprun.comparison import legend, shown
    from gaprun.comparison.margins import read_margins
    from gaprun.evaluation.catalogue import expand_metric

    how = chosen(format, json)
    check_paper_options(how, caption, label, siunitx)
    if wide and brief:
        raise UserError("--wide shows more and --brief less: ask for one at a time")
    views_asked = [
        name
        for name, on in (
            ("--correlate", correlate),
            ("--pareto", pareto),
            ("--summary", summary),
            ("--aggregate", aggregate),
        )
        if on
    ]
    if len(views_asked) > 1:
        raise UserError(f"{' and '.join(views_asked)} are views of their own: ask for one at a time")
    others: dict[str, object] = {"--wide": wide, "--brief": brief, "--queries": queries, "--health": health}
    looks: dict[str, object] = {"--digits": digits is not None, "--names": names}
    tests: dict[str, object] = {"--margin": margin, "--family": family is not FamilyName.metric}
    if views_asked:
        nothing_with(views_asked[0], others | looks | {"--sort": sort} | ({} if summary else tests))
    elif how in (Format.json, Format.csv):
        nothing_with(f"--format {how.value}, which holds names and numbers as they are", looks)
    predictors = [name for given in correlate or [] for name in expand_metric(given)]
    if correlate:
        metric = [*predictors, *(metric or ("recall@1", "zeroshot_top1", "probe_top1"))]
    elif pareto:
        metric = metric or ["gap", "recall@1"]
    elif aggregate:
        metric = metric or ["recall@5", "zeroshot_top1", "probe_top1"]
    elif summary:
        metric = ["gap", *(metric or ("recall@5", "zeroshot_top1", "probe_top1"))]
    found = comparison_of(
        metric or [],
        db=db,
        by=by,
        where=where or [],
        baseline=baseline,
        dataset=dataset or [],
        protocol=protocol or [],
        sort=sort,
        top=None if correlate or pareto or aggregate else top,
        all_statuses=all_statuses,
        allow_mixed=allow_mixed,
        queries=queries,
        health=False if views_asked else health,
        family=family.value,
        margin=read_margins(margin or []),
        at=at,
    )
    if correlate or pareto or aggregate:
        from dataclasses import replace

        from gaprun.comparison import overall, views
        from gaprun.comparison.lanes import each_setup
        from gaprun.comparison.values import Comparison
        from gaprun.tables import Table

        def view(part: Comparison) -> Table:
            if correlate:
                return views.correlations(part, predictors, top)
            return views.pareto(part, top) if pareto else overall.aggregated(part, top)

        tables = each_setup(found, view)
        every = replace(tables[0], records=tuple(record for table in tables for record in table.records))
        document = None if len(tables) == 1 else list(every.records)
        show(tables, how, document, every, caption=caption, label=label, siunitx=siunitx)
        return
    if summary:
        from gaprun.comparison.answer import sentences

        say([*sentences(found), *(legend.sentences(found.notes) if at else [])], how)
        return
    shorts = {found.names[group].short for group in found.groups}
    look = shown.Look(
        digits, named(names, [*found.groups, *shorts, *(column.metric for column in found.columns)])
    )
    if how in (Format.json, Format.csv):
        for note in legend.sentences(found.notes):  # records have no place for them
            err_console.print(note, markup=False, highlight=False, soft_wrap=True)
        if how is Format.json:
            print_json(found.each_record())
            return
        table = shown.bare(found)
    elif wide or brief or queries:
        table = shown.whole(found, brief, look)
    elif how is Format.table:
        table = shown.fitting(found, console.width, look, every=bool(protocol))
    elif how is Format.latex:
        table = shown.on_paper(found, look, every=bool(protocol))
    else:
        table = shown.differences(found, "p", look, every=bool(protocol))
    show(table, how, caption=caption, label=label, siunitx=siunitx)
