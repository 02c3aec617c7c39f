"""A plugin's code is part of what a run is and of how a value was measured."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import RECIPES, TINY, run_gaprun

OWN = '''
from typing import ClassVar, Literal

from gaprun.evaluation.task import TASKS, Measured, Task
from gaprun.metrics import UP, Metric
from gaprun.model.terms import TERMS, Term


@TERMS.register
class Pull(Term):
    """Squared distance of pairs."""

    name: Literal["pull"] = "pull"

    def addend(self, x, y, rows, beta, parameters, step):
        return 1.0 * ((x[rows] - y[rows]) ** 2).sum() / len(x)


@TASKS.register
class Spread(Task):
    """A number."""

    task: Literal["spread"] = "spread"
    metrics: ClassVar[tuple[Metric, ...]] = (Metric("spread", UP, "a number"),)

    def measure(self, embedder, split, protocol):
        return Measured({"spread": 1.0}, split.samples, 4)
'''
WITH_TERM = "loss={terms: [{name: pull}]}"


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    (tmp_path / "own.py").write_text(OWN)
    return tmp_path / "own.py"


def planned(plugin: Path, *sets: str) -> str:
    """The id of the run that a recipe with `sets` would be."""
    words = [word for one in sets for word in ("--set", one)]
    recipe = str(RECIPES / "baseline.yaml")
    done = run_gaprun(
        "train",
        recipe,
        *TINY,
        *words,
        "--dry-run",
        "--json",
        cwd=plugin.parent,
        env={"GAPRUN_PLUGINS": str(plugin)},
    )
    assert done.returncode == 0, done.stderr
    return str(json.loads(done.stdout)[0]["run"])


def test_other_code_of_a_term_is_another_run(plugin: Path) -> None:
    with_term, without = planned(plugin, WITH_TERM), planned(plugin)
    plugin.write_text(OWN.replace("1.0 *", "2.0 *"))
    assert planned(plugin, WITH_TERM) != with_term  # until now the first one's weights stood for both
    assert planned(plugin) == without  # of whose training the file is no part
    plugin.write_text(OWN)
    assert planned(plugin, WITH_TERM) == with_term


def test_a_recipe_that_names_its_code_is_trained_by_no_other(plugin: Path) -> None:
    """As a stored recipe does, which `--resume` and a queued job take up."""
    code = hashlib.sha256(OWN.encode()).hexdigest()
    pinned = f"plugins={{loss term pull: {code}}}"
    assert planned(plugin, WITH_TERM, pinned) == planned(plugin, WITH_TERM)
    plugin.write_text(OWN.replace("1.0 *", "2.0 *"))
    with pytest.raises(
        AssertionError, match=f"the loss term pull is not by the code .* expected {code[:12]}"
    ):
        planned(plugin, WITH_TERM, pinned)


def test_a_value_by_other_code_is_another_value(plugin: Path) -> None:
    """It is measured anew, and stands under other options, which `compare` never averages."""
    rows = np.random.default_rng(0).standard_normal((2, 20, 4)).astype(np.float32)
    np.savez(plugin.parent / "one.npz", images=rows[0], texts=rows[1])

    def measured() -> tuple[float, str]:
        words = ("eval", "--embeddings", "one.npz", "--tasks", "spread", "--json")
        done = run_gaprun(*words, cwd=plugin.parent, env={"GAPRUN_PLUGINS": str(plugin)})
        assert done.returncode == 0, done.stderr
        (found,) = json.loads(done.stdout)["metrics"]
        return found["value"], found["options_hash"]

    first = measured()
    plugin.write_text(OWN.replace('"spread": 1.0', '"spread": 2.0'))
    second = measured()
    assert (first[0], second[0]) == (1.0, 2.0)  # until now the first was found for both
    assert first[1] != second[1]
    plugin.write_text(OWN)
    assert measured() == first
