"""The docs build as a site, with every link and anchor right and every page in the menu."""

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import REPO


def test_the_site_builds_without_a_broken_link(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=REPO, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "site" / "api" / "index.html").read_text(encoding="utf-8")
    for verb in (
        "recipe.load_recipe",
        "api.train",
        "api.evaluate",
        "comparison.compare",
    ):  # from the docstrings
        assert f'id="gaprun.{verb}"' in page
    for given in ("comparison.values.Comparison.frame", "jobs.measure.Measurement"):
        assert f'id="gaprun.{given}"' in page
    assert not [one for one in (tmp_path / "site").rglob("*.html") if "fonts.googleapis" in one.read_text()]
