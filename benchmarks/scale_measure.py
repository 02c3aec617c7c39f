"""The measured inputs of benchmarks/scale.py: counts that are exact anywhere, and rates of the machine at hand.

`python benchmarks/scale_measure.py --json` prints them; `--small` leaves out RN50's checkpoint (1.2 GB). The index has
a benchmark of its own, index.py.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

from harness import arguments


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__).parse_args()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        found |= model_counts("RN50") | shard_rate(place) | store_rate(place)
        if not options.small:
            found |= checkpoint(place, "RN50")
    from gaprun.doctor.probe import _decoding_rate

    found["decode_per_core"] = max(_decoding_rate() for _ in range(6))
    print(json.dumps(found) if options.json else "\n".join(f"{k}: {v:.6g}" for k, v in found.items()))


def model_counts(arch: str) -> dict[str, float]:
    """Parameters, forward FLOPs and bytes kept for the backward pass, a pair: counts of operations and tensors."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from gaprun.model.spec import Model
    from gaprun.model.towers import build_towers

    towers = build_towers(Model(arch=arch))
    side, pairs = towers.image_size, 2
    pictures = torch.zeros(pairs, 3, side, side)
    tokens = torch.zeros(pairs, 77, dtype=torch.long)
    kept: dict[int, int] = {}

    def keep(tensor: Any) -> Any:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    weights = {p.untyped_storage().data_ptr() for p in towers.clip.parameters()}
    with (
        FlopCounterMode(display=False) as counter,
        torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t),
    ):
        towers.clip.encode_image(pictures).sum() + towers.clip.encode_text(tokens).sum()
    activations = sum(size for pointer, size in kept.items() if pointer not in weights)
    return {
        "batchnorms": sum("BatchNorm" in type(module).__name__ for module in towers.clip.modules()),
        "parameters": sum(p.numel() for p in towers.clip.parameters()),
        "forward_flops": counter.get_total_flops() / pairs,
        "activation_bytes_fp32": activations / pairs,
    }


def shard_rate(place: Path) -> dict[str, float]:
    """Pictures and bytes a second that one process reads from a shard in the page cache."""
    from gaprun.data.scenes import scenes_plans
    from gaprun.data.split import open_split
    from gaprun.data.write import write_splits

    write_splits(scenes_plans(place / "scenes", 512, 0, 0, 0, 256, 0))
    split = open_split(place / "scenes" / "train")
    start, size, count = time.perf_counter(), 0, 0
    while time.perf_counter() - start < 1.0:
        size += len(split.read_image(count % split.samples))
        count += 1
    seconds = time.perf_counter() - start
    return {"read_images_per_second": count / seconds, "read_bytes_per_second": size / seconds}


def store_rate(place: Path) -> dict[str, float]:
    """Transactions a second of one process on SQLite, each a trajectory row and a heartbeat, and bytes a row."""
    from gaprun.store import NewRun, open_store

    path = place / "results.db"
    store = open_store(str(path))
    store.begin_run(NewRun("r", "r", "train", 0, "h", {}, {}, "0", "runs/r", 10**6))
    start, step = time.perf_counter(), 0
    while time.perf_counter() - start < 1.0:
        store.record("r", [{"step": step, "loss": 1.5, "gap": 0.7, "temperature": 0.07}])
        store.heartbeat("r", step)
        step += 1
    rate = step / (time.perf_counter() - start)
    store.record("r", [{"step": step + i, "loss": 1 / (i + 1), "gap": 0.1 * i} for i in range(20_000)])
    store.close()
    return {"store_writes_per_second": rate, "store_bytes_per_row": path.stat().st_size / (20_000 + step)}


def checkpoint(place: Path, arch: str) -> dict[str, float]:
    """Bytes and seconds of one checkpoint as training writes it (weights and AdamW's moments, fsync, sha256)."""
    import torch

    from gaprun.model.spec import Model
    from gaprun.model.towers import build_towers
    from gaprun.training.checkpoint import save_checkpoint

    clip = build_towers(Model(arch=arch)).clip
    moments = {
        i: {"exp_avg": p.detach().clone(), "exp_avg_sq": p.detach().clone()}
        for i, p in enumerate(clip.parameters())
    }
    state = {
        "step": 1,
        "clip": clip.state_dict(),
        "head": {"nu": torch.zeros(())},
        "optimizer": {"state": moments},
    }
    start = time.perf_counter()
    path, _ = save_checkpoint(place / "checkpoints", state, keep=1)
    return {"checkpoint_seconds": time.perf_counter() - start, "checkpoint_bytes": path.stat().st_size}


if __name__ == "__main__":
    main()
