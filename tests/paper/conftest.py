"""Made-up databases in which every claim of the paper holds, fails, or stays open."""

import math

import numpy as np
import pytest

from gaprun.store import EvaluationKey, NewRun, open_store
from tests.protocols import named

MATCHED = 20  # from this step on every pair is matched
GAPS = {  # mean gap of each setting, as if closing the gap worked
    "baseline": 0.29,
    "flt-0.02": 0.25,
    "flt-0.04": 0.122,
    "flt-0.07": 0.06,
    "flt-0.1": 0.02,
    "flt-0.2": 0.008,
    "schedule": 0.088,
    "reparam": 0.27,
    "slrt": 0.26,
    "hard-swap": 0.225,
    "soft-swap": 0.139,
}
ENDS = {"schedule": 0.05, "hard-swap": 0.02, "soft-swap": 0.02}  # temperatures; FLT's own, 0.02 of the others
STEPS = sorted({*range(20), *(round(10 ** (k / 24)) for k in range(20, 109))})


def recipe_of(name):
    """A resolved recipe as `train` stores it, as far as the paper's part reads it."""
    temperature = {"rule": "exp", "init": 0.07, "lr_factor": 1.0, "max_beta": 100.0}
    swap = {"rule": "none"}
    if name.startswith("flt"):
        temperature = {"rule": "fixed", "tau": float(name.partition("-")[2])}
    elif name == "schedule":
        temperature = {"rule": "schedule", "start": 0.01, "end": 0.05}
    elif name == "reparam":
        temperature |= {"rule": "softplus"}
    elif name == "slrt":
        temperature |= {"lr_factor": 0.1}
    elif name == "hard-swap":
        swap = {"rule": "hard", "probability": 0.012, "renormalise": True}
    elif name == "soft-swap":
        swap = {"rule": "soft", "probability": 0.05, "renormalise": True}
    return {
        "name": name,
        "model": {"arch": "RN50", "pretrained": None},
        "data": {"train": ["scenes/train"]},
        "temperature": temperature,
        "swap": swap,
        "schedule": {"steps": 1000, "epochs": None, "batch_size": 128},
        "loss": {"name": "clip"},
    }


def add_run(store, name, seed, values, path=(), recipe=None):
    """One finished run with values of the pool protocol (geometry, retrieval) and of classification."""
    run_id = f"{name}-s{seed}"
    resolved = recipe or recipe_of(name)
    store.begin_run(
        NewRun(run_id, name, "train", seed, f"hash-{name}", resolved, {}, "0.1.0", f"runs/{run_id}", 1000)
    )
    places = {
        "training": ("scenes", "train", "final", "", ["temperature"]),
        "gap": ("scenes", "test", "pool512", "f1", ["gap", "uniformity_w2_joint"]),
        "retrieval": ("scenes", "test", "pool512", "f1", ["image_recall@1", "text_recall@1"]),
        "zeroshot": ("classes", "test", "full", "f2", ["zeroshot_top1"]),
        "probe": ("classes", "test", "full", "f2", ["probe_top1"]),
    }
    for task, (dataset, split, protocol, fingerprint, names) in places.items():
        given = {n: values[n] for n in names if n in values}
        if given:
            key = EvaluationKey(f"c-{run_id}", 1000, task, dataset, split, fingerprint, named(protocol))
            store.add_evaluation(run_id, key, given, 512, 64)
    rows = [
        {"step": step, "gap": gap, "loss": 1.0, "mismatched_share": float(step < MATCHED)}
        for step, gap in path
    ]
    store.record(run_id, rows)
    store.finish_run(run_id, "finished")


def build(store, kind, seeds=5):
    """Fill `store` so that every claim is supported (`support`), contradicted (`contradict`) or left open."""
    noise = np.random.default_rng(7)
    order = list(noise.permutation(len(GAPS)))
    for index, (name, usual) in enumerate(GAPS.items()):
        for seed in range(seeds):
            gap = usual + 0.002 * noise.normal() + 0.004 * seed / seeds
            rank = order[index]
            if kind == "support":
                recall = (80 - 40 * usual if usual >= 0.03 else 40) + 0.2 * noise.normal()
                uniformity, accuracy = -1.2 + 0.01 * rank, 50 + 0.1 * rank + 0.01 * noise.normal()
            elif kind == "contradict":
                # Where the paper shrinks the gap, here it grows, but for what lies inside 0.03 to 0.3.
                gap = 0.05 if name == "baseline" else gap if usual < 0.03 else 0.35 - usual
                gap += 0.002 * noise.normal()
                recall = 60 + 50 * gap
                accuracy = 40 + 60 * gap + 0.1 * noise.normal()
                uniformity = -accuracy / 50
            else:
                gap, recall = 0.2 + 0.06 * noise.normal(), 60 + 5 * noise.normal()
                uniformity, accuracy = noise.normal(-1.2, 0.05), 50 + 12 * noise.normal()
            values = {
                "gap": abs(gap),
                "uniformity_w2_joint": uniformity,
                "zeroshot_top1": accuracy,
                "probe_top1": accuracy + 10,
                "image_recall@1": recall,
                "text_recall@1": recall + 5,
                "temperature": ENDS.get(name) or float(name.partition("-")[2] or 0.02),
            }
            add_run(store, name, seed, values, path_of(kind, name, seed, noise))


def path_of(kind, name, seed, noise):
    """A recorded gap path: growth or fall at first, then one law of closing, or nothing but noise."""
    if name not in ("baseline", "reparam"):
        return []
    result = []
    for step in STEPS:
        t = max(step, 10)
        if kind == "support":
            gap = 0.05 + 3 / math.log(t) ** 2 if name == "baseline" else 0.6 * (t / 10) ** -0.5
            gap -= 0.02 * (t - step)
        elif kind == "contradict":
            gap = 0.6 * (t / 10) ** -0.35 if name == "baseline" else 0.6 * (t / 10) ** -0.02
            gap += 0.02 * (t - step)
        else:
            gap = 0.4 + 0.05 * noise.normal()
        result.append((step, max(gap, 0.001) * (1 + 0.002 * noise.normal())))
    return result


@pytest.fixture
def made_up(tmp_path):
    """`made_up(kind, seeds)` -> a store's path and the open store."""

    def make(kind, seeds=5):
        path = tmp_path / f"{kind}.db"
        store = open_store(str(path))
        build(store, kind, seeds)
        return path, store

    return make
