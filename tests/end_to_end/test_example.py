"""results.db.example answers before any training, holds all seven methods with five seeds on scenes and all seven on
photos, names no machine, and is small.
"""

import gzip
import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

from gaprun.store.publish import publish
from tests.conftest import REPO, run_gaprun

PUBLISHED = {"baseline", "flt", "schedule", "reparam", "slrt", "hard-swap", "soft-swap"}
LONGER = {"baseline", "schedule", "reparam", "slrt"}
SCALED = {"flt-scaled", "schedule-scaled", "hard-swap-scaled"}
PHOTOS = {"baseline", "flt-scaled", "schedule-scaled", "reparam", "slrt", "hard-swap-scaled", "soft-swap"}
TWICE = {"baseline", "reparam", "schedule-scaled", "schedule-same-ends", "slrt"}
SWAPS = {f"{kind}-swap-probability={share}" for kind in ("hard", "soft") for share in (0.2, 1)}
FIELD = {
    "baseline",
    "flt",
    "schedule",
    "mean-gap",
    "contrastive-gap",
    "modgap",
    "cyclip",
    "separation",
    "adversary",
}
FIELD |= {"random-alignment", "geodesic-mixup", "sigmoid", "relative-sigmoid"}
SCENES = ("--where", "schedule.steps=600", "--where", "data.resize=none")
RESNET = ("--where", "model.inline.vision.patch_size=null")
TOWERS = {"baseline [shared=none]", "separation", "baseline [shared=true]", "alignclip"}
REFINED = {
    f"{name} [lr={rate}]" for name in ("baseline", "mean-gap", "clip-refine") for rate in ("4e-06", "0.0002")
}


def ask(*words: str) -> list[dict[str, Any]]:
    done = run_gaprun("compare", "--db", "results.db.example", *words, "--format", "json", cwd=REPO)
    assert done.returncode == 0, done.stderr
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


def test_it_answers_the_question_in_the_readme() -> None:
    rows = ask("--metric", "gap", "--metric", "recall@5")
    assert {row["metric"] for row in rows} == {"gap", "image_recall@5", "text_recall@5"}
    setups = {row["setup"] for row in rows}  # each with a baseline of its own
    assert len(setups) == len({row["baseline"] for row in rows}) >= 3
    assert all(row["setup"] in row["baseline"] for row in rows)
    photos = {row["recipe"].partition(" [")[0] for row in rows if row["dataset"] == "flickr8k"}
    assert photos >= PHOTOS and all(
        (row["dataset"] == "flickr8k") == row["setup"].startswith("flickr8k") for row in rows
    )
    rows = ask("--metric", "gap", "--metric", "recall@5", *SCENES)
    seeds = {row["recipe"]: row["n"] for row in rows}
    assert {recipe for recipe, n in seeds.items() if n == 5} == PUBLISHED | SCALED
    assert len(seeds) == 24 and set(seeds.values()) == {3, 5}
    found = {(row["recipe"], row["metric"]): row["mean"] for row in rows if row["protocol"] == "full"}
    assert all(found[name, "gap"] < found["baseline", "gap"] / 2 for name in SCALED | {"soft-swap"})
    assert all(found[name, "text_recall@5"] > 60 for name in PUBLISHED | SCALED)  # chance is about 0.5
    assert not [path.name for path in REPO.glob("results.db.example?*")]


def test_photos_and_the_fields_methods_have_three_seeds_each() -> None:
    temperatures = {f"flt-tau={tau}" for tau in (0.01, 0.02, 0.04, 0.07, 0.1, 0.2, 0.4)}
    for where, recipes in (
        (("--where", "schedule.epochs=18"), PHOTOS | temperatures | SWAPS),
        (("--where", "schedule.epochs=36"), TWICE | temperatures - {"flt-tau=0.01", "flt-tau=0.4"}),
        (("--where", "data.resize=model", "--where", "schedule.steps=600", *RESNET), FIELD),
        (("--where", "model.inline.vision.patch_size=8"), TOWERS),
        (("--where", "model.pretrained=*"), REFINED),
    ):
        assert {row["recipe"]: row["n"] for row in ask("--metric", "gap", *where)} == dict.fromkeys(
            recipes, 3
        )


def test_the_longer_runs_stand_apart() -> None:
    rows = ask("--metric", "zeroshot_top1", "--where", "schedule.steps=6000")
    assert {row["recipe"]: row["n"] for row in rows} == dict.fromkeys(LONGER, 3)
    assert all(row["mean"] > 90 for row in rows)


def test_it_names_no_machine_and_no_folder() -> None:
    with sqlite3.connect(f"file:{REPO / 'results.db.example'}?mode=ro", uri=True) as connection:
        rows = connection.execute("SELECT host, pid, folder, checkpoint, environment FROM runs").fetchall()
    assert len(rows) >= 5 * len(PUBLISHED | SCALED)
    assert all(host is None and pid is None for host, pid, *_ in rows)
    assert not any("/tmp" in str(part) or str(part).startswith("/") for row in rows for part in row[2:])


def test_what_clip_refine_starts_from_is_no_row() -> None:
    """A baseline of a fourth seed would change the table of the field's methods."""
    with sqlite3.connect(f"file:{REPO / 'results.db.example'}?mode=ro", uri=True) as connection:
        rows = connection.execute("SELECT seed, resolved_recipe FROM runs WHERE kind = 'train'").fetchall()
    starts = {json.loads(recipe)["model"].get("pretrained") for _, recipe in rows}
    assert starts == {None, "runs/baseline-s100-f0062da4"} and 100 not in {seed for seed, _ in rows}


def test_a_clone_can_bear_it() -> None:
    """As it lies in a checkout, and compressed, as git transfers it."""
    content = (REPO / "results.db.example").read_bytes()
    assert len(content) < 12e6 and len(gzip.compress(content)) < 3e6


def test_publishing_keeps_the_numbers(tmp_path: Path) -> None:
    shutil.copy(REPO / "results.db.example", tmp_path / "a.db")
    publish([tmp_path / "a.db"], tmp_path / "b.db")
    words = ["compare", "--metric", "probe_top1", "--format", "json", "--db"]
    first, second = (run_gaprun(*words, str(tmp_path / name)).stdout for name in ("a.db", "b.db"))
    assert json.loads(first) == json.loads(second) and len(json.loads(first)) >= 10
