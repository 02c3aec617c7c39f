"""What is sent: limits in SLURM's spellings, the batch script, refusals, and processes that find each other."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gaprun.cluster.plan import check_database, jobs_folder, plan
from gaprun.cluster.resources import Resources, parse_free, parse_minutes
from gaprun.cluster.slurm import script, submit_tasks
from gaprun.cluster.task import ClusterTask, TimeWarning, join_processes, requeue, warned
from gaprun.errors import Failure, UserError
from gaprun.runtime.events import LostProcess, StopRequest
from gaprun.store import open_store
from tests.conftest import RECIPES, TINY, Gaprun
from tests.training.conftest import small_job


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("90", 90), ("1:30", 2), ("0:30", 1), ("4:00:00", 240), ("0:00:01", 1), ("1-2", 1560), ("1-0:30", 1470)],
)
def test_time_limits_as_slurm_writes_them(text: str, minutes: int) -> None:
    assert parse_minutes(text) == minutes


@pytest.mark.parametrize("text", ["", "soon", "0", "1:2:3:4", "1-", "-5", "1.5"])
def test_other_time_limits_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="--time"):
        parse_minutes(text)


def test_free_options() -> None:
    assert parse_free(["constraint=a100&ib", "exclusive", "--mail-user=me"]) == {
        "constraint": "a100&ib",
        "exclusive": True,
        "mail-user": "me",
    }
    for bad in ("=x", "a b=c", "key="):
        with pytest.raises(UserError, match="--slurm"):
            parse_free([bad])


def test_a_second_user_of_a_folder_of_runs_has_a_folder_of_jobs(tmp_path: Path, monkeypatch) -> None:
    """The first one's is closed to others, who could not submit."""
    assert jobs_folder(tmp_path) == tmp_path / "slurm"
    (tmp_path / "slurm").mkdir(mode=0o700)
    assert jobs_folder(tmp_path) == tmp_path / "slurm"
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    assert jobs_folder(tmp_path) == tmp_path / "slurm-54321"


def test_the_script_asks_for_what_was_said(tmp_path: Path) -> None:
    resources = Resources(
        minutes=240,
        partition="gpu",
        account="lab",
        qos="high",
        gpus=4,
        cpus=12,
        memory="200G",
        nodes=2,
        at_once=3,
    )
    lines = script(resources, "gaprun-table2", tmp_path, jobs=8).splitlines()
    wanted = {
        "array=0-7%3",
        "time=240",
        "partition=gpu",
        "account=lab",
        "qos=high",
        "gpus-per-node=4",
        "nodes=2",
    }
    wanted |= {
        "cpus-per-task=12",
        "mem=200G",
        "ntasks-per-node=4",
        "signal=USR2@90",
        "job-name=gaprun-table2",
    }
    assert {f"#SBATCH --{option}" for option in wanted} <= set(lines) and "#SBATCH --requeue" in lines
    assert any(line.startswith("srun ") and "--kill-on-bad-exit=0" in line for line in lines)
    assert resources.processes == 8
    single = script(Resources(free={"requeue": False, "exclusive": True}), "one", tmp_path, jobs=1)
    assert "--array" not in single and "#SBATCH --exclusive" in single and "ntasks-per-node=1" in single


