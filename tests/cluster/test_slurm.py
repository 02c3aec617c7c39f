"""A sweep on a real SLURM with a real PostgreSQL: queued, running, requeued at the time limit, killed, finished.

And a job whose first process hangs, and one that is cancelled.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from gaprun.store import open_store
from tests.cluster.slurm_server import CannotStart, LocalSlurm
from tests.conftest import RECIPES, run_gaprun
from tests.postgres import MISSING, LocalPostgres, binaries

pytestmark = pytest.mark.slow

SWEEP = f"""
recipes: [{RECIPES}/baseline.yaml, {RECIPES}/soft-swap.yaml]
base: {RECIPES}/base/scenes.yaml
set:
  schedule.steps: 60
  schedule.warmup_steps: 10
  schedule.batch_size: 32
  checkpoint.every_steps: 10
  eval: [{{task: gap, data: [scenes/test]}}]
seeds: [0, 1]
"""
SHORT = {
    "extends": f"{RECIPES}/base/scenes.yaml",
    "schedule.steps": "60",
    "schedule.warmup_steps": "10",
    "schedule.batch_size": "32",
    "checkpoint.every_steps": "10",
    "eval": "[{task: gap, data: [scenes/test]}]",
}
ONE = (f"{RECIPES}/flt.yaml", "--seeds", "5", *(f"--set={key}={value}" for key, value in SHORT.items()))


@pytest.fixture(scope="module")
def slurm():
    """A cluster of one node, this machine."""
    try:
        server = LocalSlurm(cpus=3)  # two jobs that will be held, and one more at a time
    except CannotStart as error:
        pytest.skip(str(error))
    yield server
    server.close()


@pytest.fixture(scope="module")
def database():
    """URL of an empty PostgreSQL database."""
    folder = binaries()
    if folder is None:
        pytest.skip(MISSING)
    server = LocalPostgres(folder)
    yield server.url
    server.close()


class Desk:
    """The command line as a user of the cluster has it."""

    def __init__(self, folder: Path, data: Path, slurm: LocalSlurm, url: str) -> None:
        self.folder, self.slurm = folder, slurm
        self.environment = {**slurm.environment, "GAPRUN_DATA": str(data), "GAPRUN_DB": url}

    def __call__(self, *args: str):
        done = run_gaprun(*args, cwd=self.folder, env=self.environment)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def statuses(self) -> dict[str, str]:
        return {run["id"]: run["status"] for run in self("runs", "list", "--json")}

    def wait(self, what, seconds: float):
        deadline = time.monotonic() + seconds
        while not (found := what()):
            assert time.monotonic() < deadline, (
                f"{self.statuses()}\n{self.logs()}\n{self.slurm.last_words(3000)}"
            )
            time.sleep(0.2)
        return found

    def logs(self) -> str:
        return "\n".join(f"{p}: {p.read_text()[-500:]}" for p in self.folder.glob("runs/slurm/*.out"))


@pytest.fixture
def desk(tmp_path, scenes, slurm, database):
    return Desk(tmp_path, scenes, slurm, database)


def state(pid: int) -> str:
    """R, S, T (stopped), ... of a process; empty when it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):  # the latter when it ends between opening and reading
        return ""


def hold(desk: Desk, store, run: str) -> int:
    """Make a run slow by force once it has saved something: stop its process; returns it, 0 if it was requeued."""
    desk.wait(lambda: list(desk.folder.glob(f"runs/{run}/checkpoints/*.json")), 150)
    pid = store.run(run).pid
    if pid:
        os.kill(pid, signal.SIGSTOP)
    return pid or 0


def keep_asleep(pid: int) -> None:
    """Stop the process again whenever SLURM wakes it (to warn it), until it is gone: left alone it would finish."""
    while state(pid) not in ("", "Z"):
        if state(pid) != "T":
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        time.sleep(0.01)


