"""A run as an open_clip model folder: open_clip's own functions give the run's embeddings, and gaprun its metrics."""

import io
import json

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from torch.nn.functional import normalize

from gaprun import evaluate
from gaprun.data.decode import decode_rgb
from gaprun.data.split import open_split
from gaprun.errors import Failure, UserError
from gaprun.exchange.openclip import export_model, full_embedding
from gaprun.jobs.load import load_model
from gaprun.model.towers import build_towers, trimmed
from gaprun.model.vocabulary import Vocabulary
from gaprun.recipe.load import validate
from gaprun.store import open_store
from gaprun.training.checkpoint import save_checkpoint
from tests.conftest import TINY, run_gaprun

pytestmark = pytest.mark.slow
UNSEEN = ["a zebra quilted with xylophones", "photo of the Eiffel tower 2024", ""]


VIT = {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8}


@pytest.fixture(scope="module")
def trained(tmp_path_factory, scenes):
    """A folder with one run of a few steps, of the used vocabulary."""
    folder = tmp_path_factory.mktemp("export")
    (folder / "used.yaml").write_text("name: used\n")
    words = [*TINY, "--set", "eval=[{task: gap, data: [scenes/test]}]", "--seeds", "0"]
    done = run_gaprun("train", "used.yaml", *words, cwd=folder, env={"GAPRUN_DATA": str(scenes)})
    assert done.returncode == 0, done.stderr
    return folder


def run_of(folder):
    return open_store(str(folder / "results.db")).runs(["kind=train"])[0]


def checkpoint(folder, **model):
    """A checkpoint of random towers, in training's own format."""
    changes = {"name": "made", "model": {"inline": {"embed_dim": 16, **model}}}
    others = {"data": {"train": ["scenes/train"]}, "schedule": {"steps": 7, "batch_size": 8}}
    recipe = validate(changes | others, "made")
    torch.manual_seed(1)
    towers = build_towers(recipe.model)
    for name, buffer in towers.clip.visual.named_buffers():
        if "running" in name:
            buffer.uniform_(0.5, 1.5)
    towers.clip.logit_scale.data.fill_(np.log(20.0))
    state = {"clip": towers.clip.state_dict(), "head": {}, "step": 7, "recipe": recipe.model_dump_json()}
    path, _ = save_checkpoint(folder, {**state, "vocabulary": None, "run": "made-s3", "seed": 3}, keep=1)
    return str(path)


def embeddings_by_open_clip(folder, split, more_texts=()):
    """Unit embeddings of a split by open_clip's public functions alone."""
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    model.eval()
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    pictures = [
        preprocess(Image.open(io.BytesIO(split.read_image(i))).convert("RGB")) for i in range(len(split))
    ]
    captions = [caption for captions in split.captions for caption in captions]
    with torch.no_grad():
        images = normalize(model.encode_image(torch.stack(pictures)), dim=-1).numpy()
        texts = normalize(model.encode_text(tokenizer([*captions, *more_texts])), dim=-1).numpy()
    return images, texts, model


@pytest.mark.parametrize("made", [None, {}, {"vision": VIT}], ids=["used", "resnet", "vit"])
def test_open_clip_loads_the_model_to_the_same_embeddings(trained, scenes, tmp_path, made):
    store = open_store(str(trained / "results.db"))
    named = run_of(trained).id if made is None else checkpoint(tmp_path, **made)
    out = tmp_path / "model"
    said = export_model(store, named, out)
    split = open_split(scenes / "scenes" / "test")
    images, texts, model = embeddings_by_open_clip(out, split, UNSEEN)
    towers = load_model(store, named, None, None).towers
    towers.clip.eval()
    captions = [caption for captions in split.captions for caption in captions]
    prepare = towers.preprocess()
    pictures = torch.stack([prepare(decode_rgb(split.read_image(i))) for i in range(len(split))])
    tokens = trimmed(towers.tokenize([*captions, *UNSEEN]))
    with torch.no_grad():
        ours_images = normalize(towers.clip.encode_image(pictures), dim=-1).numpy()
        ours_texts = normalize(towers.encode_text(torch.from_numpy(tokens)), dim=-1).numpy()
    assert np.abs(images - ours_images).max() < 1e-5 and np.abs(texts - ours_texts).max() < 1e-5
    assert len(np.unique(texts.round(4), axis=0)) > 90, "the texts differ among themselves"
    assert model.state_dict()["token_embedding.weight"].shape[0] == 49408
    assert json.loads((out / "open_clip_config.json").read_text())["gaprun"] == said
    if made is not None:
        assert said["run"].startswith("made-s3-")  # no run of this database
        assert (said["seed"], said["step"], said["temperature"]) == (3, 7, pytest.approx(0.05))
        return
    # What training measured and kept is the same, and the learned temperature goes along as open_clip's logit scale.
    kept = [np.load(place) for place in (trained / "runs" / "embeddings").glob("*/images.npy")]
    assert min(np.abs(rows - images).max() for rows in kept if len(rows) == len(images)) < 1e-5
    temperature = next(row["value"] for row in store.metrics(named) if row["metric"] == "temperature")
    assert model.logit_scale.exp().item() == pytest.approx(1 / temperature, rel=1e-5)
    assert (said["run"], said["step"]) == (named, 12) and "one row for all others" in said["vocabulary"]
    assert said["temperature"] == pytest.approx(temperature, rel=1e-5)


