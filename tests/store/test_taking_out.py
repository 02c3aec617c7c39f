"""Export gives back every row; removal deletes the run's own folder and no other."""

import csv
import json
import math
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import make_url

from gaprun.errors import Failure, UserError
from gaprun.exchange.results import import_files
from gaprun.store import open_store
from gaprun.store.content import by_run, read_rows
from gaprun.store.export import export
from gaprun.store.folders import check_mark, own, read_mark
from gaprun.store.place import locate
from gaprun.store.removal import remove_run


def fill(store, new_run, key):
    for seed in (0, 1):
        store.begin_run(new_run("baseline", seed, note='with "quotes", commas\nand ünïcode', lr=0.1))
        store.record(
            f"baseline-s{seed}", [{"step": s, "loss": 1 / (s + 3), "gap": math.nan} for s in range(5)]
        )
        store.add_evaluation(f"baseline-s{seed}", key(), {"gap": 1 / 3 + seed, "rmg": math.nan}, 512, 64)
        store.finish_run(f"baseline-s{seed}", "finished")


def test_the_export_holds_every_row_exactly(store, new_run, key, tmp_path):
    fill(store, new_run, key)
    counts = export(store, tmp_path / "out")
    assert counts == {"runs": 2, "evaluations": 2, "metrics": 4, "trajectory": 10}
    tables = {
        path.stem: list(csv.DictReader(path.open(newline=""))) for path in (tmp_path / "out").glob("*.csv")
    }
    assert {name: len(rows) for name, rows in tables.items()} == counts
    assert [float(row["loss"]) for row in tables["trajectory"][:5]] == [1 / (s + 3) for s in range(5)]
    assert {(r["run_id"], r["name"]): r["value"] for r in tables["metrics"]} == {
        ("baseline-s0", "gap"): repr(1 / 3),
        ("baseline-s0", "rmg"): "",
        ("baseline-s1", "gap"): repr(1 / 3 + 1),
        ("baseline-s1", "rmg"): "",
    }
    runs = json.loads((tmp_path / "out" / "runs.json").read_text())
    assert json.loads(tables["runs"][0]["resolved_recipe"]) == runs[0]["resolved_recipe"]
    assert runs[0]["resolved_recipe"]["note"] == 'with "quotes", commas\nand ünïcode'
    assert runs[0]["started"].endswith("+00:00")


def test_a_zip_of_some_runs_and_nothing_is_overwritten_unasked(store, new_run, key, tmp_path):
    fill(store, new_run, key)
    target = tmp_path / "sub" / "out.zip"
    assert export(store, target, ["baseline-s1"])["metrics"] == 2
    with zipfile.ZipFile(target) as archive:
        assert archive.namelist() == [
            "gaprun-files.json",
            "evaluations.csv",
            "metrics.csv",
            "runs.csv",
            "runs.json",
            "trajectory.csv",
        ]
    before = target.read_bytes()
    with pytest.raises(UserError, match="exists: name another"):
        export(store, target)
    assert target.read_bytes() == before
    assert export(store, target, force=True)["metrics"] == 4
    assert [path.name for path in target.parent.iterdir()] == ["out.zip"]
    with pytest.raises(Failure, match="cannot be written"):
        export(store, target / "below-a-file")


def test_removal_takes_the_run_folder_along(store, new_run, key, tmp_path, monkeypatch):
    monkeypatch.setenv("GAPRUN_RUNS", str(tmp_path / "runs"))
    fill(store, new_run, key)
    for seed in (0, 1):
        own(store, f"baseline-s{seed}", {"seed": seed})
        write_run_files(tmp_path / "runs" / f"baseline-s{seed}")
    said = remove_run(store, store.run("baseline-s0"))
    assert said == f"removed baseline-s0 and {tmp_path / 'runs' / 'baseline-s0'}"
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["baseline-s1"]
    assert remove_run(store, store.run("baseline-s1"), keep_files=True) == "removed baseline-s1"
    assert (tmp_path / "runs" / "baseline-s1" / "checkpoints" / "step-00000003.pt").exists()
    assert store.runs() == []


