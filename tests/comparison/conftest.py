"""A store that is easily filled with results to compare."""

import pytest

from gaprun.store import EvaluationKey, NewRun, open_store
from tests.protocols import named


@pytest.fixture
def store(tmp_path):
    """An empty store in a SQLite file."""
    return open_store(str(tmp_path / "results.db"))


@pytest.fixture
def add(store):
    """Adds a finished run with one evaluation: `add("flt", 0, gap=0.3)`; keywords in `at` change the evaluation."""

    def add_run(recipe, seed, *, at=None, n=512, resolved=None, status="finished", tag="", **metrics):
        run_id = f"{recipe}-s{seed}{tag}"
        store.begin_run(
            NewRun(
                id=run_id,
                recipe=recipe,
                kind="train",
                seed=seed,
                recipe_hash=f"hash-{recipe}{tag}",
                resolved_recipe={"name": recipe, **(resolved or {})},
                environment={},
                code_version="0.1.0",
                folder="",
                total_steps=100,
            )
        )
        values = {"step": 100, "task": "gap", "dataset": "scenes", "split": "test", "protocol": "full"} | (
            at or {}
        )
        values["protocol"] = named(values["protocol"])
        key = EvaluationKey(**{"checkpoint_hash": f"c-{run_id}", "data_fingerprint": "f1", **values})
        store.add_evaluation(
            run_id, key, {name.replace("_at_", "@"): v for name, v in metrics.items()}, n, 64
        )
        store.finish_run(run_id, status)
        return run_id

    return add_run
