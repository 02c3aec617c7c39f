"""Retrieval side by side: CLIP_benchmark's own functions, gaprun, and the bare matrix product that both need.

    python benchmarks/retrieval.py [--json] [--small]

5,000 images and 25,000 captions at d = 512 (COCO's Karpathy test split in shape); `--small` takes 1,000 and
5,000. All contenders get the same float32 unit rows. The peer's six recalls must be ours to the last digit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from harness import answer, arguments, report, rounds, timed

FULL = {"images": 5_000, "captions": 5, "dim": 512}
SMALL = {"images": 800, "captions": 5, "dim": 512}


def embeddings(images: int, captions: int, dim: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images and noisy copies of them as captions: recalls in the middle of their range."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((images, dim), dtype=np.float32)
    owner = np.repeat(np.arange(images), captions)
    y = x[owner] + 7 * rng.standard_normal((len(owner), dim), dtype=np.float32)
    for rows in (x, y):
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return x, y, owner


def peer(size: dict) -> dict:
    """The scoring part of clip_benchmark.metrics.zeroshot_retrieval.evaluate, on its functions and batch
    size."""
    import torch
    from clip_benchmark.metrics.zeroshot_retrieval import batchify, recall_at_k

    x, y, owner = embeddings(**size)
    images_emb, texts_emb = torch.from_numpy(x), torch.from_numpy(y)
    result: dict[str, Any] = {}
    with timed(result):
        scores = texts_emb @ images_emb.t()
        positive = torch.zeros_like(scores, dtype=torch.bool)
        positive[torch.arange(len(scores)), torch.from_numpy(owner)] = True
        recalls = {}
        for k in (1, 5, 10):
            hits = batchify(recall_at_k, scores, positive, 64, "cpu", k=k) > 0
            recalls[f"image_recall@{k}"] = hits.float().mean().item()
            hits = batchify(recall_at_k, scores.T, positive.T, 64, "cpu", k=k) > 0
            recalls[f"text_recall@{k}"] = hits.float().mean().item()
    return result | {"recalls": recalls}


def ours(size: dict) -> dict:
    from gaprun.evaluation.retrieval import ranks

    x, y, owner = embeddings(**size)
    result: dict = {}
    with timed(result):
        found = ranks(x, y, owner)
        metrics = found.metrics()
    # The peer averages in float32 and as a share; the same hits averaged its way.
    recalls = {}
    for k in (1, 5, 10):
        recalls[f"image_recall@{k}"] = float(np.float32((found.image_rank <= k).sum()) / np.float32(len(y)))
        recalls[f"text_recall@{k}"] = float(np.float32((found.text_rank <= k).sum()) / np.float32(len(x)))
        assert abs(metrics[f"image_recall@{k}"] - 100 * recalls[f"image_recall@{k}"]) < 1e-4
    return result | {"recalls": recalls}


def floor(size: dict) -> dict:
    import torch

    x, y, _ = embeddings(**size)
    images_emb, texts_emb = torch.from_numpy(x), torch.from_numpy(y)
    result: dict[str, Any] = {}
    with timed(result):
        texts_emb @ images_emb.t()
    return result


def main() -> None:
    options = arguments(__doc__).parse_args()
    if options.child:
        contender = {"peer": peer, "ours": ours, "floor": floor}[options.child]
        contender({"images": 100, "captions": 2, "dim": 64})  # loads libraries and starts threads, untimed
        answer(lambda: contender(options.size))
        return
    size = SMALL if options.small else FULL
    best = rounds(__file__, ["peer", "ours", "floor"], size, 2 if options.small else 3)
    equal = best["peer"]["recalls"] == best["ours"]["recalls"]
    result = {
        "equal": equal,
        "time_ratio": best["peer"]["seconds"] / best["ours"]["seconds"],
        "memory_ratio": best["peer"]["peak_mb"] / best["ours"]["peak_mb"],
        "floor_ratio": best["ours"]["seconds"] / best["floor"]["seconds"],
    }
    names = {"peer": "CLIP_benchmark", "ours": "gaprun", "floor": "one matrix product"}
    lines = [f"{size['images']:,} images x {size['images'] * size['captions']:,} captions, d = {size['dim']}"]
    lines += [f"{names[k]:<20}{best[k]['seconds']:8.2f} s{best[k]['peak_mb']:9.0f} MiB" for k in names]
    lines += [f"{key}: {value:.9f}" for key, value in best["ours"]["recalls"].items()]
    lines.append(f"recalls equal to the last digit: {equal}")
    report(lines, result, options.json)


if __name__ == "__main__":
    main()
