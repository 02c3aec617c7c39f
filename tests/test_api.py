"""The Python API: the four verbs, lazily loaded, with the same results as the command line."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import gaprun
from gaprun.errors import UserError
from tests.conftest import RECIPES, TINY


def test_importing_is_cheap_and_compare_needs_no_torch() -> None:
    code = (
        "import sys, gaprun; assert not {'torch', 'pandas', 'sqlalchemy', 'pydantic'} & set(sys.modules);"
        "from gaprun import compare, load_recipe;"
        "assert not {'torch', 'open_clip', 'torchvision'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_completion_finds_the_verbs() -> None:
    assert {"compare", "evaluate", "load_recipe", "train"} <= set(dir(gaprun))


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="no attribute 'fit'"):
        gaprun.fit  # noqa: B018


def test_train_evaluate_compare(scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAPRUN_DATA", str(scenes))
    db = str(tmp_path / "results.db")
    sets = [value for value in TINY if value != "--set"] + ["schedule.steps=3", "eval=[]"]
    ids = [
        run
        for method in ("baseline", "flt")
        for run in gaprun.train(RECIPES / f"{method}.yaml", seeds=[0, 1], overrides=sets, db=db)
    ]
    assert len(ids) == 4
    for run in ids:
        measured = gaprun.evaluate(run, data=["scenes/test"], tasks=["gap"], db=db)
        assert measured.run_id == run and measured.encoded == 96
    with pytest.raises(UserError, match="--pretrained goes with --model ARCH and without --ckpt"):
        gaprun.evaluate(ids[0], model="ViT-B-32", pretrained="openai", data="scenes/test", db=db)
    again = gaprun.evaluate(ids[0], data="scenes/test", tasks="gap", db=db)  # a text alone is a list of one
    assert again.encoded == 0 and {row["dataset"] for row in again.metrics} == {"scenes"}
    assert gaprun.compare("gap", db=db, where="recipe=flt", protocol="full", dataset="scenes").groups == [
        "flt"
    ]
    table = gaprun.compare("gap", db=db, protocol=["full"])
    frame = table.frame()
    assert set(frame["recipe"]) == {"baseline", "flt"} and (frame["n"] == 2).all()
    recipe = gaprun.load_recipe(RECIPES / "baseline.yaml", sets)
    assert gaprun.train(recipe, seeds=[0, 1], db=db) == ids[:2]  # found, not trained again
    renamed = recipe.model_copy(update={"name": "renamed"})  # the same training: the run that there is
    assert gaprun.train(renamed, seeds=[1], db=db) == ids[1:2]
    assert (
        gaprun.train(recipe, seeds=np.arange(2), db=db) == ids[:2] and gaprun.train(recipe, db=db) == ids[:1]
    )
    assert gaprun.train(recipe, seeds=1, db=db) == gaprun.train(recipe, seeds=[1, 1], db=db) == ids[1:2]
    for seeds in ([], [-1], [True], [0.5]):
        with pytest.raises(UserError, match="expected a list of whole numbers"):
            gaprun.train(recipe, seeds=seeds, db=db)
    for wrong in ({"family": "holm"}, {"top": 0}):
        with pytest.raises(UserError, match="expected"):
            gaprun.compare("gap", db=db, **wrong)
    with pytest.raises(UserError, match="overrides go with a recipe file"):
        gaprun.train(recipe, overrides=["optimizer.lr=1"], db=db)


def test_a_bar_for_each_phase_where_it_is_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    from gaprun.api import Bar
    from gaprun.runtime.events import Event

    events = [
        Event("a-s0", "train", 1, 4, "loss 2.0"),
        Event("a-s0", "train", 4, 4),
        Event("a-s0", "test", 1, 2),
    ]
    for wanted in (None, True):  # nobody watches a test
        bar = Bar(wanted)
        for event in events:
            bar(event)
        bar.close()
        shown = capsys.readouterr().err
        assert ("a-s0 train" in shown and "0/2" in shown and "a-s0 test" in shown) == bool(wanted)
