"""Files that open_clip_train and CLIP_benchmark really wrote import to their own numbers, and agree with ours."""

import csv
import json
import os
import shutil
import subprocess

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from gaprun.data.split import open_split
from gaprun.errors import UserError
from gaprun.evaluation.tasks.retrieval import Retrieval
from gaprun.exchange.formats import read_file
from gaprun.exchange.records import OURS
from gaprun.exchange.results import import_files
from gaprun.protocols import pool_of
from gaprun.store import open_store
from tests.conftest import PREPARED, run_gaprun

CONFIG = {
    "model_cfg": {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8},
        "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
    },
    "preprocess_cfg": {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]},
}
IMAGES = 60


def run(*words, cwd):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, timeout=500)


@pytest.fixture(scope="module")
def peers(tmp_path_factory, real_data):
    """A folder with Flickr8k splits (`many`: five captions an image, `one`: one), a model folder `tiny`, and its
    results on them by CLIP_benchmark (`many.json`, `all.csv`) and by open_clip_train (logs/peer)."""
    folder = tmp_path_factory.mktemp("peers")
    flickr = real_data / "flickr8k_sample"
    document = json.loads((flickr / "captions.json").read_text())
    first = {}
    for annotation in document["annotations"]:
        first.setdefault(annotation["image_id"], annotation)
    (folder / "one.json").write_text(json.dumps({**document, "annotations": list(first.values())}))
    for name, captions in (("many", flickr / "captions.json"), ("one", folder / "one.json")):
        words = ["--images", str(flickr / "images"), "--captions", str(captions), "--test", str(IMAGES)]
        done = run_gaprun("data", "captions", *words, "--size", "40", "--out", f"data/{name}", cwd=folder)
        assert done.returncode == 0, done.stderr
    (folder / "tiny").mkdir()
    (folder / "tiny" / "open_clip_config.json").write_text(json.dumps(CONFIG))
    torch.manual_seed(0)
    model = open_clip.create_model(f"local-dir:{folder / 'tiny'}")
    save_file(model.state_dict(), folder / "tiny" / "open_clip_model.safetensors")
    clip_benchmark(folder)
    command = ["-m", "open_clip_train.main", "--model", f"local-dir:{folder / 'tiny'}"]
    command += [
        "--val-data",
        str(next((folder / "data/one/test").glob("*.tar"))),
        "--val-num-samples",
        str(IMAGES),
    ]
    command += ["--dataset-type", "webdataset", "--workers", "1", "--batch-size", "64", "--precision", "fp32"]
    done = run(PREPARED.python, *command, "--logs", "logs", "--name", "peer", cwd=folder)
    assert (folder / "logs/peer/checkpoints/results.jsonl").is_file(), done.stderr[-2000:]
    return folder


def clip_benchmark(folder):
    """Evaluate `tiny` on the pictures and captions of data/many/test."""
    split = open_split(folder / "data/many/test")
    (folder / "pictures").mkdir()
    lines = ["image,caption"]
    for i, captions in enumerate(split.captions):
        (folder / "pictures" / f"{i:03}.jpg").write_bytes(split.read_image(i))
        lines += [f"{i:03}.jpg,{caption}" for caption in captions]
    (folder / "flickr.txt").write_text("\n".join(lines) + "\n")
    command = ["-c", "from clip_benchmark.cli import main; main()"]
    words = ["eval", "--dataset", "flickr8k", "--dataset_root", "pictures", "--annotation_file", "flickr.txt"]
    words += [
        "--model",
        f"local-dir:{folder / 'tiny'}",
        "--pretrained",
        "",
        "--recall_k",
        "1",
        "5",
        "10",
        "--no_amp",
    ]
    done = run(PREPARED.python, *command, *words, "--num_workers", "0", "--output", "many.json", cwd=folder)
    assert (folder / "many.json").is_file(), done.stderr[-2000:]
    done = run(PREPARED.python, *command, "build", "many.json", "--output", "all.csv", cwd=folder)
    assert (folder / "all.csv").is_file(), done.stderr[-2000:]


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path / "results.db"))


def bring(store, *files, data=None, name=None, same_data=False):
    """What came in, and the whole report; nothing may be refused."""
    report = import_files(lambda: store, files, data, name, same_data)
    assert report.refused == []
    return report.done, report


def refusal(store, *files, **more):
    """The reason for which the only file was refused; nothing is stored."""
    before = len(store.runs())
    report = import_files(lambda: store, files, **more)
    assert len(report.refused) == 1 and report.done == [] and len(store.runs()) == before
    return report.refused[0]


