"""A run goes on only from its own weights; what is not its own is never used, and never deleted."""

import errno
import json
import shutil
from pathlib import Path

import pytest
import torch

from gaprun.errors import Failure, UserError
from gaprun.jobs import run as running
from gaprun.model.saved import intact_note, read_note
from gaprun.runtime.events import Event, Interrupted
from gaprun.store import open_store
from gaprun.training.checkpoint import own_checkpoint, save_checkpoint
from tests.training.conftest import RunSmall
from tests.training.test_resume import stop_at

FACTS = {"run": "a-s0", "seed": 0, "recipe_hash": "h", "data": {"x/train": "1"}}
SHORT = ("schedule.steps=6", "checkpoint.every_steps=2")


def state(step: int, **facts: object) -> dict:
    return {
        "step": step,
        "clip": {"w": torch.full((3,), float(step))},
        "head": {},
        "recipe": "{}",
        **FACTS,
        **facts,
    }


@pytest.mark.parametrize("key", FACTS)
def test_a_checkpoint_that_differs_in_one_fact_is_passed_over_and_kept(tmp_path: Path, key: str) -> None:
    save_checkpoint(tmp_path, state(1), keep=1)
    save_checkpoint(tmp_path, state(5, **{key: "other"}), keep=1)
    other = (tmp_path / "step-00000005.pt").read_bytes()
    path, passed = own_checkpoint(tmp_path, FACTS)
    assert path == tmp_path / "step-00000001.pt" and "step-00000005.pt is of another" in passed[0]
    # Later checkpoints, also one of the same step, leave it and its note as they are.
    for step in (2, 3, 5, 6):
        save_checkpoint(tmp_path, state(step), keep=1)
    assert own_checkpoint(tmp_path, FACTS)[0] == tmp_path / "step-00000006.pt"
    kept = tmp_path / "step-00000005.pt.aside1"
    assert kept.read_bytes() == other and (tmp_path / "step-00000005.json.aside1").exists()


@pytest.mark.parametrize("fails", ["replace", "unlink"])
def test_a_disk_that_takes_nothing_is_said_and_another_runs_weights_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    """Whether what is there cannot be put aside, or a file that was begun cannot be removed again."""
    save_checkpoint(tmp_path, state(5, seed=1), keep=1)
    before = {path.name.removesuffix(".aside1"): path.read_bytes() for path in tmp_path.iterdir()}

    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    if fails == "unlink":
        monkeypatch.setattr(torch, "save", refused)
    with monkeypatch.context() as patch, pytest.raises(Failure, match=r"could not be written \(Read-only"):
        patch.setattr(Path, fails, refused)
        save_checkpoint(tmp_path, state(5), keep=1)
    after = {path.name.removesuffix(".aside1"): path.read_bytes() for path in tmp_path.iterdir()}
    assert after == before and len(before) == 2