def test_and_back_gaprun_measures_the_folder_as_the_run(trained, scenes, monkeypatch):
    monkeypatch.setenv("GAPRUN_DATA", str(scenes))
    db, run = str(trained / "results.db"), run_of(trained)
    out = trained / "models" / "back"
    words = ["--as", "open_clip", run.id, "--out", str(out)]
    done = run_gaprun("runs", "export", *words, cwd=trained)
    assert done.returncode == 0 and f"{run.id} at step 12, temperature" in done.stdout, done.stderr
    back, original = (
        evaluate(ckpt, data=["scenes/test"], tasks=["gap", "retrieval"], db=db) for ckpt in (out, run.id)
    )

    def values(found):
        return {
            (m["metric"], m["protocol"]): m["value"] for m in found.metrics if m["metric"] != "temperature"
        }

    assert back.encoded == 96 and back.run_id != run.id
    assert values(back).keys() == values(original).keys() and len(values(back)) > 30
    for key, value in values(back).items():
        assert value == pytest.approx(values(original)[key], rel=1e-4, abs=1e-5), key


def test_what_is_there_is_replaced_only_if_it_is_a_model_folder_and_asked_for(trained, tmp_path):
    store, run = open_store(str(trained / "results.db")), run_of(trained).id
    out = tmp_path / "sub" / "model"
    export_model(store, run, out)
    with pytest.raises(UserError, match="exists: name another one with --out"):
        export_model(store, run, out)
    assert export_model(store, run, out, force=True)["run"] == run
    (out / "mine.txt").touch()
    with pytest.raises(UserError, match="holds mine.txt, which gaprun did not write"):
        export_model(store, run, out, force=True)
    assert (out / "mine.txt").exists()
    with pytest.raises(UserError, match="not trained by gaprun"):
        export_model(store, str(out), tmp_path / "other")
    with pytest.raises(UserError, match="no run 'nothing'"):
        export_model(store, "nothing", tmp_path / "other")
    with pytest.raises(Failure, match="cannot be written"):
        export_model(store, run, out / "mine.txt" / "below")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sub"]


def test_every_id_gets_the_row_that_the_run_gives_it():
    vocabulary = Vocabulary([3, 7, 9], 10)
    rows = torch.arange(5.0).unsqueeze(1)  # padding, unknown, 3, 7, 9
    assert full_embedding(rows, vocabulary).flatten().tolist() == [0, 1, 1, 2, 1, 1, 1, 3, 1, 4]


def test_a_learned_bias_goes_along_and_open_clip_gives_the_same_logits(tmp_path):
    """Of the sigmoid loss: sigma(scale x.y + bias) of open_clip's own loaded model is the run's."""
    store = open_store(str(tmp_path / "r.db"))
    named = checkpoint(tmp_path, vision=VIT)
    content = torch.load(named, weights_only=True)
    content["head"] = {"nu": torch.tensor(1.0), "bias": torch.tensor(-4.25)}
    torch.save(content, tmp_path / "sigmoid.pt")
    said = export_model(store, str(tmp_path / "sigmoid.pt"), tmp_path / "model")
    assert said["bias"] == -4.25
    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{tmp_path / 'model'}")
    model.eval()
    pictures, tokens = (
        torch.rand(3, 3, 32, 32),
        open_clip.get_tokenizer(f"local-dir:{tmp_path / 'model'}")(UNSEEN),
    )
    loaded = load_model(store, str(tmp_path / "sigmoid.pt"), None, None).towers
    loaded.clip.eval()
    with torch.no_grad():
        by_open_clip = model.get_logits(pictures, tokens)[0]
        x = normalize(loaded.clip.encode_image(pictures), dim=-1)
        y = normalize(loaded.encode_text(torch.from_numpy(loaded.tokenize(UNSEEN))), dim=-1)
        torch.testing.assert_close(by_open_clip, 20.0 * x @ y.T - 4.25, rtol=1e-4, atol=1e-4)
    back = load_model(store, str(tmp_path / "model"), None, None).towers.clip
    assert back.logit_bias.item() == -4.25