def values(store, run_id):
    return {(row["metric"], row["protocol"]): row["value"] for row in store.metrics(run_id)}


def test_clip_benchmarks_files_import_to_their_numbers(peers, store):
    theirs = json.loads((peers / "many.json").read_text())["metrics"]
    (done,), _ = bring(store, peers / "many.json")
    assert done.values == 6 and done.left_out == []
    assert values(store, done.run_id) == {
        (f"{side}_recall@{k}", "full"): 100 * theirs[f"{side}_retrieval_recall@{k}"]
        for side in ("image", "text")
        for k in (1, 5, 10)
    }
    run = store.run(done.run_id)
    assert (run.kind, run.status, run.recipe) == ("external", "finished", "tiny@CLIP_benchmark")
    assert run.environment["source"] == f"CLIP_benchmark: {peers / 'many.json'}"
    row = store.metrics(done.run_id)[0]
    assert (row["dataset"], row["split"], row["n"], row["code_version"]) == (
        "flickr8k",
        "test",
        None,
        "CLIP_benchmark",
    )
    # The CSV that its own `build` makes of the same file is the same evaluation.
    (again,), _ = bring(store, peers / "all.csv")
    assert again.run_id == done.run_id and len(store.runs()) == 1
    with store.engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM evaluations").scalar() == 1


def test_open_clips_results_import_to_their_numbers(peers, store):
    file = peers / "logs/peer/checkpoints/results.jsonl"
    theirs = json.loads(file.read_text().splitlines()[-1])
    assert "does not say what was measured; add --data" in refusal(store, file)
    (done,), report = bring(store, file, data="flickr8k/val")
    assert report.notes == [
        "no split flickr8k/val lies here: it is taken as a name, without fingerprint and size"
    ]
    found = values(store, done.run_id)
    for theirs_name, ours in (
        ("image_to_text_R@1", "text_recall@1"),
        ("image_to_text_R@5", "text_recall@5"),
        ("text_to_image_R@10", "image_recall@10"),
    ):
        assert found[ours, "pairs"] == 100 * theirs[theirs_name]
    assert found["text_mean_rank", "pairs"] == theirs["image_to_text_mean_rank"]
    assert found["image_median_rank", "pairs-floor"] == theirs["text_to_image_median_rank"]
    assert found["val_loss", "pairs"] == theirs["clip_val_loss"]
    assert done.values == len(found) == len(theirs) - 2 and done.left_out == []
    row = store.metrics(done.run_id)[0]
    assert (row["dataset"], row["split"], row["n"]) == ("flickr8k", "val", IMAGES)
    assert store.run(done.run_id).recipe == "peer@open_clip_train"


@pytest.mark.parametrize("which", ["many", "one"])
def test_imported_values_stand_beside_ours_and_agree(peers, tmp_path, which):
    """The same model on the same pictures: by its own program, and by `gaprun eval`."""
    db = str(tmp_path / "results.db")
    file = {"many": "many.json", "one": "logs/peer/checkpoints/results.jsonl"}[which]
    data = f"data/{which}/test"
    words = ["eval", "--ckpt", "tiny", "--tasks", "retrieval", "--data", data, "--db", db]
    done = run_gaprun(*words, cwd=peers)
    assert done.returncode == 0, done.stderr
    words = ["runs", "import", file, "--data", data, "--db", db]
    if which == "many":  # its file says flickr8k
        done = run_gaprun(*words, cwd=peers)
        assert done.returncode == 2 and "measured on flickr8k, not on many" in done.stderr
        words.append("--same-data")
    done = run_gaprun(*words, cwd=peers)
    assert done.returncode == 0 and "values  from" in done.stdout, done.stderr
    names = [f"{side}_recall@{k}" for side in ("image", "text") for k in (1, 5, 10)]
    asked = [word for name in names for word in ("--metric", name)]
    compared = run_gaprun("compare", *asked, "--format", "json", "--where", "protocol=full", "--db", db)
    assert compared.returncode == 0, compared.stderr
    table = {}
    for row in json.loads(compared.stdout):
        table.setdefault(row["metric"], {})[row["recipe"].partition("@")[2] or "ours"] = row["mean"]
    program = {"many": "CLIP_benchmark", "one": "open_clip_train"}[which]
    assert set(table) == set(names)
    for name, pair in table.items():
        assert pair["ours"] == pytest.approx(pair[program], abs=1e-4), name
    assert any(pair["ours"] > 10 for pair in table.values())


