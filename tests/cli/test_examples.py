"""Every command line in a --help or a page is one that its command takes; a help's on results.db.example are run."""

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from gaprun.cli.main import app
from tests.conftest import REPO

EXAMPLE = "results.db.example"
# Footnotes of compare's table on it, as they are to be typed.
FOOTNOTES = [f"gaprun compare --metric gap --db {EXAMPLE} {more}" for more in ("--protocol full", "--wide")]


def helped(command: Any) -> Iterator[str]:
    """The examples of a command and of those below it."""
    for name in command.list_commands(None) if hasattr(command, "list_commands") else ():
        yield from helped(command.get_command(None, name))
    for text in (command.epilog or "", command.help or ""):
        for line in text.replace("\b", "").splitlines():
            if found := re.match(r"\s*(?:Example: )?(gaprun [^;]+)", line):
                yield found[1].strip()


def documented() -> Iterator[str]:
    """The command lines in code blocks of README and docs."""
    for page in (REPO / "README.md", *sorted((REPO / "docs").glob("*.md"))):
        blocks = re.findall(
            r"^```(?:sh|bash|console)?\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE
        )
        for line in re.sub(r"\\\n\s*", " ", "\n".join(blocks)).splitlines():
            if found := re.match(r"(?:\$ )?(gaprun [^#]*)", line):
                yield found[1].strip()


ROOT = typer.main.get_command(app)
EXAMPLES = sorted(set(helped(ROOT)))


def test_every_command_has_an_example() -> None:
    def leaves(command: Any, words: str) -> Iterator[str]:
        if not hasattr(command, "list_commands"):
            yield words
            return
        for name in command.list_commands(None):
            yield from leaves(command.get_command(None, name), f"{words} {name}")

    without = [words for words in leaves(ROOT, "gaprun") if not any(e.startswith(words) for e in EXAMPLES)]
    assert without == []


@pytest.mark.parametrize("example", sorted({*EXAMPLES, *documented()}))
def test_it_is_taken_and_names_recipes_that_there_are(example: str) -> None:
    command: Any = ROOT
    words = shlex.split(example)[1:]
    while hasattr(command, "list_commands"):
        command = command.get_command(None, words.pop(0))
        assert command is not None, example
    command.make_context(example, words)
    for word in words:
        file = word.partition("=")[2] or word
        assert not re.fullmatch(r"recipes/.+\.yaml", file) or (REPO / file).is_file()


@pytest.mark.parametrize(
    "example",
    # A report is long work, and `watch` goes on until it is stopped: both have tests of their own.
    [*FOOTNOTES, *(e for e in EXAMPLES if EXAMPLE in e and not re.match(r"gaprun (report|watch) ", e))],
)
def test_those_on_the_example_run(example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copyfile(REPO / EXAMPLE, tmp_path / EXAMPLE)
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, shlex.split(example)[1:], catch_exceptions=False)
    assert done.exit_code == 0 and len(done.stdout.splitlines()) > 3, done.output