def write_run_files(folder: Path) -> None:
    for name in (
        "checkpoints/step-00000003.pt", "checkpoints/step-00000003.json", "details/gap-full-3-0a.npz", "run.lock",
        "recipe.yaml", "log.txt", "record.jsonl", "checkpoints/.step-00000006.pt.4711",
    ):  # fmt: skip
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()


def test_removal_leaves_what_a_person_put_into_the_folder(store, new_run, key, tmp_path, monkeypatch):
    monkeypatch.setenv("GAPRUN_RUNS", str(tmp_path / "runs"))
    fill(store, new_run, key)
    folder = own(store, "baseline-s0", {"seed": 0})
    write_run_files(folder)
    (tmp_path / "scratch").mkdir()
    (tmp_path / "scratch" / "step-00000001.pt").write_text("on another disk")
    mine = (
        "notes.md",
        "checkpoints/best.pt",
        "checkpoints/step-00000002.pt.aside1",
        "figures/a/gap.pdf",
        ".plan.2",
    )
    for name in mine:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("precious")
    (folder / "large").symlink_to(tmp_path / "scratch")
    said = remove_run(store, store.run("baseline-s0"))
    left = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())
    assert left == sorted(mine)
    assert (folder / "large").is_symlink() and (tmp_path / "scratch" / "step-00000001.pt").exists()
    assert (
        "left with what gaprun did not write: .plan.2, checkpoints/best.pt" in said and "and 3 more" in said
    )
    assert [run.id for run in store.runs()] == ["baseline-s1"]


@pytest.mark.parametrize("folder", ["", ".", "..", "runs", "/", "precious", "link"])
def test_removal_deletes_no_folder_that_is_not_the_runs_own(store, new_run, tmp_path, monkeypatch, folder):
    monkeypatch.setenv("GAPRUN_RUNS", str(tmp_path / "runs"))
    for name in ("runs", "precious"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "keep").touch()
    (tmp_path / "link").symlink_to(tmp_path / "precious")
    store.begin_run(replace(new_run(), folder=folder))
    store.finish_run("baseline-s0", "failed")
    assert remove_run(store, store.run("baseline-s0")) == "removed baseline-s0"
    assert (tmp_path / "runs" / "keep").exists() and (tmp_path / "precious" / "keep").exists()


def test_a_running_run_is_not_removed(store, new_run):
    store.begin_run(new_run())
    with pytest.raises(UserError, match="is running"):
        remove_run(store, store.run("baseline-s0"))
    assert len(store.runs()) == 1


