"""What every command reads loads without torch, numpy, scipy, pandas or plotly, and so does a comparison."""

import subprocess
import sys

import pytest

from tests.conftest import REPO

HEAVY = ("torch", "scipy", "pandas", "plotly", "sklearn", "numpy")


READ = [
    "import gaprun.cli.paper, gaprun.cli.report, gaprun.paper.tables",
    "from gaprun.evaluation.catalogue import declared; declared()",
    "from gaprun.comparison import compare; compare('gap', where=['recipe=baseline'], db='results.db.example')",
]


@pytest.mark.parametrize("code", READ)
def test_nothing_heavy_is_loaded(code):
    code = f"import sys; {code}; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
