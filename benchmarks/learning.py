"""How well training learns: gaprun beside open_clip's own loop; the same data, towers, rate, batch and number of pairs.

For each seed and contender: recall@5 (mean of both directions) and the gap on held-out pictures, and the gap of the
same model on the same pictures prepared as in its training (random crops). Contenders besides `peer` and `ours` change
one key of our recipe, so that a difference can be followed to its part. Photos are Flickr8k at 96 x 96 below
GAPRUN_TEST_DATA where that is set, else drawn scenes.

With --folder everything is kept there, and a later call with more seeds or contenders goes on from it.

    python benchmarks/learning.py [--json] [--small] [--data photos|scenes] [--seeds 0,1,2,3] [--folder DIR]
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from harness import arguments, child, report

# What each contender of ours sets.
CONTENDERS: dict[str, list[str]] = {
    "ours": [],
    "random": ["data.captions=random"],
    "cycle": ["data.captions=cycle"],
    "pairs": ["data.captions=pairs"],
    "bilinear": ["data.resize=bilinear"],
    "no-crops": ["data.crop_scale=[1.0,1.0]"],
}
VISION = {"layers": [1, 1, 1, 1], "width": 16, "head_width": 32}
TEXT = {"context_length": 32, "width": 64, "heads": 4, "layers": 2}
RATE, DECAY, CROP_DRAWS = 2e-3, 0.1, 4
T975 = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36)  # Student's t at 2, 3, ... 8 seeds


def write_data(size: dict[str, Any]) -> None:
    """`train` and held-out splits below the folder, the training pictures as files with a table of all pairs, and the
    peer's model."""
    folder = Path(size["folder"])
    if (folder / "train.tsv").exists():
        return
    if size["data"] == "photos":
        source = Path(os.environ["GAPRUN_TEST_DATA"]) / "flickr8k_96px"
        for part in ("train", "val", "test"):
            options = [
                "--images",
                str(source / "images"),
                "--captions",
                str(source / f"captions_{part}.json"),
            ]
            gaprun("data", "captions", *options, "--split", part, "--out", str(folder / "photos"))
    else:
        counts = ["--train", str(size["train"]), "--test", str(size["test"]), "--size", str(size["pixels"])]
        counts += ["--classes-train", "0", "--classes-test", "0"]
        gaprun("data", "scenes", *counts, "--out", str(folder / "scenes"))
    from gaprun.data.split import open_split

    split = open_split(f"{size['data']}/train", folder)
    (folder / "pictures").mkdir(exist_ok=True)
    rows = []
    for index, captions in enumerate(split.captions):
        path = folder / "pictures" / f"{index:06d}"
        path.write_bytes(split.read_image(index))
        rows += [(str(path), " ".join(caption.split())) for caption in captions]
    vision, text = VISION | {"image_size": size["image_size"]}, TEXT | {"vocab_size": 49408}
    config = {"model_cfg": {"embed_dim": 128, "vision_cfg": vision, "text_cfg": text}, "preprocess_cfg": {}}
    (folder / "tiny").mkdir(exist_ok=True)
    (folder / "tiny" / "open_clip_config.json").write_text(json.dumps(config))
    with (folder / "train.part").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter="\t").writerows([("filepath", "title"), *rows])
    (folder / "train.part").replace(folder / "train.tsv")


def gaprun(*words: str) -> None:
    """Run the command line quietly; its error ends the benchmark."""
    done = subprocess.run([sys.executable, "-m", "gaprun", *words], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"gaprun {words[0]} {words[1]}: {done.stderr}")


def pairs(size: dict[str, Any]) -> int:
    """Rows of the table of all pairs."""
    with (Path(size["folder"]) / "train.tsv").open(newline="", encoding="utf-8") as file:
        return sum(1 for _ in csv.reader(file, delimiter="\t")) - 1


