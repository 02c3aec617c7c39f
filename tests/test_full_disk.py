"""A disk that takes no more: what was begun leaves no half file, and one line says what happened."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import text

from gaprun.errors import Failure
from gaprun.recipe.packaged import write_recipes
from gaprun.store import open_store
from gaprun.store.copying import copy_between
from tests.conftest import REPO

EXAMPLE = REPO / "results.db.example"


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """No file can grow beyond `size` bytes, as on a disk that has no more room."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def example(tmp_path: Path) -> str:
    """A copy of the published database, in a folder of its own."""
    place = tmp_path / "from" / "example.db"
    place.parent.mkdir()
    shutil.copy(EXAMPLE, place)
    return str(place)


def test_a_copied_database_appears_whole_or_not_at_all(example: str, tmp_path: Path) -> None:
    target = tmp_path / "to" / "copy.db"
    target.parent.mkdir()
    with (
        files_up_to(2**21),
        pytest.raises(Failure, match=r"^database .*to/copy\.db: .*disk.*; free some space there$") as caught,
    ):
        copy_between(example, str(target))
    assert "\n" not in str(caught.value) and list(target.parent.iterdir()) == []
    report = copy_between(example, str(target))
    assert [path.name for path in target.parent.iterdir()] == ["copy.db"]
    with open_store(str(target)).engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM runs")).scalar() == len(report.copied) > 200


def test_a_database_that_was_there_is_left_as_it_was(example: str, tmp_path: Path) -> None:
    target = tmp_path / "to" / "mine.db"
    target.parent.mkdir()
    open_store(str(target)).close()
    before = target.read_bytes()
    with files_up_to(2**21), pytest.raises(Failure, match=r"mine\.db: .*disk"):
        copy_between(example, str(target))
    assert [path.name for path in target.parent.iterdir()] == ["mine.db"] and target.read_bytes() == before


def test_an_upgrade_whose_backup_fails_leaves_none(example: str) -> None:
    with open_store(example).engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0004'"))
    with files_up_to(2**21), pytest.raises(Failure, match="needs an upgrade, but its backup .* failed"):
        open_store(example)
    assert not [path for path in Path(example).parent.iterdir() if "before" in path.name]


def test_recipes_are_written_all_or_none(tmp_path: Path) -> None:
    mine = tmp_path / "there" / "mine.yaml"
    mine.parent.mkdir()
    mine.write_text("name: mine\n")
    for folder in (tmp_path / "new" / "recipes", mine.parent):
        with files_up_to(1000), pytest.raises(Failure, match="cannot be written: File too large"):
            write_recipes(folder)
    assert list(tmp_path.rglob("*")) == [mine.parent, mine]
    assert write_recipes(mine.parent) > 50


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("args", [("--version",), ("db", "info", "--db", str(EXAMPLE))])
def test_what_is_printed_onto_a_full_disk_is_one_line(args: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "gaprun", *args], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 1
    assert done.stderr == (
        "error: No space left on device: what was to be printed or written is not whole; free some space\n"
    )
