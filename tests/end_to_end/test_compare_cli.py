"""`gaprun compare`, `runs` and `db` as a person calls them: output, exit codes, and what is not imported."""

import io
import json
import os
import shutil
import subprocess
import sys
import zipfile

import pytest

from gaprun.cli.main import main
from gaprun.protocols import pool_of
from gaprun.store import EvaluationKey, NewRun, open_store
from gaprun.store.folders import own
from gaprun.store.schema import HEAD


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A database of two recipes with three seeds each, and one failed run."""
    folder = tmp_path_factory.mktemp("results")
    store = open_store(str(folder / "results.db"))
    for recipe, gap in (("baseline", 0.5), ("flt", 0.2)):
        for seed in range(3):
            run_id = f"{recipe}-s{seed}-0000aaaa"
            resolved = {"name": recipe, "temperature": {"rule": "exp" if recipe == "baseline" else "fixed"}}
            store.begin_run(
                NewRun(
                    run_id,
                    recipe,
                    "train",
                    seed,
                    recipe,
                    resolved,
                    {"torch": "2"},
                    "0.1.0",
                    f"runs/{run_id}",
                    100,
                )
            )
            rows = [
                {"step": s, "loss": 5 - s / 50, "gap": gap, "temperature": 0.07} for s in range(0, 101, 5)
            ]
            store.record(run_id, rows)
            key = EvaluationKey(f"c{seed}", 100, "gap", "scenes", "test", "f1", pool_of(512))
            store.add_evaluation(
                run_id, key, {"gap": gap + seed * seed / 100, "image_recall@5": 0.5}, 512, 64
            )
            store.finish_run(run_id, "finished", checkpoint="last.safetensors", checkpoint_hash=f"c{seed}")
    store.begin_run(NewRun("broken-s0", "broken", "train", 0, "h", {}, {}, "0.1.0", "runs/broken-s0", 100))
    store.finish_run("broken-s0", "failed", error="disk full")
    store.close()
    return folder


@pytest.fixture
def folder(filled, tmp_path):
    """A copy of it, with a folder a run that is marked as the run's own."""
    copy = shutil.copytree(filled, tmp_path / "copy")
    store = open_store(str(copy / "results.db"))
    for run in store.runs():
        own(store, run.id)
    store.close()
    return copy


