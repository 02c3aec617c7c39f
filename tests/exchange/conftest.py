"""The published example database, a copy of it per test, and a few of its runs."""

import shutil

import pytest

from gaprun.store import open_store
from tests.conftest import REPO


@pytest.fixture
def example(tmp_path):
    """A store of 21 runs with metrics and trajectories."""
    shutil.copy(REPO / "results.db.example", tmp_path / "example.db")
    return open_store(str(tmp_path / "example.db"))


@pytest.fixture
def some(example):
    """The ids of three runs of different recipes."""
    by_recipe = {run.recipe: run.id for run in example.runs()}
    return sorted(by_recipe.values())[:3]
