"""Several gloo processes compute what one computes; one of them killed or stopped, the run goes on exactly."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from gaprun.data.stream import Batch
from gaprun.training.transfer import on_device
from tests.conftest import PREPARED, RECIPES, TINY, run_gaprun
from tests.training.gradients import METHODS, VIT, difference, gradients
from tests.training.rank_work import CHUNKED, RESNET
from tests.training.ranks import together

WORK = "tests.training.rank_work:"


@pytest.mark.parametrize("count", [2, 4])
def test_every_gradient_equals_one_process(count: int, scenes: Path, tmp_path: Path, monkeypatch) -> None:
    """Loss and every parameter's gradient, all methods, float64; also with synchronised statistics and in chunks."""
    monkeypatch.setenv("GAPRUN_DATA", str(scenes))
    together(count, f"{WORK}steps", tmp_path)
    by_rank = [torch.load(tmp_path / f"rank{rank}.pt") for rank in range(count)]
    towers = {"vit": VIT, "resnet": RESNET, "chunked": VIT}
    for method, kind in by_rank[0]:
        expected = gradients(scenes, method, *towers[kind])
        for found in by_rank:
            assert difference(found[method, kind], expected) < 1e-10, (method, kind)
    assert {method for method, kind in by_rank[0] if kind == "vit"} == set(METHODS) and len(CHUNKED) == 4


def test_words_statistics_and_gradients_between_processes(tmp_path: Path) -> None:
    """Each is checked by every process; see rank_work.py."""
    together(4, f"{WORK}words_statistics_and_gradients", tmp_path)


def test_a_batch_that_does_not_divide_is_refused(scenes: Path, tmp_path: Path) -> None:
    command = ["train", f"{RECIPES}/baseline.yaml", "--seeds", "0", *TINY, "--set", "schedule.batch_size=33"]
    done = run_gaprun(
        *command, "--nproc-per-node", "2", cwd=tmp_path, env={"GAPRUN_DATA": str(scenes), "COLUMNS": "250"}
    )
    assert done.returncode == 2, done.stderr
    assert "schedule.batch_size: 33 does not divide over 2 processes" in done.stderr
    assert "Traceback" not in done.stderr and done.stderr.count("error:") == 1
    assert done.stderr.count("1 run of ") == 1, (
        "said before the processes start, and not again by the first of them"
    )


def test_on_the_cpu_batches_pass_through_untouched() -> None:
    """The copy stream of a GPU is not tested here: it needs one."""
    batches = [Batch(step, *(torch.zeros(1) for _ in range(2)), damaged=[]) for step in range(3)]
    assert [id(batch) for batch in on_device(iter(batches), torch.device("cpu"))] == [id(b) for b in batches]


SHARED = ["damage_is_counted_over_all", "an_error_of_the_second_ends_both", "device_cache_is_shared_out"]


@pytest.mark.parametrize("work", SHARED)
def test_data_and_faults_are_shared(work: str, scenes: Path, tmp_path: Path, monkeypatch) -> None:
    """Each is checked by every process, on an own copy of the data; see rank_work.py."""
    shutil.copytree(scenes, tmp_path / "own")
    monkeypatch.setenv("GAPRUN_DATA", str(tmp_path / "own"))
    together(2, WORK + work, tmp_path)


def test_a_stopped_process_is_noticed(scenes: Path, tmp_path: Path, monkeypatch) -> None:
    """Within GAPRUN_PATIENCE, not the hours that measuring may take; see rank_work.py."""
    monkeypatch.setenv("GAPRUN_DATA", str(scenes))
    monkeypatch.setenv("GAPRUN_PATIENCE", "20")
    together(2, f"{WORK}one_is_stopped", tmp_path)


# From here on the real command line: two processes, a few hundred tiny steps.

SETS = ("eval=[{task: gap, data: [scenes/test]}, {task: retrieval, data: [scenes/test]}]",)
STEPS = ("schedule.steps=160", "swap.probability=0.5", "checkpoint.every_steps=20", *VIT)