@pytest.fixture
def gaprun(folder, monkeypatch, capsys):
    """Calls the command line in `folder`, in this process: `gaprun("runs", "list", code=0)` is what it printed."""
    for name in [name for name in os.environ if name.startswith("GAPRUN_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(folder)

    def call(*arguments, code=0, answer=""):
        monkeypatch.setattr(sys, "argv", ["gaprun", *arguments])
        monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        assert (ended.value.code or 0) == code, out + err
        if code == 2:
            assert len(err.strip().splitlines()) == 1 and err.startswith("error: ")
        return err if code else out

    return call


def test_compare_prints_the_contract(gaprun):
    rows = json.loads(gaprun("compare", "--metric", "gap", "--format", "json"))
    fields = {"recipe", "metric", "dataset", "protocol", "n", "mean", "std", "ci95", "delta", "p_value"}
    assert [row["recipe"] for row in rows] == ["baseline", "flt"] and all(fields <= set(row) for row in rows)
    assert rows[0]["delta"] is None and rows[1]["delta"] == pytest.approx(-0.3) and rows[1]["n"] == 3
    table = gaprun("compare", "--metric", "gap", "--metric", "recall@5", "--by", "temperature.rule")
    assert "fixed" in table and "image_recall@5 ↑" in table and "No results for text_recall@5." in table
    assert r"\begin{tabular}" in gaprun("compare", "--metric", "gap", "--format", "latex")
    assert "| flt | 3 |" in gaprun("compare", "--metric", "gap", "--format", "markdown")
    assert gaprun("compare", "--metric", "gap", "--format", "csv").startswith("recipe,by,group,setup,metric")
    assert json.loads(gaprun("compare", "--metric", "gap", "--json", "--where", "seed=0"))[0]["ci95"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare"], "name a metric with --metric: the database holds gap, image_recall@5"),
        (["compare", "--metric", "gapp"], "did you mean gap"),
        (["compare", "--metric", "rmg"], "the database holds gap, image_recall@5"),
        (["compare", "--metric", "gap", "--where", "recipe"], "expected key=value"),
        (
            ["compare", "--metric", "gap", "--where", "recipe=nope"],
            "no finished run with recipe=nope has gap",
        ),
        (["compare", "--metric", "gap", "--where", "temp.rule=exp"], "did you mean temperature.rule"),
        (["compare", "--metric", "gap", "--baseline", "x"], "--baseline 'x' is none of the groups"),
        (["compare", "--metric", "gap", "--db", "absent.db"], "absent.db does not exist: run `gaprun train"),
        (["compare", "--metric", "gap", "--db", "runs"], "is a folder"),
        (["compare", "--metric", "gap", "--db", "mysql://h/n"], "no support for 'mysql'"),
        (["runs", "show", "flt"], "could be flt-s0-0000aaaa, flt-s1-0000aaaa"),
        (["runs", "show", "flt-s7"], "did you mean flt-s"),
        (["runs", "rm", "nothing-like-it", "--yes"], "see `gaprun runs list`"),
        (["runs", "export", "--out", "results.db"], "results.db exists"),
        (["db", "info", "--db", "absent.db"], "absent.db does not exist"),
        (["db", "upgrade", "--db", "absent.db"], "absent.db does not exist"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(folder, gaprun, arguments, message):
    before = {path.name for path in folder.iterdir()}
    assert message in gaprun(*arguments, code=2)
    # SQLite's own two files stand beside a database that is open.
    assert {path.name for path in folder.iterdir()} - {"results.db-wal", "results.db-shm"} == before


def test_runs_list_and_show(gaprun):
    listed = json.loads(gaprun("runs", "list", "--json"))
    assert len(listed) == 7 and {"id", "recipe", "seed", "status", "started", "finished"} <= set(listed[0])
    assert (listed[0]["id"], listed[0]["status"], listed[0]["error"]) == ("broken-s0", "failed", "disk full")
    assert "flt-s2-0000aaaa" in gaprun("runs", "list", "--where", "temperature.rule=fixed")
    assert gaprun("runs", "list", "--where", "recipe=none-such") == ""
    shown = json.loads(gaprun("runs", "show", "flt-s0", "--json"))
    assert {"metrics", "checkpoint", "resolved_recipe", "environment"} <= set(shown)
    assert {m["metric"]: m["value"] for m in shown["metrics"]} == {"gap": 0.2, "image_recall@5": 0.5}
    assert {"metric", "dataset", "protocol", "value"} <= set(shown["metrics"][0])
    text = gaprun("runs", "show", "flt-s0", "--recipe")
    assert "loss  5 → 3  (min 3, max 5)" in text and "█" in text and "step 0 … 100" in text
    assert "scenes/test, protocol pool512 (512 items, step 100, checkpoint c0, data f1)" in text
    assert "rule: fixed" in text
    assert "disk full" in gaprun("runs", "show", "broken")


def test_rm_asks_and_takes_rows_and_folder(folder, gaprun):
    assert gaprun("runs", "rm", "flt-s0", code=1, answer="n\n") is not None
    assert (folder / "runs" / "flt-s0-0000aaaa").is_dir()
    assert "removed flt-s0-0000aaaa" in gaprun("runs", "rm", "flt-s0", answer="y\n")
    gaprun("runs", "rm", "flt-s1", "flt-s2", "--yes")
    assert not [path for path in (folder / "runs").iterdir() if path.name.startswith("flt")]
    assert {run["recipe"] for run in json.loads(gaprun("runs", "list", "--json"))} == {
        "baseline",
        "broken",
    }


def test_export_and_db(folder, gaprun):
    said = json.loads(gaprun("runs", "export", "--out", "flt.zip", "--where", "recipe=flt", "--json"))
    assert said == {"path": "flt.zip", "runs": 3, "evaluations": 3, "metrics": 6, "trajectory": 63}
    assert "runs.json" in zipfile.ZipFile(folder / "flt.zip").namelist()
    facts = json.loads(gaprun("db", "info", "--json"))
    assert facts["by_status"] == {"failed": 1, "finished": 6} and facts["metrics"] == 12
    assert "6 finished" in gaprun("db", "info")
    assert f"is at {HEAD} (newest)" in gaprun("db", "upgrade")


IMPORTS = """
import sys
from typer.testing import CliRunner
from gaprun.cli.main import app
for arguments in (["--help"], ["compare", "--metric", "gap"], ["compare", "--metric", "gap", "--json"],
                  ["runs", "list"], ["runs", "show", "flt-s0"]):
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, (arguments, result.output, result.exception)
heavy = ("torch", "open_clip", "torchvision", "pandas", "scipy", "sklearn", "plotly", "alembic")
print([name for name in heavy if name in sys.modules])
"""


def test_nothing_heavy_is_imported(folder):
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GAPRUN_")}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