def test_pruning_counts_only_what_is_intact(tmp_path: Path) -> None:
    for step in (1, 2):
        save_checkpoint(tmp_path, state(step), keep=2)
    damaged = tmp_path / "step-00000002.pt"
    damaged.write_bytes(damaged.read_bytes()[:-30])
    save_checkpoint(tmp_path, state(3), keep=2)
    assert [p.name for p in sorted(tmp_path.glob("*.pt")) if intact_note(p)] == [
        "step-00000001.pt",
        "step-00000003.pt",
    ]
    assert damaged.exists()
    flipped = bytearray((tmp_path / "step-00000003.pt").read_bytes())
    flipped[len(flipped) // 2] ^= 1
    (tmp_path / "step-00000003.pt").write_bytes(flipped)
    assert own_checkpoint(tmp_path, FACTS)[0] == tmp_path / "step-00000001.pt"


def test_what_was_written_wrong_is_no_checkpoint(tmp_path: Path, monkeypatch) -> None:
    save_checkpoint(tmp_path, state(1), keep=1)
    original = torch.save

    def wrong(content, target):
        original({**content, "clip": {"w": content["clip"]["w"] + 1}}, target)

    monkeypatch.setattr(torch, "save", wrong)
    with pytest.raises(Failure, match="not what was written"):
        save_checkpoint(tmp_path, state(2), keep=1)
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["step-00000001.json", "step-00000001.pt"]


def test_the_note_says_whose_the_weights_are(run_small: RunSmall) -> None:
    job, store = run_small("baseline", *SHORT)
    path = store.artifacts / job.id / "checkpoints" / "step-00000006.pt"
    content, note = torch.load(path, weights_only=True), read_note(path)
    data = store.run(job.id).environment["data"]
    for said in (content, note):
        assert (said["run"], said["seed"], said["recipe_hash"]) == (job.id, 0, job.recipe_hash)
        assert said["data"] == data and said["code"] == [store.run(job.id).code_version]
    mark = json.loads((store.artifacts / job.id / "run.json").read_text())
    assert mark["data"] == data and list(mark["databases"].values()) == [store.identity]


def test_another_seeds_checkpoint_with_a_forged_note_is_refused(run_small: RunSmall) -> None:
    zero, store = run_small("baseline", *SHORT)
    one, _ = run_small("baseline", *SHORT, seed=1)
    folders = [store.artifacts / job.id / "checkpoints" for job in (zero, one)]
    shutil.rmtree(folders[0])
    shutil.copytree(folders[1], folders[0])
    for note in folders[0].glob("*.json"):
        note.write_text(json.dumps(json.loads(note.read_text()) | {"run": zero.id, "seed": 0}))
    store.remove(zero.id)
    with pytest.raises(UserError, match="its note says otherwise, but it is of another run"):
        run_small("baseline", *SHORT)


def test_a_second_database_uses_a_folder_only_where_everything_agrees(
    run_small: RunSmall, tmp_path: Path, scenes: Path, monkeypatch
) -> None:
    monkeypatch.setenv("GAPRUN_RUNS", str(tmp_path / "shared"))
    job, first = run_small("baseline", *SHORT, db="a")
    _, second = run_small("baseline", *SHORT, db="b")
    assert second.run(job.id).checkpoint_hash == first.run(job.id).checkpoint_hash
    assert second.trajectory(job.id) == first.trajectory(job.id)  # brought in from the folder
    before = {p: p.read_bytes() for p in (tmp_path / "shared" / job.id).rglob("*") if p.is_file()}
    shutil.copytree(scenes, tmp_path / "data")
    shutil.copytree(scenes / "scenes" / "test", tmp_path / "data" / "scenes" / "train", dirs_exist_ok=True)
    monkeypatch.setenv("GAPRUN_DATA", str(tmp_path / "data"))
    with pytest.raises(UserError, match="belongs to another training data in .*a/results.db"):
        run_small("baseline", *SHORT, db="c")
    assert {p: p.read_bytes() for p in before} == before
    for name in ("a", "b"):
        (tmp_path / name / "results.db").unlink()
    # Nobody uses it any more: it is moved aside whole, and the run starts from its own beginning.
    told: list[Event] = []
    _, third = run_small("baseline", *SHORT, db="c", report=told.append)
    assert (
        third.run(job.id).checkpoint_hash
        != json.loads(
            (tmp_path / "shared" / f"{job.id}.aside1" / "checkpoints" / "step-00000006.json").read_text()
        )["weights_hash"]
    )
    assert any(".aside1" in event.note for event in told if event.phase == "resume")


def test_the_code_that_trained_is_named_each_once(run_small: RunSmall, monkeypatch) -> None:
    options = ("schedule.steps=24",)
    monkeypatch.setattr(running, "code_version", lambda: "0.1+old")
    with pytest.raises(Interrupted):
        run_small("baseline", *options, report=stop_at(10))
    monkeypatch.setattr(running, "code_version", lambda: "0.1+new")
    job, store = run_small("baseline", *options)
    assert store.run(job.id).code_version == "0.1+old, 0.1+new"
    monkeypatch.setattr(running, "code_version", lambda: "0.1+later")
    run_small("baseline", *options)  # nothing is trained any more
    assert store.run(job.id).code_version == "0.1+old, 0.1+new"


def test_checkpoints_that_are_gone_are_said(run_small: RunSmall) -> None:
    told: list[Event] = []
    with pytest.raises(Interrupted):
        run_small("baseline", "schedule.steps=24", report=stop_at(10))
    job, store = run_small("baseline", "schedule.steps=24", report=told.append)
    assert not [event for event in told if event.phase == "resume"]
    whole = store.run(job.id).checkpoint_hash
    shutil.rmtree(store.artifacts / job.id)
    store.remove(job.id)
    with pytest.raises(Interrupted):
        run_small("baseline", "schedule.steps=24", report=stop_at(10))
    step = store.run(job.id).step
    shutil.rmtree(store.artifacts / job.id)
    run_small("baseline", "schedule.steps=24", report=told.append)
    (said,) = [event.note for event in told if event.phase == "resume"]
    assert step >= 10 and said.endswith(f"the database knows {step} steps: it starts from the beginning")
    assert store.run(job.id).checkpoint_hash == whole


def as_earlier_gaprun(folder: Path) -> None:
    """Checkpoints without data, and notes without facts."""
    for path in folder.glob("step-*.pt"):
        content = torch.load(path, weights_only=True)
        for name in ("data", "code", "recipe_hash"):
            del content[name]
        torch.save(content, path)
        from gaprun.files import file_sha256

        note = json.loads(path.with_suffix(".json").read_text())
        old = {"step": note["step"], "sha256": file_sha256(path), "weights_hash": note["weights_hash"]}
        path.with_suffix(".json").write_text(json.dumps(old))
    (folder.parent / "run.json").unlink()


def test_an_earlier_checkpoint_goes_on_where_the_database_knows_its_data(
    run_small: RunSmall, tmp_path: Path, monkeypatch
) -> None:
    whole = run_small("baseline", "schedule.steps=24", db="whole")[1].runs()[0].checkpoint_hash
    with pytest.raises(Interrupted):
        run_small("baseline", "schedule.steps=24", report=stop_at(10))
    store = open_store(str(tmp_path / "a" / "results.db"))
    run_id = store.runs()[0].id
    as_earlier_gaprun(store.artifacts / run_id / "checkpoints")
    monkeypatch.setenv("GAPRUN_RUNS", str(tmp_path / "a" / "runs"))
    with pytest.raises(UserError, match="does not say on what data it was trained"):
        run_small("baseline", "schedule.steps=24", db="other")
    monkeypatch.delenv("GAPRUN_RUNS")
    told: list[Event] = []
    _, store = run_small("baseline", "schedule.steps=24", report=told.append)
    assert store.run(run_id).checkpoint_hash == whole
    assert any("taken to be trained on the data that the database names" in event.note for event in told)


def test_a_finished_run_without_its_checkpoint_is_not_trained_again_in_silence(run_small: RunSmall) -> None:
    job, store = run_small("baseline", *SHORT)
    before = store.run(job.id)
    shutil.rmtree(store.artifacts / job.id / "checkpoints")
    with pytest.raises(UserError, match="is finished, but its last checkpoint is not in"):
        run_small("baseline", *SHORT)
    after = store.run(job.id)
    assert (after.status, after.started, after.finished) == (before.status, before.started, before.finished)
