"""A training state on the fake card, and batches for it."""

from __future__ import annotations

from typing import Any

import torch

from gaprun.data.stream import Batch
from gaprun.model.towers import build_towers
from gaprun.recipe.jobs import load_jobs
from gaprun.recipe.schema import Recipe
from gaprun.training.head import Head
from gaprun.training.length import Length
from gaprun.training.state import TrainState
from tests.conftest import RECIPES
from tests.cuda.card import Watch

CARD = torch.device("cuda")
ROWS = 8
VIT = {
    "vision": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text": {"context_length": 16, "width": 32, "heads": 2, "layers": 1},
    "embed_dim": 16,
}
RESNET = VIT | {"vision": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "head_width": 8}}


def recipe_of(method: str, *overrides: str) -> Recipe:
    """A method's recipe on the smallest ResNet tower, in bf16 and channels_last as the paper's setting has it."""
    sets = [f"extends={RECIPES / 'base' / 'coco.yaml'}", "eval=[]", "model.arch=null"]
    sets += [
        "schedule.epochs=null",
        "schedule.warmup_epochs=null",
        "schedule.steps=4",
        f"schedule.batch_size={ROWS}",
    ]
    return load_jobs(
        RECIPES / f"{method}.yaml", [*sets, f"model.inline={RESNET}".replace("'", ""), *overrides]
    )[0].recipe


def state_on(watch: Watch, recipe: Recipe, rows: int = ROWS) -> TrainState:
    """The state of `recipe` on the card; setting up may wait."""
    with watch.waiting():
        towers = build_towers(recipe.model)
        head = Head.of(recipe, 0)
        return TrainState(recipe, 0, Length(4 * rows, rows, 4, 4, 1, 0), towers, head, CARD)


def batch_for(state: TrainState, rows: int = ROWS, pinned: bool = True) -> Batch:
    """A batch as the loader hands it over."""
    side, context = state.towers.image_size + 4, state.towers.context_length
    tensors: list[Any] = [
        torch.zeros(rows, side, side, 3, dtype=torch.uint8),
        torch.rand(rows, 4),
        torch.ones(rows, context, dtype=torch.int64),
    ]
    return Batch(0, *(t.pin_memory() if pinned else t for t in tensors), [])
