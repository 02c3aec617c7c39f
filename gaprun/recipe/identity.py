"""Which keys of a resolved recipe say what is trained: one list, for jobs, claims and comparison alike.

Plain mappings in, plain mappings out (a stored recipe is one), and no pydantic, so that comparing stays quick.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

# The trained weights do not depend on these, bit for bit (tested).
NEUTRAL = (
    "name",
    "description",
    "eval",
    "eval_every",
    "checkpoint",
    "seed",
    "seeds",
    "data.workers",
    "data.cache",
    "data.damage_budget",
    "schedule.stop_when_diverged",
)
# These change the last bits of the weights (tested for threads) and nothing else: other runs, the same set-up.
ROUNDING = (
    "compute.threads",
    "compute.deterministic",
    "compute.channels_last",
    "compute.compile",
    "compute.cudnn_benchmark",
    "compute.attention",
)
METHOD = ("temperature", "swap", "loss", "plugins")
# Keys that came later: at these values they are left out, so that earlier runs keep their ids.
ADDED_LATER: dict[str, Any] = {
    "compute.micro_batch": None,
    "data.captions": "random",
    "model.pretrained_sha256": None,
    "compute.tf32": False,
    "compute.cudnn_benchmark": False,
    "compute.attention": "auto",
    "model.inline.shared": False,
    "model.freeze": None,
    "temperature.rising_only": False,
    "optimizer.decay": "matrices",
    "optimizer.grad_clip_over": "towers",
    "optimizer.ema": None,
    "schedule.shape": "cosine",
    "schedule.remainder": "drop",
    "data.subset": None,
    "data.crop": "random",
    "data.mean": None,
    "data.std": None,
    "loss.weight": 1.0,
    "loss.terms": [],
    "plugins": None,
}


def is_neutral(key: str) -> bool:
    """Whether the trained weights do not depend on the dotted `key`."""
    return any(key == one or key.startswith(f"{one}.") for one in NEUTRAL)


def training_part(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Everything in a resolved recipe that the trained weights depend on (but for seed and data).

    A weights file to start from counts by its content (`model.pretrained_sha256`), not by its path.
    """
    unset = [key for key, default in ADDED_LATER.items() if _at(recipe, key) == default]
    path = ["model.pretrained"] if _at(recipe, "model.pretrained_sha256") else []
    return _without(recipe, [*NEUTRAL, *unset, *path])


def setup_part(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """What two recipes must agree in to be compared as methods: the training part without method and rounding."""
    return _without(training_part(recipe), [*METHOD, *ROUNDING])


def hash_of(recipe: Mapping[str, Any]) -> str:
    """sha256 (hex) of a resolved recipe's training part: the `recipe_hash` of its runs."""
    return hashlib.sha256(json.dumps(training_part(recipe), sort_keys=True).encode()).hexdigest()


def _at(recipe: Mapping[str, Any], key: str) -> Any:
    node: Any = recipe
    for part in key.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    return node


def _without(recipe: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    apart: dict[str, list[str]] = {}
    for key in keys:
        section, _, rest = key.partition(".")
        apart.setdefault(section, []).append(rest)
    result = {}
    for key, value in recipe.items():
        inside = apart.get(key, [])
        if "" not in inside:
            result[key] = _without(value, inside) if inside and isinstance(value, Mapping) else value
    return result
