"""What the README shows is what its commands print."""

import re
import shlex
from unittest import mock

from rich.console import Console
from typer.testing import CliRunner

from gaprun.cli import compare as command
from gaprun.cli import output
from gaprun.cli.main import app
from tests.conftest import REPO

SHOWN = re.compile(r"```console\n\$ gaprun ([^\n]+)\n(.*?)```", re.DOTALL)


def printed(words: str) -> str:
    """What a command prints on a terminal of 80 columns, in the repository's folder."""
    narrow = Console(width=80)
    with mock.patch.object(command, "console", narrow), mock.patch.object(output, "console", narrow):
        return CliRunner().invoke(app, shlex.split(words), catch_exceptions=False).stdout


def test_the_output_shown_is_real(monkeypatch):
    monkeypatch.chdir(REPO)
    shown = SHOWN.findall((REPO / "README.md").read_text())
    assert shown
    for words, text in shown:
        assert printed(words) == text


def test_what_is_renewed_is_what_stands_there(monkeypatch):
    from tests.docs import renew
    from tests.docs.test_findings import sections

    monkeypatch.chdir(REPO)
    text = (REPO / "README.md").read_text()
    assert renew.renewed_readme(text.replace("closes", "opens", 1)) == text
    title = "Real photos: the seven methods"
    section = sections()[title]
    assert renew.renewed_section(title, section.replace("| 3 | 0.4", "| 2 | 0.5", 1)) == section
