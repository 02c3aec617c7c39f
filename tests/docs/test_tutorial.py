"""docs/tutorial.md: its cells run in order in an empty folder, and show what the page says."""

import ast
import contextlib
import doctest
import io
import os
import re
import sys
from pathlib import Path

import pytest

from tests.conftest import RECIPES, REPO

PAGE = REPO / "docs" / "tutorial.md"


def cells() -> list[tuple[str, str | None]]:
    """Code cells, each with the output that the page states right after it, if it does."""
    found = re.findall(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```\n)?", PAGE.read_text(), re.DOTALL)
    return [(code, shown or None) for code, shown in found]


def run(code: str, names: dict) -> str:
    """Run a cell as a notebook does: what it prints, and the value of a last expression."""
    body = ast.parse(code).body
    last = body.pop() if isinstance(body[-1], ast.Expr) else None
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(ast.Module(body, []), str(PAGE), "exec"), names)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), str(PAGE), "eval"), names)
            if value is not None:
                print(repr(value))
    return out.getvalue()


@pytest.mark.slow
def test_cells_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GAPRUN_RECIPES", str(RECIPES))
    for name in ("GAPRUN_DB", "GAPRUN_DATA", "GAPRUN_RUNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    names: dict = {"__name__": "tutorial"}
    pairs = cells()
    assert len(pairs) >= 8 and sum(shown is not None for _, shown in pairs) == len(pairs)
    checker = doctest.OutputChecker()
    for code, shown in pairs:
        given = run(code, names)
        same = checker.check_output(shown, given, doctest.ELLIPSIS)
        assert same, f"{code}\nshows\n{given}\nnot\n{shown}"
