"""Training speed: gaprun beside open_clip's own loop (`open_clip_train`) on the same shards, model, batch and threads.

Two towers at 224 pixels on 640 x 480 JPEG shards: `tiny` (ViT patch 32, width 64, 2 layers; text width 64, 2 layers),
where data dominates, and `RN50`, where arithmetic does. Contenders take turns. Ours is one real training of two
epochs: the first streams and fills the memory cache, the second reads it. The ceiling is our own step on one batch
that stays where it is. The peer's last log line is left out, because it comes after its workers have stopped.

Pictures are the photographs in GAPRUN_TEST_DATA (repeated under new keys) where it is set, else drawn scenes.

    python benchmarks/throughput.py [--json] [--small] [--tower tiny|RN50] [--threads N] [--workers N]
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from harness import arguments, child

TINY = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 224, "layers": 2, "width": 64, "head_width": 32, "patch_size": 32},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}
RECIPE = """
name: speed
model: {model}
data: {{train: [photos/train], cache: {cache}, workers: {workers}}}
schedule: {{epochs: 2, warmup_steps: 1, batch_size: {batch}}}
compute: {compute}
"""
# What open_clip_train sets by itself on a GPU; the same for us, or the comparison would be of settings.
AS_THE_PEER = {
    "precision": "bf16",
    "channels_last": False,
    "tf32": True,
    "deterministic": False,
    "cudnn_benchmark": True,
}
INLINE = (
    "{inline: {embed_dim: 64, vision: {image_size: 224, layers: 2, width: 64, head_width: 32, patch_size: 32}, \
text: {context_length: 77, width: 64, heads: 2, layers: 2}}}"
)


def write_shards(folder: Path, samples: int) -> None:
    """`photos/train` below `folder`: 640 x 480 JPEGs with five captions each, in gaprun's (and open_clip's) layout."""
    from PIL import Image

    from gaprun.data.drawing import draw
    from gaprun.data.scenes import scene_sample
    from gaprun.data.shards import Sample
    from gaprun.data.write import ItemOutcome, SplitPlan, write_splits

    real = os.environ.get("GAPRUN_TEST_DATA")
    sources: list[bytes] = []
    if real:
        for path in sorted((Path(real) / "coco_sample" / "images").glob("*.jpg"))[:256]:
            sources.append(_jpeg(Image.open(path).convert("RGB")))
    else:
        import random

        from gaprun.data.scene import compose

        sources = [_jpeg(draw(compose(random.Random(f"speed/{i}")), 512)) for i in range(64)]

    drawn = (scene_sample(i, 0, "train", 16).sample for i in range(min(samples, 512)))
    texts = [sample.captions for sample in drawn if sample is not None]

    def make(i: int) -> ItemOutcome:
        captions = texts[i % len(texts)]
        return ItemOutcome(Sample(f"p{i:06d}", sources[i % len(sources)], "jpg", 640, 480, captions, None, i))

    source = {"kind": "speed", "samples": samples}
    write_splits(
        [SplitPlan(folder=folder / "photos" / "train", items=range(samples), make=make, source=source)]
    )


def _jpeg(image: Any) -> bytes:
    buffer = io.BytesIO()
    image.resize((640, 480)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def recipe_text(size: dict[str, Any]) -> str:
    """The recipe of a measured training: on a GPU with the peer's settings, or with `size["compute"]`."""
    model = INLINE if size["tower"] == "tiny" else f"{{arch: {size['tower']}}}"
    usual = {} if size["device"] == "cpu" else AS_THE_PEER
    compute = {"threads": size["threads"], **size.get("compute", usual)}
    return RECIPE.format(
        model=model,
        cache=size.get("cache", "memory"),
        workers=size["workers"],
        batch=size["batch"],
        compute=json.dumps(compute),
    )


