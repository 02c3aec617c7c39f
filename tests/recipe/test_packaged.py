"""gaprun's own recipes are found by name from anywhere, also where gaprun came as a wheel."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from gaprun.errors import UserError
from gaprun.recipe.jobs import load_jobs, load_recipe
from gaprun.recipe.packaged import found, names, packaged, write_recipes
from tests.conftest import PREPARED, RECIPES, REPO


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "name, file",
    [
        ("reparam", "reparam.yaml"),
        ("recipes/reparam.yaml", "reparam.yaml"),
        ("cyclip", "methods/cyclip.yaml"),
        ("sweeps/methods", "sweeps/methods.yaml"),
        ("base/scenes.yaml", "base/scenes.yaml"),
    ],
)
def test_a_name_is_a_packaged_recipe(elsewhere: Path, name: str, file: str) -> None:
    assert packaged() == RECIPES and found(Path(name)) == RECIPES / file


def test_a_file_of_ones_own_comes_first_and_may_extend_a_packaged_one(elsewhere: Path) -> None:
    Path("reparam.yaml").write_text("extends: base/scenes.yaml\nname: mine\nseeds: [7]\n")
    (job,) = load_jobs("reparam.yaml")
    assert (job.recipe.name, job.seed, job.recipe.schedule.steps) == ("mine", 7, 600)
    assert load_recipe("reparam", ["extends=base/scenes.yaml"]).temperature.rule == "softplus"
    Path("sweep.yaml").write_text("recipes: [baseline, mine.yaml]\nbase: base/scenes.yaml\n")
    Path("mine.yaml").write_text("extends: flt\nname: mine\n")
    assert [job.recipe.name for job in load_jobs("sweep.yaml", seeds=[0])] == ["baseline", "mine"]


def test_a_name_that_is_none_says_which_was_meant(elsewhere: Path) -> None:
    with pytest.raises(UserError, match=r"reparm: no such recipe file; did you mean reparam\?"):
        load_jobs("reparm")
    with pytest.raises(UserError, match="gaprun init DIR"):
        load_jobs("nothing-like-it")
    assert {"quickstart", "paper/table2", "templates/photos"} <= set(names())
    assert not any(name.startswith("base/") for name in names())


def test_all_are_written_and_nothing_is_written_over(elsewhere: Path) -> None:
    assert write_recipes(Path("own")) == len(list(RECIPES.rglob("*.yaml")))
    assert [j.recipe_hash for j in load_jobs("own/quickstart.yaml")] == [
        j.recipe_hash for j in load_jobs(RECIPES / "quickstart.yaml")
    ]
    Path("own/flt.yaml").write_text("mine")
    with pytest.raises(UserError, match="is there already and is left as it is"):
        write_recipes(Path("own"))
    assert Path("own/flt.yaml").read_text() == "mine"


@pytest.mark.slow
def test_from_a_wheel_in_an_empty_folder(tmp_path: Path) -> None:
    """Built as the package's own backend builds it, without a network; unpacked as pip would."""
    pytest.importorskip("hatchling")
    build = f"import os; os.chdir({str(REPO)!r}); from hatchling.build import build_wheel; "
    build += f"build_wheel({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", build], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("gaprun-*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    (empty := tmp_path / "empty").mkdir()

    def gaprun(*words: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
        command = [PREPARED.python, "-m", "gaprun", *words]
        return subprocess.run(command, cwd=empty, env=environment, text=True, capture_output=True)

    planned = gaprun("train", "reparam", "--set", "extends=base/scenes.yaml", "--dry-run", "--json")
    assert planned.returncode == 0, planned.stderr
    assert json.loads(planned.stdout)[0]["run"].startswith("reparam-s0-")
    written = gaprun("init", "mine")
    assert written.returncode == 0 and "gaprun train mine/quickstart.yaml" in written.stdout
    shipped = {path.relative_to(RECIPES) for path in RECIPES.rglob("*.yaml")}
    assert {path.relative_to(empty / "mine") for path in (empty / "mine").rglob("*.yaml")} == shipped
