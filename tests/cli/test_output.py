"""Every command that prints a table takes `--format` and its short form `--json`, declared once."""

import inspect
import io
import json
from collections.abc import Iterator
from typing import Any, get_type_hints

import pytest
import typer

from gaprun.cli import output
from gaprun.cli.main import app
from gaprun.comparison.margins import margins_of
from gaprun.errors import UserError
from gaprun.tables import Table

# What prints no table: it acts, and says in a line or two what it did.
NO_TABLE = {"db upgrade", "init", "runs note", "runs rm", "runs tag", "watch"}
TABLE = Table.of("t", ("a", "b"), [("1", "2")], [{"a": 1.25, "b": [0.5, 1.5]}], "Title", ["Said."])


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Every command by its words."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


COMMANDS = dict(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - NO_TABLE))
def test_a_command_takes_the_shared_options(name: str) -> None:
    hints = get_type_hints(inspect.unwrap(COMMANDS[name].callback), include_extras=True)
    assert hints["json"] == output.JsonOption
    assert hints["format"] == output.FormatOption


def test_exceptions_are_commands() -> None:
    assert NO_TABLE <= COMMANDS.keys()
    for name in NO_TABLE:
        assert not {"json", "format"} & {option.name for option in COMMANDS[name].params}


@pytest.mark.parametrize(
    ("format", "said"),
    [
        ("table", "Title\na  b\n1  2\nSaid.\n"),
        ("markdown", "**Title**\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\nSaid.  \n"),
    ],
)
def test_one_printer(
    format: str, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from rich.console import Console

    written = io.StringIO()
    monkeypatch.setattr(output, "console", Console(file=written, width=80))
    output.show(TABLE, output.Format(format))
    assert written.getvalue() + capsys.readouterr().out == said


def test_csv_and_json_print_records_or_the_document(capsys: pytest.CaptureFixture[str]) -> None:
    other = Table.of("other", ("x",), [("y",)])
    output.show([other, TABLE], output.Format.csv, main=TABLE)
    assert capsys.readouterr().out == "a,b\n1.25,0.5 1.5\n"
    output.show(TABLE, output.Format.json)
    assert json.loads(capsys.readouterr().out) == [{"a": 1.25, "b": [0.5, 1.5]}]
    output.show(TABLE, output.Format.json, {"whole": float("nan")})
    assert json.loads(capsys.readouterr().out) == {"whole": None}


def test_mistakes() -> None:
    assert output.chosen(output.Format.table, True) is output.Format.json
    with pytest.raises(UserError, match="leave out --format csv"):
        output.chosen(output.Format.csv, True)
    with pytest.raises(UserError, match="--label goes with --format latex"):
        output.check_paper_options(output.Format.csv, None, "x", False)
    with pytest.raises(UserError, match="--siunitx goes with --format latex"):
        output.check_paper_options(output.Format.table, None, None, True)
    assert output.named(["a=1=one", "a=b"], ["a", "a=1"]) == {"a=1": "one", "a": "b"}
    with pytest.raises(UserError, match="NAME being one of a, b$"):
        output.named(["c=d"], ["a", "b", "a"])
    with pytest.raises(UserError, match="^--margin gap=-1: expected a number above 0"):
        margins_of({"gap": -1.0}, ["gap"])
