"""Shared fixtures: a tiny drawn data set, real data where GAPRUN_TEST_DATA names it, and the command line."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.prepared import Prepared

REPO = Path(__file__).parent.parent
RECIPES = REPO / "recipes"
# One thread: tests run side by side, and results must not depend on the machine's core count.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# A busy machine is no failure. Property tests draw the same examples each time; with `search` others.
settings.register_profile("same", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))

if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # a shell's background job; what tests start would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

PREPARED = Prepared()
Gaprun = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images and captions; skips, saying so, where the variable is unset."""
    folder = os.environ.get("GAPRUN_TEST_DATA")
    if not folder:
        pytest.skip("needs real images: set GAPRUN_TEST_DATA to the folder that holds coco_sample")
    return Path(folder)


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with a small scenes data set."""
    root = tmp_path_factory.mktemp("data")
    sizes = ["--train", "256", "--test", "96", "--classes-train", "160", "--classes-test", "80"]
    done = run_gaprun("data", "scenes", "--out", str(root / "scenes"), *sizes)
    assert done.returncode == 0, done.stderr
    return root


@pytest.fixture
def read_only_folder() -> Iterator[Path]:
    """A folder that this process, as a user without rights, can read but not write."""
    folder = Path(tempfile.mkdtemp(prefix="gaprun-readonly-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755)
    shutil.rmtree(folder)


@pytest.fixture
def unprivileged() -> Callable[[Callable[[], Any]], Any]:
    """Calls run without root's right to write everywhere, where the tests run as root."""

    def call(work: Callable[[], Any]) -> Any:
        if os.getuid() != 0:
            return work()
        os.setresuid(65534, 65534, 0)
        try:
            return work()
        finally:
            os.setresuid(0, 0, 0)

    return call


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first: side by side, a long one at the end would run alone."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def run_gaprun(
    *args: str, cwd: Path | None = None, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the real command line in a process of its own; wide output so that tables are not cut.

    The process is a fork of one that has torch already, unless `env` sets what torch reads when it is imported, or jobs
    are handed to a scheduler, which is to end them itself.
    """
    whole = {**os.environ, "COLUMNS": "250", "OMP_NUM_THREADS": "1", **(env or {})}
    known = all(name.startswith("GAPRUN_") or name == "COLUMNS" for name in env or {})
    python = PREPARED.python if known and "submit" not in args else sys.executable
    command = [python, "-m", "gaprun", *args]
    return subprocess.run(command, cwd=cwd or REPO, env=whole, capture_output=True, text=True, timeout=600)


@pytest.fixture
def gaprun(tmp_path: Path, scenes: Path) -> Gaprun:
    """`gaprun(*args)` in an empty folder, with the scenes as its data root."""

    def call(*args: str) -> subprocess.CompletedProcess[str]:
        return run_gaprun(*args, cwd=tmp_path, env={"GAPRUN_DATA": str(scenes)})

    return call


TINY = (
    "--set",
    f"extends={RECIPES / 'base' / 'scenes.yaml'}",
    "--set",
    "schedule.steps=12",
    "--set",
    "schedule.warmup_steps=2",
    "--set",
    "schedule.batch_size=32",
    "--set",
    "checkpoint.every_steps=5",
)
