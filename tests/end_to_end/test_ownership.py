"""Whatever a command is told to write, it replaces nothing that gaprun did not write.

A folder holds other people's files in every place that a command can be pointed at. Each command that writes is run on
each of them, and the folder is compared with what it was: every file, its content, and everything around the folder.
The same command on a place of its own works twice.
"""

from __future__ import annotations

import io
import shutil
import sqlite3
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gaprun.cli.main import app
from gaprun.errors import GaprunError
from gaprun.files import MANIFEST
from gaprun.store import open_store
from gaprun.store.publish import publish
from tests.conftest import RECIPES, REPO

RUN = "baseline-s"  # the beginning of ids in results.db.example
SMALL = ["--train", "8", "--test", "8", "--classes-train", "4", "--classes-test", "4"]


def fill(tree: Path, run: str) -> None:
    """Other people's work: texts and pages, an archive, databases, folders that look like gaprun's own."""
    (tree / "docs").mkdir(parents=True)
    (tree / "docs" / "thesis.tex").write_text("years of work")
    for name in ("thesis.tex", "thesis.html", "thesis.zip", "thesis.db"):
        (tree / name).write_text("<!doctype html><title>The modality gap</title> years of work")
    with zipfile.ZipFile(tree / "photos.zip", "w") as archive:
        archive.writestr("photo.jpg", b"jpg")
    with zipfile.ZipFile(tree / "export-and-more.zip", "w") as archive:
        archive.writestr(MANIFEST, '{"files": ["runs.csv"]}')
        archive.writestr("runs.csv", "id\n")
        archive.writestr("thesis.tex", "years of work")
    for name in ("songs.db", "songs.html", "songs.zip"):
        connection = sqlite3.connect(tree / name)
        connection.execute("CREATE TABLE songs (title TEXT)")
        connection.commit()
        connection.close()
    # An export of ours to which somebody added; one of an older gaprun, without a list of its files.
    folders = {
        "export-and-more": {MANIFEST: '{"files": ["runs.csv"]}', "runs.csv": "id", "mine.tex": "x"},
        "old-export": {"runs.csv": "id", "runs.json": "[]"},
        "logs": {f"{run}/events.out.tfevents.1.mine": "events"},
        "model": {"open_clip_config.json": "{}", "open_clip_model.safetensors": "weights"},
    }
    for name, files in folders.items():
        for part, text in files.items():
            (tree / name / part).parent.mkdir(parents=True, exist_ok=True)
            (tree / name / part).write_text(text)
    (tree / "shards" / "train").mkdir(parents=True)
    with tarfile.open(tree / "shards" / "train" / "00000.tar", "w") as tar:
        info = tarfile.TarInfo("photo.jpg")
        info.size = 3
        tar.addfile(info, io.BytesIO(b"jpg"))
    (tree / "link.html").symlink_to("thesis.html")
    (tree / "link-folder").symlink_to("docs")
    (tree / "nowhere.html").symlink_to("nothing.html")
    (tree / "loop.html").symlink_to("loop.html")


