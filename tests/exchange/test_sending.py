"""What TensorBoard, MLflow and pandas read, by their own functions, is what the database holds."""

import json
import sqlite3
import subprocess
import sys

import numpy as np
import pandas
import pytest

from gaprun.errors import Failure, UserError
from gaprun.exchange import mlflow as to_mlflow
from gaprun.exchange import tensorboard as to_tensorboard
from gaprun.exchange.flat import CURVES, flat_run
from gaprun.exchange.mlflow import mlflow_name
from gaprun.files import MANIFEST
from gaprun.store import EvaluationKey, open_store
from tests.conftest import run_gaprun
from tests.protocols import named


def expected_curves(store, run_id):
    rows = store.trajectory(run_id)
    return {
        f"trajectory/{name}": [(row["step"], row[name]) for row in rows if row[name] is not None]
        for name in CURVES
        if any(row[name] is not None for row in rows)
    }


def expected_metrics(store, run_id):
    return {
        f"{row['dataset']}/{row['split']}/{row['protocol']}/{row['metric']}": (row["step"], row["value"])
        for row in store.metrics(run_id)
        if row["value"] is not None
    }


def test_tensorboard_reads_every_curve_and_metric(example, some, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    sent = to_tensorboard.send(example, some, tmp_path / "logs")
    assert sorted(path.name for path in (tmp_path / "logs").iterdir()) == some
    points = 0
    for run_id in some:
        read = EventAccumulator(str(tmp_path / "logs" / run_id), size_guidance={"scalars": 0})
        read.Reload()
        curves, metrics = expected_curves(example, run_id), expected_metrics(example, run_id)
        assert set(read.Tags()["scalars"]) == curves.keys() | metrics.keys() and len(metrics) > 20
        for tag, wanted in {**curves, **{tag: [one] for tag, one in metrics.items()}}.items():
            found = read.Scalars(tag)
            assert [event.step for event in found] == [step for step, _ in wanted], tag
            assert [event.value for event in found] == [float(np.float32(value)) for _, value in wanted], tag
            points += len(found)
        text = read.Tensors("recipe")[0].tensor_proto.string_val[0].decode()
        run = example.run(run_id)
        assert f"| recipe | {run.recipe} |" in text and f"| seed | {run.seed} |" in text
        assert f"| optimizer.lr | {run.resolved_recipe['optimizer']['lr']} |" in text
    assert sent.counts == {"runs": 3, "points": points} and sent.problems == []


def test_tensorboard_again_replaces_and_never_deletes_what_others_wrote(example, some, tmp_path):
    for _ in range(2):
        assert to_tensorboard.send(example, some[:1], tmp_path).problems == []
    folder = tmp_path / some[0]
    assert len(list(folder.glob("*.gaprun"))) == 1
    (folder / MANIFEST).unlink()  # as earlier versions wrote it
    assert to_tensorboard.send(example, some[:1], tmp_path).problems == []
    (folder / "events.out.tfevents.1.host").touch()
    before = sorted(path.name for path in folder.iterdir())
    sent = to_tensorboard.send(example, some, tmp_path)
    assert len(sent.problems) == 1 and sent.problems[0].startswith(f"{some[0]}: not sent (")
    assert "events.out.tfevents.1.host, which gaprun did not write" in sent.problems[0]
    assert sorted(path.name for path in folder.iterdir()) == before and sent.counts["runs"] == 2
    sent = to_tensorboard.send(example, some, folder / "events.out.tfevents.1.host")
    assert len(sent.problems) == 3 and all("cannot be written" in problem for problem in sent.problems)


def by_hand(example, statement):
    """A database changed behind gaprun's back."""
    path = example.place.path
    example.close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute(statement)
    return open_store(str(path))


def test_no_run_is_written_outside_and_the_others_are(example, some, tmp_path):
    bad = by_hand(example, f"UPDATE runs SET id = '../../outside' WHERE id = '{some[1]}'")
    ids = [some[0], "../../outside", some[2]]
    sent = to_tensorboard.send(bad, ids, tmp_path / "deep" / "logs")
    assert sent.counts["runs"] == 2 and len(sent.problems) == 1
    assert sent.problems[0].startswith("../../outside: not sent (the run '../../outside' cannot be a name")
    assert sorted(path.name for path in (tmp_path / "deep" / "logs").iterdir()) == [some[0], some[2]]
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["logs"]
    done = run_gaprun(
        "runs",
        "export",
        "--as",
        "tensorboard",
        "--out",
        str(tmp_path / "again"),
        "--db",
        str(bad.place.path),
    )
    assert done.returncode == 1 and done.stderr.count("not sent") == 1 and "runs" in done.stdout
    words = ["runs", "export", "--as", "open_clip", "../../outside", "--db", str(bad.place.path)]
    done = run_gaprun(*words, cwd=tmp_path)
    assert done.returncode == 2 and "'../../outside' cannot be a name" in done.stderr


def test_a_value_that_event_files_cannot_hold_is_said(example, some, tmp_path):
    example.record(some[0], [{"step": 10**6, "loss": 1e300}])
    sent = to_tensorboard.send(example, some[:1], tmp_path)
    assert sent.problems == [
        f"{some[0]}: trajectory/loss at step 1000000 is 1e+300, beyond float32: left out"
    ]


def test_mlflow_says_what_it_did_not_take_and_gets_the_rest(example, some, tmp_path, monkeypatch):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    log = to_mlflow._log

    def refuse(client, run_id, flat):
        if flat.run.id == some[1]:
            from mlflow.exceptions import MlflowException

            raise MlflowException("no space\nmore words")
        log(client, run_id, flat)

    monkeypatch.setattr(to_mlflow, "_log", refuse)
    sent = to_mlflow.send(example, some, uri)
    assert sent.counts == {"sent": 2, "replaced": 0, "equal": 0}
    assert sent.problems == [f"{some[1]}: not sent (MLflow: no space)"]
    monkeypatch.setattr(to_mlflow, "_log", log)
    monkeypatch.setattr(to_mlflow, "LONGEST_PARAMETER", 5)
    again = to_mlflow.send(example, some, uri)
    assert again.counts == {"sent": 0, "replaced": 1, "equal": 2}
    assert f"{some[1]}: of optimizer.betas only the first 5 characters" in again.problems


def test_a_receiver_that_went_away_is_not_asked_for_every_run(example, tmp_path, monkeypatch):
    ids = [run.id for run in example.runs()][:6]
    asked = []

    def away(client, number, flat, rows):
        asked.append(flat.run.id)
        raise Failure("no answer")

    monkeypatch.setattr(to_mlflow, "_send_one", away)
    sent = to_mlflow.send(example, ids, f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert asked == ids[:3] and len(sent.problems) == 4
    assert sent.problems[3] == f"not tried after 3 failures in a row: {', '.join(ids[3:])}"


@pytest.mark.parametrize("kind", ["gaprun", "other", "text"])
def test_mlflow_adds_no_tables_to_another_programs_database(example, some, tmp_path, kind):
    path = tmp_path / "there.db"
    if kind == "gaprun":
        path = example.place.path
    elif kind == "other":
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE songs (title TEXT)")
    else:
        path.write_text("years of work")
    example.close()
    before = path.read_bytes()
    with pytest.raises(UserError, match="name another --out"):
        to_mlflow.send(example, some, f"sqlite:///{path}")
    example.close()
    assert path.read_bytes() == before


def test_mlflow_finds_every_run_with_its_numbers(example, some, tmp_path):
    import mlflow

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    sent = to_mlflow.send(example, some, uri, "study")
    assert sent.counts == {"sent": 3, "replaced": 0, "equal": 0} and sent.problems == []
    client = mlflow.MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("study").experiment_id
    found = {run.data.tags["gaprun.run"]: run for run in client.search_runs([experiment])}
    assert sorted(found) == some
    for run_id, run in found.items():
        ours = example.run(run_id)
        curves, metrics = expected_curves(example, run_id), expected_metrics(example, run_id)
        last = {mlflow_name(name): points[-1][1] for name, points in curves.items()}
        last["trajectory/samples_seen"] = example.trajectory(run_id)[-1]["samples_seen"]
        assert run.data.metrics == last | {mlflow_name(name): value for name, (_, value) in metrics.items()}
        for name in ("trajectory/loss", "trajectory/gap"):
            history = sorted(
                (point.step, point.value) for point in client.get_metric_history(run.info.run_id, name)
            )
            assert history == curves[name]
        assert run.data.params["optimizer.lr"] == str(ours.resolved_recipe["optimizer"]["lr"])
        assert run.data.params["temperature.rule"] == ours.resolved_recipe["temperature"]["rule"]
        assert (run.data.tags["recipe"], run.data.tags["seed"]) == (ours.recipe, str(ours.seed))
        assert (run.info.status, run.info.run_name) == ("FINISHED", run_id)
        assert run.info.start_time == int(ours.started.timestamp() * 1000)
        assert run.info.end_time == int(ours.finished.timestamp() * 1000)
    # MLflow's own question, over the names as it takes them.
    name = next(name for name in found[some[0]].data.metrics if name.endswith("/image_recall_at_5"))
    value = found[some[0]].data.metrics[name]
    asked = client.search_runs([experiment], f"metrics.`{name}` >= {value} and tags.recipe = '{ours.recipe}'")
    assert {run.data.tags["gaprun.run"] for run in asked} == {
        run_id
        for run_id in some
        if found[run_id].data.metrics[name] >= value and example.run(run_id).recipe == ours.recipe
    }


def test_mlflow_again_skips_what_is_there_and_replaces_what_changed(example, some, tmp_path):
    import mlflow

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    to_mlflow.send(example, some[:2], uri)
    example.record(some[0], [{"step": 10**6, "loss": 0.125}])
    assert to_mlflow.send(example, some, uri).counts == {"sent": 1, "replaced": 1, "equal": 1}
    client = mlflow.MlflowClient(tracking_uri=uri)
    runs = client.search_runs([client.get_experiment_by_name("gaprun").experiment_id])
    assert sorted(run.data.tags["gaprun.run"] for run in runs) == some
    changed = next(run for run in runs if run.data.tags["gaprun.run"] == some[0])
    assert changed.data.metrics["trajectory/loss"] == 0.125


def test_what_was_measured_along_training_is_sent_by_step(example, some):
    name = "scenes/test/full/gap"
    (end,) = [(step, value) for metric, step, value in flat_run(example, some[0]).metrics if metric == name]
    for step, value in ((200, 0.5), (100, 0.75), (100, 0.25)):  # of one step, the latest counts
        key = EvaluationKey(f"c{step}{value}", step, "gap", "scenes", "test", "f", named("full"))
        example.add_evaluation(some[0], key, {"gap": value}, 96, 8)
    sent = [(step, value) for metric, step, value in flat_run(example, some[0]).metrics if metric == name]
    assert sent == [(100, 0.25), (200, 0.5), end]


def test_names_that_mlflow_does_not_allow():
    assert mlflow_name("coco/test/full/image_recall@5") == "coco/test/full/image_recall_at_5"
    assert mlflow_name("coco/test/shift=-0.5/gap") == "coco/test/shift_-0.5/gap"


def test_parquet_holds_every_row_with_its_type(example, tmp_path):
    words = ["--as", "parquet", "--out", str(tmp_path / "out"), "--db", str(example.place.path)]
    done = run_gaprun("runs", "export", *words, "--json")
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout)
    tables = {path.stem: pandas.read_parquet(path) for path in (tmp_path / "out").glob("*.parquet")}
    assert {name: len(table) for name, table in tables.items()} | {"path": str(tmp_path / "out")} == counts
    metrics, runs = tables["metrics"], tables["runs"]
    for run in example.runs():
        own = metrics[metrics["run_id"] == run.id]
        found = dict(
            zip(zip(own["dataset"], own["protocol"], own["name"], strict=True), own["value"], strict=True)
        )
        for row in example.metrics(run.id):
            value = found[row["dataset"], row["protocol"], row["metric"]]
            assert value == row["value"] if row["value"] is not None else pandas.isna(value)
        row = runs[runs["id"] == run.id].iloc[0]
        assert row["started"] == run.started and str(row["started"].tz) == "UTC" and row["seed"] == run.seed
        assert json.loads(row["resolved_recipe"]) == run.resolved_recipe
        curve = tables["trajectory"].query("run_id == @run.id").sort_values("step")
        assert curve["loss"].tolist() == [point["loss"] for point in example.trajectory(run.id)]
    assert metrics["n"].dtype == "Int64" and tables["trajectory"]["step"].dtype == "Int64"
    assert runs["pid"].isna().all() and runs["pid"].dtype == "Int64", "an empty column keeps its type"


def test_through_the_command_line(example, some, tmp_path):
    words = ["--db", str(example.place.path), some[0], some[1]]
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    for name, out, said in (
        ("tensorboard", str(tmp_path / "logs"), "2 runs"),
        ("mlflow", uri, "2 sent, 0 replaced, 0 equal"),
        ("csv", str(tmp_path / "some.zip"), "2 runs"),
    ):
        done = run_gaprun("runs", "export", "--as", name, "--out", out, *words)
        assert done.returncode == 0 and said in done.stdout, done.stderr
    none = run_gaprun("runs", "export", "--as", "tensorboard", "--where", "recipe=nothing", *words)
    assert none.returncode == 2 and "no such run to export" in none.stderr
    several = run_gaprun("runs", "export", "--as", "open_clip", *words)
    assert several.returncode == 2 and "name its run" in several.stderr


@pytest.mark.parametrize(
    "module, call, extra",
    [
        ("tensorboard", "tensorboard.send(store, [], Path('out'))", "tensorboard"),
        ("mlflow", "mlflow.send(store, [], 'sqlite:///x.db')", "mlflow"),
        ("pyarrow", "write(store, Path('out'), parquet=True)", "parquet"),
    ],
)
def test_a_missing_extra_is_named(example, module, call, extra, tmp_path):
    code = (
        f"import sys; sys.modules[{module!r}] = None\n"
        "from pathlib import Path\n"
        "from gaprun.errors import UserError\n"
        "from gaprun.exchange import mlflow, tensorboard\n"
        "from gaprun.store import open_store\n"
        "from gaprun.store.export import export as write\n"
        f"store = open_store({str(example.place.path)!r})\n"
        f"try: {call}\n"
        "except UserError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert f"{module} is not installed" in done.stdout and f"pip install 'gaprun[{extra}]'" in done.stdout


def test_sending_loads_no_torch(example, some, tmp_path):
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from gaprun.exchange import tensorboard\n"
        "from gaprun.store import open_store\n"
        f"tensorboard.send(open_store({str(example.place.path)!r}), {some!r}, Path('logs'))\n"
        "print([name for name in ('torch', 'tensorflow', 'open_clip') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.strip() == "[]"