def test_sweep_with_time_limits(desk: Desk, database: str, scenes: Path, monkeypatch) -> None:
    monkeypatch.setenv("SLURM_CONF", desk.environment["SLURM_CONF"])
    sweep = desk.folder / "sweep.yaml"
    sweep.write_text(SWEEP)
    limits = ("--cluster", "slurm", "--time", "1", "--signal-delay", "5", "--cpus", "1", "--json")
    planned = desk("submit", str(sweep), *limits, "--dry-run")
    assert [row["action"] for row in planned["jobs"]] == ["submit"] * 4
    assert "#SBATCH --array=0-3%4" in planned["script"] and "#SBATCH --signal=USR2@5" in planned["script"]

    # One job is warned by a signal that it ignores: SLURM will kill it.
    other = desk("submit", *ONE, *limits, "--slurm", "signal=URG@5")
    sent = desk("submit", str(sweep), *limits)
    jobs = {row["run"]: row["slurm_job"] for row in sent}
    (killed,) = (row["run"] for row in other)

    # The limit comes while two jobs are at work.
    store = open_store(database)

    def status(run: str) -> str:
        return {row.id: row.status for row in store.runs(light=True)}[run]

    requeued = next(run for run in jobs if run.startswith("baseline-s0"))
    hold(desk, store, requeued)
    pid = hold(desk, store, killed)
    asleep = threading.Thread(target=keep_asleep, args=(pid,))
    asleep.start()
    assert desk.statuses()[killed] == "running"
    log = desk.folder / "runs" / "slurm" / f"{jobs[requeued]}_0_log.out"
    # SLURM wakes it to warn it; it saves, is requeued, and waits again until SLURM lets it.
    desk.wait(lambda: "Requeued job" in log.read_text(), 90)
    assert desk.statuses()[requeued] in ("queued", "running")

    # Meanwhile, a job of two processes, and everything once more without a cluster.
    pair = (*ONE, "--set", "name=pair", "--seeds", "6")
    desk("submit", *pair, "--cluster", "slurm", "--nproc-per-node", "2", "--json")
    whole = {"GAPRUN_DATA": str(scenes), "GAPRUN_DB": str(desk.folder / "whole.db")}
    whole["GAPRUN_RUNS"] = str(desk.folder / "whole")

    def undisturbed() -> None:
        for what in ((str(sweep), "--jobs", "1"), (*ONE, "--jobs", "1"), (*pair, "--nproc-per-node", "2")):
            done = run_gaprun("train", *what, cwd=desk.folder, env=whole)
            assert done.returncode == 0, done.stderr

    with ThreadPoolExecutor(1) as pool:
        reference = pool.submit(undisturbed)
        desk.wait(lambda: status(killed) == "interrupted", 100)
        shown = ("scontrol", "show", "job", other[0]["slurm_job"])
        desk.wait(lambda: "JobState=TIMEOUT" in desk.slurm.run(*shown).stdout, 30)
        (again,) = desk("submit", *ONE, *limits)
        assert again["run"] == killed and again["action"] == "submit"
        reference.result()
    asleep.join()
    desk.wait(lambda: {row.status for row in store.runs(light=True)} == {"finished"}, 150)
    hashes = {run.id: run.checkpoint_hash for run in open_store(whole["GAPRUN_DB"]).runs()}
    assert len(hashes) == 6 and {run.id: run.checkpoint_hash for run in store.runs()} == hashes
    assert {run.recipe: run.environment["processes"] for run in store.runs()}["pair"] == 2
    assert log.read_text().count("Starting with") >= 2
    rows = desk("compare", "--metric", "gap", "--format", "json")
    assert {row["recipe"]: row["n"] for row in rows} == {"baseline": 2, "soft-swap": 2, "flt": 1, "pair": 1}


def test_a_job_whose_first_process_hangs_is_started_again_and_ends_exactly(
    desk: Desk, database: str, scenes: Path
) -> None:
    pair = (*ONE, "--set=name=pair", "--set=schedule.steps=120")
    desk.environment["GAPRUN_PATIENCE"] = "20"
    (sent,) = desk("submit", *pair, "--cluster", "slurm", "--nproc-per-node", "2", "--json")
    store = open_store(database)
    assert hold(desk, store, sent["run"])
    whole = {"GAPRUN_DATA": str(scenes), "GAPRUN_DB": str(desk.folder / "whole.db")}
    whole["GAPRUN_RUNS"] = str(desk.folder / "whole")
    done = run_gaprun("train", *pair, "--nproc-per-node", "2", cwd=desk.folder, env=whole)
    assert done.returncode == 0, done.stderr
    desk.wait(lambda: store.run(sent["run"]).status == "finished", 150)
    second = (desk.folder / "runs" / "slurm" / f"{sent['slurm_job']}_1_log.out").read_text()
    assert "gave no sign for 20 s, it hangs or was stopped" in second
    assert "started again, at most 9 times more" in second and second.count("Starting with") == 2
    (reference,) = open_store(whole["GAPRUN_DB"]).runs()
    assert store.run(sent["run"]).checkpoint_hash == reference.checkpoint_hash


def test_a_cancelled_job_does_not_wait_for_ever(desk: Desk) -> None:
    one = ("submit", f"{RECIPES}/flt.yaml", "--cluster", "slurm", "--seeds", "7", "--json")
    base = ("--set", f"extends={RECIPES}/base/scenes.yaml")
    (row,) = desk(*one, *base, "--slurm", "begin=now+1hour")
    assert desk.statuses()[row["run"]] == "queued"
    (second,) = desk(*one, *base)
    assert second["action"] == "queued" and second["slurm_job"] is None
    assert desk.slurm.run("scancel", row["slurm_job"]).returncode == 0
    assert desk.statuses()[row["run"]] == "interrupted"
    assert "was cancelled" in desk("runs", "show", row["run"], "--json")["error"]