class Cluster:
    """The command line in an own folder a database."""

    def __init__(self, place: Path, scenes: Path) -> None:
        self.place, self.env = place, {**os.environ, "GAPRUN_DATA": str(scenes), "OMP_NUM_THREADS": "1"}
        self.env["COLUMNS"] = "250"

    def command(self, db: str, processes: int = 2) -> list[str]:
        (self.place / db).mkdir(exist_ok=True)
        words = ["train", f"{RECIPES}/soft-swap.yaml", "--seeds", "0", *TINY]
        for item in (*STEPS, *SETS):
            words += ["--set", item]
        words += ["--db", str(self.place / db / "results.db")]
        return [PREPARED.python, "-m", "gaprun", *words, "--nproc-per-node", str(processes)]

    def run(self, db: str, processes: int = 2) -> None:
        done = subprocess.run(
            self.command(db, processes),
            cwd=self.place,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr

    def cut(self, db: str, end: Callable[[subprocess.Popen[str]], None]) -> tuple[int, str]:
        """Start, and `end` it once a new checkpoint is there; returns exit code and stderr."""
        process = subprocess.Popen(
            self.command(db),
            cwd=self.place,
            env=self.env,
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        before = self.newest(db)
        while self.newest(db) == before:
            assert process.poll() is None, process.stderr and process.stderr.read()
            time.sleep(0.05)
        end(process)
        _, said = process.communicate(timeout=600)
        return process.returncode, said

    def newest(self, db: str) -> str:
        return max((path.name for path in (self.place / db).glob("runs/*/checkpoints/*.json")), default="")

    def shown(self, db: str) -> dict:
        (run,) = json.loads(self.gaprun(db, "runs", "list", "--json"))
        return json.loads(self.gaprun(db, "runs", "show", run["id"], "--json"))

    def gaprun(self, db: str, *words: str) -> str:
        done = run_gaprun(*words, "--db", str(self.place / db / "results.db"), cwd=self.place)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, scenes: Path) -> Cluster:
    """With an undisturbed run by two processes in `whole`."""
    cluster = Cluster(tmp_path_factory.mktemp("cluster"), scenes)
    cluster.run("whole")
    return cluster


def ranks_of(cluster: Cluster) -> dict[int, int]:
    """Process ids by rank of what the launcher started: they work in the cluster's folder."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it is gone by now
            words = (process / "environ").read_bytes().split(b"\0")
            rank = [word for word in words if word.startswith(b"RANK=")]
            if rank and (process / "cwd").resolve() == cluster.place.resolve():
                found[int(rank[0][5:])] = int(process.name)
    return found


def metrics(shown: dict) -> dict:
    return {(m["metric"], m["dataset"], m["protocol"]): m["value"] for m in shown["metrics"]}


@pytest.mark.slow
def test_measured_by_two_processes_as_by_one(cluster: Cluster) -> None:
    """The same checkpoint measured by one process gives the same numbers, to the last bit."""
    shown = cluster.shown("whole")
    assert shown["status"] == "finished" and shown["environment"]["processes"] == 2
    (cluster.place / "alone").mkdir(exist_ok=True)
    file = cluster.place / "whole" / shown["checkpoint"]
    words = ("eval", "--ckpt", str(file), "--data", "scenes/test", "--tasks", "gap,retrieval", "--json")
    done = run_gaprun(
        *words, "--db", str(cluster.place / "alone" / "results.db"), cwd=cluster.place, env=cluster.env
    )
    assert done.returncode == 0, done.stderr
    alone, both = metrics(json.loads(done.stdout)), metrics(shown)
    assert len(alone) > 20 and all(both[name] == value for name, value in alone.items())


@pytest.mark.slow
def test_a_killed_process_ends_the_run_which_goes_on_exactly(cluster: Cluster) -> None:
    """The first process killed, then the second, then the second alone told to stop: in the end the same weights."""
    for rank in (0, 1):
        code, said = cluster.cut(
            "cut", lambda launcher, rank=rank: os.kill(ranks_of(cluster)[rank], signal.SIGKILL)
        )
        assert code == 1 and f"process {rank} of 2 was killed (SIGKILL)" in said and "Traceback" not in said
        assert "lost contact with another process" in said  # the one that was left says so
        assert cluster.shown("cut")["status"] == "interrupted"
    code, said = cluster.cut("cut", lambda launcher: os.kill(ranks_of(cluster)[1], signal.SIGTERM))
    assert code == 130 and "stopped at step" in said and "lost contact" not in said, said
    cluster.run("cut")
    assert cluster.shown("cut")["checkpoint_hash"] == cluster.shown("whole")["checkpoint_hash"]
    assert metrics(cluster.shown("cut")) == metrics(cluster.shown("whole"))


@pytest.mark.slow
def test_a_stopped_launcher_saves_and_another_number_of_processes_goes_on(cluster: Cluster) -> None:
    """Resumed by one process: the same run up to rounding."""
    code, said = cluster.cut("stopped", lambda launcher: launcher.send_signal(signal.SIGTERM))
    assert code == 130 and "stopped at step" in said and "Traceback" not in said
    shown = cluster.shown("stopped")
    assert shown["status"] == "interrupted" and 20 <= shown["step"] < 160
    checkpoints = sorted((cluster.place / "stopped").glob("runs/*/checkpoints/*.pt"))
    assert checkpoints[-1].name == f"step-{shown['step']:08d}.pt"
    cluster.run("stopped", processes=1)
    resumed, whole = cluster.shown("stopped"), cluster.shown("whole")
    assert resumed["status"] == "finished" and resumed["environment"]["processes"] == 1
    for name in ("temperature", "gap"):
        found = next(m["value"] for m in resumed["metrics"] if m["metric"] == name)
        expected = next(m["value"] for m in whole["metrics"] if m["metric"] == name)
        assert found == pytest.approx(expected, rel=1e-2)
