"""Does a run that is killed and resumed end as one that was never disturbed, and what does a resume cost?

One small run is killed (SIGKILL, from inside, at a random moment of a chosen kind: in a step, halfway through
writing a checkpoint, inside a database transaction, halfway through putting a picture into the cache, or at any
time from outside) and resumed until it ends, for every combination of 0, 1 and 2 loader processes with streaming, a
memory cache and a disk cache, with the seven methods of the paper in turn. Weights, optimiser, temperature path and
metrics must equal the undisturbed run's, bit for bit. The cost of a resume is the time from the start of the stream
at mid-epoch to its first batch, over the time of an epoch of the same stream.

    python benchmarks/resume.py [--json] [--small]
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from harness import arguments

from gaprun.data.cache import DecodedCache
from gaprun.data.plan import Plan
from gaprun.data.pool import Pool
from gaprun.data.scenes import scenes_plans
from gaprun.data.split import open_split
from gaprun.data.stream import LoadBatch, stream
from gaprun.data.write import write_splits
from gaprun.errors import GaprunError
from gaprun.jobs.run import run_job
from gaprun.model.saved import load_checkpoint, newest_checkpoint
from gaprun.recipe.jobs import Job, load_jobs
from gaprun.store import open_store
from gaprun.store.database import Store
from gaprun.training import checkpoint
from gaprun.training.state import TrainState

RECIPE = """
name: torture
model:
  inline: {embed_dim: 32, vision: {width: 8, head_width: 32}, text: {width: 32, heads: 2, layers: 1}}
  vocabulary: used
