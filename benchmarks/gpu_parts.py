"""What `gpu_hour.py` asks of a card, a part at a time; each part runs in a process of its own and yields what it knows.

Every function takes one `size` (plain values: device, tower, batch, small, folder) and yields dictionaries, the most
telling first, so that a part that is stopped leaves what it had found.
"""

from __future__ import annotations

import copy
import importlib.util
import io
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

Found = Iterator[dict[str, Any]]
REPO = Path(__file__).parent.parent
METHODS = ("baseline", "flt", "schedule", "reparam", "reparam-scaled", "slrt", "hard-swap", "soft-swap")
SMALL_TOWERS = {
    "embed_dim": 64,
    "vision": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "head_width": 16},
    "text": {"context_length": 77, "width": 64, "heads": 2, "layers": 1},
}
# CPU and GPU, both fp32: how far apart the loss (relative) may be in the first step and in any of ten, and the gap.
FIRST_LOSS, ANY_LOSS, ANY_GAP = 1e-4, 1e-2, 1e-2
FULL = {"precision": "bf16", "channels_last": True}  # recipes/base/coco.yaml
FAST = FULL | {"deterministic": False, "cudnn_benchmark": True, "tf32": True}


def recipe_of(size: dict[str, Any], method: str, compute: dict[str, Any], *sets: str) -> Any:
    """A method's recipe on the towers of `size`: small ones, or an open_clip architecture."""
    from gaprun.recipe.jobs import load_jobs

    small = size["tower"] == "small"
    text = json.dumps(SMALL_TOWERS).replace('"', "") if small else "null"
    base = [f"extends={REPO / 'recipes' / 'base' / 'coco.yaml'}", "eval=[]", f"model.inline={text}"]
    base += [f"model.arch={'null' if small else size['tower']}", "schedule.epochs=null"]
    base += ["schedule.warmup_epochs=null", "schedule.steps=100", "schedule.warmup_steps=2"]
    base += [f"schedule.batch_size={size['batch']}", "compute.channels_last=false", "compute.precision=fp32"]
    base += [f"compute.{key}={json.dumps(value)}" for key, value in compute.items()]
    return load_jobs(REPO / "recipes" / f"{method}.yaml", [*base, *sets])[0].recipe


def state_of(recipe: Any, device: str, seed: int = 0) -> Any:
    """A training state as a run of `recipe` begins with, on `device`, with the recipe's kernels."""
    import torch

    from gaprun.model.towers import build_towers
    from gaprun.runtime.environment import prepare
    from gaprun.training.head import Head
    from gaprun.training.length import run_length
    from gaprun.training.state import TrainState

    where = torch.device(device)
    prepare(recipe.compute, where)
    torch.manual_seed(seed)
    batch = recipe.schedule.batch_size
    towers = build_towers(recipe.model)
    return TrainState(
        recipe, seed, run_length(recipe, 16 * batch, 16 * batch), towers, Head.of(recipe, seed), where
    )