def ours(size: dict[str, Any]) -> dict[str, Any]:
    """In a child: train two epochs, then step on one resident batch; images a second of each part."""
    import torch

    from gaprun.jobs.run import run_job
    from gaprun.recipe.jobs import load_jobs
    from gaprun.store import open_store
    from gaprun.training import loop
    from gaprun.training import state as states

    folder = Path(size["folder"])
    os.environ["GAPRUN_DATA"] = str(folder)
    text = recipe_text(size)
    place = Path(tempfile.mkdtemp(dir=folder))
    (place / "recipe.yaml").write_text(text)
    (job,) = load_jobs(place / "recipe.yaml", [], [0])
    ends: list[float] = []
    kept: list[Any] = []
    original = states.TrainState.train_step

    steps = size["samples"] // size["batch"]
    skip = max(2, steps // 5)
    edges = (skip, steps - 1, steps + skip, 2 * steps - 1)
    if size["device"] != "cpu":
        # The first twenty steps are recorded, each with a wait: not what a long run does.
        def last_alone(total: int) -> frozenset[int]:
            return frozenset({total - 1})

        loop.recorded_steps = last_alone  # type: ignore[assignment]

    def watched(self: Any, batch: Any, measure: bool) -> Any:
        result = original(self, batch, measure)
        if size["device"] != "cpu" and len(ends) in edges:
            torch.cuda.synchronize()
        ends.append(time.perf_counter())
        kept[:] = [self, batch]
        return result

    states.TrainState.train_step = watched  # type: ignore[method-assign]
    run_job(job, open_store(str(place / "results.db")), size["device"], lambda event: None)
    epoch = steps
    rates = {
        "stream": size["batch"] * (epoch - 1 - skip) / (ends[epoch - 1] - ends[skip]),
        "cached": size["batch"] * (epoch - 1 - skip) / (ends[-1] - ends[epoch + skip]),
    }
    state, batch = kept
    state.step = 1
    count = max(3, epoch // 3)
    start = time.perf_counter()
    for _ in range(count):
        loss, _ = original(state, batch, False)
    loss.item()
    rates["ceiling"] = size["batch"] * count / (time.perf_counter() - start)
    shutil.rmtree(place)
    if size["device"] != "cpu":
        rates["gpu_memory_gib"] = torch.cuda.max_memory_allocated() / 2**30
    return rates


def peer(size: dict[str, Any]) -> float:
    """open_clip's loop in its own process; median images a second over its log lines but the first and the last."""
    folder = Path(size["folder"])
    if size["tower"] == "tiny":
        (folder / "tiny").mkdir(exist_ok=True)
        (folder / "tiny" / "open_clip_config.json").write_text(
            json.dumps({"model_cfg": TINY, "preprocess_cfg": {}})
        )
        model = f"local-dir:{folder / 'tiny'}"
    else:
        model = size["tower"]
    logs = tempfile.mkdtemp(dir=folder)
    shards = sorted((folder / "photos" / "train").glob("*.tar"))
    names = "::".join(str(path) for path in shards)
    command = [sys.executable, "-m", "open_clip_train.main", "--model", model, "--train-data", names]
    command += ["--train-num-samples", str(size["samples"]), "--dataset-type", "webdataset", "--epochs", "1"]
    command += ["--batch-size", str(size["batch"]), "--workers", str(min(size["workers"], len(shards)))]
    command += [
        "--precision",
        "fp32" if size["device"] == "cpu" else "amp_bf16",
        "--logs",
        logs,
        "--name",
        "peer",
    ]
    command += ["--log-every-n-steps", "2", "--warmup", "1", "--save-frequency", "0"]
    hidden = {} if size["device"] != "cpu" else {"CUDA_VISIBLE_DEVICES": ""}
    environment = {**os.environ, "OMP_NUM_THREADS": str(size["threads"]), **hidden}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    rates = [float(rate) for rate in re.findall(r"([\d.]+)/s, [\d.]+/s/gpu", done.stderr + done.stdout)]
    shutil.rmtree(logs)
    if len(rates) < 3:
        sys.exit(f"open_clip_train gave {len(rates)} log lines:\n{(done.stderr + done.stdout)[-2000:]}")
    return statistics.median(rates[1:-1])


def training_arguments(about: str | None) -> argparse.ArgumentParser:
    """The shared options and those of a training: tower, threads, workers, device, batch."""
    parser = arguments(about)
    parser.add_argument("--tower", default="tiny", help="tiny, or an open_clip architecture such as RN50")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of each contender")
    parser.add_argument("--workers", type=int, default=1, help="loader processes of each contender")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--batch", type=int, help="pairs a step; default 32, or 8 for a named tower")
    return parser


def training_size(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """What a child process is told of `options`, and the folder of its shards."""
    names = ("tower", "threads", "workers", "device")
    batch = options.batch or (32 if options.tower == "tiny" else 8)
    return {"folder": str(folder), "batch": batch, **{name: getattr(options, name) for name in names}}


def main() -> None:
    """Alternate the contenders and print images a second and ratios."""
    parser = training_arguments(__doc__)
    parser.add_argument("--rounds", type=int, help="turns of each contender")
    options = parser.parse_args()
    if options.child:
        os.environ["OMP_NUM_THREADS"] = str(options.size["threads"])
        print(json.dumps(ours(options.size)))
        return
    steps = (14 if options.small else 40) if options.tower == "tiny" else 10
    rounds = options.rounds or (1 if options.small else 3)
    folder = Path(tempfile.mkdtemp(prefix="gaprun-speed-"))
    size = training_size(options, folder)
    size["samples"] = size["batch"] * steps
    found: dict[str, list[float]] = {"peer": [], "stream": [], "cached": [], "ceiling": []}
    try:
        write_shards(folder, size["samples"])
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
            found["peer"].append(peer(size))
            for name, rate in child(__file__, "ours", size).items():
                found.setdefault(name, []).append(rate)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    best = {name: statistics.median(rates) for name, rates in found.items()}
    answer = {
        "tower": options.tower,
        "ratio_stream": round(best["stream"] / best["peer"], 3),
        "ratio_cached": round(best["cached"] / best["peer"], 3),
        "ceiling_share": round(best["cached"] / best["ceiling"], 3),
        **{f"{name}_images_s": round(rate, 1) for name, rate in best.items() if name != "gpu_memory_gib"},
    }
    print(
        f"{options.tower}, batch {size['batch']}, {options.threads} threads, {options.workers} workers, "
        f"{options.device}"
    )
    for name in ("peer", "stream", "cached", "ceiling"):
        print(f"  {name:8} {best[name]:8.1f} images/s   ({best[name] / best['peer']:.2f} x peer)")
    if options.json:
        print(json.dumps(answer))


if __name__ == "__main__":
    main()
