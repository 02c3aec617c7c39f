"""How commands print tables: one declaration of `--format`, `--json` and the options of tables for papers, one printer.

`table` is for reading and as wide as the terminal; `csv` and `json` carry the records behind it, numbers unrounded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer

from gaprun.cli.common import console, print_json
from gaprun.errors import UserError
from gaprun.tables import Table


class Format(StrEnum):
    """What `--format` takes."""

    table = "table"
    markdown = "markdown"
    latex = "latex"
    csv = "csv"
    json = "json"


FormatOption = Annotated[
    Format,
    typer.Option(
        "--format",
        metavar="FORMAT",
        help=f"How to print it: {', '.join(list(Format)[:-1])} or {Format.json}.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="The same as --format json.")]
CaptionOption = Annotated[
    str | None, typer.Option(help="latex: the table's caption instead of its legend, as LaTeX.")
]
LabelOption = Annotated[str | None, typer.Option(help="latex: the table's label.", show_default="tab:...")]
DigitsOption = Annotated[
    int | None, typer.Option(min=0, max=12, help="Decimals of all numbers; default: each metric's own.")
]
SiunitxOption = Annotated[
    bool, typer.Option("--siunitx", help="latex: numbers as siunitx's \\num, for the document's own format.")
]
NamesOption = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=TEXT", help="Call a row or a metric so in the table (repeatable)."),
]


def chosen(format: Format, json: bool) -> Format:
    """The format asked for. Raises UserError for two at once."""
    if json and format not in (Format.table, Format.json):
        raise UserError(f"--json is --format json: leave out --format {format.value}, or --json")
    return Format.json if json else format


def check_paper_options(format: Format, caption: str | None, label: str | None, siunitx: bool) -> None:
    """Raise UserError for what only LaTeX has, in another format."""
    for name, value in (("--caption", caption), ("--label", label), ("--siunitx", siunitx or None)):
        if value is not None and format is not Format.latex:
            raise UserError(f"{name} goes with --format latex")


def nothing_with(what: str, options: Mapping[str, object]) -> None:
    """Raise UserError for options that were given (whose value is true) and do nothing with `what`."""
    if given := [option for option, value in options.items() if value]:
        verb = "does" if len(given) == 1 else "do"
        raise UserError(f"{' and '.join(given)} {verb} nothing with {what}: leave one of them out")


def named(names: Sequence[str] | None, known: Iterable[str]) -> dict[str, str]:
    """`--names flt=fixed` as a mapping; `known` are the names in the table, which may hold `=` themselves.

    Raises UserError for one that names nothing there.
    """
    longest = sorted(known, key=len, reverse=True)
    found = {}
    for text in names or ():
        name = next((name for name in longest if text.startswith(f"{name}=")), None)
        if name is None:
            raise UserError(
                f"--names {text}: expected NAME=TEXT, NAME being one of {', '.join(sorted({*longest}))}"
            )
        if name in found:
            raise UserError(f"--names {text}: {name} has another name already")
        found[name] = text.removeprefix(f"{name}=")
    return found


def show(
    tables: Table | Sequence[Table],
    format: Format,
    document: Any = None,
    main: Table | None = None,
    caption: str | None = None,
    label: str | None = None,
    siunitx: bool = False,
) -> None:
    """Print on stdout.

    document: what JSON prints where that is more than the records. CSV prints the records of `main`, by default the
    first table, whichever others stand beside it.
    """
    found = [tables] if isinstance(tables, Table) else list(tables)
    main = found[0] if main is None else main
    if format is Format.json:
        print_json(list(main.records) if document is None else document)
    elif format is Format.csv:
        from gaprun.tables import csv

        print(csv.render(main))
    elif format is Format.table:
        from gaprun.tables import terminal

        for number, table in enumerate(found):
            if number:
                console.print()
            terminal.show(console, table)
    elif format is Format.markdown:
        from gaprun.tables import markdown

        print("\n\n".join(map(markdown.render, found)))
    else:
        from gaprun.tables import latex

        print(latex.every(found, caption, label, siunitx))


def say(sentences: Sequence[str], format: Format) -> None:
    """Print sentences, a paragraph each; JSON is their list. Raises UserError for another format, and for none."""
    if format not in (Format.table, Format.json):
        raise UserError(f"sentences have no --format {format.value}: leave it out, or take json")
    if format is Format.json:
        print_json(list(sentences))
        return
    if not sentences:
        raise UserError(
            "no row's gap has a baseline beside it: run the baseline too, or name one of the rows with --baseline NAME"
        )
    from gaprun.tables.terminal import wrapped

    for text in sentences:
        print("\n".join(wrapped(text, console.width)))
