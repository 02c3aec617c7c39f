"""What a task or transform of one's own may give: anything else is refused by name, and what breaks says where."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from gaprun.errors import Failure, UserError
from gaprun.evaluation.given import read_given
from gaprun.evaluation.run import check_declared, evaluate_given
from gaprun.evaluation.task import Measured, Task
from gaprun.evaluation.tasks.gap import Gap
from gaprun.evaluation.transforms import Transform
from gaprun.store import NewRun, Store, open_store


class Own(Task):
    """Gives what the test sets."""

    task: Literal["own"] = "own"

    def measure(self, embedder: Any, split: Any, protocol: Any) -> Any:
        return embedder.embeddings(split).imagez


class Nothing(Transform):
    """Gives no map."""

    name: Literal["nothing"] = "nothing"

    def fit(self, train: Any) -> Any:
        return None


@pytest.mark.parametrize(
    ("gives", "said"),
    [
        (None, "gives NoneType, not Measured"),
        ({"gap": 1.0}, "gives dict, not Measured"),
        (Measured({}, 4, 2), "gives no value at all"),
        (Measured({"gap": "high"}, 4, 2), "gives no number as gap"),  # type: ignore[dict-item]
        (Measured({"gap": np.ones(3)}, 4, 2), "gives no number as gap"),  # type: ignore[dict-item]
        (Measured({"gap": 1.0}, None, 2), "gives n=None, d=2"),  # type: ignore[arg-type]
        (Measured({"gap": 1.0, "gpa": 1.0}, 4, 2), "gives gpa, which no task declares"),
    ],
)
def test_an_answer_that_is_no_measurement_is_refused(gives: Any, said: str) -> None:
    with pytest.raises(UserError, match=said) as raised:
        check_declared(Own(data=["x"]), gives)
    assert "the task own" in str(raised.value)


def test_numbers_of_numpy_and_nan_are_measurements() -> None:
    check_declared(
        Own(data=["x"]), Measured({"gap": np.float32(1), "rmg": np.array(2.0), "cka": float("nan")}, 4, 2)
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    found = open_store(f"sqlite:///{tmp_path / 'own.db'}")
    found.begin_run(NewRun("r", "r", "external", None, "h", {}, {}, "0", str(tmp_path / "r"), 0))
    return found


def test_what_breaks_in_a_task_says_in_which_and_on_what(store: Store, tmp_path: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((2, 20, 4)).astype(np.float32)
    np.savez(tmp_path / "one.npz", images=rows[0], texts=rows[1])
    given = read_given(tmp_path / "one.npz")
    done = evaluate_given(given, [Own(data=["one.npz"])], store, "r")
    with pytest.raises(Failure, match=r"^own on .*one.npz: AttributeError: .* no attribute 'imagez'"):
        done.raise_failures()


class Centring(Own):
    """Takes the mean away where the rows stand, as a careless task would."""

    def measure(self, embedder: Any, split: Any, protocol: Any) -> Any:
        rows = embedder.embeddings(split).images
        rows -= rows.mean(0)


def test_a_task_cannot_change_what_the_next_one_measures(store: Store, tmp_path: Path) -> None:
    images, texts = np.random.default_rng(0).standard_normal((2, 20, 4)) + 1
    np.savez(tmp_path / "one.npz", images=images, texts=texts)
    given = read_given(tmp_path / "one.npz")
    done = evaluate_given(given, [Centring(data=["one.npz"]), Gap(data=["one.npz"])], store, "r")
    x, y = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (images, texts))
    expected = float(np.linalg.norm(x.mean(0) - y.mean(0)))
    found = store.metrics_by_evaluation(done.evaluations)
    measured = [row["value"] for row in found if row["metric"] == "gap" and row["protocol"] == "full"]
    assert measured == [pytest.approx(expected, abs=1e-6)]
    assert "read-only" in str(done.failures[0][1])


def test_a_transform_that_gives_no_map_is_refused(store: Store, tmp_path: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((4, 20, 4)).astype(np.float32)
    np.savez(tmp_path / "one.npz", images=rows[0], texts=rows[1])
    np.savez(tmp_path / "fit.npz", images=rows[2], texts=rows[3])
    task = Own.model_construct(
        data=["one.npz"], transforms=[Nothing()], fit=str(tmp_path / "fit.npz"), task="own"
    )
    done = evaluate_given(read_given(tmp_path / "one.npz"), [task], store, "r")
    with pytest.raises(UserError, match=r"the transform nothing \(Nothing.fit\) gives NoneType, not Map"):
        done.raise_failures()
