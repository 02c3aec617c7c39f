"""Bad input: one clear line, the right exit code, no traceback, nothing written. Data's own cases: test_data_cli.py."""

import os
import re
import shutil
from pathlib import Path

import pytest
import torch

from tests.conftest import RECIPES

BASELINE = f"{RECIPES}/baseline.yaml"
SCENES = f"extends={RECIPES}/base/scenes.yaml"


def world(folder: Path, scenes: Path) -> None:
    """Everything that the cases name."""
    (folder / "text.yaml").write_text("just text")
    (folder / "binary.yaml").write_bytes(bytes(range(128, 256)))
    (folder / "typo.yaml").write_text(f"extends: {BASELINE}\nname: t\noptimzer: {{lr: 1}}")
    (folder / "unsafe.yaml").write_text("name: !!python/object/apply:os.system ['touch hacked']")
    (folder / "sweep.yaml").write_text("recipes: [gone.yaml]")
    (folder / "sweepkey.yaml").write_text("recipes: [a.yaml]\nseed: 1")
    (folder / "not.db").write_text(
        "this is no database, but it is long enough to be read as a header at least"
    )
    (folder / "bad.pt").write_bytes(b"garbage")
    torch.save({"epoch": 1, "optimizer": {}}, folder / "foreign.pt")
    (folder / "adir").mkdir()
    (folder / "halfset").mkdir()
    (folder / "halfset" / "00000.tar").write_bytes(b"")
    shutil.copytree(scenes / "scenes" / "test", folder / "noshard" / "test")
    (folder / "noshard" / "test" / "00000.tar").unlink()
    shutil.copytree(scenes / "scenes" / "test", folder / "badindex" / "test")
    (folder / "badindex" / "test" / "index.json").write_text("{")


