"""Nothing that was computed is lost: a failure at every write, a database that is gone, progress that nobody reads."""

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from gaprun.errors import Failure, UserError
from gaprun.evaluation import run as measuring
from gaprun.jobs.kept import KeptStore
from gaprun.runtime.events import Event
from gaprun.store import Store, open_store
from gaprun.training import checkpoint
from gaprun.training.state import TrainState
from tests.training.conftest import RunSmall

OPTIONS = ("schedule.steps=10", "checkpoint.every_steps=3", "eval=[{task: gap, data: [scenes/test]}, "
           "{task: retrieval, data: [scenes/test]}]")  # fmt: skip
FULL = OSError(errno.ENOSPC, "No space left on device")


def everything(store: Store, run_id: str) -> tuple:
    run = store.run(run_id)
    metrics = [
        (m["metric"], m["dataset"], m["split"], m["protocol"], m["value"]) for m in store.metrics(run_id)
    ]
    return run.status, run.step, run.checkpoint_hash, store.trajectory(run_id), sorted(metrics)


def failing(monkeypatch, owner, name, error, after):
    """Make `owner.name` raise `error` at its call number `after`, and work before and afterwards."""
    original, calls = getattr(owner, name), []

    def call(*args, **kwargs):
        calls.append(1)
        if len(calls) == after:
            raise error
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, call)
    return calls


WRITES = [
    (checkpoint.torch, "save", FULL, 1),
    (checkpoint.torch, "save", FULL, 2),
    (checkpoint.torch, "save", MemoryError(), 2),
    (checkpoint.json, "dumps", FULL, 2),
    (Store, "record", Failure("the database stays away"), 1),
    (Store, "record", RuntimeError("a fault in the code"), 1),
    (Store, "heartbeat", Failure("the database stays away"), 1),
    (Store, "add_evaluation", Failure("the database stays away"), 1),
    (Store, "add_evaluation", FULL, 3),
    (Store, "finish_run", Failure("the database stays away"), 1),
    (measuring, "keep_details", FULL, 1),
    (TrainState, "train_step", MemoryError(), 6),
    (TrainState, "train_step", RuntimeError("a fault in the code"), 1),
]


@pytest.mark.parametrize(
    ("owner", "name", "error", "after"), WRITES, ids=lambda x: getattr(x, "__name__", str(x))[:40]
)
def test_after_a_failure_at_any_write_the_same_command_gives_everything(
    owner, name, error, after, run_small: RunSmall, tmp_path: Path, monkeypatch
) -> None:
    job, whole = run_small("baseline", *OPTIONS, db="whole")
    with monkeypatch.context() as patch:
        calls = failing(patch, owner, name, error, after)
        try:
            run_small("baseline", *OPTIONS)
        except (Failure, OSError, RuntimeError, MemoryError):
            pass
        assert len(calls) >= after
    store = open_store(str(tmp_path / "a" / "results.db"))
    if name == "train_step" and after > 1:  # the steps before it are saved
        steps = [int(path.stem[5:]) for path in (store.artifacts / job.id / "checkpoints").glob("*.pt")]
        assert max(steps) == after - 1
    run_small("baseline", *OPTIONS)
    assert everything(store, job.id) == everything(whole, job.id)


@pytest.mark.parametrize("fate", ["moved", "deleted", "replaced"])
@pytest.mark.parametrize("phase", ["train", "scenes/test images"])
def test_a_database_that_is_gone_costs_no_number(
    fate: str, phase: str, run_small: RunSmall, tmp_path: Path, monkeypatch
) -> None:
    options = (*OPTIONS, "schedule.steps=30")
    job, whole = run_small("baseline", *options, db="whole")
    path, aside = tmp_path / "a" / "results.db", tmp_path / "aside.db"
    done: list[str] = []

    def away(event: Event) -> None:
        if (
            event.phase.startswith(phase.split(" ")[0])
            and event.phase != "resume"
            and event.done >= 5
            and not done
        ):
            done.append(event.phase)
            for end in ("", "-wal", "-shm"):
                if Path(f"{path}{end}").exists():
                    Path(f"{path}{end}").rename(f"{aside}{end}")
            if fate == "deleted":
                aside.unlink()
            if fate == "replaced":
                open_store(str(path)).close()

    with pytest.raises(Failure, match="was moved, deleted or replaced.*numbers are kept in .*record.jsonl"):
        run_small("baseline", *options, report=away)
    assert done
    lines = [
        json.loads(line) for line in (tmp_path / "a/runs" / job.id / "record.jsonl").read_text().splitlines()
    ]
    assert {row["step"] for line in lines for row in line.get("rows", [])} == {
        row["step"] for row in whole.trajectory(job.id)
    }
    measured = {name: value for line in lines for name, value in line.get("metrics", {}).items()}
    assert measured["gap"] == next(m["value"] for m in whole.metrics(job.id) if m["metric"] == "gap")
    if fate == "moved":
        for end in ("", "-wal", "-shm"):
            if Path(f"{aside}{end}").exists():
                Path(f"{aside}{end}").rename(f"{path}{end}")
    _, store = run_small("baseline", *options)
    assert everything(store, job.id) == everything(whole, job.id)


