"""`gaprun eval` on models that gaprun did not train: open_clip's own checkpoints, model folders, architectures."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from torch.nn.functional import normalize

from gaprun.data.split import open_split
from gaprun.store import open_store
from tests.conftest import PREPARED, run_gaprun

pytestmark = pytest.mark.slow

CONFIG = {
    "model_cfg": {
        "embed_dim": 32,
        "vision_cfg": {
            "image_size": 32,
            "layers": [1, 1, 1, 1],
            "width": 8,
            "head_width": 32,
            "patch_size": None,
        },
        "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
    },
    "preprocess_cfg": {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]},
}


def parsed(done: subprocess.CompletedProcess[str]):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, real_data: Path) -> Path:
    """A folder with Flickr8k shards, a model folder, and a checkpoint written by open_clip's own training loop."""
    folder = tmp_path_factory.mktemp("peer")
    flickr = real_data / "flickr8k_sample"
    options = [
        "--images",
        str(flickr / "images"),
        "--captions",
        str(flickr / "captions.json"),
        "--test",
        "60",
    ]
    done = run_gaprun("data", "captions", *options, "--size", "40", "--out", "data/flickr8k", cwd=folder)
    assert done.returncode == 0, done.stderr
    (folder / "tiny").mkdir()
    (folder / "tiny" / "open_clip_config.json").write_text(json.dumps(CONFIG))
    command = [PREPARED.python, "-m", "open_clip_train.main", "--model", f"local-dir:{folder / 'tiny'}"]
    command += ["--train-data", str(next((folder / "data" / "flickr8k" / "train").glob("*.tar")))]
    command += [
        "--train-num-samples",
        "320",
        "--dataset-type",
        "webdataset",
        "--batch-size",
        "64",
        "--epochs",
        "1",
    ]
    command += ["--workers", "1", "--precision", "fp32", "--logs", "logs", "--name", "peer", "--warmup", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    peer = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=500)
    assert (folder / "logs/peer/checkpoints/epoch_1.pt").is_file(), peer.stderr[-2000:]
    return folder


def reference(folder: Path, state: dict[str, torch.Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of the test split by open_clip's own functions alone."""
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder / 'tiny'}")
    model.load_state_dict({name.removeprefix("module."): value for name, value in state.items()})
    model.eval()
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder / 'tiny'}")
    split = open_split(folder / "data" / "flickr8k" / "test")
    import io

    pictures = [
        preprocess(Image.open(io.BytesIO(split.read_image(i))).convert("RGB")) for i in range(len(split))
    ]
    captions = [caption for captions in split.captions for caption in captions]
    with torch.no_grad():
        images = normalize(model.encode_image(torch.stack(pictures)), dim=-1)
        texts = normalize(model.encode_text(tokenizer(captions)), dim=-1)
    return images.numpy(), texts.numpy()


def values(found) -> dict[tuple[str, str], float]:
    return {(m["metric"], m["protocol"]): m["value"] for m in found["metrics"]}


def kept_embeddings(folder: Path, images: int) -> tuple[np.ndarray, np.ndarray]:
    for place in (folder / "runs" / "embeddings").iterdir():
        rows = np.load(place / "images.npy")
        if len(rows) == images:
            return rows, np.load(place / "texts.npy")
    raise AssertionError("no embeddings were kept")


def test_open_clips_own_checkpoint_gives_open_clips_embeddings(trained: Path) -> None:
    file = "logs/peer/checkpoints/epoch_1.pt"
    found = parsed(run_gaprun("eval", "--ckpt", file, "--data", "flickr8k/test", "--json", cwd=trained))
    assert found["images_encoded"] == 60 and found["run"].startswith("peer-epoch_1-")
    state = torch.load(trained / file, map_location="cpu", weights_only=True)["state_dict"]
    for ours, theirs in zip(kept_embeddings(trained, 60), reference(trained, state), strict=True):
        assert np.abs(ours - theirs).max() < 1e-5
    listed = parsed(run_gaprun("compare", "--metric", "gap", "--format", "json", cwd=trained))
    assert {row["recipe"] for row in listed} == {"peer-epoch_1"}


