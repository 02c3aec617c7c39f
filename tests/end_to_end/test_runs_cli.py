"""Runs through the real command line: sweeps of which a part fails, Ctrl-C at any moment, a second process."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import PREPARED, RECIPES, Gaprun

pytestmark = pytest.mark.slow

SETS = "{schedule.steps: 4, schedule.warmup_steps: 1, schedule.batch_size: 32, eval: []}"


def sweep(folder: Path, *recipes: str) -> str:
    text = f"recipes: [{', '.join(recipes)}]\nbase: {RECIPES}/base/scenes.yaml\nset: {SETS}\nseeds: [0]\n"
    (folder / "sweep.yaml").write_text(text)
    return str(folder / "sweep.yaml")


def statuses(gaprun: Gaprun) -> dict[str, str]:
    done = gaprun("runs", "list", "--json")
    return {row["recipe"]: row["status"] for row in json.loads(done.stdout)}


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_what_fails_in_a_sweep_is_listed_and_the_rest_is_done(
    gaprun: Gaprun, tmp_path: Path, jobs: str
) -> None:
    absent = f"{{recipe: {RECIPES}/flt.yaml, set: {{data.train: [absent/train]}}}}"
    diverging = f"{{recipe: {RECIPES}/slrt.yaml, set: {{optimizer.lr: 1e30, schedule.warmup_steps: 0}}}}"
    path = sweep(tmp_path, absent, f"{RECIPES}/baseline.yaml", diverging, f"{RECIPES}/reparam.yaml")
    done = gaprun("train", path, "--jobs", jobs)
    assert done.returncode == 1, done.stderr
    assert statuses(gaprun) == {"baseline": "finished", "reparam": "finished", "slrt": "failed"}
    *listed, last = done.stderr.strip().splitlines()
    assert "2 of 4 runs could not be done; they are listed above" in last
    named = "".join(line for line in listed[-2:] if line.startswith("failed"))
    assert "flt-s0" in named and "absent" in named and "slrt-s0" in named and "loss became" in named
    again = gaprun("train", sweep(tmp_path, f"{RECIPES}/baseline.yaml", absent))
    assert again.returncode == 1 and "1 of 2 runs could not be done" in again.stderr


def test_nothing_that_can_be_done_is_a_mistake_of_the_user(gaprun: Gaprun, tmp_path: Path) -> None:
    absent = f"{{recipe: {RECIPES}/flt.yaml, set: {{data.train: [absent/train]}}}}"
    done = gaprun("train", sweep(tmp_path, absent))
    assert done.returncode == 2 and not (tmp_path / "results.db").exists()


@pytest.mark.parametrize("after", [0.0, 0.05, 0.3, 0.8, 2.0, 4.0])
def test_ctrl_c_at_any_moment_leaves_no_traceback(tmp_path: Path, scenes: Path, after: float) -> None:
    ours = signal.signal(signal.SIGINT, signal.SIG_IGN)  # inherited, until gaprun's first line hears it
    process = subprocess.Popen(
        [sys.executable, "-m", "gaprun", "train", str(RECIPES / "baseline.yaml"),
         "--set", f"extends={RECIPES}/base/scenes.yaml", "--seeds", "0,1", "--jobs", "2"],
        cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "GAPRUN_DATA": str(scenes), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    signal.signal(signal.SIGINT, ours)
    deadline = time.monotonic() + 60
    while ignores_interrupts(process.pid):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    time.sleep(after)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=600)
    assert "Traceback" not in err and "Traceback" not in out, err
    assert process.returncode in (130, -signal.SIGINT)
    assert not err or "interrupted" in err or "stopped" in err


def ignores_interrupts(pid: int) -> bool:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (ignored,) = (int(line.split()[1], 16) for line in lines if line.startswith("SigIgn"))
    return bool(ignored & 1 << (signal.SIGINT - 1))


def test_a_second_process_is_refused_whatever_the_row_says(tmp_path: Path, scenes: Path) -> None:
    """The clock was set, or the owner sits in another PID namespace: its row then says what is not so here."""
    command = [PREPARED.python, "-m", "gaprun", "train", str(RECIPES / "baseline.yaml"),
               "--set", f"extends={RECIPES}/base/scenes.yaml", "--set", "schedule.steps=100000"]  # fmt: skip
    env = {**os.environ, "GAPRUN_DATA": str(scenes), "OMP_NUM_THREADS": "1"}
    command += ["--seeds", "0"]
    first = subprocess.Popen(command, cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 600
        while True:
            assert time.monotonic() < deadline and first.poll() is None
            time.sleep(0.5)
            if (tmp_path / "results.db").exists():
                connection = sqlite3.connect(tmp_path / "results.db", timeout=60)
                found = connection.execute("SELECT name FROM sqlite_master WHERE name = 'runs'").fetchall()
                if found and connection.execute("SELECT 1 FROM runs WHERE step > 0").fetchall():
                    break
        for change in (
            "started = datetime(started, '-2 hours')",
            "pid = 999999",
            "host = 'elsewhere', heartbeat = datetime(heartbeat, '-1 day')",
            "status = 'interrupted'",
        ):
            connection.execute(f"UPDATE runs SET {change}")
            connection.commit()
            second = subprocess.run(
                command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300
            )
            assert second.returncode == 2 and "already running" in second.stderr, (change, second.stderr)
    finally:
        first.send_signal(signal.SIGTERM)
        _, err = first.communicate(timeout=600)
    assert "stopped at step" in err
