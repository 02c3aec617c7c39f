"""Stopped and resumed equals never stopped, bit for bit; damaged checkpoints are passed over; failures keep what is."""

import json
import multiprocessing
import os
import signal
from pathlib import Path

import pytest
import torch

from gaprun.errors import Failure, UserError
from gaprun.model.saved import load_checkpoint, newest_checkpoint, weights_hash
from gaprun.runtime.events import Event, Interrupted
from gaprun.training.checkpoint import save_checkpoint
from tests.training.conftest import METHODS, RunSmall

EVERY = (
    ["data.cache=none", "data.workers=0"],
    ["data.cache=none", "data.workers=2"],
    ["data.cache=memory"],
    ["data.cache=device", "data.train=[{set: scenes/train, weight: 0.4}, scenes/test]"],
)


def stop_at(step: int):
    def report(event: Event) -> None:
        if event.phase == "train" and event.done >= step:
            os.kill(os.getpid(), signal.SIGTERM)

    return report


@pytest.mark.parametrize("options", EVERY, ids=lambda o: "-".join(o))
@pytest.mark.parametrize("method", ["baseline", "soft-swap"])
def test_interrupted_and_resumed_is_identical(method: str, options: list[str], run_small: RunSmall) -> None:
    options = [*options, "swap.probability=0.5"] if method == "soft-swap" else options
    options = [*options, "schedule.steps=24"]
    job, whole = run_small(method, *options, db="whole")
    with pytest.raises(Interrupted):
        run_small(method, *options, db="cut", report=stop_at(10))
    job, cut = run_small(method, *options, db="other-place")  # an untouched third one, to compare the record
    with pytest.raises(Interrupted):
        run_small(method, *options, db="cut2", report=stop_at(20))
    for db in ("cut", "cut2"):
        _, resumed = run_small(method, *options, db=db)
        run = resumed.runs()[0]
        assert run.status == "finished" and run.checkpoint_hash == whole.runs()[0].checkpoint_hash
        assert resumed.trajectory(job.id) == whole.trajectory(job.id)


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"baseline", "soft-swap"}))
def test_every_other_method_resumes_identically(method: str, run_small: RunSmall) -> None:
    swap = ["swap.probability=0.5"] if method == "hard-swap" else []
    job, whole = run_small(method, *swap, db="whole")
    with pytest.raises(Interrupted):
        run_small(method, *swap, db="cut", report=stop_at(10))
    _, resumed = run_small(method, *swap, db="cut")
    assert resumed.runs()[0].checkpoint_hash == whole.runs()[0].checkpoint_hash
    assert resumed.trajectory(job.id) == whole.trajectory(job.id)


def test_interruption_is_recorded_with_a_checkpoint(run_small: RunSmall, tmp_path: Path) -> None:
    from gaprun.store import open_store

    with pytest.raises(Interrupted):
        run_small("baseline", "schedule.steps=24", report=stop_at(10))
    store = open_store(str(tmp_path / "a" / "results.db"))
    run = store.runs()[0]
    assert run.status == "interrupted" and "step 10" in run.error
    path, _ = newest_checkpoint(store.artifacts / run.id / "checkpoints")
    assert json.loads(path.with_suffix(".json").read_text())["step"] == 10


def test_where_training_starts_is_told_first(run_small: RunSmall) -> None:
    """A run of few steps is else heard of at its end alone, and a rate or a time left over all runs is of nothing."""
    told: list[tuple[int, int]] = []

    def heard(event: Event) -> None:
        if event.phase == "train":
            told.append((event.done, event.total))

    run_small("baseline", "schedule.steps=4", report=heard)
    assert told[0] == (0, 4) and told[-1] == (4, 4)


def test_finished_runs_are_not_trained_again(run_small: RunSmall) -> None:
    run_small("baseline")
    phases: list[str] = []
    run_small("baseline", report=lambda event: phases.append(event.phase))
    assert "train" not in phases


