"""Of the command line only the command that is asked for is made."""

import pytest
import typer
from rich.markup import render
from typer.testing import CliRunner

from gaprun.cli import main
from gaprun.cli.main import COMMANDS, application, asked


@pytest.mark.parametrize(
    ("words", "made"),
    [
        (["compare", "--metric", "gap"], ("compare",)),
        (["--debug", "runs", "list"], ("runs",)),
        (["runs", "compare"], ("runs",)),
        (["--help"], COMMANDS),
        (["--version"], COMMANDS),
        (["compar"], COMMANDS),
        ([], COMMANDS),
    ],
)
def test_the_command_that_words_ask_for(words, made):
    assert asked(words) == made


def test_completion_knows_every_command(monkeypatch):
    monkeypatch.setenv("_GAPRUN_COMPLETE", "complete_bash")
    assert asked(["compare"]) == COMMANDS


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_alone_is_the_command_among_all(name):
    alone, among = (CliRunner().invoke(app, [name, "--help"]) for app in (application((name,)), main.app))
    assert alone.exit_code == among.exit_code == 0
    assert alone.output == among.output and alone.output.strip()


def every_command():
    """Each command with the words that ask for it, groups too."""

    def below(command, words):
        yield words, command
        for name, one in getattr(command, "commands", {}).items():
            yield from below(one, [*words, name])

    yield from below(typer.main.get_command(main.app), [])


def test_help_shows_no_type_where_no_value_is_taken_and_loses_no_word():
    """`--debug <bool>` reads as if it took a value; `[figures]` is a style to rich and vanishes."""
    for words, command in every_command():
        shown = CliRunner().invoke(main.app, [*words, "--help"], env={"COLUMNS": "200"}).output
        assert "<bool>" not in shown and "BOOLEAN" not in shown, words
        for text in filter(None, [command.help, *(getattr(p, "help", None) for p in command.params)]):
            assert render(text).plain == text, (words, text)


def test_the_paragraphs_of_help_flow():
    shown = CliRunner().invoke(main.app, ["submit", "--help"], env={"COLUMNS": "80"}).output
    lines = [line.strip() for line in shown.splitlines()]
    start = next(place for place, line in enumerate(lines) if line.startswith("SLURM: one array job"))
    paragraph = lines[start : lines.index("", start)]
    assert len(paragraph) == 4 and all(len(line) > 60 for line in paragraph[:-1])
