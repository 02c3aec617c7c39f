"""Whether this machine has what a recipe's runs take: the GPU's and the host's memory, /dev/shm, disk."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gaprun.data.cache import free_memory
from gaprun.doctor.places import runs_folder
from gaprun.doctor.result import CheckResult

GIB = 2**30
SHARED = Path("/dev/shm")


def needs(recipe: Path, db: str | None) -> Iterator[CheckResult]:
    """Findings of the largest of the recipe's jobs, run alone; `recipe disk` of all of them together."""
    from gaprun.jobs.plan import plan_rows, too_large
    from gaprun.recipe.jobs import load_jobs
    from gaprun.training.memory import card_gib

    rows = plan_rows(load_jobs(recipe), db)
    card = card_gib()
    for absent in sorted({row["absent"] for row in rows if row["absent"]}):
        said = f"no data split {absent} yet: what depends on it counts as nothing"
        yield CheckResult("recipe data", "warn", said, "see `gaprun data --help`, or set GAPRUN_DATA")
    yield from judge_card(rows, card, too_large(rows, card))
    places = {
        "cache": ("cache_memory_gib", free_memory(), "decoded pictures", "set data.cache=disk or none"),
        "loaders": (
            "loader_memory_gib",
            shutil.disk_usage(SHARED).free if SHARED.is_dir() else free_memory(),
            "batches in /dev/shm, and as much page-locked memory on a GPU",
            "lower data.workers, or start the container with a larger --shm-size",
        ),
    }
    for what, (key, free, words, advice) in places.items():
        yield judge_need(f"recipe {what}", max(row[key] or 0.0 for row in rows), free / GIB, words, advice)
    folder = runs_folder(db)
    existing = next(place for place in (folder, *folder.parents) if place.is_dir())
    disk = sum(row["disk_gib"] for row in rows if row["status"] != "finished")
    disk += max(row["cache_disk_gib"] or 0.0 for row in rows)
    left = shutil.disk_usage(existing).free / GIB
    yield judge_need("recipe disk", disk, left, f"checkpoints and cache in {folder}", "set GAPRUN_RUNS")


def judge_card(rows: list[dict[str, Any]], card: float | None, lines: list[str]) -> Iterator[CheckResult]:
    """What a step and a device cache take of a GPU with `card` GiB; `lines`: what does not fit."""
    takes = [
        row["model_memory_gib"] + (row["activation_memory_gib"] or 0.0) + (row["cache_device_gib"] or 0.0)
        for row in rows
    ]
    said = f"{max(takes):.1f} GiB for a step and a device cache"
    if lines:
        yield from (CheckResult("recipe memory", "warn", *line.split(": set ", 1)) for line in lines)
    else:
        yield CheckResult("recipe memory", "ok", said + (f" of {card:.0f} on the GPU" if card else ""))


def judge_need(check: str, need: float, free: float, words: str, advice: str) -> CheckResult:
    """One finding: `need` GiB for `words` where `free` are free."""
    said = f"{need:.1f} GiB for {words}, {free:.1f} are free"
    return CheckResult(check, "ok", said) if need <= 0.8 * free else CheckResult(check, "warn", said, advice)