def fake(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


def test_sqlite_on_several_nodes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    fake(tmp_path, "sinfo", "echo node1; echo node2; echo node2")
    with pytest.raises(UserError, match="2 nodes.*PostgreSQL.*--allow-sqlite"):
        check_database(True, "results.db", Resources(), allowed=False)
    check_database(True, "results.db", Resources(), allowed=True)
    check_database(False, "postgresql://x", Resources(nodes=8), allowed=False)
    fake(tmp_path, "sinfo", "echo node1")
    check_database(True, "results.db", Resources(), allowed=False)
    with pytest.raises(UserError, match="3 nodes"):
        check_database(True, "results.db", Resources(nodes=3), allowed=False)


def test_sbatch_says_why_it_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = ClusterTask({}, 0, "results.db", {})
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(UserError, match="login node"):
        submit_tasks([task], Resources(), "x", tmp_path / "logs")
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    fake(tmp_path, "srun", "true")
    fake(tmp_path, "sbatch", "echo 'sbatch: error: invalid partition specified: moon' >&2; exit 1")
    with pytest.raises(Failure, match="invalid partition specified: moon"):
        submit_tasks([task], Resources(partition="moon"), "x", tmp_path / "logs")
    assert (tmp_path / "logs").stat().st_mode & 0o077 == 0  # the pickles may hold a password


def test_processes_on_two_nodes_find_each_other_as_under_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {
        "SUBMITIT_EXECUTOR": "slurm",
        "SLURM_JOB_ID": "77",
        "SLURM_JOB_NODELIST": "gpu[07-08]",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_NTASKS": "4",
        "SLURM_NODEID": "1",
        "SLURM_PROCID": "3",
        "SLURM_LOCALID": "1",
    }
    wanted = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    for name in (*wanted, "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    join_processes()
    assert [os.environ[name] for name in wanted[:5]] == ["3", "4", "1", "2", "gpu07"]
    port = os.environ.pop("MASTER_PORT")
    monkeypatch.setenv("SLURM_PROCID", "0")
    join_processes()
    assert os.environ["MASTER_PORT"] == port and os.environ["RANK"] == "0"
    for name in wanted:
        del os.environ[name]
    monkeypatch.setenv("SLURM_NTASKS", "1")
    join_processes()
    assert "RANK" not in os.environ


def test_a_warning_before_the_loop_listens_is_passed_on_once() -> None:
    before = signal.getsignal(signal.SIGUSR2)
    with warned() as warning:
        os.kill(os.getpid(), signal.SIGUSR2)
        assert warning.came
        with StopRequest().listening() as stop:
            assert not stop.requested
            warning.ask()
            assert stop.requested
            warning.ask()  # a second SIGTERM would raise KeyboardInterrupt
            os.kill(os.getpid(), signal.SIGUSR2)
    assert signal.getsignal(signal.SIGUSR2) is before


def test_a_stopped_run_waits_again_until_it_was_requeued_too_often(
    tmp_path: Path, scenes: Path, monkeypatch
) -> None:
    monkeypatch.setenv("GAPRUN_DATA", str(scenes))
    monkeypatch.delenv("SLURM_PROCID", raising=False)
    store = open_store(str(tmp_path / "results.db"))
    job = small_job("baseline")
    (item,) = plan([job], store)

    def stopped(ending: BaseException) -> tuple[str, str | None]:
        def submitits(number: int, frame: object) -> None:
            raise ending

        store.begin_run(item.run)
        store.finish_run(job.id, "interrupted", error="stopped")
        warning = TimeWarning()
        warning.submitits = submitits
        with pytest.raises(type(ending)):
            requeue(store, job, warning)
        with store.engine.connect() as connection:  # as it stands, without asking whether it still waits
            return connection.exec_driver_sql("SELECT status, error FROM runs").one()

    assert stopped(SystemExit(-1)) == ("queued", None)
    status, error = stopped(RuntimeError("Job not requeued because: timed-out too many times."))
    assert status == "interrupted" and "too many times" in error and "submit it again" in error
    monkeypatch.setenv("SLURM_PROCID", "1")
    requeue(store, job, TimeWarning())  # only the first process speaks for the job


def test_after_a_lost_process_another_speaks_for_the_job_until_that_came_too_often(
    tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.setattr("gaprun.cluster.task.TURN_SECONDS", 0.0)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    fake(tmp_path, "scancel", f"echo $* > {tmp_path}/ended")
    given = {"SLURM_PROCID": "3", "SLURM_JOB_ID": "77", "SLURM_STEP_ID": "0"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    lost = LostProcess("lost contact")
    fake(tmp_path, "squeue", "echo COMPLETING")  # another process was first, and this one is being ended
    with pytest.raises(LostProcess):
        ClusterTask({}, 0, "results.db", {}, restarts=1).speak_for_all(lost)
    assert os.environ["SLURM_PROCID"] == "3" and not (tmp_path / "ended").exists()
    fake(tmp_path, "squeue", "echo RUNNING")
    task = ClusterTask({}, 0, "results.db", {}, restarts=1)
    task.speak_for_all(lost)
    assert os.environ["SLURM_PROCID"] == "0"
    assert "lost contact: started again, at most 0 times more" in capsys.readouterr().out
    again = task.checkpoint().function  # what waits in the queue then
    assert again.restarts == 0 and not (tmp_path / "ended").exists()
    with pytest.raises(LostProcess):
        again.speak_for_all(lost)
    assert (tmp_path / "ended").read_text().split() == ["--signal=KILL", "77.0"]


@pytest.mark.slow
def test_local_devices_share_a_sweep(gaprun: Gaprun) -> None:
    command = ("submit", f"{RECIPES}/baseline.yaml", "--cluster", "local", "--devices", "cpu,cpu", *TINY)
    seeds = ("--seeds", "0,1,2", "--set", "eval=[]", "--json")
    shown = gaprun(*command, *seeds, "--dry-run")
    assert shown.returncode == 0, shown.stderr
    assert [row["action"] for row in json.loads(shown.stdout)["jobs"]] == ["submit"] * 3
    done = gaprun(*command, *seeds)
    assert done.returncode == 0, done.stderr
    runs = json.loads(gaprun("runs", "list", "--json").stdout)
    assert [run["status"] for run in runs] == ["finished"] * 3
    again = gaprun(*command, *seeds)
    assert {row["action"] for row in json.loads(again.stdout)} == {"finished"}
    bad = gaprun(*command[:4], "--devices", "cuda:99", *TINY)
    assert bad.returncode == 2 and "--devices cuda:99" in bad.stderr


def test_slurm_without_slurm(gaprun: Gaprun) -> None:
    command = ("submit", f"{RECIPES}/baseline.yaml", "--cluster", "slurm", *TINY)
    late = gaprun(*command, "--time", "1")
    assert late.returncode == 2 and "--signal-delay 90" in late.stderr


def test_submitting_needs_no_torch(tmp_path: Path, scenes: Path) -> None:
    command = [
        "submit",
        f"{RECIPES}/baseline.yaml",
        "--cluster",
        "slurm",
        "--dry-run",
        "--allow-sqlite",
        *TINY,
    ]
    code = (
        f"import sys; from gaprun.cli.main import app; app({command!r}, standalone_mode=False);"
        "assert not {'torch', 'open_clip', 'pandas'} & set(sys.modules)"
    )
    environment = {**os.environ, "GAPRUN_DATA": str(scenes), "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "#SBATCH --array=0-2%3" in done.stdout and "baseline-s0-" in done.stdout
