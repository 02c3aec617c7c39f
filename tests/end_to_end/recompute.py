"""Every number of a small study computed again, independently and in float64: run it on any working folder.

python -m tests.end_to_end.recompute FOLDER     (FOLDER holds results.db, runs/ and data/)

Reads the database by sqlite3, the shards by tarfile, the pictures by Pillow, the model by open_clip (from gaprun's
export), and writes the formulas out. Of gaprun only the members of the pools of 512 are asked for (a seeded draw).
"""

from __future__ import annotations

import io
import json
import sqlite3
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np

from tests.conftest import PREPARED

POOL, POOL_SEED, DRAWS = 512, 2412_07909, 10


def stored(folder: Path) -> list[dict]:
    """All metric rows of finished runs, straight from the database."""
    with sqlite3.connect(folder / "results.db") as connection:
        connection.row_factory = sqlite3.Row
        query = """
            SELECT r.id AS run, r.recipe, r.seed, e.task, e.step, m.dataset, m.split, m.protocol, m.name, m.value, m.n
            FROM metrics m JOIN runs r ON r.id = m.run_id JOIN evaluations e ON e.id = m.evaluation_id
            WHERE r.status = 'finished'
        """
        return [dict(row) for row in connection.execute(query)]


def read_split(folder: Path, name: str) -> tuple[list, list[list[str]], list[int | None], dict]:
    """Pictures, captions and labels of a split in its own order, from the tars alone, and its index."""
    from PIL import Image

    place = folder / "data" / name
    index = json.loads((place / "index.json").read_text())
    samples: dict[str, dict[str, bytes]] = {}
    for shard in index["shards"]:
        with tarfile.open(place / shard["file"]) as tar:
            for member in tar:
                key, _, extension = member.name.partition(".")
                samples.setdefault(key, {})[extension] = tar.extractfile(member).read()
    pictures, captions, labels = [], [], []
    for parts in samples.values():
        meta = json.loads(parts["json"])
        data = next(parts[kind] for kind in ("jpg", "png", "webp", "jpeg") if kind in parts)
        pictures.append(Image.open(io.BytesIO(data)).convert("RGB"))
        captions.append(meta["captions"])
        labels.append(meta["label"])
    return pictures, captions, labels, index


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class Model:
    """A run's model through open_clip, in float64."""

    def __init__(self, folder: Path, run: str) -> None:
        import open_clip

        place = folder / "recomputed" / run
        if not place.exists():
            words = ["runs", "export", "--as", "open_clip", run, "--out", str(place)]
            subprocess.run([PREPARED.python, "-m", "gaprun", *words], cwd=folder, check=True)
        self.clip, _, self.prepare = open_clip.create_model_and_transforms(f"local-dir:{place}")
        self.tokenize = open_clip.get_tokenizer(f"local-dir:{place}")
        self.clip = self.clip.double().eval()

    def images(self, pictures: list) -> np.ndarray:
        import torch

        rows = []
        with torch.inference_mode():
            for start in range(0, len(pictures), 128):
                batch = torch.stack([self.prepare(picture) for picture in pictures[start : start + 128]])
                rows.append(self.clip.encode_image(batch.double()).numpy())
        return unit(np.concatenate(rows))

    def texts(self, texts: list[str]) -> np.ndarray:
        import torch

        rows = []
        with torch.inference_mode():
            for start in range(0, len(texts), 256):
                rows.append(self.clip.encode_text(self.tokenize(texts[start : start + 256])).numpy())
        return unit(np.concatenate(rows))


