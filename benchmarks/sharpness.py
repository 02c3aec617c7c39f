"""How far a model's gap depends on how its test pictures were resampled, which published gaps seldom say.

For every finished run of a database that was trained on the same data set and has its checkpoint: gap and recall@5 on
one split, with pictures brought to the model's size by its own way (antialiased bicubic) and by others: `nearest` and
plain `bilinear` take single pixels and are sharper, with aliases; `to 3/4` and `to 1/2` are shrunk to that share of the
model's size first, and so softer. Weights, captions and all else stay. A row a recipe and way, with the 95 % interval
over seeds of the difference.

    python benchmarks/sharpness.py --db results.db --data flickr8k/test [--recipe baseline ...] [--json]
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from learning import spread
from PIL import Image

WAYS = ("own", "nearest", "bilinear", "to 3/4", "to 1/2")


def main() -> None:
    """Measure the runs, and print a row per recipe and way."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--db", default="results.db", help="the runs to ask")
    parser.add_argument("--data", required=True, help="split folder to measure on")
    parser.add_argument("--recipe", action="append", help="only these recipes; default: all")
    parser.add_argument("--json", action="store_true", help="end with one JSON object on one line")
    options = parser.parse_args()
    from gaprun.data.split import open_split
    from gaprun.errors import GaprunError
    from gaprun.jobs.load import load_model
    from gaprun.store import open_store

    torch.set_num_threads(1)
    store, split = open_store(options.db, create=False), open_split(options.data)
    found: dict[str, list[dict[str, dict[str, float]]]] = {}
    for run in store.runs(["status=finished"]):
        trained_on = json.dumps(run.resolved_recipe.get("data", {}).get("train"))
        if run.kind != "train" or run.recipe not in (options.recipe or [run.recipe]):
            continue
        if options.data.split("/")[0] + "/" not in trained_on:
            continue
        try:
            loaded = load_model(store, run.id, None, None)
        except GaprunError as error:
            print(f"left out: {error}", file=sys.stderr)
            continue
        found.setdefault(run.recipe, []).append(by_way(loaded, split))
    print("| run | seeds | pictures | gap | difference | recall@5 |")
    print("|---|---|---|---|---|---|")
    for recipe, rows in sorted(found.items()):
        for way in WAYS:
            gap, recall = (np.mean([row[way][key] for row in rows]) for key in ("gap", "recall@5"))
            shift, half = spread([row[way]["gap"] - row["own"]["gap"] for row in rows])
            said = (
                ""
                if way == "own"
                else f"{shift:+.4f}" + (f" ± {half:.4f}" if len(rows) > 1 else " (one seed)")
            )
            print(f"| {recipe} | {len(rows)} | {way} | {gap:.4f} | {said} | {recall:.1f} |")
    if options.json:
        print(json.dumps(found))


def by_way(loaded: Any, split: Any) -> dict[str, dict[str, float]]:
    """Gap and recall@5 (mean of both directions) of a model on `split`, by way of resampling.

    Raises SystemExit where pictures prepared here by the model's own way are not those that measuring makes.
    """
    from gaprun.evaluation.embed import StoredEmbedder
    from gaprun.evaluation.geometry import measure_geometry
    from gaprun.evaluation.retrieval import full_retrieval

    embedder = StoredEmbedder(loaded.towers, loaded.checkpoint_hash, None, torch.device("cpu"))
    own = embedder.embeddings(split)
    apart = float(np.abs(own.images - encoded(loaded.towers, split, "own")).max())
    if apart > 0.02:
        raise SystemExit(
            f"this script prepares pictures otherwise than measuring does: rows differ by {apart:.3f}"
        )
    found = {}
    for way in WAYS:
        given = (
            own if way == "own" else replace(own, images=encoded(loaded.towers, split, way), image_norms=None)
        )
        recalls = full_retrieval(given).metrics()
        images, texts = given.pairs()
        recall = (recalls["image_recall@5"] + recalls["text_recall@5"]) / 2
        found[way] = {"gap": measure_geometry(images, texts)["gap"], "recall@5": recall}
    return found


def encoded(towers: Any, split: Any, way: str) -> np.ndarray:
    """Unit embeddings (n, d) of the split's pictures, brought to the model's size by `way`."""
    from gaprun.data.decode import decode_rgb

    mean, std = (np.array(towers.preprocessing[name], dtype=np.float32) for name in ("mean", "std"))
    pixels = np.stack(
        [resized(decode_rgb(split.read_image(i)), towers.image_size, way) for i in range(split.samples)]
    )
    batch = torch.from_numpy((pixels.astype(np.float32) / 255 - mean) / std).permute(0, 3, 1, 2)
    with torch.inference_mode():
        parts = [
            torch.nn.functional.normalize(towers.clip.encode_image(part), dim=-1) for part in batch.split(256)
        ]
    return torch.cat(parts).numpy()


def resized(picture: Image.Image, size: int, way: str) -> np.ndarray:
    """A picture as (size, size, 3) bytes; Pillow's bicubic is antialiased, its transform takes single pixels."""
    if way.startswith("to "):
        share = {"to 3/4": 0.75, "to 1/2": 0.5}[way]
        picture = picture.resize((round(size * share),) * 2, Image.Resampling.BICUBIC)
    if way in ("nearest", "bilinear"):
        scale = (picture.width / size, 0, 0, 0, picture.height / size, 0)
        filter_ = Image.Resampling.NEAREST if way == "nearest" else Image.Resampling.BILINEAR
        return np.asarray(picture.transform((size, size), Image.Transform.AFFINE, scale, filter_))
    return np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC))


if __name__ == "__main__":
    main()
