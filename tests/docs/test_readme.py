"""What the README shows is what its commands print."""

import re
import shlex

from rich.console import Console
from typer.testing import CliRunner

from gaprun.cli import compare as command
from gaprun.cli import output
from gaprun.cli.main import app
from tests.conftest import REPO


def test_the_output_shown_is_real(monkeypatch):
    monkeypatch.chdir(REPO)
    shown = re.findall(
        r"```console\n\$ gaprun ([^\n]+)\n(.*?)```", (REPO / "README.md").read_text(), re.DOTALL
    )
    assert shown
    for words, text in shown:
        for module in (command, output):
            monkeypatch.setattr(module, "console", Console(width=80))
        done = CliRunner().invoke(app, shlex.split(words), catch_exceptions=False)
        assert done.stdout == text
