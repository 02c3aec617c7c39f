"""A training state on the fake card, and batches for it."""

from __future__ import annotations

import torch

from gaprun.data.resample import Pictures
from gaprun.data.stream import Batch
from gaprun.model.towers import build_towers
from gaprun.recipe.jobs import load_jobs
from gaprun.recipe.schema import Recipe
from gaprun.training.head import Head
from gaprun.training.length import run_length
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
    schedule = recipe.schedule.model_copy(update={"batch_size": rows})
    recipe = recipe.model_copy(update={"schedule": schedule})
    length = run_length(recipe, 4 * rows, 4 * rows)
    with watch.waiting():
        towers = build_towers(recipe.model)
        head = Head.of(recipe, 0)
        return TrainState(recipe, 0, length, towers, head, CARD)


def batch_for(state: TrainState, rows: int = ROWS, pinned: bool = True) -> Batch:
    """A batch as the loader hands it over: pictures of one size, each with a box within it."""
    side, context = 40, state.towers.context_length
    sizes = torch.full((rows, 2), side)
    boxes = torch.tensor([[k % 3, 1, side - 1, side - k % 2] for k in range(rows)])
    pixels = torch.zeros(rows * side * side * 3, dtype=torch.uint8)
    batch = Batch(0, Pictures.joined(pixels, sizes, boxes), torch.ones(rows, context, dtype=torch.int64), [])
    return batch.pin_memory() if pinned else batch