def geometry(x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    n = len(x)
    mu_x, mu_y = x.mean(0), y.mean(0)
    scores = x @ y.T
    heat = [
        np.exp(-4 * (1 - a @ a.T))[np.triu_indices(len(a), 1)].mean() for a in (x, y, np.concatenate([x, y]))
    ]
    return {
        "gap": float(np.linalg.norm(mu_x - mu_y)),
        "matched_cosine": float((x * y).sum(1).mean()),
        "mismatched_cosine": float((scores.sum() - np.trace(scores)) / (n * (n - 1))),
        "alignment": float(((x - y) ** 2).sum(1).mean()),
        "distribution_gap": float((((x - mu_x) - (y - mu_y)) ** 2).sum(1).mean()),
        "uniformity_image": float(np.log(heat[0])),
        "uniformity_text": float(np.log(heat[1])),
        "uniformity_joint": float(np.log(heat[2])),
    }


def recalls(scores: np.ndarray, owner: np.ndarray) -> dict[str, float]:
    """Any-hit recall from scores (images, captions); ties count against the model."""
    image_rank, text_rank = [], []
    for t, i in enumerate(owner):
        image_rank.append((scores[:, t] >= scores[i, t]).sum())
    for i in range(len(scores)):
        mine = owner == i
        best = scores[i, mine].max()
        text_rank.append(1 + (scores[i, ~mine] >= best).sum())
    found = {}
    for side, rank in (("image", np.array(image_rank)), ("text", np.array(text_rank))):
        found |= {f"{side}_recall@{k}": 100 * float((rank <= k).mean()) for k in (1, 5, 10)}
        found[f"{side}_median_rank"] = float(np.median(rank))
    return found


def recompute(folder: Path, run: str, rows: list[dict]) -> dict[tuple[str, str, str, str], float]:
    """(dataset, split, protocol, metric) -> value for every measure of `run` that is written out here."""
    model, found = Model(folder, run), {}
    for dataset, split in sorted(
        {(row["dataset"], row["split"]) for row in rows if row["task"] != "training"}
    ):
        pictures, captions, labels, index = read_split(folder, f"{dataset}/{split}")
        x = model.images(pictures)

        def put(protocol: str, values: dict[str, float], place: tuple[str, str] = (dataset, split)) -> None:
            found.update({(*place, protocol, name): value for name, value in values.items()})

        if any(captions):
            y = model.texts([text for own in captions for text in own])
            owner = np.repeat(np.arange(len(captions)), [len(own) for own in captions])
            first = np.searchsorted(owner, np.arange(len(x)))
            put("full", geometry(x, y[first]) | recalls(x @ y.T, owner))
            put(f"pool{min(POOL, len(x))}", pools(x, y, owner))
        if index.get("classes"):
            put("full", zero_shot(model, x, labels, index) | probe(model, folder, dataset, x, labels, rows))
    return found


def pools(x: np.ndarray, y: np.ndarray, owner: np.ndarray) -> dict[str, float]:
    from gaprun.evaluation.embeddings import Embeddings

    # Rows that hold their own number show which pair a draw took.
    numbers = Embeddings(
        np.arange(len(x), dtype=np.float64)[:, None], np.arange(len(y), dtype=np.float64)[:, None], owner
    )

    def draw(number: int) -> tuple[np.ndarray, np.ndarray]:
        drawn = numbers.draw(POOL, POOL_SEED, number)
        return x[drawn.images[:, 0].astype(int)], y[drawn.texts[:, 0].astype(int)]

    each = [recalls(a @ b.T, np.arange(len(a))) for a, b in map(draw, range(DRAWS))]
    return geometry(*draw(0)) | {name: float(np.mean([one[name] for one in each])) for name in each[0]}


def zero_shot(model: Model, x: np.ndarray, labels: list, index: dict) -> dict[str, float]:
    from open_clip import SIMPLE_IMAGENET_TEMPLATES

    vectors = []
    for name in index["classes"]:
        chosen = index.get("templates") or [template("{}") for template in SIMPLE_IMAGENET_TEMPLATES]
        vectors.append(model.texts([text.replace("{}", name) for text in chosen]).mean(0))
    scores, own = x @ unit(np.array(vectors)).T, np.array(labels)
    rank = (scores >= scores[np.arange(len(x)), own][:, None]).sum(1)
    means = [100 * (rank[own == k] == 1).mean() for k in np.unique(own)]
    return {"zeroshot_top1": 100 * float((rank == 1).mean()), "zeroshot_mean_class": float(np.mean(means))}


def probe(
    model: Model, folder: Path, dataset: str, x: np.ndarray, labels: list, rows: list[dict]
) -> dict[str, float]:
    from sklearn.linear_model import LogisticRegression

    penalty = [row["value"] for row in rows if row["name"] == "probe_penalty" and row["dataset"] == dataset]
    if not penalty:
        return {}
    pictures, _, known, _ = read_split(folder, f"{dataset}/train")
    fitted = LogisticRegression(C=penalty[0], solver="newton-cholesky", max_iter=200).fit(
        model.images(pictures), known
    )
    return {"probe_top1": 100 * float(fitted.score(x, labels))}


def tolerance(metric: str, n: int) -> float:
    """float32 against float64: 2e-4 for geometry; for shares two queries of n, whose scores may be nearly equal."""
    if "rank" in metric and "effective" not in metric:
        return 1.0
    if metric.startswith("probe"):
        return 0.5
    return max(2 * 100.0 / n, 1e-6) if "recall" in metric or metric.startswith("zeroshot") else 2e-4


def main(folder: Path, seeds: tuple[int, ...] | None = None) -> int:
    """Print every value that was computed again beside the stored one (of the runs with `seeds`; None: of all); the
    number of those that differ."""
    rows, wrong, compared = stored(folder), 0, 0
    for run in sorted({row["run"] for row in rows if seeds is None or row["seed"] in seeds}):
        own = [row for row in rows if row["run"] == run]
        again = recompute(folder, run, own)
        for row in own:
            key = (row["dataset"], row["split"], row["protocol"], row["name"])
            if key in again and row["task"] != "training":
                compared += 1
                differs = abs(again[key] - row["value"]) > tolerance(row["name"], row["n"])
                wrong += differs
                print("DIFFERS" if differs else "ok     ", run, *key, row["value"], again[key])
    print(f"{compared} values computed again, {wrong} differ")
    return wrong if compared else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])) > 0)