def test_our_default_options_are_what_the_import_says():
    assert Retrieval(data=["x"]).options(None, pool_of(512)) == OURS


def test_several_epochs_give_the_newest_in_compare_and_importing_again_adds_nothing(store, tmp_path):
    folder = tmp_path / "logs" / "long" / "checkpoints"
    folder.mkdir(parents=True)
    (folder.parent / "params.txt").write_text(
        "lr: 0.001\nmodel: ViT-B-32\nname: long\npretrained: \nworkers: 4\n"
    )
    line = '{"image_to_text_R@1": 0.%d, "text_to_image_R@1": 0.5, "clip_val_loss": %s, "epoch": %d, '
    line += '"num_samples": 500}\n'
    file = folder / "results.jsonl"
    file.write_text(line % (25, 1.5, 1) + line % (75, "NaN", 2) + "\n")
    for _ in range(2):
        (done,), report = bring(store, file, data="cc3m/val")
        assert done.values == 6 and done.left_out == []
        assert report.odd == {str(file): ["clip_val_loss (NaN)"]}
    (run,) = store.runs()
    assert run.resolved_recipe["model"] == {"name": "long", "model": "ViT-B-32"}
    assert run.resolved_recipe["parameters"] == {"lr": "0.001"}
    # The loss of epoch 1 does not stand beside the recalls of epoch 2.
    assert [(r["metric"], r["value"], r["step"]) for r in store.metrics(run.id)] == [
        ("image_recall@1", 50.0, 2), ("text_recall@1", 75.0, 2), ("val_loss", None, 2),
    ]  # fmt: skip
    with store.engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM evaluations").scalar() == 4
    file.write_text(file.read_text() + line % (50, 1.25, 3))
    bring(store, file, data="cc3m/val")
    assert values(store, run.id)["text_recall@1", "pairs"] == 50.0
    assert values(store, run.id)["val_loss", "pairs"] == 1.25
    # A resumed training measures an epoch again.
    file.write_text(file.read_text() + line % (60, 1.25, 3))
    _, report = bring(store, file, data="cc3m/val")
    assert values(store, run.id)["text_recall@1", "pairs"] == 60.0
    assert f"{file}: epoch 3 is there twice: line 5 counts" in report.notes and len(store.runs()) == 1


def test_what_only_an_older_epoch_has_is_said(store, tmp_path):
    file = tmp_path / "results.jsonl"
    both = '{"imagenet-zeroshot-val-top1": 0.5, "text_to_image_R@1": 0.5, "epoch": 1, "num_samples": 5}\n'
    file.write_text(both + '{"text_to_image_R@1": 0.75, "epoch": 2, "num_samples": 5}\n')
    (done,), report = bring(store, file, data="cc3m/val")
    assert f"{file}: zeroshot_top1 on imagenet was last measured at epoch 1, the rest at 2" in report.notes
    assert {(r["metric"], r["step"]) for r in store.metrics(done.run_id)} == {
        ("zeroshot_top1", 1), ("image_recall@1", 2),
    }  # fmt: skip


@pytest.mark.parametrize("kept", ["nothing", "other rates", "another seed"])
def test_two_trainings_are_two_runs(store, tmp_path, kept):
    for number in (1, 2):
        folder = tmp_path / str(number) / "mine" / "checkpoints"
        folder.mkdir(parents=True)
        (folder / "results.jsonl").write_text(
            f'{{"text_to_image_R@1": 0.{number}, "epoch": 3, "num_samples": 9}}\n'
        )
        changed = {"other rates": f"lr: {number}", "another seed": f"seed: {number}"}
        if kept != "nothing":
            (folder.parent / "params.txt").write_text(f"name: mine\n{changed[kept]}\nresume: {number}\n")
    files = [tmp_path / number / "mine" / "checkpoints" / "results.jsonl" for number in "12"]
    bring(store, *files, data="cc3m/val")
    bring(store, *files, data="cc3m/val")
    assert len(store.runs()) == 2 and {run.recipe for run in store.runs()} == {"mine@open_clip_train"}
    assert sorted(row["value"] for row in store.metric_rows(["image_recall@1"])) == [10.0, 20.0]