def test_divergence_fails_and_keeps_the_checkpoint(run_small: RunSmall, tmp_path: Path, monkeypatch) -> None:
    from gaprun.store import open_store
    from gaprun.training.state import TrainState

    original = TrainState.train_step

    def diverge(self, batch, measure):
        loss, record = original(self, batch, measure)
        if self.step == 8:
            loss, record = loss * float("nan"), record and record | {"loss": float("nan")}
        return loss, record

    monkeypatch.setattr(TrainState, "train_step", diverge)
    with pytest.raises(Failure, match="loss became nan at step 8"):
        run_small("baseline")
    store = open_store(str(tmp_path / "a" / "results.db"))
    run = store.runs()[0]
    assert run.status == "failed" and "loss became nan" in run.error
    path, _ = newest_checkpoint(store.artifacts / run.id / "checkpoints")
    assert all(torch.isfinite(t).all() for t in load_checkpoint(path)["clip"].values())


def test_other_data_under_the_same_name_is_refused(
    run_small: RunSmall, scenes: Path, tmp_path, monkeypatch
) -> None:
    import shutil

    run_small("baseline")
    shutil.copytree(scenes, tmp_path / "data")
    shutil.copytree(scenes / "scenes" / "test", tmp_path / "data" / "scenes" / "train", dirs_exist_ok=True)
    monkeypatch.setenv("GAPRUN_DATA", str(tmp_path / "data"))
    with pytest.raises(UserError, match="was made from other data"):
        run_small("baseline")


def state(step: int) -> dict:
    return {"step": step, "clip": {"w": torch.full((3,), float(step))}, "head": {}, "recipe": "{}"}


def test_newest_valid_checkpoint_wins(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, state(step), keep=2)
    assert sorted(p.name for p in tmp_path.glob("*.pt")) == ["step-00000002.pt", "step-00000003.pt"]
    last = tmp_path / "step-00000003.pt"
    last.write_bytes(last.read_bytes()[:-20])
    path, damaged = newest_checkpoint(tmp_path)
    assert path.name == "step-00000002.pt" and damaged == [last]


def test_a_failed_write_leaves_the_earlier_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(tmp_path, state(1), keep=2)

    def full_disk(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(Failure, match="No space left"):
        save_checkpoint(tmp_path, state(2), keep=1)
    assert newest_checkpoint(tmp_path)[0].name == "step-00000001.pt"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000001.json", "step-00000001.pt"]


@pytest.mark.parametrize("at", ["step-00000002.json", "step-00000002.pt"])
def test_a_kill_while_saving_leaves_nothing_behind(tmp_path: Path, at: str) -> None:
    """At whichever of the two files: the one before counts, and the next save leaves no half file and none aside."""

    def killed() -> None:
        replace = os.replace

        def dies(source: Path, target: Path) -> None:
            if target.name == at:
                os.kill(os.getpid(), signal.SIGKILL)
            replace(source, target)

        os.replace = dies
        save_checkpoint(tmp_path, state(2), keep=2)

    save_checkpoint(tmp_path, state(1), keep=2)
    process = multiprocessing.get_context("fork").Process(target=killed)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert [path for path in tmp_path.iterdir() if path.name.startswith(".step-00000002.pt.")]
    assert newest_checkpoint(tmp_path) == (tmp_path / "step-00000001.pt", [])
    (tmp_path / ".step-notes").touch()
    save_checkpoint(tmp_path, state(2), keep=1)
    assert newest_checkpoint(tmp_path) == (tmp_path / "step-00000002.pt", [])
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        ".step-notes",
        "step-00000002.json",
        "step-00000002.pt",
    ]


def test_weights_hash_sees_values_names_shapes_and_types() -> None:
    base = {"a": torch.zeros(4)}
    variants = [{"b": torch.zeros(4)}, {"a": torch.zeros(2, 2)}, {"a": torch.zeros(4, dtype=torch.int32)}]
    variants.append({"a": torch.tensor([0.0, 0, 0, 1e-9])})
    hashes = {weights_hash(v, {}) for v in [base, *variants]}
    assert len(hashes) == 5 and weights_hash({"a": torch.zeros(4)}, {}) in hashes


class Evil:
    def __reduce__(self):
        return os.system, ("echo hacked",)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"not a checkpoint", "damaged"),
        ({"clip": {}, "evil": Evil()}, "loaded safely"),
        ({"a": 1}, "not a gaprun checkpoint"),
        ({"clip": {}, "recipe": "", "format": 99}, "checkpoint format 99"),
    ],
)
def test_bad_checkpoint_files(tmp_path: Path, content: object, expected: str) -> None:
    path = tmp_path / "x.pt"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(UserError, match=expected):
        load_checkpoint(path)
