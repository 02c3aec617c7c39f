"""A trained pair of recipes with everything on disk, and a report made from it."""

import pytest

from gaprun.store import open_store
from tests.conftest import RECIPES, run_gaprun
from tests.paper.conftest import build


@pytest.fixture(scope="session")
def trained(tmp_path_factory, scenes):
    """The folder of a database with the baseline and two fixed temperatures, trained for a few steps."""
    folder = tmp_path_factory.mktemp("trained")
    env = {"GAPRUN_DATA": str(scenes), "GAPRUN_DB": str(folder / "results.db")}
    sweep = folder / "few.yaml"
    sweep.write_text(
        f"recipes:\n  - {RECIPES / 'baseline.yaml'}\n"
        f"  - {{recipe: {RECIPES / 'flt.yaml'}, set: {{grid: {{temperature.tau: [0.04, 0.1]}}}}}}\n"
        f"base: {RECIPES / 'base' / 'scenes.yaml'}\nseeds: [0]\n"
    )
    small = ("schedule.steps=24", "schedule.warmup_steps=2", "schedule.batch_size=32")
    sets = [word for pair in small for word in ("--set", pair)]
    done = run_gaprun("train", str(sweep), *sets, cwd=folder, env=env)
    assert done.returncode == 0, done.stderr
    return folder, env


@pytest.fixture
def bare(tmp_path):
    """A database whose runs have numbers and paths but no files."""
    path = tmp_path / "bare.db"
    build(open_store(str(path)), "support", 3)
    return path
