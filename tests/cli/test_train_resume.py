"""`train --resume` goes on with a stored run only where its recipe still means what it meant."""

from pathlib import Path

import pytest

from gaprun.cli.running import say_unfinished
from gaprun.cli.train import _jobs
from gaprun.errors import UserError
from gaprun.recipe.jobs import load_jobs
from gaprun.store import NewRun, open_store
from tests.conftest import REPO


def stored(folder: Path, recipe_hash: str | None) -> tuple[str, str]:
    """A run of the quickstart's first job in a new database, under `recipe_hash` or its own: id and database."""
    job = load_jobs(REPO / "recipes" / "quickstart.yaml", [], [0])[0]
    run = NewRun(
        id=job.id,
        recipe=job.recipe.name,
        kind="train",
        seed=job.seed,
        recipe_hash=recipe_hash or job.recipe_hash,
        resolved_recipe=job.recipe.model_dump(mode="json"),
        environment={},
        code_version="0",
        folder=str(folder / "runs" / job.id),
        total_steps=600,
    )
    url = str(folder / "results.db")
    open_store(url).begin_run(run)
    return job.id, url


def test_a_stored_recipe_is_gone_on_with(tmp_path: Path) -> None:
    run, url = stored(tmp_path, None)
    (job,) = _jobs(None, run, [], None, url)
    assert job.id == run


def test_a_recipe_that_is_now_read_otherwise_is_refused(tmp_path: Path) -> None:
    """As runs from before a change of how pictures are resized: their weights are of other pictures."""
    run, url = stored(tmp_path, "0" * 64)
    with pytest.raises(UserError, match=f"run {run} was trained by a gaprun that read its recipe otherwise"):
        _jobs(None, run, [], None, url)


def test_a_run_whose_folder_is_elsewhere_is_not_begun_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As from another working folder than the one in which it was trained, with a database on a server."""
    run, url = stored(tmp_path, None)
    open_store(url).heartbeat(run, 500)
    with pytest.raises(
        UserError, match=f"run {run} came to step 500, but its folder .*runs/{run} is not here"
    ):
        _jobs(None, run, [], None, url)
    (tmp_path / "kept" / run).mkdir(parents=True)
    monkeypatch.setenv("GAPRUN_RUNS", str(tmp_path / "kept"))
    assert _jobs(None, run, [], None, url)[0].id == run


def test_a_stopped_run_of_the_recipe_before_it_was_changed_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, url = stored(tmp_path, None)
    store = open_store(url)

    def said(*changes: str, seed: int = 0) -> str:
        say_unfinished(store, load_jobs(REPO / "recipes" / "quickstart.yaml", list(changes), [seed])[:1], url)
        return capsys.readouterr().err

    changed = "schedule.steps=700"
    assert said(changed) == ""  # it has not come to a step that could be lost
    store.heartbeat(run, 500)
    beside = f"{run} (running at step 500) has another recipe of the same name and stays as it is"
    assert said(changed) == f"{beside}\n"
    store.finish_run(run, "interrupted")
    stopped = beside.replace("running", "interrupted")
    assert said(changed) == f"{stopped}; go on with it: gaprun train --resume {run} --db {url}\n"
    assert said() == said(changed, seed=1) == ""
