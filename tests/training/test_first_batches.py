"""`theory init --gap-of batch` against what a training records: the same pairs, the same towers, the same steps."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from gaprun.cli.main import app
from tests.conftest import RECIPES
from tests.training.conftest import RunSmall

SETS = ("data.subset=64", "data.captions=first", "data.crop=centre", "schedule.steps=4", "schedule.warmup_steps=0",
        "schedule.batch_size=32", "model.vocabulary=full")  # fmt: skip


def test_the_gap_of_the_batch_is_what_training_records(run_small: RunSmall) -> None:
    recipe = str(RECIPES / "base" / "scenes.yaml")
    words = [
        "theory",
        "init",
        "--model",
        recipe,
        "--gap-of",
        "batch",
        "--inits",
        "2",
        "--steps",
        "4",
        "--json",
    ]
    words += [word for value in (*SETS, "data.cache=none") for word in ("--set", value)]
    first = run_small("baseline", *SETS, "schedule.steps=1", db="data")  # which also sets where the data are
    assert first
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    (row,) = json.loads(done.stdout)
    assert row["start"] == "random" and row["inits"] == 2
    for k, stream in enumerate(np.random.SeedSequence(0).spawn(2)):
        seed = int(np.random.default_rng(stream).integers(2**31))
        job, store = run_small("baseline", *SETS, seed=seed, db=str(k))
        gaps = [step["gap"] for step in store.trajectory(job.id)]
        assert row["changes"][k] == pytest.approx(gaps[3] - gaps[0], abs=1e-6)


def test_particles_have_no_batches() -> None:
    done = CliRunner().invoke(app, ["theory", "init", "--gap-of", "batch"])
    assert done.exit_code != 0 and "name a recipe" in str(done.exception or done.output)
