"""`gaprun doctor`: whether everything that gaprun needs is here, and what to do where it is not."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from gaprun.cli.common import DbOption, console, print_json

EXAMPLE = """Check device, decoder, data, database, disk and versions, and say what to do.

Exit code 1 when anything fails; warnings leave it 0.

Example:

  gaprun doctor --db postgresql://db/clip
"""
COLOURS = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("doctor", help=EXAMPLE)(doctor)


def doctor(
    db: DbOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Check this machine; see the help text above."""
    from rich.markup import escape

    from gaprun.doctor import examine

    findings = []
    for finding in examine(db):
        findings.append(finding)
        if not as_json:
            colour = COLOURS[finding.state]
            advice = f" [dim]-> {escape(finding.advice)}[/]" if finding.advice else ""
            line = (
                f"[{colour}]{finding.state:<4}[/] {escape(finding.check):<16} {escape(finding.said)}{advice}"
            )
            console.print(line, highlight=False, soft_wrap=True)
    failed = sum(finding.state == "fail" for finding in findings)
    if as_json:
        print_json([asdict(finding) for finding in findings])
    elif failed:
        console.print(f"{failed} of {len(findings)} checks failed", highlight=False)
    if failed:
        raise typer.Exit(1)
