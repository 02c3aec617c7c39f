"""results.db.example answers before any training, holds all seven methods with five seeds, and names no machine."""

import json
import shutil
import sqlite3
from pathlib import Path

from gaprun.store.publish import publish
from tests.conftest import REPO, run_gaprun

PUBLISHED = {"baseline", "flt", "schedule", "reparam", "slrt", "hard-swap", "soft-swap"}
SCALED = {"flt-scaled", "schedule-scaled", "hard-swap-scaled"}


def test_it_answers_the_question_in_the_readme() -> None:
    words = ["compare", "--db", "results.db.example", "--metric", "gap", "--metric", "recall@5"]
    done = run_gaprun(*words, "--format", "json", cwd=REPO)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert {row["metric"] for row in rows} == {"gap", "image_recall@5", "text_recall@5"}
    seeds = {row["recipe"]: row["n"] for row in rows}
    assert {recipe for recipe, n in seeds.items() if n == 5} == PUBLISHED | SCALED
    assert all(n in (3, 5) for n in seeds.values())
    gap = {row["recipe"]: row["mean"] for row in rows if row["metric"] == "gap" and row["protocol"] == "full"}
    assert all(gap[name] < gap["baseline"] / 2 for name in SCALED | {"soft-swap"})
    recalls = [row["mean"] for row in rows if row["metric"] == "text_recall@5" and row["protocol"] == "full"]
    assert min(recalls) > 50  # chance is about 2.5
    assert not [path.name for path in REPO.glob("results.db.example?*")]


def test_it_names_no_machine_and_no_folder() -> None:
    with sqlite3.connect(f"file:{REPO / 'results.db.example'}?mode=ro", uri=True) as connection:
        rows = connection.execute("SELECT host, pid, folder, checkpoint, environment FROM runs").fetchall()
    assert len(rows) >= 5 * len(PUBLISHED | SCALED)
    assert all(host is None and pid is None for host, pid, *_ in rows)
    assert not any("/tmp" in str(part) or str(part).startswith("/") for row in rows for part in row[2:])


def test_publishing_keeps_the_numbers(tmp_path: Path) -> None:
    shutil.copy(REPO / "results.db.example", tmp_path / "a.db")
    publish(tmp_path / "a.db", tmp_path / "b.db")
    words = ["compare", "--metric", "probe_top1", "--format", "json", "--db"]
    first, second = (run_gaprun(*words, str(tmp_path / name)).stdout for name in ("a.db", "b.db"))
    assert json.loads(first) == json.loads(second) and len(json.loads(first)) >= 10
