"""Where a training step's time goes: waiting for data, crop, towers forward, loss, backward, optimiser, bookkeeping.

One real training on the throughput benchmark's shards and towers, two epochs: the first streams, the second reads
the memory cache; every part is timed from outside, so what is timed is what runs. On CUDA each part ends with a
synchronisation, which makes the step itself slower.

    python benchmarks/step.py [--json] [--small] [--tower tiny|RN50] [--threads N] [--workers N] [--device cpu|cuda]
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from harness import child, report
from throughput import recipe_text, training_arguments, training_size, write_shards

PARTS = ("data", "crop", "image tower", "text tower", "backward", "optimiser", "loss and rest", "bookkeeping")


def ours(size: dict[str, Any]) -> dict[str, Any]:
    """In a child: milliseconds a step of every part, by epoch."""
    import torch

    from gaprun.jobs.run import run_job
    from gaprun.recipe.jobs import load_jobs
    from gaprun.store import open_store
    from gaprun.training import encoding, loop, state

    os.environ["GAPRUN_DATA"] = size["folder"]
    place = Path(tempfile.mkdtemp(dir=size["folder"]))
    text = recipe_text(size)
    (place / "recipe.yaml").write_text(text)
    (job,) = load_jobs(place / "recipe.yaml", [], [0])
    spent: dict[str, float] = defaultdict(float)
    steps: list[dict[str, float]] = []

    def clocked(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                if size["device"] == "cuda":
                    torch.cuda.synchronize()
                spent[part] += time.perf_counter() - start

        return call

    def waiting(original: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
        def stream(*args: Any) -> Iterator[Any]:
            batches = original(*args)
            take = clocked("data", lambda: next(batches, None))
            begun = time.perf_counter()
            while (batch := take()) is not None:
                yield batch
                now = time.perf_counter()
                steps.append({**spent, "whole": now - begun})
                spent.clear()
                begun = now

        return stream

    loop._whole_stream = waiting(loop._whole_stream)
    encoding.crop_and_normalise = clocked("crop", encoding.crop_and_normalise)
    torch.Tensor.backward = clocked("backward", torch.Tensor.backward)  # type: ignore[method-assign]
    original_init = state.TrainState.__post_init__

    def prepared(self: Any) -> None:
        original_init(self)
        self.encoding.encode_image = clocked("image tower", self.encoding.encode_image)
        self.encoding.encode_text = clocked("text tower", self.encoding.encode_text)
        self.optimizer.step = clocked("optimiser", self.optimizer.step)

    state.TrainState.__post_init__ = prepared  # type: ignore[method-assign]
    state.TrainState.train_step = clocked("step", state.TrainState.train_step)  # type: ignore[method-assign]
    run_job(job, open_store(str(place / "results.db")), size["device"], lambda event: None)
    shutil.rmtree(place)
    epoch = len(steps) // 2
    skip = max(2, epoch // 5)
    return {"stream": _mean(steps[skip:epoch]), "cached": _mean(steps[epoch + skip :])}


def _mean(steps: list[dict[str, float]]) -> dict[str, float]:
    mean = {
        part: 1000 * sum(step.get(part, 0.0) for step in steps) / len(steps)
        for part in [*PARTS, "step", "whole"]
    }
    inside = sum(mean[part] for part in PARTS[1:6])
    mean["loss and rest"] = mean.pop("step") - inside
    mean["bookkeeping"] = mean["whole"] - mean["data"] - inside - mean["loss and rest"]
    return mean


def main() -> None:
    """Print milliseconds and shares of both epochs."""
    options = training_arguments(__doc__).parse_args()
    if options.child:
        os.environ["OMP_NUM_THREADS"] = str(options.size["threads"])
        print(json.dumps(ours(options.size)))
        return
    steps = (12 if options.small else 60) if options.tower == "tiny" else 10
    folder = Path(tempfile.mkdtemp(prefix="gaprun-step-"))
    size = training_size(options, folder)
    try:
        write_shards(folder, size["batch"] * steps)
        found = child(__file__, "ours", size)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    lines = [
        "| part | streaming, ms a step | share | from the cache, ms a step | share |",
        "|---|---|---|---|---|",
    ]
    for part in (*PARTS, "whole"):
        cells = [
            (found[epoch][part], found[epoch][part] / found[epoch]["whole"]) for epoch in ("stream", "cached")
        ]
        lines.append(f"| {part} |" + "".join(f" {value:.1f} | {share:.0%} |" for value, share in cells))
    report(lines, {"tower": options.tower, "batch": size["batch"], **found}, options.json)


if __name__ == "__main__":
    main()