data: {train: [scenes/train], margin: 1.0}
optimizer: {lr: 1e-3, temperature_lr_factor: 10}
schedule: {steps: 24, warmup_steps: 3, batch_size: 24}
compute: {threads: 1}
checkpoint: {every_steps: 4, keep: 2}
eval: [{task: retrieval, data: [scenes/test]}]
"""
METHODS = {
    "reparam": ["temperature.rule=softplus"],
    "soft-swap": ["swap.rule=soft", "swap.probability=0.3"],
    "baseline": [],
    "flt": ["temperature={rule: fixed, tau: 0.04}"],
    "schedule": ["temperature={rule: schedule, start: 0.01, end: 0.05}"],
    "slrt": ["temperature={rule: exp, lr_factor: 0.1}"],
    "hard-swap": ["swap.rule=hard", "swap.probability=0.3"],
}
KINDS = ("step", "checkpoint", "database", "cache", "anytime")


def die() -> None:
    """As kill -9 does: nothing is flushed, no handler runs."""
    os.kill(os.getpid(), signal.SIGKILL)


def arm(kind: str, chance: random.Random) -> None:
    """Patch this process so that it dies at the n-th event of `kind`."""
    left = chance.randrange(1, {"step": 12, "checkpoint": 3, "database": 4, "cache": 40, "anytime": 2}[kind])

    def due() -> bool:
        nonlocal left
        left -= 1
        return left == 0

    def patch(owner: Any, name: str, before: Callable[..., None]) -> None:
        original = getattr(owner, name)

        def replaced(*args: Any, **kwargs: Any) -> Any:
            if due():
                before(original, *args, **kwargs)
            return original(*args, **kwargs)

        setattr(owner, name, replaced)

    if kind == "step":

        def after(original: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
            original(*args, **kwargs)
            die()

        patch(TrainState, "train_step", after)
    elif kind == "checkpoint":

        def half(original: Callable[..., None], content: Any, target: Path) -> None:
            whole = io.BytesIO()
            original(content, whole)
            Path(target).write_bytes(whole.getvalue()[: chance.randrange(1, len(whole.getvalue()))])
            die()

        patch(checkpoint.torch, "save", half)
    elif kind == "database":

        def inside(original: Callable[..., None], store: Store, work: Callable[..., Any]) -> None:
            def cut(session: Any) -> None:
                work(session)
                session.flush()
                die()

            original(store, cut)

        patch(Store, "_write", inside)
    elif kind == "cache":

        def torn(original: Callable[..., None], cache: DecodedCache, index: int, picture: Any) -> None:
            part = picture.reshape(-1)[: chance.randrange(1, picture.size)]
            cache.pixels[cache.starts[index] :][: len(part)] = part
            die()

        patch(DecodedCache, "put", torn)


def attempt(job: Job, db: str, kind: str | None, seed: int, errors: Any) -> None:
    """A child process: train the job, dying on the way if `kind` says so."""
    torch.set_num_threads(1)
    if kind is not None:
        arm(kind, random.Random(seed))
    try:
        run_job(job, open_store(db), "cpu", lambda event: None)
    except GaprunError as error:  # a loader process that was killed ends the run cleanly
        errors.put(str(error))


def run_until_finished(job: Job, folder: Path, kinds: tuple[str, ...], seed: int, seconds: float) -> int:
    """Kill the job once for each of `kinds`, in turn, then let it end; returns the kills that struck."""
    context = multiprocessing.get_context("fork")
    errors: Any = context.Queue()
    chance, kills = random.Random(seed), 0
    db = str(folder / "results.db")
    for number, kind in enumerate((*kinds, None)):
        process = context.Process(target=attempt, args=(job, db, kind, seed * 100 + number, errors))
        process.start()
        if kind == "anytime":
            process.join(chance.uniform(0.05, seconds))
            if process.is_alive() and process.pid:
                os.kill(process.pid, signal.SIGKILL)
        process.join()
        struck = process.exitcode == -signal.SIGKILL
        while not errors.empty():
            struck = "loader process was killed" in errors.get() or struck
        kills += struck
        if kind is None and process.exitcode != 0:
            raise SystemExit(f"{job.id} did not end after its kills")
    return kills


def result(job: Job, folder: Path) -> tuple[Any, ...]:
    """All that must be equal: weights, optimiser, trajectory, metrics."""
    store = open_store(str(folder / "results.db"))
    run = store.run(job.id)
    path, _ = newest_checkpoint(store.artifacts / job.id / "checkpoints")
    optimiser = load_checkpoint(path)["optimizer"]["state"]
    digest = hashlib.sha256()
    for index in sorted(optimiser):
        for name in sorted(optimiser[index]):
            digest.update(optimiser[index][name].numpy().tobytes())
    metrics = sorted((m["metric"], m["protocol"], m["value"]) for m in store.metrics(job.id))
    return run.status, run.checkpoint_hash, digest.hexdigest(), store.trajectory(job.id), metrics


def torture(folder: Path, small: bool) -> tuple[int, bool]:
    """All combinations; returns the number of kills and whether every result was identical."""
    (folder / "recipe.yaml").write_text(RECIPE)
    kills, identical = 0, True
    whole: dict[str, tuple[Any, ...]] = {}
    methods = itertools.cycle(METHODS)
    for cache in ("none", "memory", "disk"):
        for workers in (0, 1, 2):
            method = next(methods)
            options = [f"name={method}", f"data.workers={workers}", f"data.cache={cache}", *METHODS[method]]
            (job,) = load_jobs(folder / "recipe.yaml", options, [0])
            place = folder / f"{cache}-{workers}"
            place.mkdir()
            if method not in whole:
                (folder / method).mkdir()
                start = time.monotonic()
                run_until_finished(job, folder / method, (), 0, 0)
                seconds = time.monotonic() - start
                whole[method] = result(job, folder / method)
            kinds = KINDS if cache != "none" else tuple(kind for kind in KINDS if kind != "cache")
            kinds = tuple((kinds * 2)[workers : workers + 3]) if small else kinds
            struck = run_until_finished(job, place, kinds, len(cache) * 10 + workers, seconds)
            same = result(job, place) == whole[method]
            kills, identical = kills + struck, identical and same
            print(f"{method}, {cache} cache, {workers} workers: {struck} kills, "
                  f"{'identical' if same else 'DIFFERENT'}",
                  file=sys.stderr, flush=True)  # fmt: skip
    return kills, identical


def seek_share() -> float:
    """Time to the first batch of a stream that starts at mid-epoch, over the time of the whole epoch."""
    pool = Pool([open_split("scenes/train")], 64)
    import numpy as np

    load = LoadBatch(Plan(pool, 0, 32, (0.9, 1.0)), np.zeros((len(pool.texts), 1), dtype=np.int64))
    steps = load.plan.steps_per_epoch
    start = time.perf_counter()
    for _ in stream(load, 0, steps, 0):
        pass
    epoch = time.perf_counter() - start
    start = time.perf_counter()
    next(iter(stream(load, steps // 2, steps, 0)))
    return (time.perf_counter() - start) / epoch


def main() -> None:
    """Run, print, and fail when a result differs."""
    options = arguments(__doc__).parse_args()
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp(prefix="gaprun-resume-"))
    os.environ["GAPRUN_DATA"] = str(folder / "data")
    try:
        plans = scenes_plans(folder / "data" / "scenes", 2400, 48, 0, 0, 32, 0)
        write_splits(plans)
        share = seek_share()
        shutil.rmtree(folder / "data")
        write_splits(scenes_plans(folder / "data" / "scenes", 200, 48, 0, 0, 32, 0))
        kills, identical = torture(folder, options.small)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    answer = {"kills": kills, "identical": identical, "seek_share": round(share, 4)}
    print(
        f"{kills} kills, {'all' if identical else 'NOT ALL'} identical; a resume costs {share:.1%} of an epoch"
    )
    if options.json:
        print(json.dumps(answer))
    if not identical:
        sys.exit(1)


if __name__ == "__main__":
    main()
