"""Output where the terminal knows few signs, has no columns, or nobody sits at it."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gaprun.cli import streams
from gaprun.cli.running import closing_words
from gaprun.recipe.jobs import load_jobs
from gaprun.store import open_store
from tests.conftest import RECIPES, REPO


@pytest.mark.parametrize(
    ("encoding", "written"),
    [
        ("ascii", "-0.5 +-0.1 v ^ [Delta gamma, inf) Ostergard e 7"),
        ("latin-1", "-0.5 ±0.1 v ^ [Delta gamma, inf) Østergård é 7"),
        ("utf-8", "−0.5 ±0.1 ↓ ↑ [Δ γ, ∞) Østergård é ▇"),
    ],
)
def test_signs_that_an_encoding_lacks_are_spelled_out(
    monkeypatch: pytest.MonkeyPatch, encoding: str, written: str
) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", out)
    streams.prepare()
    print(
        "−0.5 ±0.1 ↓ ↑ [Δ γ, ∞) Østergård é ▇ caf\udce9 \U0001f600" if encoding != "utf-8" else written,
        end="",
    )
    out.flush()
    told = out.buffer.getvalue()
    assert told == (
        f"{written} caf".encode(encoding) + b"\xe9 ?" if encoding != "utf-8" else written.encode()
    )


def test_a_table_is_printed_in_ascii_and_in_no_columns() -> None:
    """The command itself: the means of a table with their minus signs, where it printed nothing or an error."""
    words = [
        "compare",
        "--metric",
        "gap",
        "--where",
        "schedule.steps=600",
        "--db",
        "results.db.example",
    ]
    told = {}
    for encoding, columns in (("ascii", "0"), ("utf-8", "80")):
        environment = {**os.environ, "PYTHONIOENCODING": encoding, "COLUMNS": columns}
        done = subprocess.run(
            [sys.executable, "-m", "gaprun", *words],
            env=environment,
            cwd=REPO,
            capture_output=True,
            check=True,
        )
        told[encoding] = done.stdout.decode(encoding)
    assert "−0." in told["utf-8"] and "±" in told["utf-8"]
    spelled = str.maketrans({"−": "-", "±": "+-", "↓": "v", "◂": "<", "Δ": "Delta"})
    assert told["ascii"].split() == told["utf-8"].translate(spelled).split()


def test_nobody_to_ask_is_said() -> None:
    words = [
        sys.executable,
        "-m",
        "gaprun",
        "runs",
        "rm",
        "baseline-s4-85b9359f",
        "--db",
        "results.db.example",
    ]
    told = subprocess.run(
        ["sh", "-c", 'exec "$@" <&-', "sh", *words], cwd=REPO, capture_output=True, text=True, check=False
    )
    assert told.returncode == 2 and told.stderr.endswith("nobody can be asked here; --yes does not ask\n")


def test_a_database_whose_name_is_no_utf8_is_named_at_the_end_of_a_training(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "caf\udce9.db"
    closing_words(open_store(str(path)), load_jobs(RECIPES / "quickstart.yaml"), str(path))
    assert "4 runs in " in (told := capfd.readouterr().err) and "next: gaprun compare" in told