def batch_of(state: Any, number: int, side: int | None = None) -> Any:
    """Batch `number` of random pictures (each a smooth field, no noise) with captions, in pinned memory on a GPU."""
    import numpy as np
    import torch

    from gaprun.data.resample import Pictures
    from gaprun.data.stream import Batch
    from gaprun.model.towers import trimmed

    rows, random = state.length.batch_size, np.random.default_rng([7, number])
    side = side or state.towers.image_size * 5 // 4
    coarse = torch.from_numpy(random.integers(0, 256, (rows, 3, 6, 6), dtype=np.uint8))
    pictures = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic")
    corners = random.integers(0, max(1, side // 20), (rows, 2))
    boxes = np.concatenate([corners, side - random.integers(0, max(1, side // 20), (rows, 2))], 1)
    words = ("a red circle", "two dogs on a wide green field", "a man who rides a wave", "a clock")
    texts = [f"{words[k % 4]} number {random.integers(10**6)}" for k in range(rows)]
    tokens = trimmed(state.towers.tokenize(texts)) if state.towers.trimmable else state.towers.tokenize(texts)
    pixels = pictures.permute(0, 2, 3, 1).reshape(-1)
    shown = Pictures.joined(pixels, torch.full((rows, 2), side), torch.from_numpy(boxes))
    batch = Batch(number, shown, torch.from_numpy(tokens), [])
    return batch.pin_memory() if state.device.type == "cuda" else batch


def resident(state: Any, batch: Any) -> Any:
    """`batch` on the state's device."""
    from gaprun.training.transfer import on_device

    return next(on_device(iter([batch]), state.device))


def wait(device: Any) -> None:
    """Until the device has done all that it was given."""
    import torch

    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()


def weights_of(state: Any) -> str:
    """The hash of the towers' and the head's values."""
    from gaprun.model.saved import weights_hash

    return weights_hash(state.towers.clip.state_dict(), state.head.state_dict())


def machine(size: dict[str, Any]) -> Found:
    """Names and versions of everything that the numbers depend on."""
    import torch

    from gaprun.runtime.environment import environment, prepare
    from gaprun.runtime.spec import Compute

    device = torch.device(size["device"])
    prepare(Compute(), device)
    yield environment(device) | {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
    }


def agreement(size: dict[str, Any]) -> Found:
    """Ten steps of each method on the CPU and on the device, in fp32, on the same batches."""
    size = size | {"tower": "small", "batch": 8 if size["small"] else 32}
    for method in METHODS[:: 7 if size["small"] else 1]:
        sets = ["swap.probability=1"] if method.endswith("swap") else []
        recipe = recipe_of(size, method, {}, *sets)
        paths = {}
        for device in ("cpu", size["device"]):
            state = state_of(recipe, device)
            path = []
            for number in range(10):
                _, record = state.train_step(resident(state, batch_of(state, number)), True)
                path.append(record)
            paths[device] = path
        pairs = list(zip(paths["cpu"], paths[size["device"]], strict=True))
        losses = [abs(a["loss"] - b["loss"]) / abs(a["loss"]) for a, b in pairs]
        gaps = [abs(a["gap"] - b["gap"]) for a, b in pairs]
        agree = losses[0] <= FIRST_LOSS and max(losses) <= ANY_LOSS and max(gaps) <= ANY_GAP
        yield {method: {"agree": agree, "first_loss": losses[0], "loss": max(losses), "gap": max(gaps)}}


def repeat(size: dict[str, Any]) -> Found:
    """The same steps twice from the start, in the recipe's own precision: equal to the last bit?"""
    size = size | {"batch": min(size["batch"], 256)}
    seen = []
    for _ in range(2):
        state = state_of(recipe_of(size, "soft-swap", FULL, "swap.probability=1"), size["device"])
        for number in range(2 if size["small"] else 5):
            state.train_step(resident(state, batch_of(state, number % 2)), False)
        seen.append(weights_of(state))
        del state
    yield {"identical": seen[0] == seen[1], "tower": size["tower"], "batch": size["batch"]}


def resume(size: dict[str, Any]) -> Found:
    """`gaprun train`, killed by SIGKILL once a checkpoint is there and started again, against the same in one go."""
    from gaprun.data.scenes import scenes_plans
    from gaprun.data.write import write_splits

    folder = Path(tempfile.mkdtemp(dir=size["folder"]))
    write_splits(scenes_plans(folder / "scenes", 192, 48, 0, 0, 64, 0))
    size = size | {"tower": "small", "batch": 32}
    recipe = recipe_of(size, "baseline", {}, "data.train=[scenes/train]", "data.workers=2", "name=killed")
    steps, every = (30, 10) if size["small"] else (120, 20)
    content = recipe.model_dump(mode="json", exclude={"eval"})
    content["schedule"]["steps"], content["checkpoint"] = steps, {"every_steps": every}
    content["compute"]["precision"] = "bf16"
    (folder / "recipe.yaml").write_text(json.dumps(content))
    hashes = []
    for name, kill in (("whole", False), ("killed", True)):
        command = [
            sys.executable,
            "-m",
            "gaprun",
            "train",
            str(folder / "recipe.yaml"),
            "--device",
            size["device"],
        ]
        command += ["--db", str(folder / name / "results.db")]
        (folder / name).mkdir()
        environment = os.environ | {"GAPRUN_DATA": str(folder), "PYTHONPATH": str(REPO)}
        start = partial(subprocess.Popen, command, env=environment, stderr=subprocess.PIPE, text=True)
        killed_at = None
        if kill:
            process = start(start_new_session=True)
            while process.poll() is None and killed_at is None:
                found = sorted((folder / name).rglob("step-*.json"))
                if found:
                    killed_at = int(found[-1].stem[5:])
                    os.killpg(process.pid, signal.SIGKILL)
                time.sleep(0.02)
            process.communicate()
        process = start()
        _, said = process.communicate()
        if process.returncode:
            raise RuntimeError(said.strip().splitlines()[-1])
        last = sorted((folder / name).rglob("step-*.json"))[-1]
        hashes.append(json.loads(last.read_text())["weights_hash"])
    yield {"identical": hashes[0] == hashes[1], "killed_at_step": killed_at, "steps": steps}


def timed_steps(size: dict[str, Any], compute: dict[str, Any], count: int) -> dict[str, Any]:
    """Images a second and peak memory of `count` steps on one batch that stays on the device."""
    import torch

    state = state_of(recipe_of(size, "baseline", compute), size["device"])
    batch = resident(state, batch_of(state, 0))
    start = time.perf_counter()
    for _ in range(2 if size["small"] else 4):
        state.train_step(batch, False)
    wait(state.device)
    warm = time.perf_counter() - start
    start = time.perf_counter()
    for _ in range(count):
        state.train_step(batch, False)
    queued = time.perf_counter() - start
    wait(state.device)
    seconds = time.perf_counter() - start
    found = {
        "images_s": size["batch"] * count / seconds,
        "step_ms": 1000 * seconds / count,
        "warm_up_s": warm,
    }
    found["host_share"] = queued / seconds  # near 1: the host keeps the card waiting, or is kept by it
    if state.device.type == "cuda":
        found["memory_mb"] = torch.cuda.max_memory_allocated() / 2**20
        found["reserved_mb"] = torch.cuda.max_memory_reserved() / 2**20
    return found


def steps(size: dict[str, Any]) -> Found:
    """The ceiling: steps without any loading, as the paper's recipe has them."""
    yield timed_steps(size, FULL, 2 if size["small"] else 20)


def from_the_device(size: dict[str, Any]) -> Found:
    """The whole loop with every picture decoded on the device: no loader runs."""
    from throughput import ours, write_shards

    write_shards(Path(size["folder"]), size["samples"])
    cache = {"cache": "device", "tower": size["throughput_tower"], "compute": size["loop_compute"]}
    found = ours(size | cache)
    del found["stream"]  # both epochs are the same here
    yield found


def loop(size: dict[str, Any]) -> Found:
    """The whole loop with its loader: the first epoch streams and fills the cache, the second reads it."""
    from throughput import ours, write_shards

    if not (Path(size["folder"]) / "photos").is_dir():
        write_shards(Path(size["folder"]), size["samples"])
    yield ours(size | {"tower": size["throughput_tower"], "compute": size["loop_compute"]})


def peer(size: dict[str, Any]) -> Found:
    """open_clip's own loop on the same shards, and ours with its settings; nothing where it is not installed."""
    if importlib.util.find_spec("open_clip_train") is None:
        yield {"note": "open_clip_train is not installed"}
        return
    from throughput import AS_THE_PEER, ours
    from throughput import peer as open_clip

    size = size | {"tower": size["throughput_tower"]}
    yield {"open_clip_images_s": open_clip(size)}
    alike = {} if size["device"] == "cpu" else {"compute": AS_THE_PEER}
    found = ours(size | alike)
    yield {"ours_images_s": found["cached"], "ours_streaming_images_s": found["stream"]}


def breakdown(size: dict[str, Any]) -> Found:
    """Where a step's time goes, by torch's profiler: milliseconds a step of each kind of kernel."""
    from torch.profiler import ProfilerActivity, profile

    state = state_of(recipe_of(size, "baseline", FULL), size["device"])
    batch = resident(state, batch_of(state, 0))
    for _ in range(3):
        state.train_step(batch, False)
    wait(state.device)
    count, cuda = 2 if size["small"] else 4, state.device.type == "cuda"
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if cuda else [])
    with profile(activities=activities) as profiler:
        for _ in range(count):
            state.train_step(batch, False)
        wait(state.device)
    spent: dict[str, float] = {}
    for event in profiler.key_averages():
        if cuda and event.device_type.name != "CUDA":
            continue
        took = event.self_device_time_total if cuda else event.self_cpu_time_total
        kind = kernel_kind(event.key)
        spent[kind] = spent.get(kind, 0.0) + took / 1000 / count
    yield {"ms": dict(sorted(spent.items(), key=lambda item: -item[1]))}


KINDS = (
    ("copies", ("memcpy", "memset", "copy")),
    ("attention", ("attention", "fmha", "flash", "softmax")),
    ("normalisation", ("batch_norm", "batchnorm", "bn_fw", "bn_bw", "layer_norm", "layernorm", "norm")),
    ("convolutions", ("conv", "cudnn", "wgrad", "dgrad", "fprop", "implicit")),
    ("products", ("gemm", "cutlass", "cublas", "::mm", "addmm", "bmm", "nvjet", "matmul")),
    ("optimiser", ("adam", "multi_tensor")),
    ("pooling and embedding", ("pool", "embedding", "index")),
    ("elementwise", ("elementwise", "relu", "gelu", "vectorized", "reduce", "add", "mul", "sum")),
)


def kernel_kind(name: str) -> str:
    """What a kernel's name says that it does."""
    lower = name.lower()
    return next((kind for kind, words in KINDS if any(word in lower for word in words)), "others")


def options(size: dict[str, Any]) -> Found:
    """What each setting gives or costs, the rest as in the paper's recipe; out of memory is an answer too."""
    import torch

    quarter = max(1, size["batch"] // 4)
    variants: dict[str, dict[str, Any]] = {
        "not deterministic, cuDNN timed, TF32": FAST,
        f"micro_batch {quarter}": FULL | {"micro_batch": quarter},
        "contiguous": FULL | {"channels_last": False},
        "compile": FULL | {"compile": True},
        "fp32": FULL | {"precision": "fp32", "micro_batch": quarter},
        "fp32 with TF32": FULL | {"precision": "fp32", "tf32": True, "micro_batch": quarter},
        "fp16": FULL | {"precision": "fp16"},
    }
    for name, compute in variants.items():
        if size["device"] == "cpu" and name in ("fp16", "compile"):
            continue
        if size["device"] != "cpu":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        try:
            yield {name: timed_steps(size, compute, 1 if size["small"] else 8)}
        except torch.OutOfMemoryError:
            yield {name: "out of memory"}


def measuring(size: dict[str, Any]) -> Found:
    """`gaprun eval`'s way: pictures from JPEG files through loader processes and the image tower, in fp32."""
    import torch
    from PIL import Image

    from gaprun.evaluation.embed import StoredEmbedder
    from gaprun.model.towers import build_towers
    from gaprun.runtime.environment import prepare

    recipe = recipe_of(size, "baseline", {})
    device = torch.device(size["device"])
    prepare(recipe.compute, device)
    files = []
    for k in range(16):
        buffer = io.BytesIO()
        picture = Image.effect_mandelbrot((480, 360), (-2, -1.5 + k / 20, 1, 1.5), 30).convert("RGB")
        picture.save(buffer, "JPEG", quality=90)
        files.append(buffer.getvalue())
    count = 64 if size["small"] else 6000
    embedder = StoredEmbedder(build_towers(recipe.model), "benchmark", None, device, workers=size["workers"])
    embedder._images(Files(files, min(count, 512)))
    start = time.perf_counter()
    embedder._images(Files(files, count))
    yield {"images_s": count / (time.perf_counter() - start), "workers": size["workers"], "pictures": count}


class Files:
    """Pictures to embed: `count` of them, a few files in turn."""

    dataset, split, fingerprint = "benchmark", "test", "benchmark"

    def __init__(self, files: list[bytes], count: int) -> None:
        self.files, self.samples = files, count
        self.keys = [str(i) for i in range(count)]
        self.captions: list[list[str]] = [[] for _ in range(count)]

    def read_image(self, i: int) -> bytes:
        """The file of picture `i`."""
        return self.files[i % len(self.files)]


def fig4b(size: dict[str, Any]) -> Found:
    """Fig. 4b's likely experiment on drawn scenes: the training batch's gap in step 10 less that in step 1, by seed.

    2,048 pairs, batch 128, constant rate 5e-4 without warm-up, tau 0.07; as many seeds as time allows.
    """
    import numpy as np

    from gaprun.data.pool import Pool
    from gaprun.data.scenes import scenes_plans
    from gaprun.data.split import open_split
    from gaprun.data.stream import LoadBatch, Plan
    from gaprun.data.write import write_splits
    from gaprun.model.towers import trimmed
    from gaprun.training.captions import caption_tokens

    pairs, batch, side, seeds = (64, 16, 64, 2) if size["small"] else (2048, 128, 224, 100)
    folder = Path(tempfile.mkdtemp(dir=size["folder"]))
    write_splits(scenes_plans(folder / "scenes", pairs, 16, 0, 0, side, 0), workers=max(1, size["workers"]))
    size = size | {"batch": batch}
    recipe = recipe_of(
        size,
        "baseline",
        FULL,
        "schedule.shape=constant",
        "schedule.warmup_steps=0",
        f"schedule.steps={pairs // batch}",
    )
    pool = Pool([open_split(folder / "scenes" / "train")], side)
    pool.use_cache(None)
    changes: list[float] = []
    tokens = None
    for seed in range(seeds):
        state = state_of(recipe, size["device"], seed)
        if tokens is None:
            tokens = caption_tokens(
                pool.texts,
                state.towers.tokenizer,
                state.towers.context_length,
                folder,
                lambda done, total: None,
            )
        load = LoadBatch(Plan(pool, seed, batch, (0.9, 1.0)), tokens, trimmed)
        gaps = []
        for step in range(min(10, pairs // batch)):
            loaded = load.load(step)
            loaded = loaded.pin_memory() if state.device.type == "cuda" else loaded
            _, record = state.train_step(resident(state, loaded), step in (0, 9))
            gaps += [record["gap"]] if record else []
        changes.append(gaps[-1] - gaps[0])
        mean, spread = float(np.mean(changes)), float(np.std(changes, ddof=1)) if seed else float("nan")
        ci95 = 1.96 * spread / len(changes) ** 0.5
        yield {
            "seeds": len(changes),
            "mean_change": mean,
            "std": spread,
            "ci95": ci95,
            "grew": sum(c > 0 for c in changes),
        }


PARTS = {
    "machine": machine,
    "agreement": agreement,
    "repeat": repeat,
    "resume": resume,
    "steps": steps,
    "resident": from_the_device,
    "loop": loop,
    "peer": peer,
    "breakdown": breakdown,
    "options": options,
    "eval": measuring,
    "fig4b": fig4b,
}


def main() -> None:
    """`gpu_parts.py NAME SIZE`: run one part and print each finding as a line of JSON."""
    sys.path.insert(0, str(REPO))
    name, size = sys.argv[1], json.loads(sys.argv[2])
    for found in PARTS[name](copy.deepcopy(size)):
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
