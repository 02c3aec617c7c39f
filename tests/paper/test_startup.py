"""The commands' modules, and the published tables, load without torch, scipy, pandas or plotly."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "scipy", "pandas", "plotly", "sklearn", "numpy")


@pytest.mark.parametrize("module", ["gaprun.cli.paper", "gaprun.cli.report", "gaprun.paper.tables"])
def test_nothing_heavy_is_loaded(module):
    code = f"import sys, {module}; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
