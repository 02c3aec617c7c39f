"""Several models in one call, the many names of a model, and a model's embeddings as a file that is measured alike."""

import json
import shutil

import numpy as np
import open_clip
import pytest
import torch
from typer.testing import CliRunner

from gaprun.cli.main import app
from gaprun.errors import Failure, UserError
from gaprun.evaluation.given import read_given
from gaprun.jobs.load import _checkpoint_of_run, load_model
from gaprun.jobs.named import models_named
from gaprun.store import NewRun, open_store
from gaprun.training.checkpoint import save_checkpoint
from tests.jobs.test_loading_models import built, folder, own, saved
from tests.model.tiny import CONFIG

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_patterns_and_lists_of_models(place):
    for name in ("runs/b/checkpoints", "runs/a/checkpoints", "runs/c", "odd[1]"):
        (place / name).mkdir(parents=True)
    (place / "models.txt").write_text("# mine\nruns/*/checkpoints  # ours\n\nhf-hub:a/b\nViT-B-32/openai\n")
    both = ["runs/a/checkpoints", "runs/b/checkpoints"]
    assert models_named(["runs/*/checkpoints"]) == both
    assert models_named(["x", "@models.txt", "x", "odd[1]"]) == [
        "x",
        *both,
        "hf-hub:a/b",
        "ViT-B-32/openai",
        "odd[1]",
    ]
    (place / "empty.txt").write_text("# nothing\n")
    (place / "nested.txt").write_text("@models.txt\n")
    for word, said in (
        ("none/*", "no path fits"),
        ("@empty.txt", "names no model"),
        ("@nested.txt", "a list in a list"),
        ("@absent.txt", "cannot be read"),
    ):
        with pytest.raises(UserError, match=said):
            models_named([word])


def test_a_folder_of_checkpoints_means_its_newest(place):
    store = open_store("r.db")
    tiny = folder(place / "tiny", CONFIG)
    model, _ = built(tiny)
    first = saved(place, tiny, model.state_dict())
    for name in ("epoch_2.pt", "epoch_10.pt", "epoch_latest.pt"):
        shutil.copy(first, first.with_name(name))
    for named in (first.parent, first.parent.parent):
        assert load_model(store, str(named), None, None).source.endswith("epoch_10.pt")
    for step in (20, 40):
        path, _ = own(place, store, step=step)
    assert load_model(store, str(path.parent), None, None).step == 40
    assert load_model(store, str(path.parent.parent), None, None).step == 40
    path.write_bytes(b"damaged")
    with pytest.raises(UserError, match="newest checkpoint step-00000040.pt is damaged; name an older one"):
        load_model(store, str(path.parent), None, None)
    with pytest.raises(UserError, match="without open_clip_config.json, config.json or checkpoints"):
        load_model(store, str(place), None, None)


def test_open_clips_names_with_their_tag(place, monkeypatch):
    store = open_store("r.db")

    def away(known):
        raise RuntimeError("no network")

    monkeypatch.setattr(open_clip, "download_pretrained", away)
    with pytest.raises(Failure, match="RN50 openai: weights could not be downloaded"):
        load_model(store, "RN50/openai", None, None)
    with pytest.raises(UserError, match="did you mean openai"):
        load_model(store, "RN50/opnai", None, None)
    with pytest.raises(UserError, match="RN50 is an architecture without weights: name --ckpt RN50/TAG"):
        load_model(store, "RN50", None, None)


@pytest.fixture
def models(place, scenes, monkeypatch):
    """Two model folders and a broken one."""
    monkeypatch.setenv("GAPRUN_DATA", str(scenes))
    for seed, name in enumerate(("a", "c")):
        config = folder(place / "models" / name, CONFIG)
        torch.manual_seed(seed)
        model = open_clip.create_model(f"local-dir:{config}", load_weights=False)
        torch.save(model.state_dict(), config / "open_clip_pytorch_model.bin")
    folder(place / "models" / "b", CONFIG, state={"logit_scale": torch.ones(())})
    return place / "models"


def gaprun(*words):
    """Exit code, stdout parsed where it is JSON, and the error that ended the command."""
    done = CliRunner().invoke(app, [*words, "--db", "r.db"])
    return done.exit_code, json.loads(done.stdout) if "--json" in words else done.stdout, done


ASKED = ("--data", "scenes/test", "--tasks", "gap")


