"""The road through the real command line: train, found again, resumed, evaluated, compared, removed."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.conftest import PREPARED, RECIPES, TINY, Gaprun, run_gaprun

pytestmark = pytest.mark.slow


def parsed(done: subprocess.CompletedProcess[str]):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_train_compare_and_find_again(gaprun: Gaprun, tmp_path: Path) -> None:
    sweep = tmp_path / "sweep.yaml"
    sets = (
        "{schedule.steps: 40, schedule.warmup_steps: 4, schedule.batch_size: 32, checkpoint.every_steps: 15}"
    )
    sweep.write_text(
        f"recipes: [{RECIPES}/baseline.yaml, {{recipe: {RECIPES}/flt.yaml, set: {{temperature.tau: 0.1}}}}]\n"
        f"base: {RECIPES}/base/scenes.yaml\nset: {sets}\nseeds: [0, 1]\n"
    )
    plan = parsed(gaprun("train", str(sweep), "--dry-run", "--json"))
    assert [row["steps"] for row in plan] == [40] * 4 and {row["status"] for row in plan} == {"new"}
    assert all(row["images"] == 256 and row["parameters"] > 1e5 for row in plan)
    both = gaprun("train", str(sweep), "--dry-run", "--jobs", "2", "--nproc-per-node", "2")
    assert both.returncode == 2 and "leave out --jobs" in both.stderr

    done = gaprun("train", str(sweep), "--jobs", "2")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("finished ") == 4 and "train 40/40" in done.stderr

    runs = parsed(gaprun("runs", "list", "--json"))
    assert {(run["recipe"], run["seed"], run["status"]) for run in runs} == {
        (recipe, seed, "finished") for recipe in ("baseline", "flt") for seed in (0, 1)
    }
    shown = parsed(gaprun("runs", "show", runs[0]["id"], "--json"))
    assert {"metrics", "checkpoint", "resolved_recipe", "environment"} <= set(shown)
    names = {metric["metric"] for metric in shown["metrics"]}
    assert {"gap", "image_recall@5", "text_recall@5", "zeroshot_top1", "probe_top1", "temperature"} <= names
    assert shown["environment"]["data"] and (tmp_path / shown["checkpoint"]).is_file()

    rows = parsed(gaprun("compare", "--metric", "gap", "--metric", "recall@5", "--format", "json"))
    flt = next(r for r in rows if r["recipe"] == "flt" and r["metric"] == "gap" and r["protocol"] == "full")
    assert flt["n"] == 2 and flt["std"] is not None and flt["delta"] is not None
    table = gaprun("compare", "--metric", "gap", "--metric", "recall@5")
    assert "baseline" in table.stdout and "±" in table.stdout

    again = gaprun("train", str(sweep))
    assert again.returncode == 0 and "4 of 4 runs are finished already" in again.stderr
    assert "train " not in again.stderr.replace("gaprun train", "")

    more = gaprun(
        "train", str(sweep), "--seeds", "0", "--set", "eval=[{task: gap, data: [scenes/classes-test]}]"
    )
    assert more.returncode == 2 and "needs captions" in more.stderr

    removed = gaprun("runs", "rm", runs[0]["id"], "--yes")
    assert removed.returncode == 0 and len(parsed(gaprun("runs", "list", "--json"))) == 3
    assert not (tmp_path / "runs" / runs[0]["id"]).exists()


def start(tmp_path: Path, scenes: Path, *args: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "GAPRUN_DATA": str(scenes), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [PREPARED.python, "-m", "gaprun", *args],
        cwd=tmp_path,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        # Tests that run in a shell's background ignore Ctrl-C, and their children would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def wait_for_checkpoint(folder: Path, process: subprocess.Popen[str]) -> None:
    for _ in range(6000):
        if list(folder.glob("runs/*/checkpoints/*.json")):
            return
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        time.sleep(0.1)
    raise AssertionError("no checkpoint appeared")


TO_BE_CUT = ("train", f"{RECIPES}/soft-swap.yaml", "--seeds", "0", *TINY, "--set", "eval=[]")
TO_BE_CUT += ("--set", "schedule.steps=150", "--set", "swap.probability=0.5")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, scenes: Path) -> dict:
    """What `runs show` says of a run that nothing stopped."""
    folder = tmp_path_factory.mktemp("undisturbed")

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        return run_gaprun(*words, "--db", "whole/results.db", cwd=folder, env={"GAPRUN_DATA": str(scenes)})

    refused = call(*TO_BE_CUT)
    assert refused.returncode == 2 and "whole" in refused.stderr  # an absent folder is not made silently
    (folder / "whole").mkdir()
    assert call(*TO_BE_CUT).returncode == 0
    (run,) = parsed(call("runs", "list", "--json"))
    return parsed(call("runs", "show", run["id"], "--json"))


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_run_goes_on_and_ends_the_same(
    kind: signal.Signals, gaprun: Gaprun, tmp_path: Path, scenes: Path, undisturbed: dict
) -> None:
    process = start(tmp_path, scenes, *TO_BE_CUT, "--db", "cut.db")
    wait_for_checkpoint(tmp_path, process)
    process.send_signal(kind)
    process.communicate(timeout=600)
    assert process.returncode == {signal.SIGKILL: -9}.get(kind, 130)
    (run,) = parsed(gaprun("runs", "list", "--json", "--db", "cut.db"))
    assert run["status"] == "interrupted"
    resumed = gaprun("train", "--resume", run["id"], "--db", "cut.db")
    assert resumed.returncode == 0, resumed.stderr
    cut = parsed(gaprun("runs", "show", run["id"], "--json", "--db", "cut.db"))
    assert cut["status"] == "finished" and run["id"] == undisturbed["id"]
    assert cut["checkpoint_hash"] == undisturbed["checkpoint_hash"]


def test_eval_by_run_by_file_and_found_again(gaprun: Gaprun, tmp_path: Path) -> None:
    done = gaprun("train", f"{RECIPES}/baseline.yaml", "--seeds", "0", *TINY, "--set", "eval=[]")
    assert done.returncode == 0, done.stderr
    (run,) = parsed(gaprun("runs", "list", "--json"))
    first = parsed(gaprun("eval", "--ckpt", run["id"], "--data", "scenes/test", "--json"))
    assert first["images_encoded"] == 96
    values = {(m["metric"], m["protocol"]): m["value"] for m in first["metrics"]}
    assert 0 < values["gap", "full"] < 2 and values["gap", "pool96"] == pytest.approx(
        values["gap", "full"], rel=0.3
    )
    assert values["image_recall@1", "full"] < 30
    again = parsed(gaprun("eval", "--ckpt", run["id"], "--data", "scenes/test", "--json"))
    assert again["images_encoded"] == 0 and again["metrics"] == first["metrics"]
    file = str(next((tmp_path / "runs" / run["id"] / "checkpoints").glob("*.pt")))
    elsewhere = parsed(gaprun("eval", "--ckpt", file, "--data", "scenes/test", "--db", "other.db", "--json"))
    assert elsewhere["metrics"] == first["metrics"]
    table = gaprun("eval", "--ckpt", run["id"], "--data", "scenes/classes-test", "--tasks", "zeroshot,probe")
    assert "zeroshot_top1" in table.stdout and " 80\n" in table.stdout


def test_a_random_model_sits_at_chance(gaprun: Gaprun) -> None:
    done = gaprun(
        "train",
        f"{RECIPES}/baseline.yaml",
        "--seeds",
        "0",
        *TINY,
        "--set",
        "schedule.steps=1",
        "--set",
        "schedule.warmup_steps=0",
        "--set",
        "optimizer.lr=1e-12",
    )
    assert done.returncode == 0, done.stderr
    (run,) = parsed(gaprun("runs", "list", "--json"))
    values = {
        m["metric"]: m["value"]
        for m in parsed(gaprun("runs", "show", run["id"], "--json"))["metrics"]
        if m["protocol"] == "full"
    }
    assert values["image_recall@1"] <= 5 and values["text_recall@1"] <= 10  # chance: 1/96 and 5/480
    assert values["image_median_rank"] == pytest.approx(48, abs=12)
    assert values["zeroshot_top1"] == pytest.approx(12.5, abs=4 * (12.5 * 87.5 / 80) ** 0.5)
    assert values["mismatched_share"] > 0.9