def test_prefixed_weights_and_folders_are_the_same_model(trained: Path) -> None:
    state = torch.load(trained / "logs/peer/checkpoints/epoch_1.pt", weights_only=True)["state_dict"]
    torch.save(
        {"state_dict": {f"module.{k}": v for k, v in state.items()}, "epoch": 1}, trained / "prefixed.pt"
    )
    bare = run_gaprun("eval", "--ckpt", "prefixed.pt", "--data", "flickr8k/test", cwd=trained)
    assert bare.returncode == 2 and "add --model ARCH" in bare.stderr
    wrong = run_gaprun(
        "eval", "--ckpt", "prefixed.pt", "--model", "RN50", "--data", "flickr8k/test", cwd=trained
    )
    assert wrong.returncode == 2 and "do not fit RN50" in wrong.stderr
    words = ["--data", "flickr8k/test", "--tasks", "gap,retrieval", "--json"]
    tiny = f"local-dir:{trained / 'tiny'}"
    named = parsed(run_gaprun("eval", "--ckpt", "prefixed.pt", "--model", tiny, *words, cwd=trained))
    model = trained / "model"
    model.mkdir()
    assert named["device"] == "cpu fp32" and "no params.txt beside it" in named["notes"][0]
    (model / "open_clip_config.json").write_text(json.dumps(CONFIG))
    from safetensors.torch import save_file

    save_file(
        {name: value.contiguous() for name, value in state.items()}, model / "open_clip_model.safetensors"
    )
    folder = parsed(run_gaprun("eval", "--ckpt", "model", *words, cwd=trained))
    first = parsed(run_gaprun("eval", "--ckpt", "logs/peer/checkpoints/epoch_1.pt", *words, cwd=trained))
    # The weights are the same, so the embeddings are found and nothing is encoded again.
    assert [found["images_encoded"] for found in (named, folder, first)] == [0, 0, 0]
    assert values(named) == values(folder) == values(first) and len(values(first)) > 30


def test_an_architecture_by_name(trained: Path) -> None:
    words = ["--model", "ViT-S-32-alt", "--data", "flickr8k/test", "--tasks", "retrieval", "--json"]
    bare = run_gaprun("eval", *words, cwd=trained)
    assert bare.returncode == 2 and "has no weights" in bare.stderr and "--random" in bare.stderr
    found = parsed(run_gaprun("eval", *words, "--random", cwd=trained))
    assert found["run"].startswith("ViT-S-32-alt-random-") and values(found)["image_recall@1", "full"] < 10


def test_shift_moves_the_clouds_without_encoding_again(trained: Path) -> None:
    file = "logs/peer/checkpoints/epoch_1.pt"
    words = ["--ckpt", file, "--data", "flickr8k/test", "--tasks", "shift", "--json"]
    found = parsed(run_gaprun("eval", *words, cwd=trained))
    assert found["images_encoded"] == 740  # the training split alone, for the means
    store = open_store(str(trained / "results.db"))
    stored = values({"metrics": store.metrics(found["run"])})
    gaps = {p: v for (name, p), v in stored.items() if name == "gap" and p.startswith("shift")}
    assert gaps["shift=0"] == pytest.approx(stored["gap", "full"], rel=1e-5)
    assert gaps["shift=1"] < 0.35 * gaps["shift=0"] and gaps["shift=-0.5"] > gaps["shift=0"]
    assert stored["image_recall@5", "shift=0"] == stored["image_recall@5", "full"]
    assert stored["gap", "centred"] < 0.5 * gaps["shift=0"]
    assert parsed(run_gaprun("eval", *words, cwd=trained))["images_encoded"] == 0


def test_composition_sets_through_the_command_line(trained: Path) -> None:
    folder = trained / "winoground"
    (folder / "images").mkdir(parents=True)
    for k in range(4):
        Image.new("RGB", (40, 40), (60 * k, 255 - 60 * k, 90)).save(folder / "images" / f"ex_{k}.png")
    rows = [
        {
            "id": i,
            "image_0": f"ex_{2 * i}",
            "image_1": f"ex_{2 * i + 1}",
            "caption_0": "a dog sees a cat",
            "caption_1": "a cat sees a dog",
            "collapsed_tag": "Object",
        }
        for i in range(2)
    ]
    (folder / "examples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = [
        "--ckpt",
        "logs/peer/checkpoints/epoch_1.pt",
        "--tasks",
        "winoground",
        "--data",
        "winoground",
        "--json",
    ]
    found = parsed(run_gaprun("eval", *words, cwd=trained))
    scores = {m["metric"]: m["value"] for m in found["metrics"]}
    assert set(scores) == {"winoground_text", "winoground_image", "winoground_group"}
    assert found["images_encoded"] == 4 and scores["winoground_group"] <= min(scores.values())
    missing = run_gaprun("eval", *words[:2], "--tasks", "sugarcrepe", "--data", "nowhere", cwd=trained)
    assert missing.returncode == 2 and "docs/composition.md" in missing.stderr


def test_what_can_be_measured_is_and_the_rest_is_named(trained: Path) -> None:
    words = ["--ckpt", "logs/peer/checkpoints/epoch_1.pt", "--tasks", "gap", "--json"]
    done = run_gaprun("eval", *words, "--data", "nowhere/test", "--data", "flickr8k/test", cwd=trained)
    assert done.returncode == 1 and "nowhere/test: no data split" in done.stderr
    found = json.loads(done.stdout)
    assert {row["dataset"] for row in found["metrics"]} == {"flickr8k"}
    assert [entry["what"] for entry in found["failed"]] == ["nowhere/test"]
    wrong = run_gaprun("eval", *words[:2], "--tasks", "gap,retreival", "--data", "flickr8k/test", cwd=trained)
    assert wrong.returncode == 2 and "did you mean retrieval" in wrong.stderr
