"""`gaprun doctor`: each trouble is named with its way out, and only a failure changes the exit code."""

import json
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from gaprun.doctor import machine, places, versions
from gaprun.doctor.recipe import judge_card, judge_need, needs
from gaprun.jobs.plan import too_large
from gaprun.store import open_store
from tests.conftest import REPO, run_gaprun

GOOD = {
    "torch": "2.9.0",
    "cards": [],
    "cuda_error": None,
    "precision": {"fp32": None, "bf16": None, "fp16": "needs a GPU"},
    "pictures_per_second": 700.0,
    "decoder_error": None,
}


def by_check(findings) -> dict:
    return {finding.check: finding for finding in findings}


def test_the_command_on_this_machine(tmp_path: Path, scenes: Path) -> None:
    done = run_gaprun("doctor", "--json", cwd=tmp_path, env={"GAPRUN_DATA": str(scenes), "GAPRUN_DB": "r.db"})
    found = {line["check"]: line for line in json.loads(done.stdout)}
    assert {"python", "packages", "device", "precision", "decoder", "data", "database", "disk"} <= set(found)
    assert found["packages"]["state"] == "ok" and found["device"]["state"] == "ok"
    assert "scenes/train" in found["data"]["said"] and "does not exist yet" in found["database"]["said"]
    assert done.returncode == (1 if any(line["state"] == "fail" for line in found.values()) else 0)
    assert not (tmp_path / "r.db").exists()  # looking changes nothing


def test_a_failure_is_exit_code_1_and_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "r.db").write_text("not a database at all")
    done = run_gaprun("doctor", cwd=tmp_path, env={"GAPRUN_DB": "r.db", "GAPRUN_DATA": "nowhere"})
    assert done.returncode == 1
    assert re.search(r"^fail +database .*name another one", done.stdout, re.M), done.stdout
    assert re.search(r"^warn +data .*\n +-> .*gaprun data scenes", done.stdout, re.M), done.stdout


def test_device() -> None:
    assert by_check(machine.judge(GOOD, nvidia=False, cores=4))["device"].state == "ok"
    lost = by_check(machine.judge(GOOD | {"cuda_error": "driver too old"}, nvidia=True, cores=4))["device"]
    assert lost.state == "warn" and "driver too old" in lost.said and "CUDA build" in lost.advice
    cards = [{"name": "H100", "gib": 79.6}] * 2
    found = by_check(machine.judge(GOOD | {"cards": cards}, nvidia=True, cores=4))["device"]
    assert found.state == "ok" and found.said.startswith("2 GPUs: H100 (80 GiB)")


def test_decoder_and_precision() -> None:
    found = by_check(machine.judge(GOOD, nvidia=False, cores=4))
    assert found["decoder"].state == "ok" and "2800 on 4" in found["decoder"].said
    assert "fp32, bf16; not fp16 (needs a GPU)" in found["precision"].said
    slow = by_check(machine.judge(GOOD | {"pictures_per_second": 20.0}, nvidia=False, cores=4))
    assert slow["decoder"].state == "warn" and "data.cache" in slow["decoder"].advice
    broken = by_check(machine.judge(GOOD | {"decoder_error": "ImportError: x"}, nvidia=False, cores=4))
    assert broken["decoder"].state == "fail"


def test_versions_outside_their_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {"torch": "2.3.0", "numpy": "2.1.0", "psycopg": "2.9"}
    wanted = [
        "torch>=2.6",
        "numpy>=1.26",
        "rich>=13",
        "psycopg>=3.1; extra == 'postgres'",
        "x; extra == 'slurm'",
    ]
    monkeypatch.setattr(versions.metadata, "requires", lambda name: wanted)
    monkeypatch.setattr(versions, "_version", installed.get)
    found = by_check(versions.packages())
    assert set(found) == {"torch", "rich"} and {f.state for f in found.values()} == {"fail"}
    assert (
        found["torch"].said == "2.3.0 is outside >=2.6"
        and found["torch"].advice == "pip install 'torch>=2.6'"
    )
    monkeypatch.setattr(
        versions.metadata,
        "metadata",
        lambda name: type("M", (), {"get_all": lambda s, k: ["postgres", "slurm", "dev"]})(),
    )
    extras = by_check(versions.extras())
    assert extras["psycopg"].state == "warn" and "extra dev" not in extras
    assert (
        extras["extra slurm"].state == "ok" and "pip install 'gaprun[slurm]'" in extras["extra slurm"].advice
    )