@pytest.mark.parametrize(
    "folder", ["runs/thesis", "../elsewhere", "runs/../elsewhere", "/", "runs/baseline-s1"]
)
def test_a_foreign_database_deletes_nothing(tmp_path, new_run, monkeypatch, folder):
    mine = open_store(str(tmp_path / "mine.db"))
    mine.begin_run(new_run("baseline", 1))
    mine.finish_run("baseline-s1", "finished")
    own(mine, "baseline-s1", {"seed": 1})
    for path in ("runs/thesis/text", "runs/baseline-s0/text", "elsewhere/text", "runs/baseline-s1/last.pt"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("precious")
    foreign = open_store(str(tmp_path / "foreign.db"))
    for seed, place in ((0, folder), (1, f"runs/baseline-s{1}")):
        foreign.begin_run(replace(new_run("baseline", seed), folder=place))
        foreign.finish_run(f"baseline-s{seed}", "finished", checkpoint_hash="c0")
    before = sorted(path for path in tmp_path.rglob("*") if ".db" not in path.name)
    for seed in (0, 1):
        said = remove_run(foreign, foreign.run(f"baseline-s{seed}"))
        assert said.startswith(f"removed baseline-s{seed}") and " and " not in said
    assert sorted(path for path in tmp_path.rglob("*") if ".db" not in path.name) == before


def test_a_folder_that_two_databases_use_goes_with_the_last(tmp_path, new_run):
    stores = [open_store(str(tmp_path / name)) for name in ("a.db", "b.db")]
    for store in stores:
        store.begin_run(new_run())
        store.finish_run("baseline-s0", "finished")
        folder = own(store, "baseline-s0", {"seed": 0, "recipe_hash": "h", "data": {"x": "1"}})
    assert len(read_mark(folder)["databases"]) == 2
    said = remove_run(stores[0], stores[0].run("baseline-s0"))
    assert "b.db uses it too" in said and folder.is_dir()
    assert (
        remove_run(stores[1], stores[1].run("baseline-s0")).endswith(f"and {folder}") and not folder.exists()
    )


def test_one_database_by_two_paths_is_one(tmp_path, new_run):
    store = open_store(str(tmp_path / "a.db"))
    (tmp_path / "mounted").symlink_to(tmp_path)
    again = open_store(str(tmp_path / "mounted" / "a.db"))
    store.begin_run(new_run())
    store.finish_run("baseline-s0", "finished")
    folder = own(store, "baseline-s0", {"seed": 0})
    own(again, "baseline-s0", {"seed": 0})
    assert list(read_mark(folder)["databases"]) == [str(tmp_path / "a.db")]
    assert remove_run(again, again.run("baseline-s0")).endswith("baseline-s0") and not folder.exists()


def test_two_users_of_a_server_name_one_database(new_database, tmp_path, new_run, monkeypatch):
    """A removal by the second left the folder, since the first one's name in the URL `uses it too`."""
    monkeypatch.setenv("GAPRUN_RUNS", str(tmp_path / "runs"))
    url = make_url(new_database())
    store = open_store(url.render_as_string(hide_password=False))
    store.begin_run(new_run())
    store.finish_run("baseline-s0", "finished")
    folder = own(store, "baseline-s0", {"seed": 0})
    mark = json.loads((folder / "run.json").read_text())
    theirs = locate(url.set(username="another").render_as_string(False)).name
    elsewhere = locate(url.set(username="another", host="elsewhere").render_as_string(False)).name
    for name, said in ((elsewhere, "uses it too"), (theirs, f"and {folder}")):
        (folder / "run.json").write_text(json.dumps(mark | {"databases": {name: store.identity}}))
        assert said in remove_run(store, store.run("baseline-s0"))
        store.begin_run(new_run())
        store.finish_run("baseline-s0", "finished")
    assert not folder.exists()


@pytest.mark.parametrize("hidden", ["on another machine", "in a private folder"])
def test_a_database_that_cannot_be_seen_from_here_keeps_its_folder(tmp_path, new_run, monkeypatch, hidden):
    store = open_store(str(tmp_path / "a.db"))
    store.begin_run(new_run())
    store.finish_run("baseline-s0", "finished")
    folder = own(store, "baseline-s0", {"seed": 0})
    mark = json.loads((folder / "run.json").read_text())
    there = tmp_path / "theirs" / "results.db"
    if hidden == "in a private folder":
        there.parent.mkdir()
        original = Path.stat

        def stat(path, **options):
            if path == there:
                raise PermissionError(13, "Permission denied")
            return original(path, **options)

        monkeypatch.setattr(Path, "stat", stat)
    databases = mark["databases"] | {str(there): "another"}
    (folder / "run.json").write_text(json.dumps(mark | {"databases": databases}))
    said = remove_run(store, store.run("baseline-s0"))
    assert f"{there} (which cannot be seen from here) uses it too" in said and folder.is_dir()
    assert check_mark(folder, {"run": "baseline-s0", "seed": 0}, store.place, store.identity) is False
    with pytest.raises(UserError, match="belongs to another seed in .*cannot be seen from here"):
        check_mark(folder, {"run": "baseline-s0", "seed": 1}, store.place, store.identity)


def test_a_project_that_was_moved_is_its_own(tmp_path, new_run):
    (tmp_path / "old").mkdir()
    store = open_store(str(tmp_path / "old" / "a.db"))
    store.begin_run(new_run())
    store.finish_run("baseline-s0", "finished")
    own(store, "baseline-s0", {"seed": 0})
    store.close()
    (tmp_path / "old").rename(tmp_path / "new")
    moved = open_store(str(tmp_path / "new" / "a.db"))
    folder = tmp_path / "new" / "runs" / "baseline-s0"
    assert remove_run(moved, moved.run("baseline-s0")).endswith(f"and {folder}") and not folder.exists()


@pytest.mark.parametrize("key", ["run", "seed", "recipe_hash", "data"])
def test_a_folder_of_anything_else_is_refused_and_kept(tmp_path, key):
    facts = {"run": "a-s0", "seed": 0, "recipe_hash": "h", "data": {"x": "1"}}
    store = open_store(str(tmp_path / "a.db"))
    folder = own(store, "a-s0", facts)
    before = (folder / "run.json").read_bytes()
    with pytest.raises(UserError, match="belongs to another .*nothing there is used or deleted"):
        own(open_store(str(tmp_path / "b.db")), "a-s0", facts | {key: "other"})
    assert (folder / "run.json").read_bytes() == before


def test_a_published_copy_names_no_place(tmp_path, new_run, key):
    from gaprun.store.publish import publish

    store = open_store(str(tmp_path / "results.db"))
    secret = ("gpu-box-17", "/home/someone/clip", "4242")
    run = replace(
        new_run(),
        environment={"python": "3.11", "source": "/home/someone/clip/a.pt", "imported_on": "gpu-box-17"},
        resolved_recipe={
            "name": "baseline",
            "data": {"train": ["/home/someone/clip/data/train", "coco/train"]},
        },
    )
    store.begin_run(run)
    store.record(run.id, [{"step": 1, "loss": 0.25}])
    store.add_evaluation(run.id, key(), {"gap": 0.5}, 1, 1, "/home/someone/clip/runs/x/gap.npz")
    store.annotate(run.id, {"queue": {"host": "gpu-box-17", "pid": 4242, "log": "/home/someone/clip/log"}})
    store.annotate(run.id, {"said": "no heartbeat from gpu-box-17, process 4242 in /home/someone/clip/runs"})
    store.finish_run(
        run.id,
        "failed",
        "process 4242 on gpu-box-17: /home/someone/clip/x.tar is damaged",
        "/home/someone/clip/a.pt",
    )
    publish([tmp_path / "results.db"], tmp_path / "out.db")
    content = (tmp_path / "out.db").read_bytes()
    assert not [word for word in secret if word.encode() in content]
    copy = open_store(str(tmp_path / "out.db"))
    row = copy.run(run.id)
    assert row.checkpoint == "a.pt" and row.error == "process on a host: x.tar is damaged"
    assert row.resolved_recipe["data"]["train"] == ["train", "coco/train"]
    assert [m["value"] for m in copy.metrics(run.id)] == [0.5] and copy.trajectory(run.id)[0]["loss"] == 0.25
    assert copy.identity != store.identity


def test_several_databases_are_published_as_one_and_more_are_added(tmp_path, new_run, key):
    from gaprun.store.publish import publish

    def database(name, runs, gap):
        store = open_store(str(tmp_path / name))
        for recipe, seed in runs:
            store.begin_run(replace(new_run(recipe, seed), environment={"host": "gpu-box-17"}))
            store.add_evaluation(
                f"{recipe}-s{seed}", key(checkpoint_hash=f"{recipe}{seed}"), {"gap": gap}, 1, 1
            )
            store.finish_run(f"{recipe}-s{seed}", "finished")
        store.close()
        return tmp_path / name

    def gaps():
        store = open_store(str(example), create=False)
        found = {row["id"]: row["value"] for row in store.metric_rows(["gap"])}
        store.close()
        return found

    example = tmp_path / "given.db"
    scenes = database("scenes.db", [("baseline", 0), ("flt", 0)], 0.5)
    photos = database("photos.db", [("flt", 0), ("slrt", 0)], 0.25)
    publish([scenes, photos], example)
    assert gaps() == {"baseline-s0": 0.5, "flt-s0": 0.25, "slrt-s0": 0.25}
    publish([example, database("more.db", [("slrt", 0), ("reparam", 1)], 0.125)], example)
    assert gaps() == {"baseline-s0": 0.5, "flt-s0": 0.25, "slrt-s0": 0.125, "reparam-s1": 0.125}
    assert b"gpu-box-17" not in example.read_bytes()
    assert sorted(path.name for path in tmp_path.glob("*given*")) == ["given.db"]


ANY = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), max_size=12)
ODD = st.one_of(
    ANY,
    st.sampled_from(["=1+1", "'", "''=x", "-0.5", "@a", "\t", "\r", "\n", "\r\n", ",", '"', "\ufeff", ""]),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(
    texts=st.lists(ODD, min_size=6, max_size=6),
    document=st.dictionaries(
        ODD, st.recursive(ODD | st.none() | st.integers(), st.lists, max_leaves=5), max_size=3
    ),
    number=st.floats(),
    zipped=st.booleans(),
)
def test_whatever_was_taken_out_comes_back_as_it_was(
    tmp_path_factory, new_run, key, texts, document, number, zipped
):
    folder = tmp_path_factory.mktemp("any")
    source, back = open_store(str(folder / "a.db")), open_store(str(folder / "b.db"))
    recipe, code, error, checkpoint, dataset, metric = texts
    source.begin_run(replace(new_run(**{"x": document}), recipe=recipe, code_version=code, folder=""))
    source.record("baseline-s0", [{"step": 1, "loss": number, "gap": -0.0}])
    source.add_evaluation(
        "baseline-s0", key(dataset=dataset, options={"o": document}), {metric: number}, 3, None
    )
    kinds = {"error": error, "checkpoint_hash": checkpoint, "notes": document}
    source.finish_run("baseline-s0", "failed", **kinds)
    out = folder / ("out.zip" if zipped else "out")
    export(source, out)
    for _ in range(2):
        report = import_files(lambda: back, [out])
        assert report.refused == [] and [one.run_id for one in report.done] == ["baseline-s0"]
    ours, theirs = back.run("baseline-s0"), source.run("baseline-s0")
    assert (ours.recipe, ours.code_version, ours.error) == (recipe, code, error)
    assert ours.checkpoint_hash == checkpoint and ours.notes == theirs.notes == document
    assert ours.resolved_recipe["x"] == document and ours.started == theirs.started
    with source.engine.connect() as one, back.engine.connect() as two:
        assert by_run(read_rows(one, ["baseline-s0"])) == by_run(read_rows(two, ["baseline-s0"]))


def test_an_export_that_was_changed_or_is_none_gets_one_line(store, new_run, key, tmp_path):
    fill(store, new_run, key)
    export(store, tmp_path / "out")
    back = open_store(str(tmp_path / "back.db"))
    whole = {path.name: path.read_text() for path in (tmp_path / "out").glob("*.csv")}
    for part, old, new, said in (
        ("runs.csv", "baseline-s0,", "../x,", "which is no run there"),
        ("runs.csv", "runs/baseline-s1", "../x", "leads out of its folder"),
        ("runs.csv", ",finished,,", ",famous,,", "do not fit each other (CHECK constraint failed"),
        ("metrics.csv", "baseline-s1,gap", "nobody-s1,gap", "metrics of nobody-s1, which is no run there"),
        ("metrics.csv", "0.333", "about 0.333", "metrics.csv, line 2: damaged"),
        ("evaluations.csv", ",100,", ",,", "evaluations.csv, line 2: damaged (no step)"),
        ("trajectory.csv", "run_id,step", "run_id,stride", "another version of gaprun (step, stride)"),
        ("runs.csv", "id,recipe", "id,recipe,more", "another version of gaprun (more)"),
    ):
        assert old in whole[part], (part, old)
        (tmp_path / "out" / part).write_text(whole[part].replace(old, new))
        report = import_files(lambda: back, [tmp_path / "out"])
        assert len(report.refused) == 1 and said in report.refused[0], report.refused
        assert "\n" not in report.refused[0] and back.runs() == []
        (tmp_path / "out" / part).write_text(whole[part])
    (tmp_path / "photos").mkdir()
    (tmp_path / "text.zip").write_text("no zip")
    for path, said in (
        (tmp_path / "photos", "no export of gaprun's in CSV"),
        (tmp_path / "text.zip", "damaged"),
    ):
        report = import_files(lambda: back, [path])
        assert len(report.refused) == 1 and said in report.refused[0]