def test_progress_that_nobody_reads_ends_nothing(run_small: RunSmall) -> None:
    said: list[Event] = []

    def broken(event: Event) -> None:
        said.append(event)
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    job, store = run_small("baseline", *OPTIONS, report=broken)
    assert store.run(job.id).status == "finished" and len(said) == 1


@pytest.mark.parametrize("kind", ["closed pipe", "full disk", "closed"])
def test_the_console_goes_quiet_and_never_fails(kind: str) -> None:
    code = (
        "import os, sys\nfrom gaprun.cli.common import err_console\n"
        "for k in range(3): err_console.print('progress ' * 2000)\n"
        "os.write(3, b'still here')\n"
    )
    reading, writing = os.pipe()
    if kind == "full disk" and not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    ends = os.pipe()
    os.close(ends[0])
    stderr = open("/dev/full", "w") if kind == "full disk" else os.fdopen(ends[1], "w")
    command = f'exec 3>&{writing}; exec {sys.executable} -c "$CODE"' + (" 2>&-" if kind == "closed" else "")
    subprocess.run(
        ["bash", "-c", command],
        env={**os.environ, "CODE": code},
        stderr=stderr,
        pass_fds=[writing],
        timeout=600,
    )
    os.close(writing)
    with os.fdopen(reading) as said:
        assert said.read() == "still here"


def test_a_second_process_is_refused_while_the_first_holds_the_folder(
    run_small: RunSmall, tmp_path: Path
) -> None:
    """Whatever its row says: the lock is seen in other PID namespaces too."""
    job, _ = run_small("baseline", "schedule.steps=2", "schedule.warmup_steps=1")
    lock = tmp_path / "a" / "runs" / job.id / "run.lock"
    code = (
        f"import fcntl; f = open({str(lock)!r}, 'w'); fcntl.lockf(f, 6); print('held', flush=True); input()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UserError, match="already running: another process holds"):
            run_small("baseline", "schedule.steps=2", "schedule.warmup_steps=1")
    finally:
        holder.kill()
        holder.wait()
    run_small("baseline", "schedule.steps=2", "schedule.warmup_steps=1")  # gone with the process


def test_statistics_of_a_step_that_failed_are_put_back(run_small: RunSmall, monkeypatch) -> None:
    """Memory runs out in the backward pass: what the forward pass had moved is not saved as a step's end."""
    _, whole = run_small("baseline", *OPTIONS, db="whole")
    original, calls = torch.Tensor.backward, []

    def full(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == 8:
            raise MemoryError
        return original(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "backward", full)
        with pytest.raises(MemoryError):
            run_small("baseline", *OPTIONS)
    steps: list[int] = []
    job, store = run_small(
        "baseline",
        *OPTIONS,
        report=lambda event: steps.append(event.done) if event.phase == "train" else None,
    )
    assert min(steps) == 7 and everything(store, job.id) == everything(whole, job.id)


@pytest.fixture
def heard_hangup() -> Iterator[None]:
    """SIGHUP as in a terminal; under nohup it is ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def test_a_terminal_that_closes_ends_nothing(run_small: RunSmall, heard_hangup: None) -> None:
    def hang_up(event: Event) -> None:
        os.kill(os.getpid(), signal.SIGHUP)

    job, store = run_small("baseline", *OPTIONS, report=hang_up)
    assert store.run(job.id).status == "finished"
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL


def test_every_line_of_the_record_is_json_also_after_one_that_was_cut_off(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "a"
    store = KeptStore(open_store(str(tmp_path / "results.db")), folder, "1")
    store._append({"rows": [1]})
    store._append({"rows": [2]})
    record = folder / "record.jsonl"
    assert record.read_text() == '{"rows": [1]}\n{"rows": [2]}\n'
    record.write_text('{"rows": [1]}\n{"rows": [2')
    store._append({"rows": [3]})
    assert record.read_text().splitlines()[2:] == ['{"rows": [3]}']
    assert store._lines() == [{"rows": [1]}, {"rows": [3]}]