def test_shared_memory_of_a_container(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    usage = type("Usage", (), {"total": 64 * 2**20})()
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda folder: usage)
    (found,) = machine.shared_memory(tmp_path)
    assert found.state == "warn" and "--shm-size" in found.advice


def test_a_split_with_a_missing_shard(scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(scenes / "scenes", tmp_path / "scenes")
    next((tmp_path / "scenes" / "train").glob("*.tar")).unlink()
    (tmp_path / "scenes" / "test" / "index.json").write_text("{")
    monkeypatch.setenv("GAPRUN_DATA", str(tmp_path))
    found = by_check(places.data())
    assert found["data scenes/train"].state == "fail" and "00000.tar" in found["data scenes/train"].said
    assert found["data scenes/test"].state == "fail"
    assert found["data"].state == "ok" and "scenes/classes-test" in found["data"].said


def test_databases(tmp_path: Path) -> None:
    path = tmp_path / "r.db"
    open_store(str(path)).close()
    assert "0 runs" in by_check(places.database(str(path)))["database"].said
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    newer = by_check(places.database(str(path)))["database"]
    assert newer.state == "fail" and "upgrade gaprun" in newer.advice
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0000'")
    assert by_check(places.database(str(path)))["database"].advice.startswith("gaprun db upgrade")
    away = by_check(places.database("postgresql://localhost:1/none"))["database"]
    assert away.state == "fail" and away.advice
    assert by_check(places.database("mysql://x/y"))["database"].state == "fail"


def test_little_space(monkeypatch: pytest.MonkeyPatch) -> None:
    def disk(free: float) -> set[str]:
        usage = type("Usage", (), {"free": free})()
        monkeypatch.setattr(places.shutil, "disk_usage", lambda folder: usage)
        return {finding.state for finding in places.disk(None)}

    assert disk(0.5 * 2**30) == {"fail"} and disk(5 * 2**30) == {"warn"} and disk(100 * 2**30) == {"ok"}


def test_nothing_heavy_is_loaded_here() -> None:
    code = "import sys; from gaprun.cli.main import app; import gaprun.doctor.machine, gaprun.doctor.places, "
    code += "gaprun.doctor.versions; assert not {'torch', 'pandas'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPO)


def test_what_a_recipe_takes_of_this_machine(scenes: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("GAPRUN_DATA", str(scenes))
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        "{name: r, data: {train: [scenes/train], cache: device}, schedule: {steps: 2, batch_size: 4}, "
        "model: {inline: {embed_dim: 16, vision: {image_size: 32, layers: 1, width: 32, patch_size: 16}}}}"
    )
    found = by_check(needs(recipe, str(tmp_path / "r.db")))
    assert set(found) == {"recipe memory", "recipe cache", "recipe loaders", "recipe disk"}
    assert {one.state for one in found.values()} == {"ok"} and "0.0 GiB" in found["recipe loaders"].said
    row = {"recipe": "r", "model_memory_gib": 1.0, "activation_memory_gib": 60.0, "cache_device_gib": 22.0}
    (full,) = judge_card([row], 80.0, too_large([row], 80.0))
    assert full.state == "warn" and "61 GiB beside a cache of 22 GiB" in full.said
    assert full.advice.startswith("compute.micro_batch") and full.advice.endswith("data.cache=memory")
    short = judge_need("recipe disk", 90.0, 100.0, "checkpoints", "set GAPRUN_RUNS")
    assert (short.state, short.advice) == ("warn", "set GAPRUN_RUNS")
