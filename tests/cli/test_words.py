"""What commands say beside their tables: what is asked for, what comes next, and what an answer is missing."""

import signal
import sqlite3
import subprocess
import sys

import pytest

from gaprun import cli
from gaprun.cli.common import given, with_db, with_hints
from gaprun.cli.main import main
from gaprun.cli.running import plan_line
from gaprun.jobs.plan import plan_rows, plan_table
from gaprun.recipe.jobs import load_jobs, load_recipe
from gaprun.runtime import events
from gaprun.store import open_store
from gaprun.tables import markdown
from tests.conftest import RECIPES
from tests.paper.conftest import add_run


def test_the_plan_in_a_line() -> None:
    jobs = load_jobs(RECIPES / "quickstart.yaml")
    assert plan_line(jobs) == "4 runs of 600 steps: baseline, hard-swap; seeds 0, 1"
    assert plan_line(jobs[:1]) == "1 run of 600 steps: baseline; seed 0"
    many = load_jobs(RECIPES / "sweeps" / "methods.yaml", seeds=[0])
    assert plan_line(many).endswith(" and 7 more; seed 0")


def test_what_is_typed_next_names_the_database_that_was_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GAPRUN_DB", raising=False)
    assert with_db("gaprun runs list", None) == "gaprun runs list"
    assert with_db("gaprun runs list", "my results.db") == "gaprun runs list --db 'my results.db'"
    server = "postgresql://me:pass1word@host/name"
    assert with_db("gaprun runs list", server) == "gaprun runs list --db 'postgresql://me:***@host/name'"
    monkeypatch.setenv("GAPRUN_DB", "x.db")
    assert with_db("gaprun runs list", "x.db") == "gaprun runs list"


@pytest.mark.parametrize(
    "words, said",
    [
        (["runs", "show", "nosuch"], "no run 'nosuch' in {db}: see `gaprun runs list --db {db}`"),
        (
            ["compare", "--metric", "gap"],
            "metrics yet, and 1 run failed: `gaprun runs show one-s0 --db {db}` says",
        ),
        (["report"], "metrics yet, and 1 run failed: `gaprun runs show one-s0 --db {db}` says why"),
        (
            ["runs", "list", "--db", "no.db"],
            "no.db does not exist: run `gaprun train RECIPE --db no.db` first\n",
        ),
    ],
)
def test_hints_of_errors_can_be_pasted(words, said, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GAPRUN_DB", raising=False)
    store = open_store("mine.db")
    add_run(store, "one", 0, {})
    with sqlite3.connect("mine.db") as connection:
        connection.execute("update runs set status = 'failed'")
    monkeypatch.setattr(sys, "argv", ["gaprun", *words, *([] if "--db" in words else ["--db", "mine.db"])])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2 and said.format(db="mine.db") in capsys.readouterr().err


def test_a_hint_without_a_database_of_ones_own_stays_short(monkeypatch) -> None:
    monkeypatch.setitem(given, "--db", None)
    assert with_hints("see `gaprun runs list`") == "see `gaprun runs list`"
    monkeypatch.setitem(given, "--db", "a b.db")
    assert with_hints("`gaprun runs list`, `gaprun data check x`, `gaprun train --help`, `gaprun`") == (
        "`gaprun runs list --db 'a b.db'`, `gaprun data check x`, `gaprun train --help`, `gaprun`"
    )


def test_a_plan_without_the_data(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAPRUN_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    row, *_ = rows = plan_rows(load_jobs(RECIPES / "quickstart.yaml"), None)
    assert (row["images"], row["steps"], row["cache_memory_gib"]) == (None, 600, None)
    assert row["absent"] == "scenes/train" and row["parameters"] > 1e5
    text = markdown.render(plan_table(rows))
    assert "No data split scenes/train yet: what depends on it is ?." in text and "step GiB" in text


def test_ctrl_c_is_heard_at_once_and_once(capfd: pytest.CaptureFixture[str]) -> None:
    with events.StopRequest().listening() as stop:
        signal.raise_signal(signal.SIGTERM)
        assert stop.requested
        assert capfd.readouterr().err.split() == "stopping, saving (once more: stop at once)".split()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
    assert capfd.readouterr().err == ""


def test_ctrl_c_within_an_import_ends_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    left: list[int] = []
    monkeypatch.setattr(cli, "leave", lambda number, frame: left.append(number))
    (tmp_path / "interrupted_here.py").write_text(
        "import sys\nfrom gaprun import cli\n"
        "try:\n    cli.interrupt(2, sys._getframe())\nexcept KeyboardInterrupt:\n    pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    __import__("interrupted_here")
    assert left
    with pytest.raises(KeyboardInterrupt):
        cli.interrupt(2, None)


def test_a_run_keeps_its_recipe_and_a_log(tmp_path) -> None:
    from gaprun.jobs.log import RunLog, write_recipe

    recipe = load_recipe(RECIPES / "soft-swap.yaml")
    write_recipe(tmp_path, recipe)
    assert load_recipe(tmp_path / "recipe.yaml") == recipe
    heard: list[events.Event] = []
    log = RunLog(tmp_path, heard.append)
    sent = [events.Event("a", "train", step, 100, "loss 1.0") for step in (1, 2, 3, 100)]
    for event in [events.Event("a", "resume", 1, 1, "from step 0"), *sent]:
        log(event)
    log.line("finished")
    lines = [line.partition(" ")[2] for line in (tmp_path / "log.txt").read_text().splitlines()]
    assert lines == ["resume from step 0", "train 1/100 loss 1.0", "train 100/100 loss 1.0", "finished"]
    assert [event.done for event in heard] == [1, 1, 2, 3, 100]


def test_the_plan_stands_before_torch_is_loaded(tmp_path) -> None:
    code = "import sys; from gaprun.cli import main, running; running.checked = lambda *_: sys.exit("
    code += "'torch' in sys.modules); main.main()"
    command = [sys.executable, "-c", code, "train", str(RECIPES / "quickstart.yaml")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "4 runs of 600 steps: baseline, hard-swap; seeds 0, 1\n")
