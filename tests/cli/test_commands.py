"""Of the command line only the command that is asked for is made."""

import pytest
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
