"""What Tab offers, asked as a shell asks: through the environment, without torch or pandas."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPO

ASK = """
import os, sys
sys.argv = ["gaprun"]
from gaprun.cli.main import app
try:
    app(prog_name="gaprun")
except SystemExit:
    pass
heavy = {"torch", "pandas", "open_clip", "scipy", "sklearn"} & set(sys.modules)
print("HEAVY", sorted(heavy), file=sys.stderr)
"""


def complete(line: str, cwd: Path = REPO, **environment: str) -> list[str]:
    """The words that bash is offered at the end of `line`."""
    words = line.split(" ")
    asked = {"_GAPRUN_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        cwd=cwd,
        env={**os.environ, **asked, **environment},
        capture_output=True,
        text=True,
    )
    assert "HEAVY []" in done.stderr, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "some"),
    [
        ("gaprun do", ["doctor"]),
        ("gaprun wa", ["watch"]),
        ("gaprun watch --no", ["--no-open"]),
        ("gaprun submit --clus", ["--cluster"]),
        ("gaprun submit recipes/re", ["recipes/reparam-scaled.yaml", "recipes/reparam.yaml"]),
        ("gaprun submit recipes/sweeps/soft", ["recipes/sweeps/soft-swap.yaml"]),
        ("gaprun train recipes/fl", ["recipes/flt.yaml"]),
        ("gaprun compare --metric image_recall", ["image_recall@1", "image_recall@5", "image_recall@10"]),
        ("gaprun compare --metric reca", ["recall@1", "recall@5", "recall@10"]),
    ],
)
def test_words(line: str, some: list[str]) -> None:
    assert complete(line) == some


def test_all_recipes_without_a_beginning() -> None:
    assert {"recipes/baseline.yaml", "recipes/quickstart.yaml"} <= set(complete("gaprun submit "))


def test_run_ids_come_from_the_database_named_on_the_line() -> None:
    found = complete("gaprun runs show --db results.db.example flt-same-end-s")
    assert len(found) == 3 and all(run.startswith("flt-same-end-s") for run in found)
    assert complete("gaprun eval --ckpt flt-same-end-s", GAPRUN_DB="results.db.example") == found


def test_no_database_no_folder_no_noise(tmp_path: Path) -> None:
    assert complete("gaprun runs show b", cwd=tmp_path, GAPRUN_DB="absent.db") == []
    assert not list(tmp_path.iterdir())
    assert complete("gaprun submit nowhere/b", cwd=tmp_path) == []


def test_splits(tmp_path: Path) -> None:
    (tmp_path / "pets" / "test").mkdir(parents=True)
    (tmp_path / "pets" / "test" / "index.json").write_text("{}")
    assert complete("gaprun eval --data p", GAPRUN_DATA=str(tmp_path)) == ["pets/test"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_script_for_each_shell(shell: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        env={**os.environ, "_GAPRUN_COMPLETE": f"source_{shell}"},
        capture_output=True,
        text=True,
    )
    assert f"_GAPRUN_COMPLETE=complete_{shell}" in done.stdout and "gaprun" in done.stdout