def steps(size: dict[str, Any]) -> int:
    """Updates of every contender: whole batches of all pairs, times the epochs."""
    return int(size["epochs"]) * (pairs(size) // int(size["batch"]))


def peer(size: dict[str, Any], seed: int) -> Path:
    """Train by open_clip's loop; the last epoch's checkpoint."""
    folder, epochs = Path(size["folder"]), size["epochs"]
    name = f"peer-s{seed}"
    result = folder / name / "checkpoints" / f"epoch_{epochs}.pt"
    if result.exists():
        return result
    shutil.rmtree(folder / name, ignore_errors=True)
    command = [sys.executable, "-m", "open_clip_train.main", "--model", f"local-dir:{folder / 'tiny'}"]
    command += ["--train-data", str(folder / "train.tsv"), "--dataset-type", "csv", "--csv-separator", "\t"]
    command += ["--csv-img-key", "filepath", "--csv-caption-key", "title", "--epochs", str(epochs)]
    command += ["--batch-size", str(size["batch"]), "--lr", str(RATE), "--wd", str(DECAY), "--eps", "1e-6"]
    command += ["--beta1", "0.9", "--beta2", "0.98", "--warmup", str(steps(size) // 10), "--workers", "1"]
    command += ["--precision", "fp32", "--seed", str(seed), "--save-frequency", str(epochs)]
    command += ["--logs", str(folder), "--name", name]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if not result.exists():
        sys.exit(f"open_clip_train wrote no checkpoint:\n{(done.stderr + done.stdout)[-2000:]}")
    return result


def ours(size: dict[str, Any], name: str, seed: int) -> Path:
    """Train by gaprun with the keys that `name` sets; the last checkpoint."""
    from gaprun.jobs.run import run_job
    from gaprun.recipe.jobs import load_jobs
    from gaprun.store import open_store

    folder, total = Path(size["folder"]), steps(size)
    recipe = {
        "name": f"learning-{name}",
        "model": {
            "inline": {"embed_dim": 128, "vision": VISION | {"image_size": size["image_size"]}, "text": TEXT},
            "vocabulary": "used",  # the rows of the token embedding that get gradients
        },
        "data": {"train": [f"{size['data']}/train"], "cache": "memory", "workers": 0},
        "optimizer": {"lr": RATE, "weight_decay": DECAY},
        "schedule": {"steps": total, "warmup_steps": total // 10, "batch_size": size["batch"]},
        "compute": {"threads": 1, "channels_last": True},
    }
    (folder / f"{name}.yaml").write_text(json.dumps(recipe))
    (job,) = load_jobs(folder / f"{name}.yaml", CONTENDERS[name], [seed])
    store = open_store(str(folder / "results.db"))
    run_job(job, store, "cpu", lambda event: None)
    checkpoint = store.run(job.id).checkpoint
    assert checkpoint is not None
    return folder / checkpoint


def measured(size: dict[str, Any], contender: str, seed: int) -> dict[str, Any]:
    """In a child: train, then recall@5 and gaps on every held-out split."""
    import torch

    from gaprun.data.split import open_split
    from gaprun.jobs.load import load_model
    from gaprun.store import open_store

    torch.set_num_threads(1)
    folder = Path(size["folder"])
    os.environ["GAPRUN_DATA"] = str(folder)
    path = peer(size, seed) if contender == "peer" else ours(size, contender, seed)
    arch = f"local-dir:{folder / 'tiny'}" if contender == "peer" else None
    loaded = load_model(open_store(str(folder / "results.db")), str(path), arch, None)
    found = {}
    for part in ("val", "test"):
        if (folder / size["data"] / part).is_dir():
            found[part] = held_out(loaded, open_split(f"{size['data']}/{part}", folder))
    return found


def held_out(loaded: Any, split: Any) -> dict[str, float]:
    """recall@5, the gap as measured, and the gap on pictures prepared as the model was trained on."""
    import numpy as np
    import torch

    from gaprun.evaluation.embed import StoredEmbedder
    from gaprun.evaluation.geometry import measure_geometry
    from gaprun.evaluation.retrieval import full_retrieval

    embedder = StoredEmbedder(loaded.towers, loaded.checkpoint_hash, None, torch.device("cpu"))
    embeddings = embedder.embeddings(split)
    recalls = full_retrieval(embeddings).metrics()
    images, texts = embeddings.pairs()
    found = {
        "recall@5": (recalls["image_recall@5"] + recalls["text_recall@5"]) / 2,
        "gap": measure_geometry(images, texts)["gap"],
    }
    draws = [as_trained(loaded, split, draw) for draw in range(CROP_DRAWS)]
    found["gap_trained"] = float(np.mean([measure_geometry(rows, texts)["gap"] for rows in draws]))
    return found


def as_trained(loaded: Any, split: Any, draw: int) -> Any:
    """Unit embeddings (n, d) of a split's pictures, each cropped as in a step of the model's own training."""
    import numpy as np
    import torch
    from torch.nn.functional import normalize

    towers = loaded.towers
    if loaded.recipe is None:
        from open_clip.transform import PreprocessCfg, image_transform_v2

        from gaprun.data.decode import decode_rgb

        torch.manual_seed(draw)
        transform = image_transform_v2(PreprocessCfg(**towers.preprocessing), is_train=True)
        batch = torch.stack([transform(decode_rgb(split.read_image(i))) for i in range(split.samples)])
    else:
        from gaprun.data.crops import in_pixels, random_crops
        from gaprun.data.pool import Pool
        from gaprun.data.resample import Pictures, crop_and_normalise, picture_interpolation

        data, settings = loaded.recipe.data, towers.preprocessing
        pool = Pool([split], towers.image_size, data.crop_scale, data.margin)
        pixels = np.concatenate([pool.picture(i).reshape(-1) for i in range(len(pool))])
        crops = random_crops(pool.sizes, data.crop_scale, np.random.default_rng(draw))
        arrays = (pixels, pool.kept, in_pixels(crops, pool.kept))
        pictures = Pictures.joined(*(torch.from_numpy(array) for array in arrays))
        filter_ = picture_interpolation(data.resize, settings)
        mean, std = (torch.tensor(settings[name]) for name in ("mean", "std"))
        batch = crop_and_normalise(pictures, towers.image_size, filter_, mean, std)
    with torch.inference_mode():
        parts = [normalize(towers.clip.encode_image(part), dim=-1) for part in batch.split(256)]
    return torch.cat(parts).numpy()


def summary(rows: list[dict[str, Any]], part: str) -> dict[str, dict[str, Any]]:
    """By contender: mean, standard deviation and 95 % interval of each quantity over the seeds."""
    found: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(row["contender"] for row in rows):
        own = [row[part] for row in rows if row["contender"] == name]
        values = {key: [one[key] for one in own] for key in ("recall@5", "gap", "gap_trained")}
        values["shift"] = [one["gap"] - one["gap_trained"] for one in own]
        found[name] = {"seeds": len(own)} | {key: spread(value) for key, value in values.items()}
    return found


def default_captions() -> str:
    """The contender that sets what a recipe has anyway."""
    from gaprun.data.spec import Data

    return str(Data.model_fields["captions"].default)


def spread(values: list[float]) -> tuple[float, float]:
    """Mean and half the width of its 95 % interval (Student's t; NaN for one seed)."""
    n = len(values)
    if n < 2:
        return statistics.fmean(values), float("nan")
    t = T975[min(n, 8) - 2]
    return statistics.fmean(values), t * statistics.stdev(values) / n**0.5


def table(found: dict[str, dict[str, Any]]) -> list[str]:
    """A Markdown table, a contender a row."""
    lines = [
        "| contender | seeds | recall@5 | gap | gap on pictures as trained | shift |",
        "|---|---|---|---|---|---|",
    ]
    for name, one in found.items():
        cells = [
            f"{one[key][0]:{form}} ± {one[key][1]:{form.lstrip('+')}}"
            for key, form in (
                ("recall@5", ".2f"),
                ("gap", ".4f"),
                ("gap_trained", ".4f"),
                ("shift", "+.4f"),
            )
        ]
        lines.append(f"| {name} | {one['seeds']} | " + " | ".join(cells) + " |")
    return lines


def options() -> argparse.Namespace:
    """The command line, with what depends on the data filled in."""
    parser = arguments(__doc__)
    photos = bool(os.environ.get("GAPRUN_TEST_DATA"))
    parser.add_argument("--data", choices=["photos", "scenes"], default="photos" if photos else "scenes")
    parser.add_argument("--seeds", default=None, help="comma-separated; default 0,1,2,3, with --small 0")
    parser.add_argument("--epochs", type=int, help="passes through all pairs; default 8, with --small 1")
    parser.add_argument("--image-size", type=int, help="side of the towers' input; default 64, scenes 32")
    parser.add_argument("--pixels", type=int, default=32, help="side of the drawn scenes")
    parser.add_argument("--contenders", default="peer,ours", help=f"of peer, {', '.join(CONTENDERS)}")
    parser.add_argument("--part", default="test", choices=["val", "test"], help="what the table shows")
    parser.add_argument("--folder", type=Path, help="keep everything here and go on from it")
    chosen = parser.parse_args()
    if chosen.small:
        chosen.data = "scenes"
    chosen.seeds = [int(seed) for seed in (chosen.seeds or ("0" if chosen.small else "0,1,2,3")).split(",")]
    chosen.epochs = chosen.epochs or (1 if chosen.small else 8)
    chosen.image_size = chosen.image_size or (64 if chosen.data == "photos" else 32)
    return chosen


def main() -> None:
    """Train what is not there yet, seed after seed with the contenders in turn, and print the table."""
    chosen = options()
    if chosen.child:
        contender, _, seed = chosen.child.partition("/")
        print(json.dumps(measured(chosen.size, contender, int(seed))))
        return
    folder = chosen.folder or Path(tempfile.mkdtemp(prefix="gaprun-learning-"))
    folder.mkdir(parents=True, exist_ok=True)
    size = {
        "folder": str(folder.resolve()),
        "data": chosen.data,
        "epochs": chosen.epochs,
        "image_size": chosen.image_size,
        "pixels": chosen.pixels,
        "batch": 64 if chosen.small else 128,
        "train": 400 if chosen.small else 4000,
        "test": 200 if chosen.small else 1000,
    }
    place = folder / f"learning-{chosen.epochs}-epochs.json"
    rows: list[dict[str, Any]] = json.loads(place.read_text()) if place.exists() else []
    done = {(row["contender"], row["seed"]) for row in rows}
    wanted = [(name, seed) for seed in chosen.seeds for name in chosen.contenders.split(",")]
    try:
        write_data(size)
        for name, seed in wanted:
            if (name, seed) not in done:
                print(f"{name}, seed {seed}", file=sys.stderr, flush=True)
                rows.append({"contender": name, "seed": seed} | child(__file__, f"{name}/{seed}", size))
                place.write_text(json.dumps(rows, indent=1))
    finally:
        if chosen.folder is None:
            shutil.rmtree(folder, ignore_errors=True)
    found = summary(rows, chosen.part)
    answer: dict[str, Any] = {"data": chosen.data, "seeds": len(chosen.seeds)}
    as_ours = "ours" if "ours" in found else default_captions()
    if {"peer", as_ours} <= found.keys():
        own, other = found[as_ours], found["peer"]
        ratio = own["recall@5"][0] / other["recall@5"][0]
        answer |= {"recall_ratio": round(ratio, 3), "gap_shift": round(own["shift"][0], 5)}
        answer["peer_gap_shift"] = round(other["shift"][0], 5)
    report(table(found), answer, chosen.json)


if __name__ == "__main__":
    main()
