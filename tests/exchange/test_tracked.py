"""Runs that MLflow and Weights & Biases kept: gaprun's own come back as they were, others as kind external."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from gaprun.errors import UserError
from gaprun.exchange import mlflow as to_mlflow
from gaprun.exchange.formats import read_file
from gaprun.exchange.results import import_files
from gaprun.store import Store, open_store
from gaprun.store.content import by_run, read_rows
from tests.conftest import run_gaprun

LOGGED = {
    "val/image_to_text_R@1": 0.25, "val/text_to_image_R@5": 0.5, "val/image_to_text_mean_rank": 7.5,
    "val/clip_val_loss": 2.0, "val/num_samples": 60, "val/epoch": 3, "val/imagenet-zeroshot-val-top1": 0.125,
    "epoch": 3, "train/loss": 1.5, "step": 300,
}  # fmt: skip
MEANT = {
    ("text_recall@1", "coco", "pairs"): 25.0,
    ("image_recall@5", "coco", "pairs"): 50.0,
    ("text_mean_rank", "coco", "pairs"): 7.5,
    ("val_loss", "coco", "pairs"): 2.0,
    ("zeroshot_top1", "imagenet", "full"): 12.5,
}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "back.db"))


def content(store: Store, ids: list[str]) -> dict[str, dict[str, str]]:
    """A hash over every value of each run: recipe, evaluations with their options, metrics, trajectory."""
    with store.engine.connect() as connection:
        return {run: found.hashes() for run, found in by_run(read_rows(connection, ids)).items()}


def stored(store: Store, run: Any) -> dict[tuple[str, str, str], float]:
    return {(r["metric"], r["dataset"], r["protocol"]): r["value"] for r in store.metrics(run.id)}


def test_what_gaprun_sent_to_mlflow_comes_back_as_it_was(
    example: Store, some: list[str], store: Store, tmp_path: Path
) -> None:
    import mlflow

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    assert to_mlflow.send(example, some, uri).counts["sent"] == 3
    words = ["runs", "import", uri, "--db", str(store.place.path), "--json"]
    done = run_gaprun(*words)
    assert done.returncode == 0, done.stderr
    assert sorted(one["run_id"] for one in json.loads(done.stdout)) == some
    assert content(store, some) == content(example, some)
    assert [len(store.trajectory(run)) for run in some] == [len(example.trajectory(run)) for run in some]
    assert import_files(lambda: store, [uri]).refused == [] and len(store.runs()) == 3

    # What was changed there, or sent by an earlier gaprun, is named; the rest comes in; other programs' runs too.
    client = mlflow.MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("gaprun").experiment_id
    by_name = {run.info.run_name: run.info.run_id for run in client.search_runs([experiment])}
    client.log_metric(by_name[some[0]], "trajectory/loss", 9.0, step=example.trajectory(some[0])[0]["step"])
    client.delete_tag(by_name[some[1]], "gaprun.rows.0")
    other = client.create_run(experiment, run_name="peer")
    client.log_param(other.info.run_id, "lr", "0.001")
    for name, value in LOGGED.items():
        client.log_metric(other.info.run_id, name.replace("@", "_at_"), value, step=300)
    for name, value in (("val/image_to_text_R_at_1", 0.125), ("val/epoch", 2), ("val/num_samples", 60)):
        client.log_metric(other.info.run_id, name, value, step=200)
    fresh = open_store(str(tmp_path / "fresh.db"))
    report = import_files(lambda: fresh, [uri], "coco/val")
    assert len(report.refused) == 2 and not any("\n" in line for line in report.refused)
    assert any("trajectory/loss has two values at step" in line for line in report.refused)
    assert any("an earlier gaprun sent it" in line for line in report.refused)
    runs = {run.recipe: run for run in fresh.runs()}
    assert len(runs) == 2 and content(fresh, some[2:]) == content(example, some[2:])
    peer = runs["peer@MLflow"]
    assert stored(fresh, peer) == MEANT and peer.resolved_recipe["parameters"] == {"lr": "0.001"}
    steps = {
        r["step"]: r["value"]
        for r in fresh.metric_rows(["text_recall@1"], run_ids=[peer.id], every_step=True)
    }
    assert steps == {2: 12.5, 3: 25.0}
    assert report.left_out[uri] == ["train/*"]
    assert f"{uri}: runs of gaprun's own in it keep their names and data" in report.notes


def test_what_is_no_tracking_store_is_named_and_none_is_made(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE", raising=False)
    gone, other = f"sqlite:///{tmp_path / 'gone.db'}", f"sqlite:///{store.place.path}"
    report = import_files(lambda: store, [gone, other])
    assert report.refused == [
        f"{gone}: no such tracking store",
        f"{other} is a database of another program (table alembic_version): name one of MLflow's",
    ]
    assert not (tmp_path / "gone.db").exists()
    # A folder that MLflow no longer reads by itself stops nothing either.
    (tmp_path / "mlruns" / "0").mkdir(parents=True)
    (tmp_path / "mlruns" / "0" / "meta.yaml").write_text("name: Default\n")
    good = summary(tmp_path, LOGGED)
    report = import_files(lambda: store, [tmp_path / "mlruns", good], "coco/val")
    assert [one.file for one in report.done] == [str(good)] and "MLflow at" in report.refused[0]
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    (broken,) = import_files(lambda: store, [tmp_path / "mlruns"], "coco/val").refused
    assert broken == f"MLflow at {tmp_path / 'mlruns'}: KeyError 'experiment_id'"


def summary(folder: Path, values: dict[str, Any], config: str | None = "name:\n    value: peer\n") -> Path:
    """The files that W&B leaves of a run."""
    files = folder / "wandb" / "run-20261128_004327-peer" / "files"
    files.mkdir(parents=True, exist_ok=True)
    if config is not None:
        (files / "config.yaml").write_text(config)
    path = files / "wandb-summary.json"
    path.write_text(json.dumps({**values, "_step": 300, "_runtime": 9.5, "_wandb": {"runtime": 9}}))
    return path


def table(path: Path, header: list[str], *rows: list[Any]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([header, *rows])
    return path


def test_a_summary_of_wandb_means_what_results_jsonl_means(store: Store, tmp_path: Path) -> None:
    config = "wandb_version: 1\n_wandb:\n  value: {cli: 1}\nlr:\n  desc: null\n  value: 0.001\nworkers:\n  value: 4\n"
    path = summary(
        tmp_path, LOGGED, config + "name:\n  value: peer\nmodel:\n  value: ViT-B-32\nseed:\n  value: null\n"
    )
    assert "does not say what was measured; add --data" in import_files(lambda: store, [path]).refused[0]
    report = import_files(lambda: store, [path, path], "coco/val")
    assert report.refused == [] and report.left_out[str(path)] == ["train/*"]
    (run,) = store.runs()
    assert run.recipe == "peer@wandb" and stored(store, run) == MEANT
    assert run.resolved_recipe["model"] == {"name": "peer", "model": "ViT-B-32"}
    assert run.resolved_recipe["parameters"] == {"lr": "0.001"}
    assert {(row["step"], row["n"]) for row in store.metrics(run.id)} == {(3, 60), (3, None)}
    # The same line as open_clip's own file has it.
    log = tmp_path / "results.jsonl"
    log.write_text(json.dumps({k.removeprefix("val/"): v for k, v in LOGGED.items() if k.startswith("val/")}))
    (ours,), (theirs,) = read_file(log), read_file(path)
    assert ours.values == theirs.values and ours.step == theirs.step and ours.samples == theirs.samples


def test_what_is_wrong_in_a_summary_gets_one_line(store: Store, tmp_path: Path) -> None:
    nan = summary(tmp_path / "nan", {"val/image_to_text_R@1": "NaN", "val/clip_val_loss": 2.0, "val/odd": 1})
    (record,) = read_file(nan)
    assert record.odd == ["image_to_text_R@1 (NaN)"] and record.left_out == ["odd"]
    assert record.notes == ["peer: its epoch is not said: kept as step 0"]
    for number, (values, config, said) in enumerate((
        ({"val/image_to_text_R@1": 25.0}, None, "image_to_text_R@1 is 25, which is no share .*percent"),
        ({"val/epoch": 1.5}, None, "its val/epoch is 1.5, which cannot be"),
        ({}, "a: [", "config.yaml: damaged"),
        ({}, "5", "config.yaml: damaged"),
    )):  # fmt: skip
        bad = summary(tmp_path / str(number), values, config)
        report = import_files(lambda: store, [bad, nan], "coco/val")
        with pytest.raises(UserError, match=said):
            raise UserError(*report.refused)
        assert [one.file for one in report.done] == [str(nan)]
    (tmp_path / "run-peer.wandb").write_bytes(b":W&B")
    with pytest.raises(UserError, match="`wandb sync` it"):
        read_file(tmp_path / "run-peer.wandb")
    lost = tmp_path / "wandb-summary.json"
    lost.write_text("{}")
    with pytest.raises(UserError, match="does not say which run it is"):
        read_file(lost)


def test_the_table_of_runs_and_charts_of_wandbs_page(store: Store, tmp_path: Path) -> None:
    header = ["Name", "State", "Notes", "lr", *LOGGED]
    one = table(
        tmp_path / "runs.csv", header,
        ["peer", "finished", "-", 0.001, *LOGGED.values()],
        ["other", "finished", "-", 0.01, 0.75, *[""] * 4, 3, *[""] * 4],
    )  # fmt: skip
    report = import_files(lambda: store, [one], "coco/val")
    assert report.refused == [] and report.left_out[str(one)] == ["train/*"]
    runs = {run.recipe: run for run in store.runs()}
    assert stored(store, runs["peer@wandb-table"]) == MEANT
    assert stored(store, runs["other@wandb-table"]) == {("text_recall@1", "coco", "pairs"): 75.0}

    def chart(name: str, axis: str, *rows: list[Any]) -> Path:
        column = f"peer - val/{name}"
        return table(
            tmp_path / f"{name}-{axis}.csv", [axis, column, f"{column}__MIN", f"{column}__MAX"], *rows
        )

    recall = chart(
        "image_to_text_R@1", "epoch", [1, 0.125, 0.125, 0.125], [2, 0.25, 0.125, 0.5], [3, 0.5, 0.5, 0.5]
    )
    loss = chart("clip_val_loss", "epoch", [1, 3.0, 3.0, 3.0], [3, 2.0, 2.0, 2.0])
    ranks = chart("image_to_text_mean_rank", "epoch", [1, 9.0, 9.0, 9.0], [3, 4.0, 4.0, 4.0])
    along_steps = chart("clip_val_loss", "Step", [100, 3.0, 3.0, 3.0])
    report = import_files(lambda: store, [recall, loss, ranks, along_steps], "coco/val")
    assert len(report.refused) == 1 and "choose epoch as the chart's x axis" in report.refused[0]
    assert report.odd[str(recall)] == ["val/image_to_text_R@1 (a mean of several)"]
    peer = next(run for run in store.runs() if run.recipe == "peer@wandb-chart")
    rows = store.metric_rows(None, run_ids=[peer.id], every_step=True)
    assert {(row["metric"], row["step"]): row["value"] for row in rows} == {
        ("text_recall@1", 1): 12.5, ("text_recall@1", 3): 50.0, ("text_mean_rank", 1): 9.0, ("text_mean_rank", 3): 4.0,
        ("val_loss", 1): 3.0, ("val_loss", 3): 2.0,
    }  # fmt: skip
    assert import_files(lambda: store, [recall, loss, ranks], "coco/val").refused == []
    changed = chart("clip_val_loss", "epoch", [1, 2.5, 2.5, 2.5])
    assert "(3.0, not 2.5)" in import_files(lambda: store, [changed], "coco/val").refused[0]
    twice = table(
        tmp_path / "twice.csv", ["Name", "State", "val/epoch"], ["a", "finished", 1], ["a", "crashed", 2]
    )
    with pytest.raises(UserError, match="line 3: a run 'a' is there twice"):
        read_file(twice)


@pytest.mark.parametrize("above", [1, 2, 3])
def test_a_folder_of_wandb_says_which_file_to_name(store: Store, tmp_path: Path, above: int) -> None:
    found = summary(tmp_path, LOGGED)
    folder = found.parents[above - 1]
    report = import_files(lambda: store, [folder], "coco/val")
    assert report.refused == [f"{folder}: a folder of W&B's: name the summaries in it, such as {found}"]
    assert import_files(lambda: store, [found], "coco/val").refused == []


def test_a_record_of_wandb_that_was_never_sent_is_named(store: Store, tmp_path: Path) -> None:
    """As W&B leaves it offline: the record alone, by its name or in its folders."""
    record = tmp_path / "wandb" / "offline-run-20260101_000000-a1" / "run-a1.wandb"
    (record.parent / "files").mkdir(parents=True)
    record.write_bytes(b":W&B\xee")
    for named in (record, record.parent, tmp_path / "wandb"):
        (refused,) = import_files(lambda: store, [named], "coco/val").refused
        assert refused.startswith(f"{record}: W&B's own record of a run that was never sent: `wandb sync` it")
    assert store.runs() == []


def test_without_mlflow_its_stores_are_refused_in_one_line_and_other_files_come_in(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    (tmp_path / "mlruns" / "0").mkdir(parents=True)
    (tmp_path / "mlruns" / "0" / "meta.yaml").write_text("name: Default\n")
    places = ["sqlite:///x.db", "http://localhost:1", tmp_path / "mlruns"]
    report = import_files(lambda: store, [*places, summary(tmp_path, LOGGED)], "coco/val")
    assert len(report.done) == 1 and len(report.refused) == 3
    for refused in report.refused:
        assert "mlflow is not installed" in refused and "pip install 'gaprun[mlflow]'" in refused
        assert "\n" not in refused


def test_a_folder_of_results_says_that_files_are_to_be_named(store: Store, tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (refused,) = import_files(lambda: store, [tmp_path / "results"]).refused
    assert refused.endswith("(it has no runs.csv); of results of other programs name the files in it")