def test_one_that_fails_does_not_stop_the_others(models):
    _, found, done = gaprun("eval", "--ckpt", "models/*", "--ckpt", "RN50/opnai", *ASKED, "--json")
    assert isinstance(done.exception, Failure) and done.exception.exit_code == 1
    assert [document["run"].partition("-")[0] for document in found["models"]] == ["a", "c"]
    assert [one["what"] for one in found["failed"]] == ["models/b", "RN50/opnai"]
    assert "2 models or measurements could not be done" in str(done.exception)
    # The same values as alone, now found and not measured again; one table for all.
    _, alone, _ = gaprun("eval", "--ckpt", "models/c", "--model", "RN50", *ASKED, "--json")
    assert alone["images_encoded"] == 0 and alone["metrics"] == found["models"][1]["metrics"]
    assert alone["notes"] == ["--model RN50 is not used: models/c says its own architecture"]
    _, text, done = gaprun("eval", "--ckpt", "models/a", "--ckpt", "models/c", *ASKED)
    assert done.exit_code == 0 and text.count("protocol") == 1
    lines = [line for line in text.splitlines() if " rmg " in line]
    assert [line.split()[3][0] for line in lines] == ["a", "c"] * 2


def test_a_single_model_that_fails_ends_with_its_own_error(models):
    _, _, done = gaprun("eval", "--ckpt", "models/b", *ASKED)
    assert isinstance(done.exception, UserError)
    said = str(done.exception)
    assert (
        "do not fit" in said
        and " (missing: " in said
        and said.endswith(" more)")
        and "state_dict" not in said
    )


@pytest.mark.parametrize("split", ["scenes/test", "scenes/classes-test"])
def test_embeddings_that_are_exported_give_the_same_numbers(split, models):
    tasks = "gap,retrieval,mixed" if split == "scenes/test" else "zeroshot,intra"
    _, direct, _ = gaprun("eval", "--ckpt", "models/a", "--data", split, "--tasks", tasks, "--json")
    words = ("runs", "export", "models/a", "--as", "embeddings", "--data", split, "--out", "out/a.npz")
    _, said, done = gaprun(*words, "--json")
    assert done.exit_code == 0 and said["path"] == "out/a.npz" and said["run"] == direct["run"]
    again = ("--embeddings", "out/a.npz", "--data", split, "--name", "a", "--tasks", tasks, "--json")
    _, found, _ = gaprun("eval", *again)

    def values(document):
        rows = document["metrics"]
        return {(r["metric"], r["protocol"]): r["value"] for r in rows if r["metric"] != "repeated_captions"}

    assert values(found) == pytest.approx(values(direct), abs=1e-9) and len(values(found)) >= 3
    given = read_given(models.parent / "out" / "a.npz")
    (kept,) = (
        p
        for p in (models.parent / "runs" / "embeddings").iterdir()
        if len(np.load(p / "images.npy")) == len(given.rows.images)
    )
    for name in ("images", "texts", "owner", "image_norms"):
        assert np.array_equal(getattr(given.rows, name), np.load(kept / f"{name}.npy")), name


def test_what_export_of_embeddings_refuses(models):
    gaprun("eval", "--ckpt", "models/a", *ASKED, "--json")
    start = ("runs", "export", "models/a", "--as", "embeddings")
    for words, said in (
        (start, "needs a run, --data SPLIT and --out FILE.npz"),
        ((*start, "--data", "scenes/test", "--out", "a.csv"), "give the name that ending"),
        ((*start, "--data", "scenes/none", "--out", "a.npz"), "no data split"),
        (("runs", "export", "--data", "scenes/test"), "goes with --as embeddings"),
    ):
        _, _, done = gaprun(*words)
        assert isinstance(done.exception, UserError) and said in str(done.exception), (words, done.output)
    words = (*start, "--data", "scenes/test", "--out", "a.npz")
    assert gaprun(*words)[0] == 0
    assert "--force" in str(gaprun(*words)[2].exception)
    assert gaprun(*words, "--force")[0] == 0
    target = models.parent / "a.npz"
    np.savez(target, images=np.eye(4), texts=np.eye(4))  # such a file of another program
    before = target.read_bytes()
    assert "was not written by this command" in str(gaprun(*words, "--force")[2].exception)
    assert target.read_bytes() == before


def test_a_run_whose_folder_lies_elsewhere_is_found_by_gapruns_own_variable(place, monkeypatch):
    """As with a database on a server, from another working folder than the one it was trained in."""
    store = open_store("r.db")
    row = NewRun("a-s0", "a", "train", 0, "h", {"name": "a"}, {}, "0", "runs/a-s0", 4)
    store.begin_run(row)
    with pytest.raises(
        UserError,
        match="no usable checkpoint in .*runs/a-s0/checkpoints: set GAPRUN_RUNS to the folder that holds a-s0, or name",
    ):
        load_model(store, "a-s0", None, None)
    save_checkpoint(
        place / "elsewhere" / "a-s0" / "checkpoints", {"step": 4, "clip": {}, "head": {}, "run": "a-s0"}, 1
    )
    monkeypatch.setenv("GAPRUN_RUNS", str(place / "elsewhere"))
    found, path = _checkpoint_of_run(store, "a-s0", None)
    assert found.id == "a-s0" and path == place / "elsewhere" / "a-s0" / "checkpoints" / "step-00000004.pt"