def snapshot(folder: Path) -> dict[str, Any]:
    """Every entry below a folder with what it is."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = ("link", str(path.readlink()))
        else:
            found[name] = "folder" if path.is_dir() else path.read_bytes()
    return found


FILES = [
    "thesis.tex",
    "thesis.html",
    "songs.db",
    "songs.html",
    "link.html",
    "nowhere.html",
    "loop.html",
    "docs",
]
ARCHIVES = ["thesis.zip", "photos.zip", "export-and-more.zip", "songs.zip"]
FOLDERS = ["docs", "export-and-more", "old-export", "model", "link-folder", "thesis.tex", "shards"]
DATABASES = ["thesis.db", "thesis.tex", "songs.db", "photos.zip", "docs"]
# Command (TARGET, RUN and EXAMPLE are filled in), places that hold others' files, a place of its own (None: none is
# tried here). `--force` is given wherever a command takes it.
COMMANDS: dict[str, tuple[list[str], list[str], str | None]] = {
    "report": (["report", "--db", "EXAMPLE", "--no-models", "--out", "TARGET"], FILES, "mine/report.html"),
    "theory flow": (["theory", "flow", "--out", "TARGET"], FILES, None),
    "theory init": (["theory", "init", "--inits", "1", "--out", "TARGET"], FILES, None),
    "theory particles": (
        ["theory", "particles", "--pairs", "8", "--steps", "2", "--swap", "hard", "--out", "TARGET"],
        FILES,
        "mine/particles.html",
    ),
    "theory overlay": (
        ["theory", "overlay", "RUN", "--db", "EXAMPLE", "--out", "TARGET"],
        FILES,
        "mine/over.html",
    ),
    "export csv": (
        ["runs", "export", "--db", "EXAMPLE", "--force", "--out", "TARGET"],
        FOLDERS,
        "mine/export",
    ),
    "export parquet": (
        ["runs", "export", "--as", "parquet", "--db", "EXAMPLE", "--force", "--out", "TARGET"],
        FOLDERS,
        "mine/parquet",
    ),
    "export zip": (
        ["runs", "export", "--db", "EXAMPLE", "--force", "--out", "TARGET"],
        ARCHIVES,
        "mine/export.zip",
    ),
    "export tensorboard": (
        [
            "runs",
            "export",
            "--as",
            "tensorboard",
            "--db",
            "EXAMPLE",
            "RUN",
            "--out",
            "TARGET",
        ],
        ["logs", "thesis.tex"],
        "mine/logs",
    ),
    "export mlflow": (
        [
            "runs",
            "export",
            "--as",
            "mlflow",
            "--db",
            "EXAMPLE",
            "RUN",
            "--out",
            "sqlite:///TARGET",
        ],
        ["songs.db", "thesis.tex", "photos.zip"],
        None,
    ),
    "export open_clip": (
        [
            "runs",
            "export",
            "--as",
            "open_clip",
            "--db",
            "EXAMPLE",
            "RUN",
            "--force",
            "--out",
            "TARGET",
        ],
        FOLDERS,
        None,
    ),
    "db copy": (["db", "copy", "EXAMPLE", "TARGET"], DATABASES, "copy.db"),
    "db upgrade": (["db", "upgrade", "--db", "TARGET"], DATABASES, None),
    "runs import": (["runs", "import", "RESULT", "--db", "TARGET"], DATABASES, "imported.db"),
    "runs rm": (["runs", "rm", "RUN", "--yes", "--db", "TARGET"], DATABASES, None),
    "train": (
        [
            "train",
            "RECIPE",
            "--set",
            "schedule.steps=1",
            "--set",
            "schedule.warmup_steps=0",
            "--db",
            "TARGET",
        ],
        DATABASES,
        None,
    ),
    "data scenes": (
        ["data", "scenes", *SMALL, "--force", "--out", "TARGET"],
        ["shards", "thesis.tex"],
        "mine/scenes",
    ),
}


@pytest.fixture
def places(tmp_path: Path, scenes: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """The folder of others' files, worked in; what the commands' words stand for."""
    tree = tmp_path / "around" / "tree"
    shutil.copy(REPO / "results.db.example", tmp_path / "example.db")
    store = open_store(str(tmp_path / "example.db"))
    run = next(run.id for run in store.runs() if run.id.startswith(RUN))
    store.close()
    fill(tree, run)
    (tmp_path / "around" / "beside.tex").write_text("years of work")
    row = '{"dataset": "flickr30k", "model": "m", "pretrained": "", "task": "zeroshot_retrieval", "metrics": '
    (tmp_path / "result.json").write_text(row + '{"image_retrieval_recall@5": 0.5}}')
    (tmp_path / "tiny.yaml").write_text(f"name: tiny\nextends: {RECIPES / 'base' / 'scenes.yaml'}\n")
    monkeypatch.chdir(tree)
    monkeypatch.setenv("GAPRUN_DATA", str(scenes))
    yield {
        "EXAMPLE": str(tmp_path / "example.db"),
        "RUN": run,
        "RESULT": str(tmp_path / "result.json"),
        "RECIPE": str(tmp_path / "tiny.yaml"),
    }


def call(words: list[str], places: dict[str, str], target: str) -> tuple[int, str]:
    """Exit code and everything that is said; an error that a person would see as one line counts as its code."""
    filled = [places.get(word, word).replace("TARGET", target) for word in words]
    done = CliRunner().invoke(app, filled)
    error = done.exception
    if isinstance(error, GaprunError):
        return error.exit_code, done.output + str(error)
    assert error is None or isinstance(error, SystemExit), f"{' '.join(filled)}: {error!r}"
    return done.exit_code, done.output


@pytest.mark.parametrize("name", COMMANDS)
def test_nothing_of_others_is_changed(places: dict[str, str], name: str) -> None:
    words, targets, own = COMMANDS[name]
    around = Path.cwd().parent
    before = snapshot(around)
    for target in targets:
        code, said = call(words, places, target)
        after = snapshot(around)
        changed = [path for path in before if after.get(path) != before[path]]
        assert changed == [], f"{name} on {target} changed {changed}: {said}"
        outside = [path for path in set(after) - set(before) if not path.startswith("tree/")]
        assert outside == [], f"{name} on {target} wrote {outside}"
        assert code in (1, 2), f"{name} on {target} said nothing: {said}"
    if own is not None:
        for _ in range(2):
            code, said = call(words, places, own)
            assert code == 0, said
        after = snapshot(around)
        assert [path for path in before if after.get(path) != before[path]] == []
        left = [path for path in after if Path(path).name.startswith(".gaprun-") or ".tmp" in path]
        assert left == [], "nothing half-written stays"


def test_a_copy_to_give_away_too(places: dict[str, str]) -> None:
    before = snapshot(Path.cwd())
    for target in [*DATABASES, "nowhere.html", "loop.html"]:
        with pytest.raises(GaprunError):
            publish([Path(places["EXAMPLE"])], Path(target))
    assert snapshot(Path.cwd()) == before


def test_every_command_that_writes_is_tried() -> None:
    """A command that takes a place to write to (`--out`, a database as an argument) stands in the table above."""
    from typer.main import get_command

    known = {
        "data coco": "writes as data captions does",
        "data flickr30k": "writes as data captions does",
        "data flickr8k": "writes as data captions does",
        "data captions": "tests/data/test_write.py",
        "data classes": "tests/data/test_classes.py",
        "data index": "tests/data/test_foreign_shards.py",
    }
    found = set()

    def walk(command: Any, path: list[str]) -> None:
        for name, inner in getattr(command, "commands", {}).items():
            walk(inner, [*path, name])
        options = {option for parameter in command.params for option in getattr(parameter, "opts", ())}
        if "--out" in options or path == ["db", "copy"]:
            found.add(" ".join(path))

    walk(get_command(app), [])
    tried = {"runs export" if name.startswith("export ") else name for name in COMMANDS} | set(known)
    assert found - tried == set()