# What is typed, what the line must say.
CASES = [
    ("train", "needs|name a recipe file"),
    ("train gone.yaml", "gone.yaml: no such recipe file"),
    ("train adir", "is a folder"),
    ("train text.yaml", "a recipe is a mapping"),
    ("train binary.yaml", "cannot be read as text"),
    ("train typo.yaml", "optimzer: unknown key; did you mean optimizer?"),
    ("train unsafe.yaml", "not valid YAML"),
    ("train sweep.yaml", "gone.yaml: no such recipe file"),
    ("train sweepkey.yaml", "seed: unknown key in a sweep"),
    (f"train {BASELINE}", "no data split 'coco/train'"),
    (f"train {BASELINE} --set {SCENES} --set data.train=[halfset]", "has shards but no index.json"),
    (f"train {BASELINE} --set {SCENES} --set data.train=[noshard/test]", "lacks its shard 00000.tar"),
    (f"train {BASELINE} --set {SCENES} --set data.train=[badindex/test]", "cannot be read"),
    (
        f"train {BASELINE} --set {SCENES} --set data.train=[scenes/classes-train]",
        "no image there has a caption",
    ),
    (
        f"train {BASELINE} --set {SCENES} --set schedule.batch_size=9999",
        "9999 is more than the 256 training images: set it lower",
    ),
    (
        f"train {BASELINE} --set {SCENES} --set schedule.steps=0",
        "schedule.steps: input should be greater than 0",
    ),
    (f"train {BASELINE} --set {SCENES} --set schedule.steps", "expected key.path=value"),
    (f"train {BASELINE} --set {SCENES} --set eval=[{{task:\tgap}}]", "not valid YAML|eval"),
    (f"train {BASELINE} --set {SCENES} --set temperature.rule=softmax", "temperature.rule: expected one of"),
    (f"train {BASELINE} --set {SCENES} --set compute.precision=fp16", "fp16 needs a CUDA device"),
    (f"train {BASELINE} --set {SCENES} --set model.inline=null --set model.arch=RN5O", "did you mean RN50"),
    (f"train {BASELINE} --set {SCENES} --device cuda:7", "--device cuda:7: not available"),
    (f"train {BASELINE} --set {SCENES} --seeds a,b", "expected whole numbers with commas"),
    (f"train {BASELINE} --set {SCENES} --seeds -1", "seeds are not negative"),
    (f"train {BASELINE} --set {SCENES} --jobs 0", "--jobs"),
    (f"train {BASELINE} --set extends=gone.yaml", "gone.yaml: no such recipe file"),
    (f"train {BASELINE} --set {SCENES} --db adir", "adir"),
    (f"train {BASELINE} --set {SCENES} --db not.db", "not.db"),
    (f"train {BASELINE} --set {SCENES} --db nowhere://x", "nowhere"),
    ("train --resume nobody --db none.db", "none.db"),
    ("train --flag", "No such option"),
    ("eval", "name what to measure"),
    ("eval --ckpt x --model RN50 --pretrained openai", "--pretrained goes with --model"),
    ("eval --pretrained openai --ckpt x", "--pretrained goes with --model"),
    ("eval --ckpt bad.pt --data scenes/test", "damaged, or not a checkpoint"),
    ("eval --ckpt foreign.pt --data scenes/test", "foreign.pt"),
    ("eval --ckpt adir --data scenes/test", "adir"),
    ("eval --ckpt nobody --data scenes/test", "nobody"),
    ("eval --ckpt bad.pt --data gone/test", "no data split 'gone/test'"),
    ("eval --ckpt bad.pt --data scenes/test --tasks gapp", "unknown task; did you mean gap?"),
    (
        "eval --ckpt bad.pt --data scenes/classes-test --tasks retrieval",
        "needs captions, which no --data has",
    ),
    ("eval --model RN5O --data scenes/test", "did you mean RN50"),
    ("eval --model RN50 --pretrained opnai --data scenes/test", "did you mean openai"),
    ("compare --metric gap --db none.db", "none.db"),
    ("runs show nobody --db none.db", "none.db"),
    ("runs rm nobody --db not.db", "not.db"),
    ("trian", "No such command"),
    ("init not.db", "not.db is a file: name another folder"),
    ("init not.db/below", "not.db is a file: name another folder"),
    ("eval --data scenes/test", "or --embeddings FILE"),
    (f"train {BASELINE} --resume x", "--resume x goes on with a stored recipe: leave out"),
    ("data classes data", "error: no picture file in data"),
    ("data index gone", "error: gone: no such folder or shard"),
    ("data check gone", "see `gaprun data --help`, or set GAPRUN_DATA"),
    ("theory particles --swap hard", "a swap needs steps of gradient descent"),
    ("theory flow --given gone.npz", "--given gone.npz cannot be read: No such file"),
    ("theory flow --given bad.pt", "--given bad.pt: expected an .npz of numbers with arrays u and v"),
]


@pytest.mark.parametrize(("words", "expected"), CASES, ids=[words or "-" for words, _ in CASES])
def test_one_clear_line(
    words: str, expected: str, tmp_path: Path, scenes: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    from gaprun.cli.main import main

    world(tmp_path, scenes)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "scenes").symlink_to(scenes / "scenes")
    for name in ("halfset", "noshard", "badindex"):
        (tmp_path / "data" / name).symlink_to(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GAPRUN_DATA", raising=False)
    monkeypatch.setattr("sys.argv", ["gaprun", *words.split(" ")])
    before = {str(p) for p in tmp_path.rglob("*")}
    with pytest.raises(SystemExit) as stopped:
        main()
    output = capsys.readouterr()
    assert stopped.value.code == 2, output.err
    shown = " ".join(output.err.split())
    assert any(part in shown for part in expected.split("|")), output.err
    assert "Traceback" not in output.err and output.out == ""
    if "No such" not in expected and expected != "--jobs":  # typer's own messages carry a usage box
        planned = words.startswith("train") and re.match(r"\d+ runs?( of \d+ steps)?: ", output.err)
        lines = output.err.splitlines()[1 if planned else 0 :]
        assert len(lines) == 1 and lines[0].startswith("error: "), output.err
    after = {str(p) for p in tmp_path.rglob("*")} - before
    left = {os.path.basename(p) for p in after}
    assert left <= {"results.db", "results.db-wal", "results.db-shm"}, left