def test_zero_shot_and_probe_keep_apart_what_is_measured_otherwise(store, tmp_path):
    rows = [
        {"dataset": "wds/cifar10", "task": "zeroshot_classification", "acc1": 0.9, "acc5": 0.99}
        | {"mean_per_class_recall": 0.875},
        {
            "dataset": "wds/cifar10",
            "task": "linear_probe",
            "lp_acc1": 0.95,
            "lp_acc5": 1.0,
            "weight_decay": 0.1,
        }
        | {"epochs": 10, "seed": 0, "fewshot_k": -1, "normalized": True},
        {"dataset": "voc2007_multilabel", "task": "zeroshot_classification", "mean_average_precision": 0.75},
    ]
    names = sorted({name for row in rows for name in row} | {"model", "pretrained", "language"})
    with (tmp_path / "b.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        for row in rows:
            writer.writerow({"model": "ViT-B-32", "pretrained": "openai", "language": "en", **row})
    (done,), report = bring(store, tmp_path / "b.csv")
    assert done.run_id.startswith("ViT-B-32-openai@CLIP_benchmark-")
    assert done.left_out == ["lp_acc5", "mean_average_precision"]
    assert {name: value for (name, _), value in values(store, done.run_id).items()} == {
        "zeroshot_top1": 90.0, "zeroshot_top5": 99.0, "zeroshot_mean_class": 87.5, "probe_top1": 95.0,
    }  # fmt: skip
    assert {row["dataset"] for row in store.metrics(done.run_id)} == {"cifar10"}
    with pytest.raises(UserError, match="several data sets .cifar10, voc2007_multilabel.; import them apart"):
        bring(store, tmp_path / "b.csv", data="cifar10/test")
    zero_shot = '{"imagenet-zeroshot-val-top1": 0.625, "imagenet-zeroshot-val-top5": 0.875, '
    zero_shot += '"imagenetv2-zeroshot-val-top1": 0.5, "epoch": 3}\n'
    (tmp_path / "results.jsonl").write_text(zero_shot)
    (other,), _ = bring(store, tmp_path / "results.jsonl", name="mine")
    assert {(r["metric"], r["dataset"], r["split"]): r["value"] for r in store.metrics(other.run_id)} == {
        ("zeroshot_top1", "imagenet", "val"): 62.5,
        ("zeroshot_top5", "imagenet", "val"): 87.5,
        ("zeroshot_top1", "imagenetv2", "val"): 50.0,
    }
    assert store.run(other.run_id).recipe == "mine"
    said = refusal(store, tmp_path / "results.jsonl", data="coco/val")
    assert "says itself what was measured (imagenet/val, imagenetv2/val), not coco/val" in said
    (same,), _ = bring(store, tmp_path / "results.jsonl", data="imagenet/val", name="mine")
    assert same.run_id == other.run_id
    with pytest.raises(UserError, match="--name '../x' cannot be a name"):
        bring(store, tmp_path / "results.jsonl", name="../x")


def test_files_that_are_no_results_are_named(store, tmp_path, peers):
    cases = {
        "absent.json": (None, "cannot be read"),
        "broken.json": ("{", "damaged, or not a result file"),
        "other.json": ('{"a": 1}', "not a result of CLIP_benchmark"),
        "list.json": ("[1]", "not a result of CLIP_benchmark"),
        "cut.jsonl": (
            '{"epoch": 1, "image_to_text_R@1": 0.5}\n{"epoch"',
            "line 2: not JSON; is the file cut off",
        ),
        "text.jsonl": ("1\n", "line 1: not a result of open_clip_train"),
        "songs.csv": ("a,b\n1,2\n", "it has no dataset, model, pretrained, task"),
        "empty.csv": ("", "it is empty"),
        "empty.jsonl": ("", "it is empty"),
    }
    for name, (content, said) in cases.items():
        if content is not None:
            (tmp_path / name).write_text(content)
        reason = refusal(store, tmp_path / name)
        assert name in reason and said in reason
    said = refusal(store, peers / "logs/peer/checkpoints/results.jsonl", data=str(peers / "data/one/train"))
    assert "measured on 60 images" in said and "has 740" in said
    shutil.copy(peers / "many.json", tmp_path / "copy.json")
    assert len(read_file(tmp_path / "copy.json")) == 1


def test_metrics_that_gaprun_lacks_are_named_also_where_a_file_holds_no_other(store, tmp_path):
    (tmp_path / "strange.jsonl").write_text('{"epoch": 1, "bleu": 0.5, "val_generative_loss": 2.0}\n')
    done, report = bring(store, tmp_path / "strange.jsonl")
    assert done == [] and store.runs() == []
    assert report.left_out == {str(tmp_path / "strange.jsonl"): ["bleu", "val_generative_loss"]}
